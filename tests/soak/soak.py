"""Soaks hosted Python apps in mixed load with clients that leave: `make soak-python`.

A WSGI app with one thread and with eight, and an ASGI app with WebSockets, are asked all at once by
clients of all manners (clients.py, sockets.py). After a warm-up, half-way and at the end the clients
pause, and each worker is looked at: memory, descriptors, threads, Python's objects, memory blocks and
references, tasks, open streams, requests in flight. What grows between the looks is a leak. At the
end each pod is told to stop while clients are connected, and must exit 0 in time.
"""

from __future__ import annotations

import argparse
import random
import sys
import threading
import time
from collections import Counter
from typing import Any

import clients
import sockets
from pod import Pod
from wire import Wire, request

#: Name, app, threads, and whether it speaks WebSocket.
APPS = [
    ("WSGI, 1 thread", "wsgi_app:app", 1, False),
    ("WSGI, 8 threads", "wsgi_app:app", 8, False),
    ("ASGI", "asgi_app:app", 1, True),
]
CLIENTS = 6
WARM_UP = 0.25
IDLE_AT_THE_END = 5
# Of each figure: so much may be between two looks. One object for each hundredth request shows.
ALLOWED = {
    "blocks": 1_000,
    "references": 2_000,
    "memory": 2_000_000,
    "descriptors": 0,
    "threads": 2,
    "python_threads": 2,
    "tasks": 0,
    "open_streams": 0,
}
ALLOWED_OF_A_KIND = 100


class Crowd:
    """The clients of one pod, while they are at it."""

    def __init__(self, pod: Pod, speaks_websocket: bool, seed: int) -> None:
        self.done: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._pod = pod
        self._polite = clients.POLITE + (sockets.POLITE if speaks_websocket else [])
        self._rude = clients.RUDE + (sockets.RUDE if speaks_websocket else [])
        self._seed = seed

    def go_on_for(self, seconds: float) -> list[threading.Thread]:
        """Starts them; they end by themselves."""
        until = time.monotonic() + seconds
        self._seed += CLIENTS
        seeds = range(self._seed, self._seed + CLIENTS)
        crowd = [threading.Thread(target=self._one, args=(seed, until)) for seed in seeds]
        for client in crowd:
            client.start()
        return crowd

    def _one(self, seed: int, until: float) -> None:
        chance = random.Random(seed)
        while time.monotonic() < until:
            is_rude = chance.random() < 0.5
            behaviour = chance.choice(self._rude if is_rude else self._polite)
            name = behaviour.__name__
            self.done[name] += 1
            try:
                behaviour(self._pod.port, chance)
            except Exception as error:
                # A rude client may be cut off while it sends, but nobody is left to wait.
                is_cut_off = isinstance(error, OSError) and not isinstance(error, TimeoutError)
                if not (is_rude and is_cut_off):
                    self.wrong.append(f"{name}: {error!r}")


def soak(crowds: list[Crowd], seconds: float) -> None:
    """All of them at once."""
    everybody = [client for crowd in crowds for client in crowd.go_on_for(seconds)]
    for client in everybody:
        client.join()


def growth(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What there is more of than may be."""
    found = []
    for figure, allowed in ALLOWED.items():
        old, new = before[figure], after[figure]
        if old is not None and new - old > allowed:
            found.append(f"{figure} grew from {old} to {new}")
    for kind, new in after["kinds"].items():
        old = before["kinds"].get(kind, 0)
        if new - old > ALLOWED_OF_A_KIND:
            found.append(f"objects of {kind} grew from {old} to {new}")
    return found


def failures(crowd: Crowd, looks: list[dict[str, Any]]) -> list[str]:
    """What is wrong with a pod, before its end."""
    found = growth(looks[-2], looks[-1])
    found += crowd.wrong[:10]
    if len(crowd.wrong) > 10:
        found.append(f"... and {len(crowd.wrong) - 10} wrong answers more")
    for figure in ("open_streams", "restarts"):
        if looks[-1][figure]:
            found.append(f"{figure}: {looks[-1][figure]}")
    if len({look["pid"] for look in looks}) > 1:
        found.append("the worker was replaced")
    return found


def drained(pod: Pod) -> list[str]:
    """Stops a pod that has clients: some idle, one that is served."""
    idle = [Wire(pod.port) for _ in range(IDLE_AT_THE_END)]
    for wire in idle:
        wire.send(request("/"))
        wire.answer()
    idle[0].send(request("/stream"))
    status, took = pod.stop()
    whole, body = idle[0].answer()
    for wire in idle:
        wire.socket.close()
    print(f"{pod.name}: exit status {status}, {took:.2f} s after SIGTERM")
    found = [] if status == 0 else [f"exit status {status} after {took:.2f} s"]
    return found if whole == 200 and len(body) == 16 * 4096 else [*found, "the last answer was cut"]


def show(pod: Pod, crowd: Crowd, looks: list[dict[str, Any]]) -> None:
    print(f"\n{pod.name}: {looks[-1]['requests']} requests, {crowd.done.total()} connections")
    for figure in ("requests", *ALLOWED):
        if looks[0][figure] is not None:
            print(f"  {figure:15}", *(f"{look[figure]:>12}" for look in looks))
    print("  objects        ", *(f"{sum(look['kinds'].values()):>12}" for look in looks))


def run(seconds: float, seed: int) -> int:
    pods: list[Pod] = []
    try:
        pods.extend(Pod(name, app, threads) for name, app, threads, _ in APPS)
        for pod in pods:
            pod.wait_until_ready()
        speak = [speaks for *_, speaks in APPS]
        crowds = [Crowd(pod, speaks, seed) for pod, speaks in zip(pods, speak, strict=True)]
        looks: list[list[dict[str, Any]]] = [[] for _ in pods]
        for part in (WARM_UP, (1 - WARM_UP) / 2, (1 - WARM_UP) / 2):
            soak(crowds, part * seconds)
            for pod, seen in zip(pods, looks, strict=True):
                seen.append(pod.look())
        bad = False
        for pod, crowd, seen in zip(pods, crowds, looks, strict=True):
            show(pod, crowd, seen)
            found = failures(crowd, seen) + drained(pod)
            for failure in found:
                print(f"  WRONG: {failure}")
            if found:
                print(pod.said())
            bad |= bool(found)
        return int(bad)
    finally:
        for pod in pods:
            pod.clear()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    options = parser.parse_args()
    print(f"--seconds {options.seconds:.0f} --seed {options.seed}", flush=True)
    sys.exit(run(options.seconds, options.seed))


if __name__ == "__main__":
    main()
