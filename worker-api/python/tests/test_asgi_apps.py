"""What an ASGI app may be, whose context its code runs in, and what is told of its end."""

from __future__ import annotations

import unittest
from textwrap import dedent

from pod import PodCase

ANSWER = """
import asyncio, contextvars

async def answer(send, text):
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": str(text).encode()})
"""


class Kinds(PodCase):
    def test_the_code_of_a_plain_function_runs_in_the_requests_own_task(self) -> None:
        source = """
            who = contextvars.ContextVar("who", default=None)

            def app(scope, receive, send):
                before, task = who.get(), asyncio.current_task()
                if scope["query_string"]:
                    who.set(scope["query_string"].decode())
                async def inner():
                    same = task is asyncio.current_task()
                    await answer(send, (before, who.get(), same))
                return inner()
        """
        pod = self.pod(ANSWER + dedent(source))
        for query, seen in (("", None), ("?alice", "alice"), ("", None)):
            answer = pod.get(f"/{query}")
            self.assertEqual(answer.text, str((None, seen, True)))

    def test_whatever_can_be_awaited_may_be_returned(self) -> None:
        source = """
            class Awaitable:
                def __init__(self, send):
                    self.send = send
                def __await__(self):
                    return answer(self.send, "awaited").__await__()

            def app(scope, receive, send):
                if scope["path"] == "/object":
                    return Awaitable(send)
                if scope["path"] == "/task":
                    return asyncio.create_task(answer(send, "task"))
                return None
        """
        pod = self.pod(ANSWER + dedent(source))
        self.assertEqual(pod.get("/object").text, "awaited")
        self.assertEqual(pod.get("/task").text, "task")
        self.assertEqual(pod.written(), "")
        self.assertEqual(pod.get("/nothing").status, 500)
        pod.until_written("can't be used in 'await' expression")


class Ends(PodCase):
    def test_a_task_that_is_cancelled_by_the_app_is_told(self) -> None:
        source = """
            async def app(scope, receive, send):
                assert scope["type"] == "http"
                asyncio.current_task().cancel()
                await asyncio.sleep(60)
        """
        pod = self.pod(ANSWER + dedent(source))
        self.assertEqual(pod.get("/").status, 500)
        pod.until_written("was cancelled before its response was complete")
        pod.until_written("CancelledError")

    def test_a_client_that_leaves_in_the_middle_of_its_body_is_no_mistake_of_the_app(self) -> None:
        source = """
            async def app(scope, receive, send):
                while (message := await receive())["type"] == "http.request":
                    print("received", flush=True)
                print(message["type"], flush=True)
        """
        pod = self.pod(ANSWER + dedent(source))
        with pod.connect() as client:
            client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\nsome")
            pod.until_written("received")
        pod.until_written("http.disconnect")
        pod.drain()
        pod.wait_for("DRAINED=1")
        self.assertNotIn("without a response", pod.written())


if __name__ == "__main__":
    unittest.main()
