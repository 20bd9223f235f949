"""gunicorn's hooks of requests around an ASGI app."""

from __future__ import annotations

import asyncio
import unittest
from types import SimpleNamespace

from gracefork._request_hooks import around

SCOPE = {
    "type": "http",
    "http_version": "1.1",
    "method": "POST",
    "path": "/a b",
    "raw_path": b"/a%20b",
    "query_string": b"c=d",
    "headers": [(b"host", b"here"), (b"x-y", b"\xe9")],
    "client": ("127.0.0.1", 5000),
}


async def app(scope, receive, send):
    if scope["type"] == "http":
        head = {"type": "http.response.start", "status": 201, "headers": [(b"a", b"b")]}
        await send(head)
        await send({"type": "http.response.body", "body": b"12", "more_body": True})
        await send({"type": "http.response.body", "body": b"3"})


async def failing(scope, receive, send):
    raise ValueError("app")


class Hooks(unittest.TestCase):
    def setUp(self):
        self.seen = []
        self.logged = []
        log = SimpleNamespace(error=lambda text, *words: self.logged.append(text % words))
        self.worker = SimpleNamespace(log=log)

    def before(self, worker, request):
        self.seen.append(("before", worker, request))

    def after(self, worker, request, environ, response):
        self.seen.append(("after", worker, request, environ, response))

    def serve(self, served, before, after, scope=SCOPE):
        sent = []

        async def send(message):
            sent.append(message)

        asyncio.run(around(served, self.worker, before, after)(scope, None, send))
        return sent

    def test_they_see_the_request_and_its_answer(self):
        sent = self.serve(app, self.before, self.after)
        self.assertEqual(len(sent), 3)
        (_, worker, request), (_, _, same, environ, response) = self.seen
        self.assertIs(worker, self.worker)
        self.assertIs(request, same)
        self.assertEqual((request.method, request.uri), ("POST", "/a%20b?c=d"))
        self.assertEqual((request.path, request.query), ("/a%20b", "c=d"))
        self.assertEqual((request.version, request.remote_addr), ((1, 1), ("127.0.0.1", 5000)))
        self.assertEqual(request.headers, [("HOST", "here"), ("X-Y", "\xe9")])
        self.assertEqual(environ["HTTP_X_Y"], "\xe9")
        self.assertEqual(environ["REMOTE_ADDR"], "127.0.0.1")
        self.assertEqual((response.status, response.sent), (201, 3))
        self.assertEqual(response.headers, [("a", "b")])

    def test_an_app_without_hooks_is_called_as_it_is(self):
        self.assertIs(around(app, self.worker, None, None), app)

    def test_websockets_and_lifespans_are_no_requests(self):
        self.serve(app, self.before, self.after, {"type": "lifespan"})
        self.assertEqual(self.seen, [])

    def test_one_that_fails_before_fails_the_request(self):
        def refuse(worker, request):
            raise ValueError("no")

        with self.assertRaisesRegex(ValueError, "no"):
            self.serve(app, refuse, self.after)
        self.assertEqual(self.seen[0][4].status, None)

    def test_one_that_fails_after_is_logged(self):
        def fail(worker, request, environ, response):
            raise ValueError("too late")

        self.serve(app, None, fail)
        self.assertIn("ValueError: too late", self.logged[0])

    def test_an_app_that_fails_is_told_of_too(self):
        with self.assertRaisesRegex(ValueError, "app"):
            self.serve(failing, None, self.after)
        self.assertEqual(self.seen[0][0], "after")


if __name__ == "__main__":
    unittest.main()
