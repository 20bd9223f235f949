"""A bare ASGI app, with what the load asks for. It has no lifespan."""

import asyncio


async def app(scope, receive, send):
    assert scope["type"] == "http"
    path, body = scope["path"], b"hello"
    if path == "/echo":
        body = await whole(receive)
    elif path.startswith("/slow/"):
        await asyncio.sleep(float(path.removeprefix("/slow/")))
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def whole(receive):
    body = b""
    while True:
        message = await receive()
        body += message["body"]
        if not message["more_body"]:
            return body
