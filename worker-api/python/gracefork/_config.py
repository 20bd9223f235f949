"""Reads a gunicorn config file: a Python program whose names are settings.

``python -m gracefork._config FILE`` prints, as JSON, what the file comes to in gracefork's terms.
The master runs it in a process of its own, since it never runs code of the app itself.
"""

from __future__ import annotations

import ast
import importlib
import importlib.machinery
import importlib.util
import inspect
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, NoReturn

from ._fault import BAD_CONFIG, Fault, leave
from ._mapping import DEFAULT_PORT, translated
from ._settings import SETTINGS

#: The name that gunicorn gives the module of a config file.
MODULE = "__config__"


class Cfg:
    """gunicorn's settings by name, as hooks ask for them: ``server.cfg.workers``.

    What the config file does not give has gunicorn's default. ``given`` holds what it does give.
    """

    def __init__(self, given: dict[str, Any]) -> None:
        values = {name: setting.default for name, setting in SETTINGS.items()}
        values.update(given)
        self.__dict__["given"] = given
        self.__dict__["settings"] = values

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["settings"][name]
        except KeyError:
            raise AttributeError(f"No configuration setting for: {name}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.settings:
            raise AttributeError("Invalid access!")
        super().__setattr__(name, value)

    def set(self, name: str, value: Any) -> None:
        """Sets a setting; what the master was told when it started is not changed by it."""
        if name not in SETTINGS:
            raise AttributeError(f"No configuration setting for: {name}")
        self.settings[name] = SETTINGS[name].check(value)

    @property
    def env(self) -> dict[str, str]:
        """``raw_env`` as a dict."""
        return dict(item.split("=", 1) for item in self.raw_env)

    @property
    def address(self) -> list[tuple[str, int] | str | int]:
        """What ``bind`` names: hosts with ports, paths, descriptors."""
        return [_address(text) for text in self.bind]

    @property
    def uid(self) -> int:
        """The user's number."""
        return int(self.user)

    @property
    def gid(self) -> int:
        """The group's number."""
        return int(self.group)

    @property
    def is_ssl(self) -> bool:
        """Always false: nothing here ends TLS."""
        return False

    @property
    def worker_class_str(self) -> str:
        """The worker class by name."""
        chosen = self.worker_class
        return chosen if isinstance(chosen, str) else str(chosen.__name__)


def _address(bind: str) -> tuple[str, int] | str | int:
    if bind.startswith("unix:"):
        return bind.removeprefix("unix:")
    if bind.startswith("fd://"):
        return int(bind.removeprefix("fd://"))
    host, _, port = bind.rpartition(":")
    if not port.isdigit():
        return bind.strip("[]"), DEFAULT_PORT
    return host.strip("[]"), int(port)


def read(location: str) -> Cfg:
    """Runs the config file ``FILE``, ``file:FILE`` or ``python:MODULE`` and checks what it gives.

    Raises `Fault` when it cannot be run, or a value of it is not one that gunicorn would take.
    """
    prepare_path()
    names = vars(_run(location))
    location = _file(location, names)
    given = {}
    for name, setting in SETTINGS.items():
        if name in names and name != "config":
            given[name] = _checked(location, name, setting.check, names[name])
    return Cfg(given)


def prepare_path() -> None:
    """Has imports look into the working directory first, and before it into the folders that the
    master was given; each comes before those that were given before it, as with gunicorn."""
    for folder in (os.getcwd(), *python_path()):
        if folder not in sys.path:
            sys.path.insert(0, folder)


def python_path() -> list[str]:
    """The folders to import from that the master was given."""
    told = os.environ.get("GRACEFORK_PYTHON_PATH", "")
    return [folder for folder in told.split(os.pathsep) if folder]


def _file(location: str, names: dict[str, Any]) -> str:
    """The file to name in errors; ``names`` are those of its module."""
    if location.startswith("python:"):
        return str(names.get("__file__") or location)
    return location.removeprefix("file:")


def _checked(location: str, name: str, check: Any, value: Any) -> Any:
    try:
        return check(value)
    except Exception as error:
        problem = f"{_place(location, name)}: `{_shown(name, value)}`: {error}"
        raise Fault(problem, _what_fits(name), BAD_CONFIG) from error


def _shown(name: str, value: Any) -> str:
    """The setting as it may stand in the file."""
    if inspect.isfunction(value):
        return f"def {name}{inspect.signature(value)}"
    text = repr(value)
    return f"{name} = {text if len(text) <= 80 else text[:77] + '...'}"


def _place(location: str, name: str) -> str:
    """The file, with the line that gives the name its value, if that is to be found."""
    try:
        with open(location, "rb") as file:
            body = ast.parse(file.read()).body
    except (OSError, SyntaxError, ValueError):
        return location
    lines = [statement.lineno for statement in body if name in _names(statement)]
    return f"{location}:{lines[-1]}" if lines else location


def _names(statement: ast.stmt) -> list[str]:
    """What a statement at the top of a file gives a value."""
    if isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
        return [statement.name]
    targets = statement.targets if isinstance(statement, ast.Assign) else []
    if isinstance(statement, ast.AnnAssign):
        targets = [statement.target]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _what_fits(name: str) -> str:
    default = SETTINGS[name].default
    if default is None:
        return f"correct `{name}`, or leave it out"
    return f"correct `{name}`, or leave it out: gunicorn's default is {default!r}"


def _run(location: str) -> ModuleType:
    if location.startswith("python:"):
        return _imported(location.removeprefix("python:"))
    path = _file(location, {})
    if not os.path.isfile(path):
        where = "" if os.path.isabs(path) else f" in {os.getcwd()}"
        raise Fault(f"there is no config file {path}{where}", "name one that is there", BAD_CONFIG)
    loader = importlib.machinery.SourceFileLoader(MODULE, path)
    is_compiled = path.endswith(".pyc")
    spec = importlib.util.spec_from_file_location(
        MODULE, path, loader=None if is_compiled else loader
    )
    if spec is None or spec.loader is None:
        raise Fault(f"{path} cannot be read as Python", "name a .py file", BAD_CONFIG)
    module = importlib.util.module_from_spec(spec)
    sys.modules[MODULE] = module
    with _told(path):
        spec.loader.exec_module(module)
    return module


def _imported(name: str) -> ModuleType:
    with _told(f"python:{name}"):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            missing = error.name or ""
            if name != missing and not name.startswith(f"{missing}."):
                raise
            problem = f"there is no module {missing!r} for the config python:{name}"
            help = "name one that is there; --pythonpath says where else to look"
            raise Fault(problem, help, BAD_CONFIG) from None


@contextmanager
def _told(location: str) -> Iterator[None]:
    """Turns what the user's code raises into a fault."""
    try:
        yield
    except Fault:
        raise
    except (Exception, SystemExit) as error:
        help = "correct the line named above"
        if isinstance(error, ModuleNotFoundError):
            help = f"install {error.name} for {sys.executable}, or take its import out of the file"
        raise Fault(f"the config file {location} fails", help, BAD_CONFIG, error) from error


def main(arguments: list[str]) -> NoReturn:
    """Prints the settings of a config file as JSON, and ends."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m gracefork._config FILE\n")
        leave(BAD_CONFIG)
    try:
        with standard_output_kept() as output:
            answer = translated(read(arguments[0]).given, arguments[0])
            output.write(json.dumps(answer).encode())
    except Fault as fault:
        fault.print()
        leave(fault.status)
    leave(0)


@contextmanager
def standard_output_kept() -> Iterator[Any]:
    """Gives standard output to the caller, and what the user's code prints to standard error."""
    with open(os.dup(1), "wb") as output:
        os.dup2(2, 1)
        yield output


if __name__ == "__main__":
    main(sys.argv[1:])
