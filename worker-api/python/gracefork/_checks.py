"""Checks of the values in a gunicorn config file: what gunicorn takes, and what it makes of it.

Each takes a value and returns it as gunicorn would keep it, or raises ``TypeError`` or
``ValueError`` with a text that says what would fit.
"""

from __future__ import annotations

import grp
import importlib
import inspect
import ipaddress
import os
import pwd
from collections.abc import Callable
from typing import Any

Check = Callable[[Any], Any]

_POSITIONAL = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
)


def anything(value: Any) -> Any:
    """Whatever it is."""
    return value


def boolean(value: Any) -> bool | None:
    """A bool, or the word for one."""
    if value is None or isinstance(value, bool):
        return value
    words = {"true": True, "false": False}
    if not isinstance(value, str):
        raise TypeError("expected True or False")
    if value.strip().lower() not in words:
        raise ValueError("expected True or False")
    return words[value.strip().lower()]


def number(value: Any) -> int:
    """A whole number, 0 or more, or the digits of one."""
    if not isinstance(value, (int, str)):
        raise TypeError("expected a whole number")
    try:
        found = int(value, 0) if isinstance(value, str) else int(value)
    except ValueError:
        raise ValueError("expected a whole number") from None
    if found < 0:
        raise ValueError("expected a number that is not negative")
    return found


def text(value: Any) -> str | None:
    """A string, without the blanks around it."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise TypeError("expected a string")
    return value.strip()


def texts(value: Any) -> list[str]:
    """A list of strings; a string alone is a list of one."""
    if not value:
        return []
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, (list, tuple, set, frozenset)):
        raise TypeError("expected a list of strings")
    return [_certain(text(item)) for item in value]


def comma_separated(value: Any) -> list[str]:
    """A string whose parts have commas between them."""
    whole = text(value)
    return [part.strip() for part in whole.split(",") if part] if whole else []


def networks(value: Any) -> list[str]:
    """Addresses and networks with commas between them, or ``*``."""
    parts = comma_separated(value)
    for part in parts:
        if part != "*":
            ipaddress.ip_network(part)
    return parts


def table(value: Any) -> dict[Any, Any]:
    """A dict."""
    if not isinstance(value, dict):
        raise TypeError("expected a dict")
    return value


def one_of(*words: str, none: str) -> Check:
    """One of some words, in any case; ``None`` stands for the word ``none``."""

    def check(value: Any) -> str:
        found = text(value)
        found = none if found is None else found.lower()
        if found not in words:
            raise ValueError("expected one of " + ", ".join(words))
        return found

    return check


def proxy_protocol(value: Any) -> str:
    """``off``, ``v1``, ``v2`` or ``auto``, or a bool."""
    if isinstance(value, bool):
        return "auto" if value else "off"
    same = {"false": "off", "0": "off", "none": "off", "true": "auto", "1": "auto"}
    found = text(value)
    found = "off" if found is None else found.lower()
    return str(one_of("off", "v1", "v2", "auto", none="off")(same.get(found, found)))


def cleartext(value: Any) -> str:
    """How HTTP/2 without TLS begins, or a bool."""
    if isinstance(value, bool):
        return "prior-knowledge" if value else "off"
    return str(one_of("off", "prior-knowledge", "upgrade", "both", none="off")(value))


def folder(value: Any) -> str:
    """A folder that is there, as an absolute path."""
    path = os.path.abspath(_certain(text(value)))
    if not os.path.isdir(path):
        raise ValueError("there is no such folder")
    return path


def user(value: Any) -> int:
    """A user's number, by its number or name."""
    return _identity(value, os.geteuid(), "user", lambda name: pwd.getpwnam(name).pw_uid)


def group(value: Any) -> int:
    """A group's number, by its number or name."""
    return _identity(value, os.getegid(), "group", lambda name: grp.getgrnam(name).gr_gid)


def worker_class(value: Any) -> Any:
    """A class, a function that gives one, or the name of one."""
    if inspect.isfunction(value) or inspect.ismethod(value):
        value = value()
    return value if inspect.isclass(value) else text(value)


def hook(*parameters: str) -> Check:
    """A function of so many parameters, or where to import it from."""

    def check(value: Any) -> Callable[..., Any]:
        function = _function(value)
        found = arity(function)
        if found != len(parameters):
            raise TypeError(f"expected a function of ({', '.join(parameters)}), it takes {found}")
        return function

    return check


def post_request(value: Any) -> Callable[..., Any]:
    """A function of (worker, req, environ, resp); the last two may be missing."""
    function = _function(value)
    found = arity(function)
    if found == 4:
        return function
    if found == 3:
        return lambda worker, req, environ, _resp: function(worker, req, environ)
    if found == 2:
        return lambda worker, req, _environ, _resp: function(worker, req)
    raise TypeError(f"expected a function of (worker, req, environ, resp), it takes {found}")


def arity(function: Callable[..., Any]) -> int:
    """How many arguments a function takes by position."""
    parameters = inspect.signature(function).parameters.values()
    return sum(parameter.kind in _POSITIONAL for parameter in parameters)


def _function(value: Any) -> Callable[..., Any]:
    if isinstance(value, str):
        module, _, name = value.rpartition(".")
        if not module:
            raise TypeError('expected a function, or "module.function"')
        try:
            value = getattr(importlib.import_module(module), name)
        except ImportError as error:
            raise TypeError(str(error)) from error
        except AttributeError:
            raise TypeError(f"there is no {name!r} in {module!r}") from None
    if not callable(value):
        raise TypeError("expected a function")
    function: Callable[..., Any] = value
    return function


def _identity(value: Any, own: int, kind: str, find: Callable[[str], int]) -> int:
    if value is None:
        return own
    if isinstance(value, int):
        return value
    name = _certain(text(value))
    if name.isdigit():
        return int(name)
    try:
        return find(name)
    except KeyError:
        raise ValueError(f"there is no such {kind}") from None


def _certain(value: str | None) -> str:
    if value is None:
        raise TypeError("expected a string")
    return value
