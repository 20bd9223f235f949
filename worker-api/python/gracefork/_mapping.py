"""What a gunicorn config comes to as settings of gracefork."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ._fault import BAD_CONFIG, Fault
from ._settings import SETTINGS, Fate
from ._worker_class import Found, find

DEFAULT_PORT = 8000
_MOST_OF_A_LINE = 65_534
_MOST_FIELDS = 16_384

_LEVELS = {"debug": "debug", "warning": "warn", "error": "error", "critical": "error"}

Keys = dict[str, Any]


def translated(given: Mapping[str, Any], location: str) -> Keys:
    """The settings that a config file gives, as the master reads them: ``settings``, ``app`` and
    ``warnings``."""
    settings: Keys = {}
    for name, value in given.items():
        setting = SETTINGS[name]
        if setting.fate is Fate.REFUSED and setting.asks_for_something(value):
            raise Fault(f"{location}: `{name}`: {setting.note}", f"take `{name}` out", BAD_CONFIG)
        if setting.fate is Fate.KEY and value is not None and name != "worker_class":
            settings.update(_CONVERSIONS[name](value))
    worker = worker_class(given)
    # What it says to uvicorn goes over the rest of the file.
    settings.update(_worker_class(worker))
    app = settings.pop("app", None)
    warnings = [f"{location}: {each}" for each in _warnings(given, worker)]
    return {"settings": settings, "app": app, "warnings": warnings}


def worker_class(given: Mapping[str, Any]) -> Found:
    """What the worker class comes to, if there is one. Where it is a name, it is imported, perhaps
    from a folder that the file itself names."""
    value = given.get("worker_class")
    if value is None:
        return Found()
    folders = [given.get("chdir"), *(given.get("pythonpath") or "").split(",")]
    for folder in folders:
        if folder and os.path.abspath(folder) not in sys.path:
            sys.path.insert(0, os.path.abspath(folder))
    return find(value)


def _warnings(given: Mapping[str, Any], worker: Found) -> Iterator[str]:
    idle = without_place(given)
    if idle:
        names = ", ".join(idle)
        yield (
            f"nothing here needs {names}: "
            "docs/migrating-from-gunicorn.md says why, and what to use instead"
        )
    yield from about_worker_class(worker)


def about_worker_class(worker: Found) -> Iterator[str]:
    """What is to be told of it: that it is not known, or what of it is not carried out."""
    if worker.problem is not None:
        yield f"worker_class tells nothing here: {worker.problem}; no worker class is run"
    if worker.missed:
        names = ", ".join(worker.missed)
        yield f"worker_class is not run here, and so without effect: {names}"


def without_place(given: Mapping[str, Any]) -> list[str]:
    """The settings that ask for something which nothing here does, in order."""
    return sorted(name for name, value in given.items() if _has_no_place(name, value))


def _has_no_place(name: str, value: Any) -> bool:
    setting = SETTINGS[name]
    return setting.fate is Fate.NONE and setting.asks_for_something(value)


def _seconds(value: int) -> str:
    return f"{value}s"


def _as_is(key: str) -> Callable[[Any], Keys]:
    return lambda value: {key: value}


def _at_most(key: str, most: int) -> Callable[[int], Keys]:
    return lambda value: {key: min(value, most)}


def _time(key: str) -> Callable[[int], Keys]:
    return lambda value: {key: _seconds(value)}


def _bind(addresses: list[str]) -> Keys:
    return {"listen.bind": [_address(address) for address in addresses]}


def _address(text: str) -> str:
    """One of gunicorn's addresses as gracefork writes it."""
    if text.startswith("unix:"):
        return "unix:" + re.sub(r"^//", "", text.removeprefix("unix:"))
    if text.startswith("fd://"):
        return "fd:" + text.removeprefix("fd://")
    text = text.removeprefix("tcp://")
    if text == "":
        return f"0.0.0.0:{DEFAULT_PORT}"
    has_port = "]:" in text if text.startswith("[") else ":" in text
    return text if has_port else f"{text}:{DEFAULT_PORT}"


def _worker_class(worker: Found) -> Keys:
    keys = {} if worker.interface is None else {"python.interface": worker.interface}
    for name, value in worker.given.items():
        keys.update(_CONVERSIONS[name](value))
    if worker.ping_interval is not None:
        keys["python.ws_ping_interval"] = f"{round(worker.ping_interval * 1000)}ms"
    return keys


def _umask(value: int) -> Keys:
    return {"security.umask": f"{value & 0o777:03o}"}


def _env(items: list[str]) -> Keys:
    for item in items:
        if "=" not in item:
            help = 'write it as "NAME=value"'
            raise Fault(f"`raw_env` has {item!r}, which sets nothing", help, BAD_CONFIG)
    return {"env": dict(item.split("=", 1) for item in items)}


def _path(value: str) -> Keys:
    return {"python.path": [folder.strip() for folder in value.split(",") if folder.strip()]}


def _root_path(value: str) -> Keys:
    return {"python.root_path": "/" + value.lstrip("/")} if value.strip("/") else {}


def _level(value: str) -> Keys:
    return {"log.level": _LEVELS.get(value.lower(), "info")}


def _application(value: str) -> Keys:
    return {"app": value}


_CONVERSIONS: dict[str, Callable[[Any], Keys]] = {
    "wsgi_app": _application,
    "bind": _bind,
    "backlog": _as_is("listen.backlog"),
    "workers": _as_is("workers.count"),
    "threads": _as_is("workers.threads"),
    "worker_connections": _as_is("http.max_connections"),
    "max_requests": _as_is("workers.max_requests"),
    "max_requests_jitter": _as_is("workers.max_requests_jitter"),
    "timeout": _time("workers.hang_timeout"),
    "graceful_timeout": _time("shutdown.drain_timeout"),
    "keepalive": _time("http.keep_alive"),
    "preload_app": _as_is("workers.preload"),
    "asgi_loop": _as_is("python.loop"),
    "asgi_lifespan": _as_is("python.lifespan"),
    "websocket_max_message_size": _as_is("python.ws_max_message_size"),
    "root_path": _root_path,
    "limit_request_line": _at_most("http.limit_request_line", _MOST_OF_A_LINE),
    "limit_request_fields": _at_most("http.limit_request_fields", _MOST_FIELDS),
    "limit_request_field_size": _as_is("http.limit_request_field_size"),
    "forwarded_allow_ips": _as_is("http.forwarded_allow_ips"),
    "proxy_allow_ips": _as_is("http.proxy_allow_ips"),
    "proxy_protocol": lambda value: {"http.proxy_protocol": value != "off"},
    "chdir": _as_is("chdir"),
    "pythonpath": _path,
    "pidfile": lambda value: {"pidfile": value} if value else {},
    "raw_env": _env,
    "user": _as_is("security.user"),
    "group": _as_is("security.group"),
    "initgroups": _as_is("security.initgroups"),
    "umask": _umask,
    "accesslog": _as_is("log.access"),
    "access_log_format": _as_is("log.access_format"),
    "errorlog": _as_is("log.file"),
    "loglevel": _level,
}
