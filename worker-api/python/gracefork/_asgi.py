"""Serves an ASGI app: chooses the event loop, and starts and ends the app by its lifespan."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from inspect import iscoroutinefunction
from typing import Any

from ._fault import BAD_APP, Fault
from ._orders import Leave, Orders, compose

#: How long a request that is cancelled may take to end, in seconds. The lifespan ends after it, and
#: all of it within what the master leaves a worker that is forced.
_PATIENCE = 0.2


def serve(native: Any, app: Callable[..., Any], options: dict[str, Any], orders: Orders) -> None:
    """Serves until the worker has drained. Raises `Fault` when the app cannot start, and `Leave`
    when it is told to go meanwhile."""
    app = _coroutine_function(app)
    loop = _new_loop(os.environ.get("GRACEFORK_PYTHON_LOOP", "auto"))
    asyncio.set_event_loop(loop)
    try:
        try:
            loop.run_until_complete(_serve(native, app, loop, options, orders))
        except Leave:
            if orders.booting:
                # The app has begun what it is to undo.
                _cancel_what_is_left(loop)
            raise
        _cancel_what_is_left(loop)
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        asyncio.set_event_loop(None)
        loop.close()


async def _serve(
    native: Any,
    app: Callable[..., Any],
    loop: asyncio.AbstractEventLoop,
    options: dict[str, Any],
    orders: Orders,
) -> None:
    from ._gracefork import serve_asgi
    from ._lifespan import Lifespan

    lifespan = Lifespan(app, os.environ.get("GRACEFORK_PYTHON_LIFESPAN", "auto"))
    await lifespan.startup()
    orders.booting = False
    compose()
    await serve_asgi(native, app, loop, {**options, "state": lifespan.state})
    await _cancel_requests()
    await lifespan.shutdown()
    native.drained()


async def _cancel_requests() -> None:
    """Cancels what a forced end cuts off, before the app takes apart what requests work with."""
    from ._gracefork import Runner

    left = [task for task in asyncio.all_tasks() if isinstance(task.get_coro(), Runner)]
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left, timeout=_PATIENCE)


def _coroutine_function(app: Callable[..., Any]) -> Callable[..., Any]:
    """The app, as something that runs none of its code when it is called: all of it is to run in
    the request's task, whose context is the request's own. It may return anything to be awaited."""
    # What can be called has it.
    method = type(app).__call__
    if iscoroutinefunction(app) or iscoroutinefunction(method):
        return app

    async def call(scope: Any, receive: Any, send: Any) -> None:
        await app(scope, receive, send)

    return call


def _new_loop(kind: str) -> asyncio.AbstractEventLoop:
    """``asyncio``'s own loop, ``uvloop``'s, or with ``auto`` the latter where it is installed."""
    if kind != "asyncio":
        try:
            import uvloop
        except ImportError:
            if kind == "uvloop":
                help = "install uvloop, or leave python.loop (asgi_loop) out"
                raise Fault("uvloop is not installed", help, BAD_APP) from None
        else:
            loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
            return loop
    return asyncio.new_event_loop()


def _cancel_what_is_left(loop: asyncio.AbstractEventLoop) -> None:
    """Cancels the app's own tasks, as ``asyncio.run`` does at its end."""
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
