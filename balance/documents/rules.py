"""Rules: what decides how an app's documents are read and lies outside our code.

That is the adapter and some of the parameters. Every balance and record bears the rules that it was written by, as
`<epoch>:<fingerprint>`, beside the version of our code. So no two parts of the system can read an app's documents by different
rules unnoticed, and a balance by other rules is rebuilt.

The fingerprint is taken of the adapter's meaning: its syntax tree, without comments, docstrings and layout. Modules of the app
that the adapter imports are part of it. Libraries are not (their versions are pinned; after an update that reads documents in
another way, raise the epoch), nor are the modules of this product, for which the version speaks.
"""

import ast
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import cache
from hashlib import sha256
from importlib.util import decode_source
from pathlib import Path
from types import ModuleType

from balance import adapter
from balance.documents.settings import Settings

_FINGERPRINT_DIGITS = 16
_ROOT = "balance"
_OURS = frozenset({"core", "database", "documents", "protocol", "operations", "functions"})
_OF_NO_MEANING = frozenset({"epoch", "database", "members_as_map"})
"""Parameters that do not decide what a balance must be. Any other counts: a needless rebuild is better than a wrong balance.
The records' time to live counts, too: older records were made to expire by another one."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules by which something was written."""

    epoch: int
    """Raised by an operator: what was written in a lower one is stale, code of a lower one stands back."""
    fingerprint: str

    def __str__(self) -> str:
        return f"{self.epoch}:{self.fingerprint}"


@cache
def current(settings: Settings) -> Rules:
    """The rules that this process reads documents by. The first call reads the adapter's source."""
    return Rules(settings.epoch, _fingerprint([*_parameters(settings), *_sources(adapter)]))


def epoch_of(stored: object) -> int | None:
    """The epoch of stored rules; None when they are none."""
    epoch, _, fingerprint = stored.partition(":") if isinstance(stored, str) else ("", "", "")
    return int(epoch) if epoch.isascii() and epoch.isdecimal() and len(epoch) < 20 and fingerprint else None


def _fingerprint(parts: Iterable[str]) -> str:
    return sha256("\n".join(parts).encode()).hexdigest()[:_FINGERPRINT_DIGITS]


def _parameters(settings: Settings) -> Iterator[str]:
    for name, value in sorted(asdict(settings).items()):
        if name not in _OF_NO_MEANING:
            yield f"{name}={json.dumps(value, sort_keys=True, default=str)}"


def _sources(module: ModuleType) -> Iterator[str]:
    """The meaning of a module, and of the app's own modules that it imports, each once and in the order of their names."""
    folder = Path(str(module.__file__)).parents[module.__name__.count(".")]
    found: dict[str, str] = {}
    waiting = {module.__name__: _source_of(module)}
    while waiting:
        name, source = waiting.popitem()
        tree = ast.parse(source)
        found[name] = meaning(tree)
        for other in imported(tree, name):
            if other not in found and (path := _apps_own(folder, other)) is not None:
                waiting[other] = decode_source(path.read_bytes())
    return (f"{name}={found[name]}" for name in sorted(found))


def _source_of(module: ModuleType) -> str:
    get_source = getattr(module.__spec__ and module.__spec__.loader, "get_source", None)
    source = get_source(module.__name__) if get_source else None
    if source is None:
        raise RuntimeError(f"the source of {module.__file__} cannot be read: it decides how documents are read")
    return str(source)


def imported(tree: ast.AST, module: str) -> set[str]:
    """What a module imports, anywhere in it: modules, and names that may be modules of a package."""
    package = module.rpartition(".")[0].split(".")
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            names.update({base, *(f"{base}.{alias.name}" for alias in node.names)})
    return names


def _apps_own(folder: Path, name: str) -> Path | None:
    """The file of a module beside main.py or in `balance/`, if it is the app's: not ours, not a library's."""
    first, *rest = name.split(".")
    if first == _ROOT and (not rest or rest[0] in _OURS):
        return None
    file = folder.joinpath(first, *rest)
    candidates = (file.with_suffix(".py"), file / "__init__.py")
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def meaning(node: object) -> str:
    """A syntax tree in one line, the same for each version of Python, and for sources that mean the same.

    Not `ast.dump`: what it leaves out, and which fields a node has, differs from version to version. Here a field that is empty
    is left out, which new fields are in old sources; a statement that is nothing but a constant (a docstring) is none.
    """
    if isinstance(node, ast.Constant):
        return f"{type(node.value).__name__}:{node.value!a}"
    if isinstance(node, ast.AST):
        fields = sorted((name, value) for name, value in ast.iter_fields(node) if name not in ("ctx", "type_comment"))
        inner = ",".join(f"{name}={text}" for name, value in fields if (text := meaning(value)) not in ("None", "[]"))
        return f"{type(node).__name__}({inner})"
    if isinstance(node, list):
        return "[" + ",".join(meaning(item) for item in node if not _does_nothing(item)) + "]"
    return ascii(node)


def _does_nothing(node: object) -> bool:
    return isinstance(node, ast.Pass) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
