"""The head of an ASGI app's answer, where the first piece of its body is late."""

from __future__ import annotations

import unittest

from pod import Client, PodCase
from test_asgi_http import ROUTES


class Heads(PodCase):
    SOURCE = (
        ROUTES
        + """
async def released():
    while not os.path.exists(os.path.join(os.environ["TEST_FOLDER"], "release")):
        await asyncio.sleep(0.005)

async def at_once(scope, receive, send):
    await start(send, content_length="4")
    await released()
    await body(send, b"text")

async def after_a_wait(scope, receive, send):
    await asyncio.sleep(0)
    await start(send)
    await released()
    await body(send, b"te", True)
    await body(send, b"xt")

async def in_a_task(scope, receive, send):
    await asyncio.create_task(at_once(scope, receive, send))

async def path(scope, receive, send):
    await start(send, content_type="text/plain")
    await released()
    await send({"type": "http.response.pathsend", "path": __file__})

async def path_of_a_length(scope, receive, send):
    await start(send, content_length=str(os.path.getsize(__file__)))
    await released()
    await send({"type": "http.response.pathsend", "path": __file__})

async def no_path(scope, receive, send):
    await start(send)
    await released()
    await send({"type": "http.response.pathsend", "path": __file__ + ".not"})

async def with_trailers(scope, receive, send):
    headers = [(b"trailer", b"x-sum")]
    await send({"type": "http.response.start", "status": 200, "headers": headers, "trailers": True})
    await released()
    await body(send, b"text")
    await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"7")]})

async def nothing(scope, receive, send):
    await start(send, 204)
    await released()
    await body(send, b"")

async def until_told(scope, receive, send):
    await start(send, int(scope["path"].split("/")[2]))
    while (await receive())["type"] != "http.disconnect":
        pass
    print("over:", scope["method"], scope["path"], flush=True)

async def without_end(scope, receive, send):
    await start(send, int(scope["path"].split("/")[2]))
    try:
        while True:
            await body(send, b"text", True)
    finally:
        print("over:", scope["method"], scope["path"], flush=True)

async def many_pieces(scope, receive, send):
    listening = asyncio.ensure_future(receive())
    await listening
    listening = asyncio.ensure_future(receive())
    await start(send)
    for number in range(120):
        await body(send, b"text", True)
    assert not listening.done()
    await body(send, b"")
    print("all said", (await listening)["type"], flush=True)

async def short_path(scope, receive, send):
    await start(send, content_length="1000000")
    await send({"type": "http.response.pathsend", "path": __file__})

async def path_and_trailers(scope, receive, send):
    headers = [(b"trailer", b"x-sum")]
    await send({"type": "http.response.start", "status": 200, "headers": headers, "trailers": True})
    await send({"type": "http.response.pathsend", "path": __file__})
    await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"7")]})

async def raises(scope, receive, send):
    await start(send)
    await released()
    raise ValueError("too late for another status")
"""
    )

    def late(self, client: Client, path: str, method: str = "GET") -> tuple[int, dict[str, str]]:
        """Asks, and reads a head behind which the app holds the body back."""
        client.ask(path, method, fields="te: trailers\r\n")
        status, fields = client.head()
        return status, dict(fields)

    def test_it_does_not_wait_for_a_body_that_is_late(self):
        for path in ("/at_once", "/in_a_task"):
            pod = self.pod(self.SOURCE)
            with pod.connect() as client:
                status, fields = self.late(client, path)
                self.assertEqual((status, fields["content-length"]), (200, "4"))
                pod.release()
                self.assertEqual(client.exactly(4), b"text")
                self.assertEqual(client.get().text, "hello")

    def test_nor_does_one_that_an_app_says_after_a_wait(self):
        pod = self.pod(self.SOURCE)
        with pod.connect() as client:
            status, fields = self.late(client, "/after_a_wait")
            self.assertEqual((status, fields["transfer-encoding"]), (200, "chunked"))
            pod.release()
            self.assertEqual(b"".join(client.chunks()), b"text")
            self.assertEqual(client.get().text, "hello")

    def test_a_file_comes_behind_it(self):
        pod = self.pod(self.SOURCE)
        with pod.connect() as first, pod.connect() as second:
            _, fields = self.late(first, "/path")
            self.assertEqual(fields["transfer-encoding"], "chunked")
            _, fields = self.late(second, "/path_of_a_length")
            pod.release()
            chunked = b"".join(first.chunks()).decode()
            self.assertEqual(chunked, second.exactly(int(fields["content-length"])).decode())
            self.assertIn("async def path_of_a_length", chunked)
            for client in (first, second):
                self.assertEqual(client.get().text, "hello")

    def test_so_do_trailers(self):
        pod = self.pod(self.SOURCE)
        with pod.connect() as client:
            self.late(client, "/with_trailers")
            pod.release()
            self.assertEqual(b"".join(client.chunks()), b"text")
            self.assertEqual(client.trailers, [("x-sum", "7")])

    def test_an_answer_without_a_body_keeps_its_connection(self):
        pod = self.pod(self.SOURCE)
        with pod.connect() as first, pod.connect() as second:
            status, _ = self.late(first, "/nothing")
            self.assertEqual(status, 204)
            _, fields = self.late(second, "/path_of_a_length", "HEAD")
            self.assertGreater(int(fields["content-length"]), 0)
            pod.release()
            for client in (first, second):
                self.assertEqual(client.get().text, "hello")

    def test_an_app_whose_client_has_all_of_an_answer_without_a_body_is_told(self):
        pod = self.pod(self.SOURCE)
        with pod.connect() as client:
            for method, status in (("HEAD", 200), ("GET", 204), ("GET", 304)):
                for path in (f"/until_told/{status}", f"/without_end/{status}"):
                    answer = client.get(path, method=method)
                    self.assertEqual((answer.status, answer.body), (status, b""))
                    pod.until_written(f"over: {method} {path}")
            self.assertEqual(client.get().text, "hello")
        self.assertNotIn("Exception", pod.written())
        self.assertNotIn("before its response was complete", pod.written())

    def test_one_that_comes_to_its_end_by_itself_is_left_alone(self):
        pod = self.pod(self.SOURCE)
        self.assertEqual(pod.get("/many_pieces", method="HEAD").body, b"")
        pod.until_written("all said http.disconnect")
        self.assertNotIn("Exception", pod.written())

    def test_a_file_that_is_too_short_is_cut_off_and_trailers_come_behind_one(self):
        pod = self.pod(self.SOURCE)
        with pod.connect() as client:
            answer = client.get("/path_and_trailers", fields="te: trailers\r\n")
            self.assertIn("async def path_and_trailers", answer.text)
            self.assertEqual(answer.field("x-sum"), "7")
            client.ask("/short_path")
            _, fields = client.head()
            self.assertEqual(dict(fields)["content-length"], "1000000")
            with self.assertRaises(ConnectionError):
                client.exactly(1_000_000)
        pod.until_written("the response is shorter than its content-length")

    def test_an_app_that_fails_then_cuts_its_answer_off(self):
        for path in ("/raises", "/no_path"):
            pod = self.pod(self.SOURCE)
            with pod.connect() as client:
                self.assertEqual(self.late(client, path)[0], 200)
                pod.release()
                with self.assertRaises(ConnectionError):
                    list(client.chunks())
            pod.until_written("Exception in ASGI application")


class HeadsOnUvloop(Heads):
    loop = "uvloop"


if __name__ == "__main__":
    unittest.main()
