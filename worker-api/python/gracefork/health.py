"""This worker's health, as its health path and its pod tell it.

Outside of gracefork a process is healthy until it says otherwise, so that an app may ask under any
server.
"""

from __future__ import annotations

from . import _current


def mark_unhealthy() -> None:
    """Lets this worker's health answers say unhealthy from now on; it goes on serving.

    There is no way back, and gracefork does not replace the worker for it: one that wants to be
    replaced exits. May be called from any thread and from a signal handler.
    """
    native = _current.native()
    if native is None:
        _current.say_unhealthy()
    else:
        native.mark_unhealthy()


def is_healthy() -> bool:
    """Whether this worker says healthy: neither it nor its pod was told otherwise."""
    native = _current.native()
    return not _current.said_unhealthy() if native is None else bool(native.is_healthy())
