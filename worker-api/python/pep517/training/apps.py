"""The apps that are trained with: what web apps do, each as simply as can be."""

from __future__ import annotations

import json
import os

ROW = {"id": 1, "name": "a name", "tags": ["one", "two"], "price": 12.5, "active": True}
LARGE = b"0123456789abcdef" * 4096
HTML = b"<!doctype html><title>Training</title>" + b"<p>One paragraph.</p>" * 60


def wsgi(environ, start_response):
    """Answers by path."""
    path = environ["PATH_INFO"]
    if path == "/json":
        body = json.dumps(ROW).encode()
        start_response(
            "200 OK",
            [
                ("Content-Type", "application/json"),
                ("Content-Length", str(len(body))),
                ("Vary", "Cookie"),
            ],
        )
        return [body]
    if path == "/html":
        start_response(
            "200 OK",
            [
                ("Content-Type", "text/html; charset=utf-8"),
                ("Content-Length", str(len(HTML))),
                ("X-Frame-Options", "DENY"),
                ("Set-Cookie", "session=0123456789abcdef; HttpOnly; Path=/"),
            ],
        )
        return [HTML]
    if path == "/echo":
        body = environ["wsgi.input"].read()
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]
    if path == "/stream":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return (b"line %d\n" % number for number in range(8))
    if path == "/file":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return environ["wsgi.file_wrapper"](open(__file__, "rb"))
    if path == "/large":
        start_response("200 OK", [("Content-Length", str(len(LARGE)))])
        return [LARGE]
    if path == "/":
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
        return [b"hello"]
    start_response("404 Not Found", [("Content-Type", "text/plain"), ("Content-Length", "9")])
    return [b"Not Found"]


async def asgi(scope, receive, send):
    """The same, and an echo for WebSockets."""
    if scope["type"] == "lifespan":
        await _live(receive, send)
    elif scope["type"] == "websocket":
        await _converse(receive, send)
    else:
        await _answer(scope, receive, send)


async def _live(receive, send):
    while True:
        event = (await receive())["type"]
        await send({"type": f"{event}.complete"})
        if event == "lifespan.shutdown":
            return


async def _converse(receive, send):
    while True:
        event = await receive()
        if event["type"] == "websocket.connect":
            await send({"type": "websocket.accept"})
        elif event["type"] == "websocket.receive":
            await send(
                {"type": "websocket.send", "text": event.get("text"), "bytes": event.get("bytes")}
            )
        else:
            return


async def _answer(scope, receive, send):
    path = scope["path"]
    status, headers, body = 200, [(b"content-type", b"text/plain")], b"hello"
    if path == "/json":
        headers = [(b"content-type", b"application/json"), (b"vary", b"Cookie")]
        body = json.dumps(ROW).encode()
    elif path == "/html":
        headers = [(b"content-type", b"text/html; charset=utf-8"), (b"set-cookie", b"session=01")]
        body = HTML
    elif path == "/echo":
        body, more = b"", True
        while more:
            event = await receive()
            body += event.get("body", b"")
            more = event.get("more_body", False)
    elif path == "/stream":
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for number in range(8):
            piece = {"type": "http.response.body", "body": b"line %d\n" % number}
            await send({**piece, "more_body": True})
        await send({"type": "http.response.body"})
        return
    elif path == "/file":
        headers.append((b"content-length", b"%d" % os.path.getsize(__file__)))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.pathsend", "path": __file__})
        return
    elif path == "/large":
        body = LARGE
    elif path != "/":
        status, body = 404, b"Not Found"
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
