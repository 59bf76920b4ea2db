"""The embedded Firestore, on which everything else here is measured."""

import re
import subprocess
import sys
from pathlib import Path

from bench.measure import Figure, Report

SECTION = "The embedded Firestore"
_LINE = re.compile(r"([a-z-]+) +(\d+)/s .*\((.*)\)")


def run(report: Report) -> None:
    """Add this section's figures."""
    command = [sys.executable, "-m", "bench.firestore_calls", "--seconds", "3"]
    root = Path(__file__).resolve().parent.parent
    printed = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout
    for name, rate, what in _LINE.findall(printed):
        report.add(SECTION, Figure(f"{name.replace('-', ' ')} ({what})", float(rate), "/s"))
