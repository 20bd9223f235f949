"""A notify worker that gets Ready and dies a moment later, with exit status 9."""

import os
import time

from worker import App, notify

App().start()
notify("READY=1\nSTATUS=ready, for a moment")
time.sleep(0.1)
os._exit(9)
