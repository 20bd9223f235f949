"""Ignores every signal that can be ignored, and serves on."""

import signal
import time

from worker import App, say

for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
    signal.signal(number, lambda number, _frame: say(f"swallows signal {number}"))
App().start()
say("is up")
while True:
    time.sleep(3600)
