"""The product under attack, loaded as often as a schedule needs it: two code versions at once, or a weakened one.

A copy is the package `balance` imported afresh from the same files, with edits made to the source text on the way. So the
product has no switch by which it could be weakened, two versions run side by side in one process, and an edit that no longer
finds its place fails loudly.
"""

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from balance.documents.balances import VERSION

LATER_VERSION = VERSION + 1
LATER_CURRENCY = "XTS"
"""ISO's code for tests, without an exponent: a fault to this code, two decimals to the later version's."""


@dataclass(frozen=True, slots=True)
class Edit:
    """Replace a piece of a module's source that occurs exactly once; `old` may be a regular expression."""

    module: str
    old: str
    new: str
    is_pattern: bool = False

    def applied(self, source: str) -> str:
        """The edited source."""
        pattern = self.old if self.is_pattern else re.escape(self.old)
        edited, count = re.subn(pattern, lambda _: self.new, source, flags=re.MULTILINE)
        if count != 1:
            raise AssertionError(f"balance.{self.module} holds {count} of the one place to edit: {self.old!r}")
        return edited


_LATER = (Edit("documents.balances", r"^VERSION = \d+$", f"VERSION = {LATER_VERSION}", is_pattern=True),)
_NEW_RULES = (Edit("core.currencies", r"\Z", f'\nEXPONENTS["{LATER_CURRENCY}"] = 2\n', is_pattern=True),)
SMALL_DOCUMENT_BYTES = 8_600
_SMALL = (Edit("documents.balances", "MAX_DOCUMENT_BYTES = 1_048_576", f"MAX_DOCUMENT_BYTES = {SMALL_DOCUMENT_BYTES}"),)


@dataclass(frozen=True, slots=True, eq=False)
class Product:
    """One copy of the package: those of its modules that a schedule uses."""

    version: int
    bookkeeper: Any
    changes: Any
    events: Any
    firestore: Any
    outcome: Any
    reconcile: Any
    retry: Any
    rules: Any
    sdk: Any
    settings: Any
    sources: Any
    writes: Any


_PACKAGES = {
    "database": ("firestore", "retry", "sdk"),
    "documents": ("changes", "outcome", "rules", "settings", "sources", "writes"),
    "protocol": ("bookkeeper", "events"),
    "operations": ("reconcile",),
}


@cache
def product(*, later: bool = False, new_rules: bool = False, small: bool = False, edits: tuple[Edit, ...] = ()) -> Product:
    """A copy of the product: with edits, of the version after this one, perhaps with a currency more, or with a low limit."""
    all_edits = [*edits, *(_LATER if later else ()), *(_NEW_RULES if later and new_rules else ()), *(_SMALL if small else ())]
    with _fresh_package(Editor(all_edits)):
        modules = {
            name: importlib.import_module(f"balance.{package}.{name}") for package, names in _PACKAGES.items() for name in names
        }
        return Product(version=LATER_VERSION if later else VERSION, **modules)


@cache
def settings_of(copy: Product, *, nested: bool = False, minor_units: bool = False, epoch: int = 0, currencies: str = "") -> Any:
    """The product's settings, as from a deployment's environment."""
    parent = "groups/{groupId}/" if nested else ""
    return copy.settings.from_environment(
        {
            "EXPENSES_COLLECTION": f"{parent}expenses",
            "SETTLEMENTS_COLLECTION": f"{parent}settlements",
            "AMOUNT_UNIT": "minor" if minor_units else "major",
            "EPOCH": str(epoch),
            "CURRENCIES": currencies,
        }
    )


@contextmanager
def _fresh_package(editor: "Editor") -> Iterator[None]:
    """Within, `import balance` reads the files anew; what was imported before stays untouched."""
    kept = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "balance"}
    for name in kept:
        del sys.modules[name]
    sys.meta_path.insert(0, editor)
    try:
        yield
    finally:
        sys.meta_path.remove(editor)
        for name in [name for name in sys.modules if name.split(".")[0] == "balance"]:
            del sys.modules[name]
        sys.modules.update(kept)


class Editor(importlib.abc.MetaPathFinder):
    """Finds the package's modules as always, and edits the source of some."""

    def __init__(self, edits: Sequence[Edit]) -> None:
        self._edits = edits

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        package, _, module = fullname.partition(".")
        if package != "balance":
            return None
        edits = tuple(edit for edit in self._edits if edit.module == module)
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        assert spec is not None
        assert spec.origin is not None
        spec.loader = _EditingLoader(fullname, spec.origin, edits)
        return spec


class _EditingLoader(importlib.machinery.SourceFileLoader):
    def __init__(self, fullname: str, path: str, edits: tuple[Edit, ...]) -> None:
        super().__init__(fullname, path)
        self._edits = edits

    def get_source(self, fullname: str) -> str | None:
        source = super().get_source(fullname)
        assert source is not None
        for edit in self._edits:
            source = edit.applied(source)
        return source

    def get_code(self, fullname: str) -> Any:
        # Not the base class's: it would use, or write, the cached byte code of the unedited file. Copies have most modules in
        # common, and compiling takes most of the time of making one.
        return _compiled(self.get_source(fullname) or "", self.path)


@cache
def _compiled(source: str, path: str) -> Any:
    return compile(source, path, "exec", dont_inherit=True)
