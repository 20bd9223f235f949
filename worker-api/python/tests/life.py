"""A worker's life with a native part that is played by this script: run by test_worker.

`python life.py SIGNAL...`: serves until it is told; sends itself the signals, one after the other.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import types


class Native:
    """Says what it is told on standard output."""

    def __init__(self, slot, generation, control_fd, max_requests, hooks):
        self.slot, self.generation, self.pid = slot, generation, os.getpid()
        self.hooks = hooks
        self.now = os.environ.get("TEST_STAGE", "serving")
        say("native", slot, generation)

    def stage(self):
        return self.now

    def pod_phase(self):
        return os.environ.get("TEST_PHASE", "boot")

    def is_healthy(self):
        return self.now == "serving"

    def mark_unhealthy(self):
        say("unhealthy")

    def leave(self):
        say("leaves")

    def fatal(self, reason):
        say("FATAL", reason)

    def status(self, text):
        say("status", text)


def serve_wsgi(worker, app, options):
    say("serve", options["multiprocess"], app.__name__)
    for name in sys.argv[1:]:
        if name.startswith("SIG"):
            try:
                signal.raise_signal(getattr(signal, name))
            except SystemExit:
                say("told to go")
        else:
            worker.now = {"on_term": "lameduck", "on_drain": "draining"}.get(name, "forced")
            getattr(worker.hooks, name)()
    say("drained")


def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def main():
    native = types.ModuleType("gracefork._gracefork")
    native.Worker = Native
    native.serve_wsgi = serve_wsgi
    sys.modules["gracefork._gracefork"] = native
    from gracefork import _hooks, _worker

    server = _hooks.load()
    server.start()
    server.about_to_fork(2, 7)
    # As the host does: blocked until the worker's handlers stand.
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    if os.environ.get("TEST_SIGNAL_BEFORE"):
        signal.raise_signal(signal.SIGTERM)
    started = time.monotonic()
    pid = os.fork()
    if pid == 0:
        if os.environ.get("TEST_SIGNAL_BEFORE"):
            signal.raise_signal(signal.SIGTERM)
        _worker.run(2, 7, -1, 0, server, Native)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    say("status", status)
    assert time.monotonic() - started < 30


if __name__ == "__main__":
    main()
