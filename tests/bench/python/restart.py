"""How long a pod is short of a worker of a Flask app: `make bench-python-restart`.

A worker is killed (SIGKILL) and the time to the master's "worker ready" of its replacement is taken,
many times in turn. Without preload the replacement imports the app, and says how long that took.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench import HERE, HOST, command, free_port

APP = "timed_app:app"
WORKERS = 2
LIMIT = 20.0
# A worker that was Ready for longer is replaced at once.
FORGIVEN_AFTER = 0.1
PRELOAD_GOAL = 30.0
IMPORT_GOAL = 50.0

CONFIG = """
[workers]
count = {workers}
preload = {preload}
[workers.restart]
backoff = "100ms"
backoff_max = "100ms"
[log]
format = "text"
"""


class Pod:
    """A gracefork whose log is read line by line, as it is written."""

    def __init__(self, preload: bool, folder: str) -> None:
        config = Path(folder, "gracefork.toml")
        config.write_text(CONFIG.format(workers=WORKERS, preload=str(preload).lower()))
        program = command("gracefork", APP, 0, WORKERS)[0]
        self.process = subprocess.Popen(
            [program, "-c", config, "-b", f"{HOST}:{free_port()}", APP],
            cwd=HERE,
            env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
            stderr=subprocess.PIPE,
        )
        os.set_blocking(self.process.stderr.fileno(), False)
        self._rest = b""
        self.imports: dict[int, float] = {}

    def next_ready(self) -> tuple[int, float]:
        """The next worker that the master says is ready, and when that was read."""
        deadline = time.monotonic() + LIMIT
        while time.monotonic() < deadline:
            line, found, rest = self._rest.partition(b"\n")
            if not found:
                self._rest += self.process.stderr.read() or b""
                time.sleep(0.0002)
                continue
            self._rest, now = rest, time.monotonic()
            text = line.decode()
            if said := re.search(r"imported pid=(\d+) in ([\d.]+) ms", text):
                self.imports[int(said[1])] = float(said[2])
            if "worker ready" in text and (said := re.search(r"pid=(\d+)", text)):
                return int(said[1]), now
        raise RuntimeError("no worker became ready")

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def restarts(preload: bool, count: int) -> list[tuple[float, float]]:
    """Of each: kill to Ready, and the part of it that the app's import took, in milliseconds."""
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        pod = Pod(preload, folder)
        try:
            alive = [pod.next_ready()[0] for _ in range(WORKERS)]
            for _ in range(count):
                time.sleep(2 * FORGIVEN_AFTER)
                begun = time.monotonic()
                os.kill(alive.pop(0), signal.SIGKILL)
                pid, ready = pod.next_ready()
                alive.append(pid)
                figures.append(((ready - begun) * 1000, pod.imports.get(pid, 0.0)))
        finally:
            pod.stop()
    return figures


def show(title: str, values: list[float], goal: float | None) -> bool:
    """A row of the table; whether its goal is missed by the median."""
    middle = statistics.median(values)
    missed = goal is not None and middle > goal
    told = "" if goal is None else f"{goal:.0f} ms" + (", **MISSED**" if missed else "")
    spread = f"{min(values):.1f} | {max(values):.1f}"
    print(f"| {title} | {len(values)} | {middle:.1f} ms | {spread} | {told} |")
    return missed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--restarts", type=int, default=30)
    options = parser.parse_args()
    if not command("gracefork", APP, 0, WORKERS):
        sys.exit("the package is not installed beside this interpreter")
    preloaded = restarts(True, options.restarts)
    imported = restarts(False, options.restarts)
    print(f"\nSIGKILL of one of {WORKERS} workers of a Flask app, to its replacement's READY\n")
    print("| figure | n | median | best | worst | goal |")
    print("|---|---|---|---|---|---|")
    missed = show("with preload", [whole for whole, _ in preloaded], PRELOAD_GOAL)
    show("without", [whole for whole, _ in imported], None)
    show("... the app's import in it", [part for _, part in imported], None)
    over = [whole - part for whole, part in imported]
    missed |= show("... all but the import", over, IMPORT_GOAL)
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
