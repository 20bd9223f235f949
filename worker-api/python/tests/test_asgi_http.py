"""HTTP as an ASGI app sees it."""

from __future__ import annotations

import socket
import struct
import time
import unittest

from pod import Client, PodCase

#: Runs the function that the path names.
ROUTES = """
import asyncio, json, os, time

async def app(scope, receive, send):
    if scope["type"] == "http":
        below = scope["path"].removeprefix(scope["root_path"])
        await globals()[below.strip("/").split("/")[0] or "hello"](scope, receive, send)

async def start(send, status=200, **fields):
    headers = [(name.replace("_", "-").encode(), value.encode()) for name, value in fields.items()]
    await send({"type": "http.response.start", "status": status, "headers": headers})

async def body(send, body, more=False):
    await send({"type": "http.response.body", "body": body, "more_body": more})

async def answer(send, text, status=200, **fields):
    await start(send, status, **fields)
    await body(send, text.encode())

async def hello(scope, receive, send):
    await answer(send, "hello", content_type="text/plain")
"""


class Scopes(PodCase):
    SOURCE = (
        ROUTES
        + """
async def scope(scope, receive, send):
    await answer(send, repr(scope))
"""
    )

    def scope(self, path: str = "/scope", **more: object) -> dict:
        pod = self.pod(self.SOURCE, root_path="/root")
        with pod.connect() as client:
            scope = eval(client.get(path, **more).text)
            self.address = client.socket.getsockname(), client.socket.getpeername()
        return scope

    def test_everything_that_the_specification_names_is_there(self):
        scope = self.scope("/scope/a%20b%C3%A9%2F?x=%20&y", fields="X-One: 1\r\nx-one: 2\r\n")
        client, server = self.address
        state = scope.pop("state")
        self.assertEqual(
            scope,
            {
                "type": "http",
                "asgi": {"version": "3.0", "spec_version": "2.3"},
                "http_version": "1.1",
                "method": "GET",
                "scheme": "http",
                "path": "/root/scope/a bé/",
                "raw_path": b"/root/scope/a%20b%C3%A9%2F",
                "query_string": b"x=%20&y",
                "root_path": "/root",
                "headers": [(b"host", b"test"), (b"x-one", b"1"), (b"x-one", b"2")],
                "client": client,
                "server": server,
                "extensions": {
                    "http.response.early_hint": {},
                    "http.response.pathsend": {},
                    "http.response.trailers": {},
                },
            },
        )
        self.assertEqual(state, {})

    def test_the_path_begins_with_the_mount_whether_or_not_the_proxy_takes_it_off(self):
        for path, expected in (
            ("/scope/x", "/root/scope/x"),
            ("/root/scope/x", "/root/scope/x"),
            ("/root/scope", "/root/scope"),
            ("/scope", "/root/scope"),
            ("/scope/root", "/root/scope/root"),
        ):
            scope = self.scope(path)
            found = scope["root_path"], scope["path"], scope["raw_path"]
            self.assertEqual(found, ("/root", expected, expected.encode()))

    def test_a_proxy_is_believed_about_scheme_and_client(self):
        fields = "x-forwarded-for: 192.0.2.7\r\nx-forwarded-proto: https\r\n"
        scope = self.scope(fields=fields)
        self.assertEqual(scope["client"], ("192.0.2.7", 0))
        self.assertEqual(scope["scheme"], "https")

    def test_no_path_is_offered_where_it_might_not_arrive(self):
        pod = self.pod(self.SOURCE, pathsend=False)
        self.assertNotIn("pathsend", pod.get("/scope").text)

    def test_each_request_has_dicts_of_its_own(self):
        source = (
            ROUTES
            + "async def scope(scope, receive, send):\n"
            + (
                "    seen = 'mine' in scope or 'mine' in scope['state']\n"
                "    scope['mine'] = scope['state']['mine'] = 1\n"
                "    await answer(send, str(seen))\n"
            )
        )
        with self.pod(source).connect() as client:
            self.assertEqual([client.get("/scope").text for _ in range(2)], ["False", "False"])

    def test_the_oldest_version_is_told(self):
        pod = self.pod(self.SOURCE)
        with pod.connect() as client:
            client.send("GET /scope HTTP/1.0\r\n\r\n")
            self.assertEqual(eval(client.answer().text)["http_version"], "1.0")


