"""A notify worker that says how it gets on and never gets ready.

With an argument it takes SIGTERM as many frameworks do while they load: not at all.
"""

import signal
import sys
import time

from worker import notify

if len(sys.argv) > 1:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
notify("STATUS=loading the app, for ever")
while True:
    time.sleep(3600)
