"""A raw ASGI app: no framework, so nothing hides what the server does.

It knows nothing of gracefork, so its /health cannot tell that the pod is leaving.
Readiness is the master's to answer: /readyz of the ops listener.
"""

import asyncio
import json
import os


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["type"] == "http":
        status, body = await answer(scope, receive)
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


async def answer(scope, receive):
    method, path = scope["method"], scope["path"]
    if method == "POST" and path == "/echo":
        return 200, await read(receive)
    if method != "GET":
        return 405, b"method not allowed"
    if path == "/":
        return 200, b"hello"
    if path == "/health":
        return 200, json.dumps({"pid": os.getpid(), "status": "ok"}).encode()
    if path.startswith("/slow/"):
        try:
            seconds = float(path.removeprefix("/slow/"))
        except ValueError:
            return 400, b"expected /slow/{seconds}"
        if not 0 <= seconds <= 3600:
            return 400, b"expected 0 to 3600 seconds"
        await asyncio.sleep(seconds)
        return 200, b"slept"
    return 404, b"not found"


async def read(receive):
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            break
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


async def lifespan(receive, send):
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return
