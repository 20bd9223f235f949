"""ASGI's lifespan: the app starts before the worker is ready, and ends after it has drained."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from ._fault import BAD_APP, Fault, trimmed

_log = logging.getLogger("gunicorn.error")

Message = dict[str, Any]


class Lifespan:
    """One app's lifespan. ``mode`` is ``on``, ``off``, or ``auto``: an app that has none may fail.

    ``state`` is what the app has put there at its start; each request gets a copy of it.
    """

    def __init__(self, app: Callable[..., Any], mode: str) -> None:
        self.state: dict[str, Any] = {}
        self._app = app
        self._mode = mode
        self._events: asyncio.Queue[Message] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self._answer: asyncio.Future[Message] | None = None
        self._asked = ""

    async def startup(self) -> None:
        """Starts the app. Raises `Fault` when it says, or with ``on`` shows, that it cannot."""
        if self._mode == "off":
            return
        self._task = asyncio.get_running_loop().create_task(self._run(), name="lifespan")
        try:
            answer = await self._ask("lifespan.startup")
        except Exception as error:
            if self._mode == "on":
                help = "correct what the last line names, or set python.lifespan to off"
                raise Fault("the app failed to start", help, BAD_APP, error) from error
            if self._events.empty():
                told = "the app failed to start; it serves without a lifespan"
                _log.warning("%s (python.lifespan is auto):\n%s", told, trimmed(error))
            return
        if answer is not None and answer["type"] == "lifespan.startup.failed":
            told = str(answer.get("message") or "").rstrip()
            help = "correct what the app says above"
            shown = f"the app failed to start\n{told}" if told else "the app failed to start"
            raise Fault(shown, help, BAD_APP)
        if answer is None and self._mode == "on":
            help = "have the app answer `lifespan` scopes, or set python.lifespan to off"
            raise Fault("the app returned from its lifespan before it had started", help, BAD_APP)
        self._task.add_done_callback(self._died)

    async def shutdown(self) -> None:
        """Ends the app, if it is there to be ended."""
        if self._task is None or self._task.done():
            return
        try:
            answer = await self._ask("lifespan.shutdown")
        except Exception as error:
            _log.error("Exception in the app's lifespan:\n%s", trimmed(error))
            return
        if answer is not None and answer["type"] == "lifespan.shutdown.failed":
            _log.error("the app failed to end: %s", answer.get("message") or "it does not say why")

    def _died(self, task: asyncio.Task[None]) -> None:
        """The app's lifespan is over. That it serves on may be wrong, but is up to it."""
        error = None if task.cancelled() else task.exception()
        if error is not None and self._asked == "lifespan.startup":
            _log.error("The app's lifespan has died; it serves on:\n%s", trimmed(error))

    async def _run(self) -> None:
        scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self.state,
        }
        await self._app(scope, self._events.get, self._send)

    async def _ask(self, kind: str) -> Message | None:
        """Tells the app, and waits for its answer; none if it returns. Raises what it raises."""
        assert self._task is not None
        self._asked = kind
        self._answer = asyncio.get_running_loop().create_future()
        self._events.put_nowait({"type": kind})
        either: set[asyncio.Future[Any]] = {self._task, self._answer}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if self._answer.done():
            return self._answer.result()
        self._task.result()
        return None

    async def _send(self, message: Message) -> None:
        asked = self._asked
        if message["type"] not in (f"{asked}.complete", f"{asked}.failed"):
            raise RuntimeError(f"unexpected ASGI message {message['type']!r} after {asked!r}")
        if self._answer is None or self._answer.done():
            raise RuntimeError(f"{asked!r} was answered already")
        self._answer.set_result(message)
