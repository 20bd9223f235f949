"""Answers in all the ways that ASGI has."""

import asyncio
import json
import os
import tempfile
import time

from looks import look

CHUNK = b"x" * 4096
FILE = os.path.join(tempfile.mkdtemp(), "file")
open_streams = 0
background = set()


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["type"] == "websocket":
        await websocket(scope, receive, send)
    else:
        await PATHS.get(scope["path"], ok)(scope, receive, send)


async def lifespan(receive, send):
    with open(FILE, "wb") as file:
        file.write(CHUNK * 32)
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            os.unlink(FILE)
            os.rmdir(os.path.dirname(FILE))
            return


async def start(send, status=200, kind=b"text/plain"):
    headers = [(b"content-type", kind), (b"x-number", str(time.monotonic_ns()).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def ok(scope, receive, send):
    await start(send)
    await send({"type": "http.response.body", "body": b"ok"})


async def whole(receive):
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


async def echo(scope, receive, send):
    body = await whole(receive)
    if body is not None:
        await start(send)
        await send({"type": "http.response.body", "body": body})


async def stream_of(send, pieces, pause):
    global open_streams
    open_streams += 1
    try:
        await start(send)
        for _ in range(pieces):
            await asyncio.sleep(pause)
            await send({"type": "http.response.body", "body": CHUNK, "more_body": True})
        await send({"type": "http.response.body"})
    finally:
        open_streams -= 1


async def stream(scope, receive, send):
    await stream_of(send, 16, 0.001)


async def flood(scope, receive, send):
    await stream_of(send, 512, 0)


async def slow(scope, receive, send):
    await asyncio.sleep(0.02)
    await ok(scope, receive, send)


async def watch(scope, receive, send):
    """Streams until the client leaves, as frameworks do it: with a task that waits for that."""
    gone = asyncio.ensure_future(receive_the_end(receive))
    await start(send)
    for _ in range(50):
        if gone.done():
            break
        await send({"type": "http.response.body", "body": b"tick", "more_body": True})
        await asyncio.sleep(0.002)
    gone.cancel()
    await send({"type": "http.response.body"})


async def receive_the_end(receive):
    while (await receive())["type"] != "http.disconnect":
        pass


async def error(scope, receive, send):
    raise ValueError("as asked")


async def late(scope, receive, send):
    await start(send)
    await send({"type": "http.response.body", "body": CHUNK, "more_body": True})
    raise ValueError("as asked, late")


async def afterwards(scope, receive, send):
    """Goes on when it has answered, and leaves a task behind."""
    await ok(scope, receive, send)
    task = asyncio.ensure_future(asyncio.sleep(0.01))
    background.add(task)
    task.add_done_callback(background.discard)
    await asyncio.sleep(0.005)


async def file(scope, receive, send):
    await start(send)
    await send({"type": "http.response.pathsend", "path": FILE})


async def looked(scope, receive, send):
    told = {**look(), "open_streams": open_streams, "tasks": len(asyncio.all_tasks())}
    await start(send, kind=b"application/json")
    await send({"type": "http.response.body", "body": json.dumps({**told, "pid": os.getpid()}).encode()})


async def websocket(scope, receive, send):
    global open_streams
    open_streams += 1
    try:
        await receive()
        if scope["path"] == "/refuse":
            await send({"type": "websocket.close"})
            return
        await send({"type": "websocket.accept"})
        while True:
            message = await receive()
            if message["type"] == "websocket.disconnect":
                return
            if message.get("text") == "error":
                raise ValueError("as asked")
            if message.get("text") == "close":
                await send({"type": "websocket.close", "code": 4000})
                return
            kept = {key: message[key] for key in ("text", "bytes") if message.get(key) is not None}
            await send({"type": "websocket.send", **kept})
    finally:
        open_streams -= 1


PATHS = {
    "/echo": echo,
    "/stream": stream,
    "/flood": flood,
    "/slow": slow,
    "/watch": watch,
    "/error": error,
    "/late": late,
    "/afterwards": afterwards,
    "/file": file,
    "/look": looked,
}
