"""A good plain worker: serves at once, and ends by itself on SIGTERM.

--after SECONDS   take so long from the signal to the end, at least
--status N        end with this exit status
--signal NAME     end on this signal instead
"""

import signal
import sys
import time

from worker import App, wait_for_signal


def option(name, default):
    return sys.argv[sys.argv.index(name) + 1] if name in sys.argv else default


app = App().start()
wait_for_signal(getattr(signal, option("--signal", "SIGTERM")))
time.sleep(float(option("--after", "0")))
app.stop()
sys.exit(int(option("--status", "0")))
