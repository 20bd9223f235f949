"""Leaves the process group that it leads for its parent's, and ignores SIGTERM."""

import os
import signal
import time

from worker import App, say

signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.setpgid(0, os.getpgid(os.getppid()))
App().start()
say("is up")
while True:
    time.sleep(3600)