class Answers(PodCase):
    SOURCE = (
        ROUTES
        + """
async def stream(scope, receive, send):
    await start(send)
    for number in range(3):
        await body(send, b"%d," % number, True)
    await body(send, b"")

async def sized(scope, receive, send):
    await start(send, content_length="6")
    await body(send, b"abc", True)
    await body(send, b"def")

async def sized_and_ended(scope, receive, send):
    await start(send, content_length="3")
    await body(send, b"abc", True)
    await asyncio.sleep(0.01)
    await body(send, b"", True)
    await body(send, b"")
    print("said", flush=True)

async def nothing(scope, receive, send):
    await start(send, 204)
    await body(send, b"")

async def relayed(scope, receive, send):
    await start(send, content_length="4", transfer_encoding="chunked")
    await body(send, b"text")

async def nothing_of_a_length(scope, receive, send):
    await start(send, 204, content_length="0")
    await body(send, b"")

async def many_trailers(scope, receive, send):
    headers = [(b"trailer", b"x-one, x-two")]
    await send({"type": "http.response.start", "status": 200, "headers": headers, "trailers": True})
    await body(send, b"text")
    kind = {"type": "http.response.trailers"}
    await send({**kind, "headers": [(b"x-one", b"1")], "more_trailers": True})
    await send({**kind, "headers": [(b"x-two", b"2")]})
    print("trailers said", flush=True)

async def not_modified(scope, receive, send):
    await start(send, 304, etag="x", content_length="100")
    await body(send, b"")

async def named_length(scope, receive, send):
    await start(send, content_length="100")
    await body(send, b"")

async def path(scope, receive, send):
    await start(send)
    await send({"type": "http.response.pathsend", "path": __file__})

async def trailers(scope, receive, send):
    headers = [(b"trailer", b"x-sum")]
    await send({"type": "http.response.start", "status": 200, "headers": headers, "trailers": True})
    await body(send, b"text", True)
    await body(send, b"")
    await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"7")]})

async def large(scope, receive, send):
    await start(send)
    for _ in range(64):
        await body(send, b"x" * (1 << 20), True)
    await body(send, b"end")

async def kinds(scope, receive, send):
    await start(send)
    await body(send, bytearray(b"a"), True)
    await body(send, memoryview(b"b"), True)
    await send({"type": "http.response.body"})

async def lists(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [[b"X-A", bytearray(b"1")]]})
    await body(send, b"")
"""
    )

    def test_an_answer_in_one_piece_has_its_length(self):
        with self.pod(self.SOURCE).connect() as client:
            for _ in range(3):
                answer = client.get("/hello")
                self.assertEqual((answer.status, answer.text), (200, "hello"))
                self.assertEqual(answer.field("content-length"), "5")
                self.assertEqual(answer.field("content-type"), "text/plain")

    def test_an_answer_in_many_pieces_is_chunked_or_has_the_length_that_the_app_names(self):
        pod = self.pod(self.SOURCE)
        with pod.connect() as client:
            answer = client.get("/stream")
            self.assertEqual((answer.field("content-length"), answer.text), (None, "0,1,2,"))
            answer = client.get("/sized")
            self.assertEqual((answer.field("content-length"), answer.text), ("6", "abcdef"))
            self.assertIsNone(answer.field("transfer-encoding"))
            self.assertEqual(client.get("/sized_and_ended").text, "abc")
            pod.until_written("said")
            self.assertEqual(client.get("/kinds").text, "ab")
            self.assertEqual(client.get("/lists").field("x-a"), "1")

    def test_an_answer_without_a_body_keeps_its_connection(self):
        with self.pod(self.SOURCE).connect() as client:
            self.assertEqual(client.get("/nothing").status, 204)
            answer = client.get("/not_modified")
            self.assertEqual((answer.status, answer.field("etag")), (304, "x"))
            for path in ("/hello", "/stream", "/large"):
                answer = client.get(path, method="HEAD")
                self.assertEqual((answer.status, answer.body), (200, b""), path)
            answer = client.get("/named_length", method="HEAD")
            self.assertEqual(answer.field("content-length"), "100")
            self.assertEqual(client.get("/hello").text, "hello")

    def test_a_file_is_sent(self):
        pod = self.pod(self.SOURCE)
        with pod.connect() as client:
            self.assertIn("http.response.pathsend", client.get("/path").text)
            self.assertEqual(client.get("/hello").text, "hello")

    def test_trailers_come_to_a_client_that_takes_them(self):
        with self.pod(self.SOURCE).connect() as client:
            answer = client.get("/trailers", fields="te: trailers\r\n")
            self.assertEqual((answer.text, answer.field("x-sum")), ("text", "7"))
            self.assertEqual(client.get("/trailers").field("x-sum"), None)

    def test_trailers_may_come_in_several_messages_and_are_left_out_where_there_is_no_body(self):
        pod = self.pod(self.SOURCE)
        with pod.connect() as client:
            answer = client.get("/many_trailers", fields="te: trailers\r\n")
            self.assertEqual((answer.field("x-one"), answer.field("x-two")), ("1", "2"))
            self.assertEqual(client.get("/many_trailers", method="HEAD").text, "")
            self.assertEqual(client.get().text, "hello")
        pod.until_written("trailers said\ntrailers said")
        self.assertNotIn("Exception", pod.written())

    def test_how_a_body_is_framed_is_not_the_apps_to_say(self):
        with self.pod(self.SOURCE).connect() as client:
            answer = client.get("/relayed")
            lengths = answer.field("content-length"), answer.field("transfer-encoding")
            self.assertEqual((answer.text, lengths), ("text", ("4", None)))
            answer = client.get("/nothing_of_a_length")
            self.assertEqual((answer.status, answer.field("content-length")), (204, None))
            self.assertEqual(client.get().text, "hello")

    def test_a_length_that_is_said_again_is_said_once(self):
        source = """
            async def app(scope, receive, send):
                lengths = [b"3", scope["query_string"]]
                headers = [(b"content-length", length) for length in lengths]
                await send({"type": "http.response.start", "status": 200, "headers": headers})
                await send({"type": "http.response.body", "body": b"abc"})
        """
        with self.pod(source).connect() as client:
            for method in ("GET", "HEAD"):
                answer = client.get("/?3", method=method)
                lengths = [value for name, value in answer.fields if name == "content-length"]
                self.assertEqual((answer.status, lengths), (200, ["3"]), method)
                self.assertEqual(client.get("/?4", method=method).status, 500, method)

    def test_a_status_that_nobody_has_named_has_no_reason(self):
        source = """
            async def app(scope, receive, send):
                await send({"type": "http.response.start", "status": 299})
                await send({"type": "http.response.body"})
        """
        with self.pod(source).connect() as client:
            client.ask("/")
            self.assertEqual(client.file.readline(), b"HTTP/1.1 299 \r\n")

    def test_an_answer_to_connect_has_no_length(self):
        source = """
            async def app(scope, receive, send):
                headers = [(b"content-length", b"0")]
                await send({"type": "http.response.start", "status": 200, "headers": headers})
                await send({"type": "http.response.body"})
        """
        with self.pod(source).connect() as client:
            client.send("CONNECT a:443 HTTP/1.1\r\nhost: a\r\n\r\n")
            status, fields = client.head()
            self.assertEqual(status, 200)
            self.assertNotIn("content-length", dict(fields))

    def test_a_client_that_reads_slowly_holds_the_app_back(self):
        pod = self.pod(self.SOURCE)
        with pod.connect() as client:
            self.assertEqual(pod.get("/hello").text, "hello")
            before = memory_of(pod.process.pid)
            client.ask("/large")
            client.head()
            self.assertEqual(pod.get("/hello").text, "hello")
            self.assertLess(memory_of(pod.process.pid) - before, 24 << 20)
            self.assertEqual(sum(map(len, client.chunks())), (64 << 20) + 3)

    def test_pipelined_requests_are_answered_in_order(self):
        with self.pod(self.SOURCE).connect() as client:
            for path in ("/hello", "/stream", "/sized", "/hello"):
                client.ask(path)
            answers = [client.answer().text for _ in range(4)]
            self.assertEqual(answers, ["hello", "0,1,2,", "abcdef", "hello"])


