"""Has children of its own that ignore SIGTERM: one direct, and one that is nobody's any more.

With `stays` it waits for them at its end, for ever; with `leaves` it ends and leaves them; with
`raises` it does so by the signal that it has caught, as uvicorn does.
"""

import os
import signal
import sys
import time

from worker import App, say, wait_for_signal


def stubborn():
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    say("is stubborn")
    while True:
        time.sleep(3600)


child = os.fork()
if child == 0:
    if os.fork() == 0:
        stubborn()
    stubborn()

App().start()
wait_for_signal(signal.SIGTERM)
if sys.argv[1] == "stays":
    say("waits for its child")
    os.waitpid(child, 0)
if sys.argv[1] == "raises":
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTERM)
