"""What gunicorn's ``worker_class`` comes to here. No worker class is run: what counts of one is how
it calls the app, and what one that is made from uvicorn's says in ``CONFIG_KWARGS``."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ._fault import BAD_CONFIG, Fault
from ._settings import SETTINGS

_WSGI = ("sync", "gthread", "SyncWorker", "ThreadWorker")
_ASGI = ("asgi", "ASGIWorker", "UvicornWorker", "UvicornH11Worker")
_WITHOUT_PLACE = ("gevent", "eventlet", "tornado")

#: gunicorn's settings that some of uvicorn's arguments are.
_SETTINGS = {
    "root_path": "root_path",
    "loop": "asgi_loop",
    "lifespan": "asgi_lifespan",
    "ws_max_size": "websocket_max_message_size",
    "timeout_keep_alive": "keepalive",
    "forwarded_allow_ips": "forwarded_allow_ips",
}
#: Those that choose among uvicorn's own parts, or that a worker class sets by itself.
_IDLE = {"http", "ws", "interface", "access_log", "log_level", "log_config", "use_colors"}


@dataclass
class Found:
    """What a worker class comes to."""

    #: ``wsgi`` or ``asgi``, where it tells.
    interface: str | None = None
    #: gunicorn's settings with what it gives them.
    given: dict[str, Any] = field(default_factory=dict)
    #: What of it has no place here: arguments of uvicorn's, and methods.
    missed: list[str] = field(default_factory=list)


def find(value: Any) -> Found:
    """Of a class, or the name of one; where that cannot be imported, nothing.

    Raises `Fault` when an app that is made for it cannot be served here.
    """
    if isinstance(value, str):
        interface = _interface(value)
        if interface is not None:
            return Found(interface)
        value = _imported(value)
        if value is None:
            return Found()
    own: list[type] = []
    for each in value.__mro__:
        interface = _interface(each.__name__)
        if interface is not None:
            found = Found(interface, missed=list(_methods(own)))
            if interface == "asgi":
                _take_arguments(own, found)
            return found
        own.append(each)
    return Found()


def _interface(name: str) -> str | None:
    last = re.split(r"[.:#]", name)[-1]
    if any(word in last.lower() for word in _WITHOUT_PLACE):
        raise Fault(
            f"worker_class {name!r} has no place here",
            'use `worker_class = "gthread"` with `threads = 8` or so; '
            "an app that needs its own event loop is better off as ASGI",
            BAD_CONFIG,
        )
    if last in _WSGI:
        return "wsgi"
    return "asgi" if last in _ASGI else None


def _imported(name: str) -> type | None:
    module, _, attribute = name.replace(":", ".").rpartition(".")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except Exception:
        # What it is made from need not be installed any more.
        return None
    return found if isinstance(found, type) else None


def _methods(own: list[type]) -> Iterator[str]:
    for each in own:
        for name, value in vars(each).items():
            if callable(value) or isinstance(value, classmethod | staticmethod | property):
                yield f"{each.__name__}.{name}"


def _take_arguments(own: list[type], found: Found) -> None:
    arguments: dict[str, Any] = {}
    for each in reversed(own):
        arguments.update(vars(each).get("CONFIG_KWARGS") or {})
    for name, value in arguments.items():
        setting = _SETTINGS.get(name)
        if setting is not None:
            try:
                found.given[setting] = SETTINGS[setting].check(value)
                continue
            except (TypeError, ValueError):
                pass
        if name not in _IDLE:
            found.missed.append(f"CONFIG_KWARGS[{name!r}]")
