"""What holds for all tests."""

import ctypes
import os
import signal
import sys
from types import FrameType

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
