"""What hooks are given in place of gunicorn's arbiter, worker and request."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from ._config import Cfg
from ._log import Log

if TYPE_CHECKING:
    from ._hooks import Server


class Listener:
    """A listening socket, as far as hooks want to know of it; the worker's native part owns it."""

    def __init__(self, name: Any) -> None:
        self._name = name

    def getsockname(self) -> Any:
        """Its address: a (host, port, ...) tuple or a path."""
        return self._name

    def __str__(self) -> str:
        if isinstance(self._name, tuple):
            host, port = self._name[0], self._name[1]
            return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        return f"unix:{self._name}"


class Heartbeat:
    """``worker.tmp``: a worker shows life by itself, so there is nothing to do here."""

    def notify(self) -> None:
        """Does nothing."""

    def last_update(self) -> float:
        """Now, on the monotonic clock."""
        return time.monotonic()

    def close(self) -> None:
        """Does nothing."""


class Worker:
    """The worker that hooks are given, before the fork and after it.

    ``age`` counts the forks of this host, from 1; ``pid`` is ``"[booting]"`` until it has one;
    ``app`` is the server's way to the app, and ``wsgi`` the app itself once it is loaded: what a
    hook puts in its place is what is served. A worker whose ``alive`` is set to ``False`` is
    replaced, and drains.
    """

    def __init__(self, server: Server, age: int, slot: int, generation: int) -> None:
        self.age = age
        self.slot = slot
        self.generation = generation
        self.pid: int | str = "[booting]"
        self.ppid = server.pid
        self.sockets = server.LISTENERS
        self.app = server.app
        self.cfg: Cfg = server.cfg
        self.log: Log = server.log
        self.timeout = server.cfg.timeout / 2
        self.max_requests = server.cfg.max_requests
        self._alive = True
        self.booted = False
        self.aborted = False
        self.wsgi: Any = None
        self.tmp = Heartbeat()
        self.native: Any = None

    @property
    def alive(self) -> bool:
        """Whether it is to go on."""
        return self._alive

    @alive.setter
    def alive(self, value: bool) -> None:
        goes_on, self._alive = self._alive, bool(value)
        if goes_on and not value:
            self.leave()

    def leave(self) -> None:
        """Another takes its place, and it drains; when the pod goes down, the master sees to it."""
        self._alive = False
        if self.native is not None and self.native.pod_phase() in ("boot", "ready"):
            self.native.leave()

    def goes(self) -> None:
        """It is on its way out."""
        self._alive = False

    @property
    def nr(self) -> int:
        """How many requests it has served."""
        return 0 if self.native is None else int(self.native.requests)

    def notify(self) -> None:
        """Does nothing: a worker shows life by itself."""

    def __str__(self) -> str:
        return f"<Worker {self.pid}>"


class Request:
    """The request that ``pre_request`` and ``post_request`` are given.

    ``headers`` are pairs with upper-case names, as gunicorn has them.
    """

    fragment = ""
    trailers = ()

    def __init__(
        self,
        method: str,
        uri: str,
        version: tuple[int, int],
        headers: list[tuple[str, str]],
        remote_addr: tuple[str, int] | str,
    ) -> None:
        self.method = method
        self.uri = uri
        self.version = version
        self.headers = headers
        self.remote_addr = remote_addr
        target = uri.partition("#")[0]
        self.path, _, self.query = target.partition("?")

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.uri}>"


def addresses(first: int, count: int) -> list[Listener]:
    """The listeners that this process inherited, left where they are."""
    import socket

    found = []
    for number in range(first, first + count):
        borrowed = socket.socket(fileno=os.dup(number))
        with borrowed:
            found.append(Listener(borrowed.getsockname()))
    return found
