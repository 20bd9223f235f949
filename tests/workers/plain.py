"""A good plain worker: serves at once, and ends by itself on SIGTERM.

--status N        end with this exit status
--signal NAME     end on this signal instead, and not on SIGTERM
"""

import signal
import sys

from worker import App, say, wait_for_signal


def option(name, default):
    return sys.argv[sys.argv.index(name) + 1] if name in sys.argv else default


awaited = option("--signal", "SIGTERM")
if awaited != "SIGTERM":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
app = App().start()
wait_for_signal(getattr(signal, awaited))
say(f"got {awaited}")
app.stop()
sys.exit(int(option("--status", "0")))