class Bodies(PodCase):
    SOURCE = (
        ROUTES
        + """
async def echo(scope, receive, send):
    await start(send)
    while True:
        message = await receive()
        assert message["type"] == "http.request"
        await body(send, message["body"], message["more_body"])
        if not message["more_body"]:
            return

async def pieces(scope, receive, send):
    seen = []
    while True:
        message = await receive()
        seen.append(len(message["body"]))
        if not message["more_body"]:
            break
    await answer(send, f"{len(seen)} {sum(seen)}")

async def task(scope, receive, send):
    message = await asyncio.create_task(receive())
    await answer(send, message["body"].decode())

async def timeout(scope, receive, send):
    try:
        await asyncio.wait_for(receive(), 0.05)
    except asyncio.TimeoutError:
        print("timeout", flush=True)
    message = await receive()
    await answer(send, message["body"].decode())

async def unread(scope, receive, send):
    await answer(send, "unread", 413)
"""
    )

    def test_a_small_body_comes_in_one_piece(self):
        with self.pod(self.SOURCE).connect() as client:
            self.assertEqual(client.get("/pieces", method="POST", body=b"x" * 1000).text, "1 1000")
            self.assertEqual(client.get("/pieces").text, "1 0")
            self.assertEqual(client.get("/task", method="POST", body=b"abc").text, "abc")

    def test_a_large_body_goes_through_as_it_comes(self):
        with self.pod(self.SOURCE).connect() as client:
            sent = bytes(range(256)) * (1 << 14)
            self.assertEqual(client.get("/echo", method="POST", body=sent).body, sent)
            client.send("POST /echo HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n")
            for piece in (b"one", b"two" * 1000, b"three"):
                client.send(b"%x\r\n%b\r\n" % (len(piece), piece))
                if piece == b"one":
                    client.head()
                got = b""
                while len(got) < len(piece):
                    got += client.chunk()
                self.assertEqual(got, piece)
            client.send("0\r\n\r\n")
            self.assertEqual(b"".join(client.chunks()), b"")
            self.assertEqual(client.get("/hello").text, "hello")

    def test_an_app_that_gives_up_to_wait_loses_nothing(self):
        pod = self.pod(self.SOURCE)
        with pod.connect() as client:
            client.send(
                "POST /timeout HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n"
            )
            pod.until_written("timeout")
            client.send("3\r\nabc\r\n0\r\n\r\n")
            self.assertEqual(client.answer().text, "abc")

    def test_a_body_that_the_app_does_not_read_does_not_reset_its_answer(self):
        with self.pod(self.SOURCE).connect() as client:
            head = "POST /unread HTTP/1.1\r\nhost: test\r\ncontent-length: 50000000\r\n\r\n"
            client.send(head.encode() + b"x" * 1_000_000)
            self.assertEqual(client.answer().text, "unread")


