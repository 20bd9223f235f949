"""Stands for the native part: the control channel by hand, and the small server of worker.py."""

import io
import os
import select
import signal
import socket
import threading

from worker import App, scoreboard

PHASES = ("boot", "ready", "lameduck", "drain", "force", "exit")


def inherit():
    """Nothing that the app starts is to have the listeners and the scoreboard."""
    listeners = range(3, 3 + int(os.environ["LISTEN_FDS"]))
    for number in (*listeners, int(os.environ["GRACEFORK_SCOREBOARD_FD"])):
        os.set_inheritable(number, False)


def release_file_pages():
    """There is nothing of its own to let go of."""
    return 0


class Worker:
    """A worker of the contract; its commands are heard on a thread of its own."""

    def __init__(self, slot, generation, control_fd, max_requests, hooks):
        self.slot, self.generation, self.pid = slot, generation, os.getpid()
        self.max_requests = max_requests
        self.hooks = hooks
        self.control = socket.socket(fileno=control_fd)
        self.board = scoreboard()
        self.healthy = True
        self.drains = threading.Event()
        self._stage = "serving"
        self.send("HELLO=1")
        threading.Thread(target=self._listen, daemon=True).start()

    def send(self, frame):
        try:
            self.control.send(frame.encode())
        except OSError:
            pass  # the master is gone, which the other thread hears

    def _listen(self):
        while frame := self.control.recv(65536):
            words = dict(line.split("=", 1) for line in frame.decode().split("\n") if "=" in line)
            if "LAMEDUCK" in words:
                self._stage = "lameduck"
                self.hooks.on_term()
            elif "DRAIN" in words or "RETIRE" in words:
                self._drain("draining")
            elif "QUIT" in words:
                self._drain("forced")
        self._drain("draining")

    def _drain(self, stage):
        if self._stage in ("serving", "lameduck"):
            self._stage = stage
            self.hooks.on_drain()
        self.drains.set()

    def mark_unhealthy(self):
        self.healthy = False
        self.send("UNHEALTHY=1")

    def is_healthy(self):
        return self.healthy and self._stage == "serving"

    def stage(self):
        return self._stage

    def status(self, text):
        self.send(f"STATUS={text}")

    def fatal(self, reason):
        self.send(f"FATAL={reason}")

    def pod_phase(self):
        return PHASES[int.from_bytes(self.board[16:20], "little")]


class Wsgi(App):
    """Calls the app with the least that one may expect."""

    def __init__(self, worker, app):
        super().__init__()
        self.worker, self.app, self.called = worker, app, 0

    def route(self, method, path, body):
        if path == "/health":
            self.healthy = self.worker.healthy
            return super().route(method, path, body)
        told = []
        environ = {"REQUEST_METHOD": method, "PATH_INFO": path, "wsgi.input": io.BytesIO(body)}
        answer = b"".join(self.app(environ, lambda status, headers: told.append(int(status[:3]))))
        with self.lock:
            self.called += 1
            is_last = self.called == self.worker.max_requests
        if is_last:
            self.worker.send(f"SERVED={self.worker.max_requests}")
        return told[0], answer


def serve_wsgi(worker, app, options):
    """Serves until the worker has drained; signals' handlers run meanwhile."""
    server = Wsgi(worker, app).start()
    worker.send("READY=1")
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    threading.Thread(target=lambda: (worker.drains.wait(), os.write(wake, b"x")), daemon=True).start()
    while not worker.drains.is_set():
        select.select([woken], [], [])
        os.read(woken, 1)
    server.stop()
    worker.send(f"DRAINED=1\nSERVED={server.served}\nABORTED=0")
