"""A module's name says what it does: no two that do different things share one, and none is too long to be read."""

from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[2]
TOOLS = ("scripts", "runner")
CODE = ("balance", "emulator", "bench", "tests", *TOOLS)
SAME = {"backfill", "explain", "faults", "__init__", "__main__"}
"""A subcommand and what it runs."""
LONGEST = 400


def modules() -> dict[str, list[Path]]:
    found = defaultdict(list)
    for folder in CODE:
        for path in (ROOT / folder).rglob("*.py"):
            if "node_modules" not in path.parts:
                found[path.stem].append(path.relative_to(ROOT))
    return found


def test_no_module_of_the_tools_has_the_name_of_another() -> None:
    for name, paths in modules().items():
        ours = [path for path in paths if path.parts[0] in TOOLS]
        assert not ours or len(paths) == 1 or name in SAME or name in {"processes"}, paths


def test_no_module_of_the_tools_is_too_long_to_be_read() -> None:
    for paths in modules().values():
        for path in paths:
            if path.parts[0] in TOOLS:
                assert len((ROOT / path).read_text().splitlines()) <= LONGEST, path