class Ends(PodCase):
    SOURCE = (
        ROUTES
        + """
import gc, time

async def wait_until_gone(scope, receive, send):
    await receive()
    print("waiting", flush=True)
    print((await receive())["type"], flush=True)
    await answer(send, "x")
    print("answered nobody", flush=True)

async def count(scope, receive, send):
    # Cancelled in each of its states: before it runs, while it waits, and when its message is there.
    task = asyncio.create_task(receive())
    task.cancel()
    size, timeouts, more = 0, 0, True
    while more:
        try:
            message = await asyncio.wait_for(receive(), 0.001)
        except asyncio.TimeoutError:
            timeouts += 1
            # Long enough for the next piece, and a timer that is due with it.
            time.sleep(0.002)
            continue
        size += len(message["body"])
        more = message["more_body"]
    print("some time-outs" if timeouts else "no time-out", flush=True)
    await answer(send, str(size))

async def poll_until_gone(scope, receive, send):
    message, polls = await receive(), 0
    while message["type"] != "http.disconnect":
        try:
            message = await asyncio.wait_for(receive(), 0.0001)
        except asyncio.TimeoutError:
            polls += 1
        if polls == 100:
            futures = sum(isinstance(it, asyncio.Future) for it in gc.get_objects())
            print("few futures" if futures < 50 else f"{futures} futures", flush=True)
    print("polled to the end", flush=True)

class Gone(Exception):
    pass

async def raise_when_gone(scope, receive, send):
    await start(send)
    try:
        while True:
            await body(send, b"x", True)
            await asyncio.sleep(0.01)
    except OSError:
        print("told of it", flush=True)
        raise Gone()

async def send_until_gone(scope, receive, send):
    await start(send)
    try:
        while True:
            await body(send, b"x" * 65536, True)
    except OSError:
        print("told at last", flush=True)
        raise

async def after(scope, receive, send):
    await receive()
    await answer(send, "answered")
    print((await receive())["type"], flush=True)
    print("after", flush=True)

async def raises(scope, receive, send):
    raise ValueError("as told")

async def raises_late(scope, receive, send):
    await start(send)
    await body(send, b"begun", True)
    raise ValueError("late, as told")

async def raises_after(scope, receive, send):
    await answer(send, "whole")
    raise ValueError("after, as told")

async def silent(scope, receive, send):
    pass

async def half(scope, receive, send):
    await start(send)
    await body(send, b"half", True)

async def cancelled(scope, receive, send):
    asyncio.current_task().cancel()
    await asyncio.sleep(60)
"""
    )

    def test_an_app_that_raises_is_a_500_with_its_traceback_in_the_log(self):
        pod = self.pod(self.SOURCE)
        with pod.connect() as client:
            for path, text in (("/raises", "as told"), ("/silent", "without a response")):
                answer = client.get(path)
                self.assertEqual((answer.status, answer.text), (500, "Internal Server Error"))
                pod.until_written(text)
            self.assertEqual(client.get("/raises_after").text, "whole")
            pod.until_written("after, as told")
            self.assertEqual(client.get("/cancelled").status, 500)
            self.assertEqual(client.get("/hello").text, "hello")
        self.assertIn("in raises\n", pod.written())

    def test_an_answer_that_does_not_come_to_its_end_is_cut_off(self):
        pod = self.pod(self.SOURCE)
        for path, text in (("/raises_late", "late, as told"), ("/half", "complete")):
            with pod.connect() as client:
                client.ask(path)
                client.head()
                self.assertIn(client.chunk(), (b"begun", b"half"))
                with self.assertRaises(ConnectionError):
                    client.chunk()
            pod.until_written(text)

    def test_a_receive_that_is_cancelled_takes_no_piece_of_the_body(self):
        pod = self.pod(self.SOURCE)
        with pod.connect() as client:
            client.ask("/count", method="POST", fields="transfer-encoding: chunked\r\n")
            for _ in range(200):
                client.send("a\r\n0123456789\r\n")
                time.sleep(0.004)
            client.send("0\r\n\r\n")
            self.assertEqual(client.answer().text, "2000")
        pod.until_written("some time-outs")

    def test_an_app_learns_that_its_client_has_gone(self):
        pod = self.pod(self.SOURCE)
        client = pod.connect()
        client.ask("/wait_until_gone")
        pod.until_written("waiting")
        reset(client)
        pod.until_written("http.disconnect\nanswered nobody")
        client = pod.connect()
        client.ask("/send_until_gone")
        client.head()
        reset(client)
        pod.until_written("told at last")
        client = pod.connect()
        client.ask("/raise_when_gone")
        client.head()
        reset(client)
        pod.until_written("told of it")
        self.assertEqual(pod.get("/hello").text, "hello")
        self.assertNotIn("Traceback", pod.written())

    def test_a_client_that_closes_its_side_is_soon_taken_for_gone(self):
        pod = self.pod(self.SOURCE)
        client = pod.connect()
        client.ask("/wait_until_gone")
        pod.until_written("waiting")
        started = time.monotonic()
        client.close()
        pod.until_written("http.disconnect\nanswered nobody")
        # Another one has 5 s of an answer, which may not be for anybody.
        self.assertLess(time.monotonic() - started, 4)

    def test_whoever_asks_again_and_again_whether_the_client_has_gone_leaves_nothing_behind(self):
        pod = self.pod(self.SOURCE)
        client = pod.connect()
        client.ask("/poll_until_gone")
        pod.until_written("futures")
        self.assertIn("few futures", pod.written())
        reset(client)
        pod.until_written("polled to the end")

    def test_whoever_receives_after_the_answer_is_told_that_it_is_over(self):
        pod = self.pod(self.SOURCE)
        with pod.connect() as client:
            self.assertEqual(client.get("/after").text, "answered")
            pod.until_written("http.disconnect\nafter")


