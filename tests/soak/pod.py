"""A gracefork with one worker of one of the apps, and what it is seen to hold."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from wire import HOST

APPS = Path(__file__).resolve().parent / "apps"
START_LIMIT = 30.0
# Longer than all deadlines below together.
REST_LIMIT = 60.0
EXIT_LIMIT = 10.0
# Of a look: what may outlive the request that it belongs to by a moment.
ENDS_LATE = ("descriptors", "tasks", "threads", "python_threads")

CONFIG = """
[listen]
bind = ["{host}:{port}"]
[workers]
count = 1
threads = {threads}
[shutdown]
lameduck = "1s"
drain_timeout = "5s"
[health]
listen = "{host}:{ops}"
[http]
keep_alive = "15s"
header_timeout = "15s"
body_timeout = "15s"
[log]
level = "warn"
file = "{log}"
"""


class Pod:
    """It runs until `stop`; `folder` is given up with it."""

    def __init__(self, name: str, app: str, threads: int) -> None:
        self.name = name
        self._folder = tempfile.TemporaryDirectory()
        self.log = Path(self._folder.name, "log")
        self.port, self._ops = free_ports(2)
        config = Path(self._folder.name, "gracefork.toml")
        settings = {"port": self.port, "ops": self._ops, "threads": threads, "log": self.log}
        config.write_text(CONFIG.format(host=HOST, **settings))
        self._output = open(Path(self._folder.name, "output"), "w+b")
        # What is free goes back to the system: only so does a leak show among what is kept for reuse.
        heap = {
            "MALLOC_ARENA_MAX": "1",
            "MALLOC_MMAP_THRESHOLD_": "16384",
            "MALLOC_TRIM_THRESHOLD_": "0",
        }
        self.process = subprocess.Popen(
            [program(), "-c", config, app],
            cwd=APPS,
            env={**os.environ, **heap, "PYTHONDONTWRITEBYTECODE": "1"},
            stdout=self._output,
            stderr=subprocess.STDOUT,
        )

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_LIMIT
        while not self._is_ready():
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise RuntimeError(f"{self.name} does not start:\n{self.said()}")
            time.sleep(0.05)

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{HOST}:{self._ops}/readyz", timeout=1):
                return True
        except OSError:
            return False

    def worker(self) -> dict[str, Any]:
        """The worker's row in the pod's status."""
        with urllib.request.urlopen(f"http://{HOST}:{self._ops}/status", timeout=5) as answer:
            return json.load(answer)["workers"][0]

    def look(self) -> dict[str, Any]:
        """What the worker holds, once no client is there and nothing goes on any more."""
        deadline = time.monotonic() + REST_LIMIT
        before: tuple[Any, ...] = ()
        while True:
            worker = self.worker()
            is_late = time.monotonic() > deadline
            if not worker["connections"] and not worker["in_flight"]:
                seen = self._ask()
                now = tuple(seen[figure] for figure in ENDS_LATE)
                # What ends by itself a moment later has ended, and the looks leave nothing more.
                if (now == before and not seen["open_streams"]) or is_late:
                    return {**seen, "requests": worker["requests"], "restarts": worker["restarts"]}
                before = now
            elif is_late:
                raise RuntimeError(f"{self.name}: without a client there is still {worker}")
            time.sleep(0.05)

    def _ask(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"http://{HOST}:{self.port}/look", timeout=10) as answer:
            return json.load(answer)

    def stop(self) -> tuple[int, float]:
        """SIGTERM; the exit status, and how long it took."""
        begun = time.monotonic()
        self.process.terminate()
        try:
            status = self.process.wait(EXIT_LIMIT)
        except subprocess.TimeoutExpired:
            status = -1
        return status, time.monotonic() - begun

    def said(self) -> str:
        """Its log and output, the end of them."""
        self._output.seek(0)
        log = self.log.read_text(errors="replace") if self.log.exists() else ""
        return log[-4000:] + self._output.read().decode(errors="replace")[-4000:]

    def clear(self) -> None:
        """Leaves nothing behind."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._output.close()
        self._folder.cleanup()


def program() -> str:
    beside = Path(sys.executable).parent / "gracefork"
    found = str(beside) if beside.is_file() else shutil.which("gracefork")
    if found is None:
        raise SystemExit("gracefork is not installed: make python")
    return found


def free_ports(count: int) -> list[int]:
    probes = [socket.create_server((HOST, 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports
