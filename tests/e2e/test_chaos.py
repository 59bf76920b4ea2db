"""The attack on real processes, short."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def chaos(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "scripts.chaos", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)


def figures(table: str) -> dict[str, int]:
    """The table's lines that end in a number, by name."""
    rows = (line.rsplit(maxsplit=1) for line in table.splitlines())
    return {
        row[0].strip(): int(row[1].replace(",", "")) for row in rows if len(row) == 2 and row[1].replace(",", "").isdecimal()
    }


@pytest.mark.timeout(300)
@pytest.mark.xdist_group("chaos")
def test_nothing_is_lost_or_doubled_by_processes_under_attack() -> None:
    done = chaos("--seed", "1", "--minutes", "0.25", "--rate", "10")
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-2000:]}"
    seen = figures(done.stdout)
    assert seen["differences"] == seen["events given up"] == 0
    for name in ("writes", "events", "duplicates", "kills", "rebuilds by hand", "ABORTED", "outcome APPLIED"):
        assert seen[name] > 0, f"{name}: the attack was none"


@pytest.mark.parametrize("arguments", [("--minutes", "0"), ("--rate", "-1"), ("--seed", "x"), ("--no-such-flag",)])
def test_wrong_usage_is_told_apart(arguments: tuple[str, ...]) -> None:
    done = chaos(*arguments)
    assert done.returncode == 2
    assert arguments[0] in done.stderr