class Mistakes(PodCase):
    SOURCE = (
        ROUTES
        + """
CASES = {
    "body_first": [{"type": "http.response.body", "body": b"x"}],
    "two_starts": [{"type": "http.response.start", "status": 200}] * 2,
    "no_type": [{"status": 200}],
    "unknown": [{"type": "http.response.nonsense"}],
    "websocket": [{"type": "websocket.accept"}],
    "no_status": [{"type": "http.response.start"}],
    "bad_status": [{"type": "http.response.start", "status": 99}],
    "text_status": [{"type": "http.response.start", "status": "200"}],
    "text_header": [{"type": "http.response.start", "status": 200, "headers": [("a", "b")]}],
    "injection": [{"type": "http.response.start", "status": 200, "headers": [(b"a", b"b\\r\\nc: d")]}],
    "name_injection": [{"type": "http.response.start", "status": 200, "headers": [(b"a: b\\r\\nc", b"d")]}],
    "text_body": [
        {"type": "http.response.start", "status": 200},
        {"type": "http.response.body", "body": "text"},
    ],
    "too_long": [
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"3")]},
        {"type": "http.response.body", "body": b"four"},
    ],
    "too_short": [
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]},
        {"type": "http.response.body", "body": b"four"},
    ],
    "no_dict": ["http.response.start"],
}

async def mistake(scope, receive, send):
    name = scope["path"].split("/")[-1]
    try:
        for message in CASES[name]:
            await send(message)
    except Exception as error:
        print(name, type(error).__name__, error, flush=True)
        raise
    print(name, "passed", flush=True)

async def too_late(scope, receive, send):
    await answer(send, "whole")
    try:
        await body(send, b"more")
    except RuntimeError as error:
        print("too_late", error, flush=True)
"""
    )

    def test_each_is_raised_in_send_and_is_a_500(self):
        pod = self.pod(self.SOURCE)
        names = [
            ("body_first", "RuntimeError"),
            ("two_starts", "RuntimeError"),
            ("no_type", "RuntimeError"),
            ("unknown", "RuntimeError"),
            ("websocket", "RuntimeError"),
            ("no_status", "RuntimeError"),
            ("bad_status", "ValueError"),
            ("text_status", "TypeError"),
            ("text_header", "TypeError"),
            ("injection", "ValueError"),
            ("name_injection", "ValueError"),
            ("text_body", "TypeError"),
            ("too_long", "RuntimeError"),
            ("too_short", "RuntimeError"),
            ("no_dict", "TypeError"),
        ]
        with pod.connect() as client:
            for name, kind in names:
                answer = client.get(f"/mistake/{name}")
                self.assertEqual(answer.status, 500, name)
                pod.until_written(f"{name} {kind}")

    def test_a_message_behind_the_last_one_is_a_mistake_that_the_client_does_not_see(self):
        pod = self.pod(self.SOURCE)
        self.assertEqual(pod.get("/too_late").text, "whole")
        pod.until_written("too_late unexpected ASGI message 'http.response.body'")


def reset(client: Client) -> None:
    """Ends a connection so that the other side notices at once."""
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def memory_of(pid: int) -> int:
    with open(f"/proc/{pid}/statm") as statm:
        return int(statm.read().split()[1]) * 4096


class ScopesOnUvloop(Scopes):
    loop = "uvloop"


class AnswersOnUvloop(Answers):
    loop = "uvloop"


class BodiesOnUvloop(Bodies):
    loop = "uvloop"


class EndsOnUvloop(Ends):
    loop = "uvloop"


if __name__ == "__main__":
    unittest.main()
