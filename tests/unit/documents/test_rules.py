"""The fingerprint of the rules by which documents are read: what changes it, and what does not."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from balance.core.money import Unit
from balance.documents import rules
from balance.documents.layout import Layout
from balance.documents.settings import Settings

ROOT = Path(__file__).parents[3]

ADAPTER = '''
"""What an app would write."""

import re
from decimal import Decimal

GROUP_ID_FIELD = "trip"
"""The field that names the trip."""


def expense(fields):
    """A bill as an expense."""
    # Shares come as a map.
    shares = fields.get("shares") or {}
    match fields.get("state"):
        case {"removed": True, **rest} if rest:
            return None
        case "draft" | None:
            pass
    try:
        total = sum(int(part) for part in shares.values() if part is not None)
    except (TypeError, ValueError) as error:
        raise KeyError(f"{fields!r:>10} {error=} {{}}" "and more") from error
    note = lambda text, *, upper=True: text.upper() if upper else text  # noqa
    return {**fields, "splits": [{"uid": uid, "amount": -part} for uid, part in shares.items()], "title": note("x"), "n": 0x10}


class Kept:
    price: Decimal = Decimal("1.50")

    async def later(self, /, *rest: int) -> bytes:
        with open("x") as file:
            yield b"\\x00", 1.5, 3j, ..., u"text", file, rest[1:2]
'''


def meaning(source: str) -> str:
    return rules.meaning(ast.parse(source))


@pytest.mark.parametrize(
    "edits",
    [
        {"# Shares come as a map.": "# Something else."},
        {'"""A bill as an expense."""': ""},
        {'"""What an app would write."""': '"""Another text."""', '"""The field that names the trip."""': ""},
        {'"splits"': "'splits'", "0x10": "16", 'u"text"': '"text"'},
        {
            "    shares = fields.get": "\n\n    shares   =   fields.get",
            'case "draft" | None:': "case ('draft' | None):  # nothing",
        },
        {'{{}}" "and more"': '{{}}and more"'},
    ],
    ids=["comment", "docstring", "other docstrings", "quotes", "layout", "literals in a row"],
)
def test_what_changes_no_meaning_changes_no_fingerprint(edits: dict[str, str]) -> None:
    other = ADAPTER
    for old, new in edits.items():
        assert old in other
        other = other.replace(old, new)
    assert meaning(other) == meaning(ADAPTER)


@pytest.mark.parametrize(
    ("old", "new"),
    [('"trip"', '"tour"'), ("-part}", "part}"), ("if part is not None", "if part"), ("upper=True", "upper=False"),
     ("1.5,", "1,"), ('b"\\x00"', '"\\x00"'), ("return None", "return"), ("3j", "3"), ("rest[1:2]", "rest[1:]"),
     ("(TypeError, ValueError)", "TypeError"), ('"removed": True', '"removed": 1')],
)  # fmt: skip
def test_what_changes_the_meaning_changes_the_fingerprint(old: str, new: str) -> None:
    assert old in ADAPTER
    assert meaning(ADAPTER.replace(old, new)) != meaning(ADAPTER)


def pythons() -> list[str]:
    """Other versions of Python on this machine that deployments may run on."""
    found = []
    for minor in range(11, 15):
        candidates = [
            shutil.which(f"python3.{minor}"),
            *map(str, Path("/root/.pyenv/versions").glob(f"3.{minor}.*/bin/python3")),
        ]
        for candidate in candidates:
            if candidate and subprocess.run([candidate, "-c", "import ast"], capture_output=True, check=False).returncode == 0:
                found.append(candidate)
                break
    return found


def test_every_version_of_python_finds_the_same_meaning(tmp_path: Path) -> None:
    """Of `ast` alone: the package is not installed there. On 2026-11-26 this was 3.11, 3.12 and 3.13."""
    (tmp_path / "adapter.py").write_text(ADAPTER)
    functions = "\n".join(
        ast.get_source_segment(text, node) or ""
        for text in [(ROOT / "balance/documents/rules.py").read_text()]
        for node in ast.parse(text).body
        if isinstance(node, ast.FunctionDef) and node.name in ("meaning", "_does_nothing")
    )
    program = f"import ast\n{functions}\nprint(meaning(ast.parse(open('adapter.py').read())))"
    told = {
        subprocess.run([python, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True).stdout.strip()
        for python in {sys.executable, *pythons()}
    }
    assert told == {meaning(ADAPTER)}


@pytest.mark.parametrize(
    ("settings", "is_another"),
    [
        (Settings(unit=Unit.MINOR), True),
        (Settings(layout=Layout.in_groups()), True),
        (Settings(layout=Layout(expenses="bills")), True),
        (Settings(record_ttl=timedelta(days=8)), True),
        (Settings(database="other"), False),
        (Settings(members_as_map=True), False),
    ],
)
def test_a_parameter_counts_unless_no_balance_depends_on_it(settings: Settings, is_another: bool) -> None:
    assert (rules.current(settings).fingerprint != rules.current(Settings()).fingerprint) is is_another


def test_the_epoch_stands_beside_the_fingerprint() -> None:
    first, third = rules.current(Settings()), rules.current(Settings(epoch=3))
    assert first.fingerprint == third.fingerprint
    assert str(third) == f"3:{first.fingerprint}"
    assert rules.epoch_of(str(third)) == 3


@pytest.mark.parametrize("stored", [None, 3, "", "3", "3:", ":x", "-1:x", "x:y", "٣:x", "9" * 30 + ":x"])
def test_what_names_no_epoch_is_of_none(stored: object) -> None:
    assert rules.epoch_of(stored) is None


@pytest.fixture
def app(tmp_path: Path) -> Callable[..., str]:
    """Writes an app's modules beside a copy of the product; returns the fingerprint there."""
    shutil.copytree(ROOT / "balance", tmp_path / "balance", ignore=shutil.ignore_patterns("__pycache__"))

    def fingerprint(**files: str) -> str:
        for name, text in files.items():
            path = tmp_path / (name.replace("__", "/") + ".py")
            path.parent.mkdir(exist_ok=True)
            path.write_text(textwrap.dedent(text))
        program = "from balance.documents import rules, settings; print(rules.current(settings.Settings()))"
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True, env={**os.environ}
        )
        return done.stdout.strip()

    return fingerprint


def test_the_apps_own_modules_that_the_adapter_imports_count(app: Callable[..., str]) -> None:
    adapter = """
        import json
        from balance.database.firestore import Fields
        from balance.helpers import expense
        GROUP_ID_FIELD = "groupId"
        MEMBERS_FIELD = "members"
        def settlement(fields): return fields
        def group(fields): return fields
    """
    helpers = "from names import RENAMED\ndef expense(fields): return fields"
    first = app(balance__adapter=adapter, balance__helpers=helpers, names="RENAMED = {}")
    assert app(names="# only a comment\nRENAMED = {}") == first
    second = app(names="RENAMED = {'a': 'b'}")
    third = app(balance__helpers="from names import RENAMED\ndef expense(fields): return dict(fields)")
    assert len({first, second, third}) == 3
