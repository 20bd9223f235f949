"""Ends at once: with the exit status given, or by the signal named."""

import os
import signal
import sys

how = sys.argv[1]
if how.startswith("SIG"):
    os.kill(os.getpid(), getattr(signal, how))
    signal.pause()
sys.exit(int(how))
