"""What this process is: a worker of gracefork, or something else."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

_Callback = TypeVar("_Callback", bound=Callable[[], Any])


@dataclass
class _State:
    native: Any = None
    unhealthy: bool = False
    on_term: list[Callable[[], Any]] = field(default_factory=list)
    on_drain: list[Callable[[], Any]] = field(default_factory=list)


_state = _State()


def native() -> Any:
    """The worker's native part; ``None`` where this process is no worker."""
    return _state.native


def become(worker: Any) -> None:
    """This process is a worker from now on."""
    _state.native = worker


def say_unhealthy() -> None:
    """Marks a process unhealthy that is no worker."""
    _state.unhealthy = True


def said_unhealthy() -> bool:
    """Whether a process that is no worker was marked unhealthy."""
    return _state.unhealthy


def term_callbacks() -> list[Callable[[], Any]]:
    """What `on_term` was given, in order."""
    return list(_state.on_term)


def drain_callbacks() -> list[Callable[[], Any]]:
    """What `on_drain` was given, in order."""
    return list(_state.on_drain)


def on_term(callback: _Callback) -> _Callback:
    """Calls a function when the pod is told to stop: health turns, serving goes on.

    Use it as a decorator. It is called on a thread of its own, so it must be short, and needs no
    signal handler; those that the app installs run as well. Under another server it is never
    called.
    """
    _state.on_term.append(callback)
    return callback


def on_drain(callback: _Callback) -> _Callback:
    """Calls a function when this worker begins to drain: no new request will come once those that
    wait are served. As with `on_term`, on a thread of its own."""
    _state.on_drain.append(callback)
    return callback


class WorkerInfo:
    """Who this worker is; what it says outside of gracefork is noted at each."""

    @property
    def is_supervised(self) -> bool:
        """Whether this process is a worker of gracefork."""
        return _state.native is not None

    @property
    def slot(self) -> int:
        """Its place among the workers, from 0; a replacement has the same. Outside: 0."""
        return 0 if _state.native is None else int(_state.native.slot)

    @property
    def generation(self) -> int:
        """Goes up at each reload. Outside: 0."""
        return 0 if _state.native is None else int(_state.native.generation)

    @property
    def pid(self) -> int:
        """Its process id."""
        return os.getpid()

    @property
    def stage(self) -> str:
        """How far its way out has come: ``serving``, ``lameduck``, ``retiring``, ``draining`` or
        ``forced``. Outside: ``serving``."""
        return "serving" if _state.native is None else str(_state.native.stage())

    @property
    def pod_phase(self) -> str:
        """The pod's phase: ``boot``, ``ready``, ``lameduck``, ``drain``, ``force`` or ``exit``.
        Outside: ``ready``."""
        return "ready" if _state.native is None else str(_state.native.pod_phase())

    def status(self, text: str) -> None:
        """Shows a line in the pod's status. Outside: nothing happens."""
        if _state.native is not None:
            _state.native.status(text)

    def __repr__(self) -> str:
        return (
            f"<gracefork.worker slot={self.slot} generation={self.generation} pid={self.pid} "
            f"stage={self.stage}>"
        )
