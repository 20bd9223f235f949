"""Loads the app and finds out what it is called by."""

from __future__ import annotations

import ast
import difflib
import functools
import importlib
import inspect
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ._fault import BAD_APP, Fault

#: The attribute that is meant when none is named.
DEFAULT_ATTRIBUTE = "application"


@dataclass(frozen=True)
class App:
    """A loaded app."""

    call: Callable[..., Any]
    #: ``"wsgi"`` or ``"asgi"``; an ASGI app of version 2 is wrapped into one of version 3.
    interface: str


def load(name: str, interface: str = "auto") -> App:
    """Imports ``module:attribute`` or ``module:factory("argument", key=1)``.

    ``interface`` is ``auto``, ``wsgi`` or ``asgi``. Raises `Fault` when there is no such app, its
    code fails, or it is of another kind.
    """
    module_name, _, expression = name.partition(":")
    attribute, arguments = _parsed(expression or DEFAULT_ATTRIBUTE, name)
    working_folder = os.getcwd()
    if working_folder not in sys.path:
        sys.path.insert(0, working_folder)
    found = _attribute(_module(module_name, name), attribute, module_name)
    if arguments is not None:
        found = _made(found, arguments, name)
    return _of_kind(found, interface, name)


@dataclass(frozen=True)
class _Arguments:
    positional: list[Any]
    named: dict[str, Any]


def _parsed(expression: str, name: str) -> tuple[str, _Arguments | None]:
    """The attribute's dotted name, and the arguments if it is a call."""
    try:
        node = ast.parse(expression, mode="eval").body
        function = node.func if isinstance(node, ast.Call) else node
        attribute = _dotted(function)
        if not isinstance(node, ast.Call):
            return attribute, None
        positional = [ast.literal_eval(argument) for argument in node.args]
        named = {keyword.arg: ast.literal_eval(keyword.value) for keyword in node.keywords}
        if None in named:
            raise ValueError("**")
        return attribute, _Arguments(positional, {str(key): it for key, it in named.items()})
    except (SyntaxError, ValueError):
        raise Fault(
            f"`{name}` does not name an app",
            'write module:attribute, or module:factory("argument", key=1) with plain values',
            BAD_APP,
        ) from None


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    raise ValueError("not a name")


def _module(module_name: str, name: str) -> Any:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if module_name == missing or module_name.startswith(f"{missing}."):
            raise Fault(
                f"there is no module {missing!r} in {os.getcwd()}, nor elsewhere in Python's path",
                _where_it_may_be(module_name, name),
                BAD_APP,
            ) from None
        help = f"install it for {sys.executable}"
        raise Fault(
            f"{module_name!r} needs the module {missing!r}", help, BAD_APP, error
        ) from error
    except (Exception, SystemExit) as error:
        help = "correct what the traceback names"
        raise Fault(f"importing {module_name!r} failed", help, BAD_APP, error) from error


def _where_it_may_be(module_name: str, name: str) -> str:
    if module_name.endswith(".py") and os.path.exists(module_name):
        attribute = name.partition(":")[2] or DEFAULT_ATTRIBUTE
        return f"did you mean {module_name.removesuffix('.py')}:{attribute}?"
    first = module_name.partition(".")[0]
    here = [entry.removesuffix(".py") for entry in os.listdir() if entry.endswith(".py")]
    near = difflib.get_close_matches(first, here, 1)
    if near:
        return f"did you mean {near[0]}?"
    return "say with --chdir which folder it is in"


def _attribute(module: Any, attribute: str, module_name: str) -> Any:
    found = module
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            names = [each for each in vars(module) if not each.startswith("_")]
            near = difflib.get_close_matches(attribute, names, 1)
            apps = near or [each for each in ("app", "application", "create_app") if each in names]
            help = f"did you mean {module_name}:{apps[0]}?" if apps else "name one that it has"
            raise Fault(f"{module_name!r} has no {attribute!r}", help, BAD_APP) from None
    return found


def _made(factory: Any, arguments: _Arguments, name: str) -> Any:
    if not callable(factory):
        help = "leave the brackets out"
        kind = type(factory).__name__
        raise Fault(f"`{name}` cannot be called: it is of type {kind}", help, BAD_APP)
    try:
        inspect.signature(factory).bind(*arguments.positional, **arguments.named)
    except TypeError as error:
        raise Fault(f"`{name}`: {error}", "give the factory what it takes", BAD_APP) from None
    except ValueError:
        pass  # A builtin without a signature: the call tells.
    try:
        return factory(*arguments.positional, **arguments.named)
    except (Exception, SystemExit) as error:
        help = "correct what the traceback names"
        raise Fault(f"`{name}` failed", help, BAD_APP, error) from error


def _of_kind(found: Any, interface: str, name: str) -> App:
    if not callable(found):
        raise Fault(
            f"`{name}` cannot be called: it is of type {type(found).__name__}",
            "name the WSGI or ASGI app itself",
            BAD_APP,
        )
    kind = _kind(found)
    if kind == "factory":
        raise Fault(
            f"`{name}` takes no arguments: it is no app, but it may make one",
            f"write {name}()",
            BAD_APP,
        )
    told = "asgi" if kind.startswith("asgi") else kind
    if interface != "auto" and kind != "unclear" and told != interface:
        raise Fault(
            f"`{name}` is {_KINDS[told]} app, and {_KINDS[interface]} app was asked for",
            "leave python.interface (-k, worker_class) out: the app tells which it is",
            BAD_APP,
        )
    if kind == "asgi2":
        return App(_single_callable(found), "asgi")
    if kind == "unclear":
        told = "wsgi" if interface == "auto" else interface
    return App(found, told)


_KINDS = {"wsgi": "a WSGI", "asgi": "an ASGI"}


def _kind(app: Any) -> str:
    """``wsgi``, ``asgi``, ``asgi2``, ``factory`` or ``unclear``."""
    plain = app
    while isinstance(plain, functools.partial):
        plain = plain.func
    if not inspect.isclass(plain) and _is_coroutine_function(plain):
        return "asgi"
    try:
        parameters = inspect.signature(app).parameters.values()
    except (TypeError, ValueError):
        return "unclear"
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        return "unclear"
    by_position = [each for each in parameters if each.kind in _BY_POSITION]
    needed = sum(each.default is each.empty for each in by_position)
    if needed == 3:
        return "asgi"
    if needed == 1 and len(by_position) == 1:
        return "asgi2"
    if needed == 0 and len(by_position) < 2:
        return "factory"
    return "wsgi" if needed <= 2 <= len(by_position) else "unclear"


_BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def _is_coroutine_function(plain: Any) -> bool:
    call = getattr(plain, "__call__", None)  # noqa: B004, the method itself is asked
    return inspect.iscoroutinefunction(plain) or inspect.iscoroutinefunction(call)


def _single_callable(app: Callable[[Any], Any]) -> Callable[..., Any]:
    """An ASGI app of version 2, ``app(scope)(receive, send)``, as one of version 3."""

    async def call(scope: Any, receive: Any, send: Any) -> None:
        await app(scope)(receive, send)

    return call
