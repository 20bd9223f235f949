"""Whether an ASGI app may be told that it can send a file by its path (``http.response.pathsend``).

Starlette does so with every file where the server knows of it, and a middleware that looks at
bodies finds none then: compression is lost, and what reads a response's body fails. So those alone
are told that send to the server itself, as far as that can be seen.
"""

from __future__ import annotations

import inspect
from typing import Any


def sends_paths(app: Any) -> bool:
    """Whether nothing can be seen between what answers in this app and the server."""
    try:
        if inspect.isroutine(app):
            # What a decorator has made keeps what it was made of.
            closure = getattr(app, "__closure__", None) or ()
            return not any(callable(_content(cell)) for cell in closure)
        return _is_direct(app)
    except Exception:
        # An app may be anything, and be mounted in itself.
        return False


def _is_direct(app: Any) -> bool:
    routes = getattr(app, "routes", None)
    if isinstance(routes, (list, tuple)):
        if getattr(app, "user_middleware", None):
            return False
        router = getattr(app, "router", app)
        stack = getattr(router, "middleware_stack", None)
        return inspect.isroutine(stack) and all(_leads_directly(route) for route in routes)
    # A middleware keeps the app that it wraps.
    return not any(callable(value) for value in getattr(app, "__dict__", {}).values())


def _leads_directly(route: Any) -> bool:
    target = getattr(route, "app", None)
    if target is None or inspect.isroutine(target) or inspect.isclass(target):
        return True
    # Of a mount with middlewares, the target is the first of these.
    return target is getattr(route, "_base_app", None) and _is_direct(target)


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return None
