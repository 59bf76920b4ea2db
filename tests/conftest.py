"""What holds for all tests."""

import signal

from hypothesis import settings

# How long an example takes says something of the machine, which may be busy, not of the code.
settings.register_profile("ours", deadline=None)
settings.load_profile("ours")

# In the background of a shell without job control, Ctrl-C's signal is ignored, and so it would be by every process that a test
# starts in order to interrupt it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
