"""A notify worker that says what sd_notify has words for.

--boot SECONDS       take so long to get ready
--extend SECONDS     and ask for that much time meanwhile, again and again
--mute-after N       send N watchdog signs of life and then none
--stop SECONDS       take so long to stop
--child              a child of the worker is the one that says READY (what a wrapper does)
"""

import os
import signal
import sys
import threading
import time

from worker import App, notify, say, wait_for_signal


def option(name, default):
    return float(sys.argv[sys.argv.index(name) + 1]) if name in sys.argv else default


def extend_for(seconds):
    """Lives through `seconds`, asking for more time in small steps."""
    step = option("--extend", 0)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if step:
            notify(f"EXTEND_TIMEOUT_USEC={int(step * 1e6)}")
        time.sleep(min(step / 3 if step else 0.05, max(0, end - time.monotonic())))


def watchdog(limit):
    if "WATCHDOG_USEC" not in os.environ or os.environ.get("WATCHDOG_PID") != str(os.getpid()):
        return
    period = int(os.environ["WATCHDOG_USEC"]) / 1e6
    sent = 0
    while limit is None or sent < limit:
        notify("WATCHDOG=1")
        sent += 1
        time.sleep(period / 3)
    say("sends no more signs of life")


extend_for(option("--boot", 0))
app = App().start()
ready = "READY=1\nSTATUS=serving\nX_UNKNOWN=1"
if "--child" in sys.argv:
    if (child := os.fork()) == 0:
        notify(ready)
        os._exit(0)
    os.waitpid(child, 0)
else:
    notify(ready)
limit = option("--mute-after", None) if "--mute-after" in sys.argv else None
threading.Thread(target=watchdog, args=(limit,), daemon=True).start()
wait_for_signal(signal.SIGTERM)
notify("STOPPING=1\nSTATUS=stopping")
extend_for(option("--stop", 0))
app.stop()
