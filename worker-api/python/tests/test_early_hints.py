"""103 Early Hints, from WSGI apps as gunicorn has it and from ASGI apps as the specification does."""

from __future__ import annotations

import os
import unittest
from pathlib import Path

from pod import Client, PodCase

STYLE = "</style.css>; rel=preload; as=style"
SCRIPT = "</app.js>; rel=preload; as=script"


class HintCase(PodCase):
    SOURCE = ""

    def serve(self):
        return self.pod(self.SOURCE)

    def assert_hint(self, client: Client, *links: str) -> None:
        self.assertEqual(client.head(), (103, [("link", link) for link in links]))

    def assert_answer(self, client: Client, text: str) -> None:
        answer = client.answer()
        self.assertEqual((answer.status, answer.text), (200, text))
        self.assertIsNone(answer.field("link"))


class Common:
    """What holds for both."""

    def test_they_arrive_before_the_answer_each_by_itself(self):
        pod = self.serve()
        with pod.connect() as client:
            for _ in range(3):
                client.ask("/two")
                self.assert_hint(client, STYLE, SCRIPT)
                self.assert_hint(client, SCRIPT)
                self.assert_answer(client, "two")

    def test_an_old_client_gets_none(self):
        pod = self.serve()
        with pod.connect() as client:
            client.send("GET /two HTTP/1.0\r\nhost: test\r\n\r\n")
            self.assert_answer(client, "two")

    def test_nothing_can_be_injected(self):
        pod = self.serve()
        with pod.connect() as client:
            client.ask("/injection")
            self.assert_answer(client, "ValueError")

    def test_what_is_about_a_body_is_left_out(self):
        pod = self.serve()
        with pod.connect() as client:
            client.ask("/framing")
            self.assert_hint(client, STYLE)
            self.assert_answer(client, "framing")

    def test_too_long_ones_are_refused(self):
        pod = self.serve()
        with pod.connect() as client:
            client.ask("/long")
            self.assert_answer(client, "ValueError")


class Wsgi(HintCase, Common):
    interface = "wsgi"
    SOURCE = f"""
import os, threading

STYLE, SCRIPT = {STYLE!r}, {SCRIPT!r}

def app(environ, start_response):
    name = environ["PATH_INFO"].strip("/")
    text = globals()[name](environ, environ["wsgi.early_hints"]) or name
    start_response("200 OK", [("Content-Length", str(len(text)))])
    return [text.encode()]

def two(environ, hint):
    hint([("Link", STYLE), ("Link", SCRIPT)])
    hint(((b"link", SCRIPT.encode()),))

def fails(call, *args):
    try:
        call(*args)
    except Exception as error:
        return type(error).__name__

def injection(environ, hint):
    first = fails(hint, [("Link", "</a>\\r\\nX-Evil: 1")])
    assert fails(hint, [("Li\\r\\nnk", "</a>")]) == first
    assert fails(hint, [("Link", 1)]) == "TypeError"
    assert fails(hint, [("Link",)]) == "ValueError"
    return first

def framing(environ, hint):
    hint([("Content-Length", "3"), ("Link", STYLE), ("Transfer-Encoding", "chunked")])
    hint([("Connection", "close")])
    hint([])

def long(environ, hint):
    return fails(hint, [("Link", "x" * 20_000)])

def waits(environ, hint):
    hint([("Link", STYLE)])
    with open(os.path.join(os.environ["TEST_FOLDER"], "gate")) as gate:
        return gate.read()

def elsewhere(environ, hint):
    thread = threading.Thread(target=hint, args=([("Link", STYLE)],))
    thread.start()
    thread.join()

def streamed(environ, start_response):
    start_response("200 OK", [])
    yield b"first,"
    environ["wsgi.early_hints"]([("Link", STYLE)])
    yield b"last"

plain = app
def app(environ, start_response):
    called = streamed if environ["PATH_INFO"] == "/streamed" else plain
    return called(environ, start_response)
"""

    def test_they_arrive_while_the_only_thread_is_at_work(self):
        pod = self.serve()
        gate = Path(pod.folder.name, "gate")
        os.mkfifo(gate)
        with pod.connect() as client:
            client.ask("/waits")
            self.assert_hint(client, STYLE)
            gate.write_text("opened")
            self.assert_answer(client, "opened")

    def test_once_the_answer_has_begun_they_are_dropped(self):
        pod = self.serve()
        with pod.connect() as client:
            client.ask("/streamed")
            self.assert_answer(client, "first,last")
            client.ask("/two")
            self.assert_hint(client, STYLE, SCRIPT)

    def test_from_another_thread_than_the_calls_they_do_nothing(self):
        pod = self.serve()
        with pod.connect() as client:
            client.ask("/elsewhere")
            self.assert_answer(client, "elsewhere")


class Asgi(HintCase, Common):
    SOURCE = f"""
import asyncio

STYLE, SCRIPT = {STYLE.encode()!r}, {SCRIPT.encode()!r}
gate = None

async def app(scope, receive, send):
    if scope["type"] == "http":
        assert scope["extensions"]["http.response.early_hint"] == {{}}
        name = scope["path"].strip("/")
        text = await globals()[name](send) or name
        await send({{"type": "http.response.start", "status": 200}})
        await send({{"type": "http.response.body", "body": text.encode()}})

async def hint(send, *links):
    await send({{"type": "http.response.early_hint", "links": links}})

async def bare(send):
    await send({{"type": "http.response.early_hint"}})

async def inform(send, *headers, status=103):
    message = {{"type": "http.response.informational", "status": status, "headers": headers}}
    await send(message)

async def two(send):
    await hint(send, STYLE, SCRIPT)
    await inform(send, (b"link", SCRIPT))

async def fails(awaitable):
    try:
        await awaitable
    except Exception as error:
        return type(error).__name__

async def injection(send):
    first = await fails(hint(send, b"</a>\\r\\nX-Evil: 1"))
    assert await fails(inform(send, (b"li\\r\\nnk", b"</a>"))) == first
    assert await fails(inform(send, (b"link", STYLE), status=102)) == first
    assert await fails(hint(send, "text")) == "TypeError"
    assert await fails(bare(send)) == "RuntimeError"
    return first

async def framing(send):
    await inform(send, (b"content-length", b"3"), (b"link", STYLE), (b"upgrade", b"x"))
    await hint(send)

async def long(send):
    return await fails(hint(send, b"x" * 20_000))

async def waits(send):
    global gate
    gate = asyncio.Event()
    await hint(send, STYLE)
    await gate.wait()

async def opens(send):
    gate.set()

async def late(send):
    await send({{"type": "http.response.start", "status": 200}})
    error = await fails(hint(send, STYLE))
    await send({{"type": "http.response.body", "body": error.encode()}})
    assert await fails(hint(send, STYLE)) == error
"""

    def test_they_arrive_while_the_app_waits(self):
        pod = self.serve()
        with pod.connect() as client:
            client.ask("/waits")
            self.assert_hint(client, STYLE)
            self.assertEqual(pod.get("/opens").text, "opens")
            self.assert_answer(client, "waits")

    def test_once_the_answer_has_begun_they_are_a_mistake(self):
        pod = self.serve()
        with pod.connect() as client:
            client.ask("/late")
            self.assert_answer(client, "RuntimeError")


class AsgiOnUvloop(Asgi):
    loop = "uvloop"


if __name__ == "__main__":
    unittest.main()
