"""A bad day of the platform, short: each kind of fault at least once."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KINDS = ("connections go silent", "functions are replaced", "another envelope", "deliveries come late", "the key server hangs")


@pytest.mark.long
@pytest.mark.timeout(400)
@pytest.mark.xdist_group("chaos")
def test_a_bad_day_loses_nothing_and_everything_recovers() -> None:
    command = [sys.executable, "-m", "scripts", "soak", "--minutes", "0.3", "--rate", "5"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=380, check=False)
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-2000:]}"
    took_s = {kind: float(line.rsplit(maxsplit=1)[1]) for kind in KINDS for line in done.stdout.splitlines() if kind in line}
    assert took_s.keys() == set(KINDS)
    assert took_s["connections go silent"] < 15
    assert " 0 lost, 0 differences" in done.stdout
