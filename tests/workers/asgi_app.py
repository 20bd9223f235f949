"""The routes of the examples, as an ASGI app."""

import asyncio
import os
import time


def block():
    """Holds the thread, and with it the loop."""
    time.sleep(600)


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    path, body = scope["path"], b"hello"
    if path.startswith("/slow/"):
        await asyncio.sleep(float(path.split("/")[2]))
    elif path == "/echo":
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
    elif path == "/block":
        block()
    elif path == "/health":
        body = b'{"pid": %d, "status": "ok"}' % os.getpid()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
