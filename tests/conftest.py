"""What holds for all tests."""

import ctypes
import os
import signal
import sys
from collections import Counter
from types import FrameType

import pytest
from hypothesis import settings

# How long an example takes says something of the machine, which may be busy, not of the code.
settings.register_profile("ours", deadline=None)
settings.load_profile("ours")

# In the background of a shell without job control, Ctrl-C's signal is ignored, and so it would be by every process that a test
# starts in order to interrupt it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


# Told to end, by SIGTERM or because the process that hands out the tests is gone: as with Ctrl-C, whatever a test has started
# is ended on the way out.
signal.signal(signal.SIGTERM, _interrupt)
_PR_SET_PDEATHSIG = 1
if sys.platform == "linux" and "PYTEST_XDIST_WORKER" in os.environ:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


_GATE = {"schedule": "the random simulator", "world": "the explorer", "test": "tests"}
"""What each of the tests of the mutation gate lets try to catch a weakened product."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many mutants were caught, and by what: here, where the reports of all workers come together."""
    tried, caught = 0, Counter[str]()
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            _, _, name = report.nodeid.partition("tests/simulation/test_mutants.py::test_a_weakened_")
            if name and report.when == "call":
                tried += 1
                caught.update([_GATE[name.partition("[")[0].rpartition("_")[2]]] if outcome == "passed" else [])
    if tried:
        told = ", ".join(f"{count} by {what}" for what, count in sorted(caught.items()))
        terminalreporter.write_line(f"mutation gate: {caught.total()} of {tried} mutants caught: {told or 'none'}")
