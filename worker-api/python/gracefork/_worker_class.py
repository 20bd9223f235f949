"""What gunicorn's ``worker_class`` comes to here. No worker class is run: what counts of one is how
it calls the app, and what one that is made from uvicorn's says to uvicorn in ``CONFIG_KWARGS``."""

from __future__ import annotations

import importlib
import math
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ._fault import BAD_CONFIG, Fault, in_one_line
from ._settings import SETTINGS

_WSGI = ("sync", "gthread", "SyncWorker", "ThreadWorker")
_ASGI = ("asgi", "ASGIWorker")
_UVICORN = ("UvicornWorker", "UvicornH11Worker")
#: Other event loops than asyncio's, by what is in their workers' names.
_OTHER_LOOPS = ("gevent", "eventlet", "tornado")

#: gunicorn's settings that some of uvicorn's arguments are.
_SETTINGS = {
    "backlog": "backlog",
    "forwarded_allow_ips": "forwarded_allow_ips",
    "lifespan": "asgi_lifespan",
    "limit_max_requests": "max_requests",
    "loop": "asgi_loop",
    "root_path": "root_path",
    "timeout_graceful_shutdown": "graceful_timeout",
    "timeout_keep_alive": "keepalive",
    "ws_max_size": "websocket_max_message_size",
}
#: Those that choose among uvicorn's own parts, or that gunicorn's settings are for.
_IDLE = {"access_log", "http", "use_colors", "ws", "ws_max_queue", "ws_per_message_deflate"}
#: What those may be that ask for what is so here.
_SO_ALREADY = {"proxy_headers": True, "server_header": False, "date_header": True, "loop": "auto"}


@dataclass
class Found:
    """What a worker class comes to."""

    #: ``wsgi``, ``asgi`` or ``uvicorn``, where it tells.
    interface: str | None = None
    #: gunicorn's settings with what it gives them.
    given: dict[str, Any] = field(default_factory=dict)
    #: How often a WebSocket's peer is asked whether it is there, in seconds, if it says so.
    ping_interval: float | None = None
    #: What of it is not carried out here: arguments of uvicorn's, and methods.
    missed: list[str] = field(default_factory=list)
    #: Why nothing is known of it.
    problem: str | None = None


def find(value: Any) -> Found:
    """Of a class, or the name of one.

    Raises `Fault` when an app that is made for it cannot be served here.
    """
    if isinstance(value, str):
        found = _named(value)
        if isinstance(found, Found):
            return found
        value = found
    own: list[type] = []
    for each in value.__mro__:
        name = each.__name__
        if each.__module__.startswith("gunicorn.") and _is_of_another_loop(name):
            raise _without_place(name)
        interface = _interface(name)
        if interface is not None:
            found = Found(interface, missed=list(_methods(own)))
            if interface != "wsgi":
                _take_arguments(value, found)
            return found
        own.append(each)
    return Found(problem="it is made from none that is known here")


def _named(name: str) -> Found | type:
    # gunicorn's names of its own are `egg:gunicorn#sync` in full.
    module, _, attribute = re.sub("[:#]", ".", name).rpartition(".")
    interface = _interface(attribute)
    if interface is not None:
        # It was imported if somebody has changed it.
        found = getattr(sys.modules.get(module), attribute, None)
        return found if isinstance(found, type) else Found(interface)
    if not module or module.startswith("gunicorn."):
        if _is_of_another_loop(attribute):
            raise _without_place(name)
        return Found(problem="it is not known here")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (Exception, SystemExit) as error:
        # What it is made from need not be installed any more.
        if _is_of_another_loop(attribute):
            raise _without_place(name) from None
        return Found(problem=f"it cannot be imported: {in_one_line(error)}")
    return found if isinstance(found, type) else Found(problem="it is no class")


def _interface(name: str) -> str | None:
    if name in _WSGI:
        return "wsgi"
    if name in _UVICORN:
        return "uvicorn"
    return "asgi" if name in _ASGI else None


def _is_of_another_loop(name: str) -> bool:
    return any(word in name.lower() for word in _OTHER_LOOPS)


def _without_place(name: str) -> Fault:
    return Fault(
        f"worker_class {name!r} has no place here",
        'use `worker_class = "gthread"` with `threads = 8` or so; '
        "an app that needs its own event loop is better off as ASGI",
        BAD_CONFIG,
    )


def _methods(own: list[type]) -> Iterator[str]:
    for each in own:
        for name, value in vars(each).items():
            if callable(value) or isinstance(value, classmethod | staticmethod | property):
                yield f"{each.__name__}.{name}"


def _take_arguments(worker: type, found: Found) -> None:
    """As uvicorn's worker does, whose classes do not add to each other's."""
    arguments = getattr(worker, "CONFIG_KWARGS", {})
    if not isinstance(arguments, Mapping):
        raise Fault(
            f"CONFIG_KWARGS of {worker.__name__} is of type {type(arguments).__name__}",
            "make it a dict of uvicorn's arguments",
            BAD_CONFIG,
        )
    for name, value in arguments.items():
        if value is None or name in _IDLE or _SO_ALREADY.get(name, ...) == value:
            continue
        if name == "interface" and value in ("auto", "asgi3", "asgi2", "wsgi"):
            found.interface = "wsgi" if value == "wsgi" else "asgi"
        elif not _take(name, value, found):
            found.missed.append(f"CONFIG_KWARGS[{name!r}]")


def _take(name: str, value: Any, found: Found) -> bool:
    """Whether there is such a setting, and such a value of it."""
    try:
        if name == "ws_ping_interval":
            interval = float(value)
            if not (math.isfinite(interval) and interval >= 0):
                return False
            found.ping_interval = interval
            return True
        if isinstance(value, list | tuple) and name == "forwarded_allow_ips":
            value = ",".join(value)
        setting = _SETTINGS[name]
        found.given[setting] = SETTINGS[setting].check(value)
    except (KeyError, TypeError, ValueError):
        return False
    return True
