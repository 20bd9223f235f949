"""A loop that is blocked, and one that only waits."""

import asyncio
import sys
import time


async def app(scope, receive, send):
    assert scope["type"] == "http"
    if scope["path"] != "/":
        print("is in", scope["path"], file=sys.stderr, flush=True)
    if scope["path"] == "/hang":
        blocks_the_loop()
    if scope["path"] == "/wait":
        await asyncio.sleep(4)
    if scope["path"] == "/spin":
        await asyncio.sleep(0)
        blocks_the_loop()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


def blocks_the_loop():
    while True:
        time.sleep(600)
