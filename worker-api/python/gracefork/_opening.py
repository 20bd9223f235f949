"""What a host imports ahead of its workers for the sake of the app: the frameworks that the app's
module begins with.

Without ``preload`` each worker imports the app for itself, and most of what that takes, in memory
and in time, is the framework. The first statements of an app's module are imports as a rule. As
long as these name the standard library or one of the frameworks below, none of the app's own code
has run by then: a worker would find the same modules at the same places, and the host may import
them for all. At the first statement of another kind this ends. No code of the app runs here, and as
a reload brings a host of its own, it finds a new release of a framework too.
"""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader

from ._config import Cfg

#: Packages that start nothing and open nothing when they are imported, nor ask who they are.
_FRAMEWORKS = {
    "asgiref",
    "django",
    "fastapi",
    "flask",
    "jinja2",
    "markupsafe",
    "pydantic",
    "starlette",
    "typing_extensions",
    "werkzeug",
}
#: Those that import whatever was installed as a plugin of pydantic's.
_WITH_PLUGINS = {"fastapi", "pydantic"}
#: Where pip installs to; the app's own packages are elsewhere.
_INSTALLED = {"site-packages", "dist-packages"}


def load(name: str, cfg: Cfg) -> None:
    """Imports what the module of the app ``module:attribute`` begins with. Where a hook runs before
    the app's import, in the host or the worker, that comes first, and nothing is imported here."""
    if cfg.pre_fork is None and cfg.post_fork is None:
        for statement in _opening(name.partition(":")[0]):
            if not _is_harmless(statement) or not _done(statement):
                return


def _opening(module: str) -> Iterator[ast.stmt]:
    """The statements that run when the module is imported, its packages' first. Nothing is
    imported to find them."""
    path = sys.path
    parts = module.split(".")
    for count in range(1, len(parts) + 1):
        name = ".".join(parts[:count])
        spec = None if name in sys.modules else _found(name, path)
        if spec is None:
            return
        if spec.origin is not None:
            if not isinstance(spec.loader, SourceFileLoader):
                return
            try:
                yield from ast.parse(spec.loader.get_data(spec.origin)).body
            except (OSError, SyntaxError, ValueError):
                return
        path = list(spec.submodule_search_locations or ())


def _found(module: str, path: list[str]) -> ModuleSpec | None:
    try:
        return PathFinder.find_spec(module, path)
    except (ImportError, ValueError):
        return None


def _is_harmless(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Expr):
        # A docstring.
        return isinstance(statement.value, ast.Constant)
    if isinstance(statement, ast.Import):
        return all(_may_be_imported(alias.name) for alias in statement.names)
    if isinstance(statement, ast.ImportFrom) and statement.module is not None:
        return statement.level == 0 and _may_be_imported(statement.module)
    return False


def _may_be_imported(module: str) -> bool:
    first = module.partition(".")[0]
    if first in sys.stdlib_module_names:
        return True
    if first not in _FRAMEWORKS or (first in _WITH_PLUGINS and _has_plugins()):
        return False
    spec = _found(first, sys.path)
    if spec is None or spec.origin is None:
        return False
    folder = os.path.dirname(spec.origin)
    if spec.submodule_search_locations is not None:
        folder = os.path.dirname(folder)
    return os.path.basename(folder) in _INSTALLED


def _has_plugins() -> bool:
    from importlib.metadata import entry_points

    return bool(entry_points(group="pydantic"))


def _done(statement: ast.stmt) -> bool:
    """Runs an import. One that fails will fail in the worker too, which tells of it."""
    code = compile(ast.Module([statement], []), "<the app's first imports>", "exec")
    try:
        exec(code, {"__name__": __name__})
    except (Exception, SystemExit):
        return False
    return True
