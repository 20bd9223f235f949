"""The native module: a worker's life, WSGI and ASGI."""

import asyncio
from collections.abc import Callable
from typing import Any

def inherit() -> None:
    """Takes over the listeners and the scoreboard that this process was started with."""

def release_file_pages() -> int:
    """Unmaps unchanged pages of files until they are used again; how many bytes they were."""

class Worker:
    """This process as a worker; made once, in a child of the fork server."""

    slot: int
    generation: int
    pid: int
    requests: int

    def __init__(
        self,
        slot: int,
        generation: int,
        control_fd: int,
        max_requests: int = 0,
        hooks: object | None = None,
    ) -> None: ...
    def mark_unhealthy(self) -> None: ...
    def is_healthy(self) -> bool: ...
    def stage(self) -> str: ...
    def pod_phase(self) -> str: ...
    def status(self, text: str) -> None: ...
    def leave(self) -> None: ...
    def fatal(self, reason: str) -> None: ...
    def drained(self) -> None: ...

class Runner:
    """The coroutine of a task that runs an ASGI app for a request."""

def serve_wsgi(worker: Worker, app: Callable[..., Any], options: dict[str, Any]) -> None:
    """Says that the worker is ready, and serves until it has drained."""

def serve_asgi(
    worker: Worker,
    app: Callable[..., Any],
    loop: asyncio.AbstractEventLoop,
    options: dict[str, Any],
) -> asyncio.Future[None]:
    """Says that the worker is ready, and serves; the future is done when it has drained."""
