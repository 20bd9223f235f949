"""Prints a gunicorn config file as a gracefork.toml: ``gracefork migrate gunicorn_config.py``."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from ._config import read, standard_output_kept
from ._fault import BAD_CONFIG, Fault, leave
from ._mapping import Keys, about_worker_class, translated, without_place, worker_class
from ._settings import SETTINGS, Fate

#: gracefork's defaults that a shutdown's budget is made of, in seconds.
_KILL_MARGIN = 5
_GRACE_PERIOD = 30
_LAMEDUCK_UNDER_KUBERNETES = 10

_SECTIONS = ("listen", "workers", "shutdown", "http", "log", "python", "security")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+\Z")


def toml(given: Mapping[str, Any], location: str) -> str:
    """The file's settings as TOML, with comments on what has no place in it."""
    answer = translated(given, location)
    keys: Keys = {} if answer["app"] is None else {"app": answer["app"]}
    keys.update(answer["settings"])
    if "graceful_timeout" in given:
        keys["shutdown.grace_period"] = _grace_period(given["graceful_timeout"])
    needed = [name for name in given if SETTINGS[name].fate in (Fate.HOOK, Fate.FILE)]
    if needed:
        keys["python.config"] = location
    return "".join(f"{line}\n" for line in _lines(keys, sorted(needed), given, location))


def _grace_period(graceful_timeout: int) -> str:
    """What SIGKILL has to be put off for, in a cluster as well as outside."""
    needed = _LAMEDUCK_UNDER_KUBERNETES + graceful_timeout + _KILL_MARGIN
    return f"{max(_GRACE_PERIOD, needed)}s"


def _lines(keys: Keys, needed: list[str], given: Mapping[str, Any], location: str) -> Iterator[str]:
    yield f"# From {location}."
    for name in without_place(given):
        yield f"# {name}: {SETTINGS[name].note}."
    for each in about_worker_class(worker_class(given)):
        yield f"# {each}."
    for key in [key for key in keys if "." not in key]:
        yield f"{key} = {_value(keys[key])}"
    for section in _SECTIONS:
        inside = {key: value for key, value in keys.items() if key.startswith(f"{section}.")}
        if not inside:
            continue
        yield ""
        yield f"[{section}]"
        for key, value in inside.items():
            if key == "python.config":
                yield f"# for {', '.join(needed)}"
            yield f"{key.partition('.')[2]} = {_value(value)}"


def _value(value: Any) -> str:
    """A value as TOML writes it; JSON writes strings, numbers and bools the same way."""
    if isinstance(value, dict):
        pairs = [f"{_table_key(key)} = {_value(item)}" for key, item in value.items()]
        return f"{{ {', '.join(pairs)} }}" if pairs else "{}"
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")


def _table_key(key: str) -> str:
    return key if _BARE_KEY.match(key) else _value(key)


def main(arguments: list[str]) -> NoReturn:
    """Prints the TOML, and ends."""
    if len(arguments) != 1:
        sys.stderr.write("usage: gracefork migrate gunicorn_config.py > gracefork.toml\n")
        leave(BAD_CONFIG)
    try:
        with standard_output_kept() as output:
            output.write(toml(read(arguments[0]).given, arguments[0]).encode())
    except Fault as fault:
        fault.print()
        leave(fault.status)
    leave(0)


if __name__ == "__main__":
    main(sys.argv[1:])
