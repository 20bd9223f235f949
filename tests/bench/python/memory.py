"""What four workers of a Flask app occupy, all processes of the server together: `make bench-python-memory`.

Each server is started anew in each round, answers a few requests, and is looked at once its memory
stands still. PSS counts a page that several processes map in parts, so that the sum over a server's
processes is what the server occupies. The servers' interpreter and libraries are mapped by this
program as well, which takes as much off each of them.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
import time
import urllib.request
from pathlib import Path

from bench import HOST, Server, command, free_port

APP = "flask_app:app"
WORKERS = 4
REQUESTS = 200
MEGABYTE = 1e6
STILL_FOR = 1.0
DEADLINE = 15.0

#: Name, server, options, goal in MB.
CONTESTANTS = [
    ("gracefork", "gracefork", [], 75.0),
    ("gracefork, preload", "gracefork", ["--preload"], 45.0),
    ("gunicorn gthread", "gunicorn", [], None),
    ("gunicorn gthread, preload", "gunicorn", ["--preload"], None),
    ("granian", "granian", [], None),
]
MASTER_GOAL = 4.0


def pss(pid: int) -> float:
    """In MB; nothing for a process that has gone."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0.0
    return int(re.search(r"^Pss:\s+(\d+)", rollup, re.M)[1]) * 1024 / MEGABYTE


def part(pid: int, server: Server) -> str:
    """What a process is for the server."""
    if pid == server.process.pid:
        return "master"
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
        parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    except OSError:
        return "gone"
    # A host's workers have its words, and are the master's children; it was there first.
    is_host = b"gracefork._host" in words and str(pid) == children[0]
    return "host" if is_host else "workers"


def standing_still(server: Server) -> dict[str, float]:
    """PSS by part, once the sum has not changed for a while."""
    deadline = time.monotonic() + DEADLINE
    before, since = None, time.monotonic()
    while True:
        seen: dict[str, float] = {}
        for pid, *_ in server.processes():
            name = part(pid, server)
            seen[name] = seen.get(name, 0.0) + pss(pid)
        total, now = round(sum(seen.values()), 1), time.monotonic()
        if total != before:
            before, since = total, now
        if now - since > STILL_FOR or now > deadline:
            return seen
        time.sleep(0.1)


def ask(port: int, requests: int) -> None:
    """On a new connection each, so that all workers get some."""
    for _ in range(requests):
        with urllib.request.urlopen(f"http://{HOST}:{port}/", timeout=5) as answer:
            answer.read()


def round_of(server: str, options: list[str]) -> dict[str, float]:
    port = free_port()
    arguments = command(server, APP, port, WORKERS)
    running = Server([*arguments, *options], port, {0, 1})
    try:
        wait_for_workers(running)
        ask(port, REQUESTS)
        return standing_still(running)
    finally:
        running.stop()


def wait_for_workers(server: Server) -> None:
    """One that answers is there; the others may still be booting."""
    deadline = time.monotonic() + DEADLINE
    while len(server.processes()) <= WORKERS:
        if time.monotonic() > deadline:
            raise RuntimeError("not all workers came up")
        time.sleep(0.05)
    time.sleep(STILL_FOR)


def show(title: str, values: list[float], goal: float | None) -> bool:
    """A row of the table; whether its goal is missed by the worst."""
    missed = goal is not None and max(values) > goal
    told = "" if goal is None else f"{goal:.0f} MB" + (", **MISSED**" if missed else "")
    middle = statistics.median(values)
    print(f"| {title} | {middle:.1f} MB | {min(values):.1f} | {max(values):.1f} | {told} |")
    return missed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", action="append", help="a contestant's name; may be repeated")
    options = parser.parse_args()
    asked = [each for each in CONTESTANTS if not options.only or each[0] in options.only]
    there = [each for each in asked if command(each[1], APP, 1, WORKERS)]
    seen: dict[str, list[dict[str, float]]] = {name: [] for name, *_ in there}
    for _ in range(options.rounds):
        for name, server, extra, _ in there:
            seen[name].append(round_of(server, extra))
    print(f"\n{WORKERS} workers of a Flask app, PSS of all processes, {options.rounds} rounds\n")
    print("| server | median | least | most | goal |")
    print("|---|---|---|---|---|")
    missed = False
    for name, _, _, goal in there:
        missed |= show(name, [sum(parts.values()) for parts in seen[name]], goal)
        if name.startswith("gracefork"):
            missed |= show("... master", [parts["master"] for parts in seen[name]], MASTER_GOAL)
            show("... host", [parts["host"] for parts in seen[name]], None)
            show("... each worker", [parts["workers"] / WORKERS for parts in seen[name]], None)
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
