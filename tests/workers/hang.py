"""Begins to end on SIGTERM, as many programs do, and never comes to the end of it."""

import signal
import threading

from worker import App, say, wait_for_signal

app = App().start()
wait_for_signal(signal.SIGTERM)
say("begins to stop")
threading.Event().wait()
