"""``pre_request`` and ``post_request`` around an ASGI app, where the config has them.

An app without them is called as it is: it pays nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from ._fault import trimmed
from ._objects import Request, Worker

App = Callable[..., Awaitable[None]]
Scope = MutableMapping[str, Any]


class Response:
    """What ``post_request`` is told of the answer: ``status`` (``None`` if there was none),
    ``headers`` as pairs of strings, and ``sent`` bytes of body."""

    def __init__(self) -> None:
        self.status: int | None = None
        self.headers: list[tuple[str, str]] = []
        self.sent = 0

    def heard(self, message: MutableMapping[str, Any]) -> None:
        """Takes note of what the app sends."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = _texts(message.get("headers", ()))
        elif message["type"] == "http.response.body":
            self.sent += len(message.get("body", b""))


def around(app: App, worker: Worker, before: Any, after: Any) -> App:
    """The app with its hooks, either of which may be ``None``."""
    if before is None and after is None:
        return app

    async def call(scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        request, response = _request(scope), Response()

        async def heard(message: MutableMapping[str, Any]) -> None:
            response.heard(message)
            await send(message)

        try:
            if before is not None:
                before(worker, request)
            await app(scope, receive, heard)
        finally:
            if after is not None:
                _after(after, worker, request, scope, response)

    return call


def _after(hook: Any, worker: Worker, request: Request, scope: Scope, response: Response) -> None:
    try:
        hook(worker, request, _environ(request, scope), response)
    except Exception as error:
        worker.log.error("Exception in post_request hook\n%s", trimmed(error))


def _request(scope: Scope) -> Request:
    path = scope.get("raw_path") or scope["path"].encode()
    query = scope.get("query_string", b"")
    uri = (path + b"?" + query if query else path).decode("latin-1")
    major, _, minor = scope.get("http_version", "1.1").partition(".")
    headers = [(name.upper(), value) for name, value in _texts(scope["headers"])]
    client = scope.get("client")
    address = tuple(client) if client else ""
    return Request(scope["method"], uri, (int(major), int(minor or 0)), headers, address)


def _environ(request: Request, scope: Scope) -> dict[str, Any]:
    """As much of WSGI's environ as gunicorn makes for an ASGI request."""
    client = scope.get("client")
    environ = {
        "REQUEST_METHOD": request.method,
        "RAW_URI": request.uri,
        "PATH_INFO": request.path,
        "QUERY_STRING": request.query,
        "SERVER_PROTOCOL": f"HTTP/{request.version[0]}.{request.version[1]}",
        "REMOTE_ADDR": client[0] if client else "-",
    }
    for name, value in request.headers:
        environ["HTTP_" + name.replace("-", "_")] = value
    return environ


def _texts(fields: Any) -> list[tuple[str, str]]:
    return [
        (bytes(name).decode("latin-1"), bytes(value).decode("latin-1")) for name, value in fields
    ]
