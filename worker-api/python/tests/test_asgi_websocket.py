"""WebSockets as an ASGI app sees them, with frames by hand: no client could send all of these."""

from __future__ import annotations

import base64
import os
import struct
import time
import unittest
from functools import cached_property

from pod import Answer, Client, PodCase

SOURCE = """
import asyncio, time

async def app(scope, receive, send):
    if scope["type"] == "websocket":
        await globals()[scope["path"].strip("/")](scope, receive, send)
    elif scope["type"] == "http":
        await receive()
        if scope["path"] == "/block":
            print("blocking", flush=True)
            time.sleep(0.5)
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"hello"})

async def accept(receive, send, **fields):
    message = await receive()
    assert message == {"type": "websocket.connect"}, message
    await send({"type": "websocket.accept", **fields})

async def echo(scope, receive, send):
    await accept(receive, send)
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            print("disconnect", message["code"], message["reason"], flush=True)
            return
        assert message["type"] == "websocket.receive"
        del message["type"]
        await send({"type": "websocket.send", **message})

async def counts(scope, receive, send):
    await accept(receive, send)
    task = asyncio.create_task(receive())
    task.cancel()
    await asyncio.wait([task])
    heard = []
    while heard[-1:] != ["end"]:
        try:
            heard.append((await asyncio.wait_for(receive(), 0.001))["text"])
        except asyncio.TimeoutError:
            # Long enough for the next message, and a timer that is due with it.
            time.sleep(0.002)
    await send({"type": "websocket.send", "text": " ".join(heard)})

async def two_wait(scope, receive, send):
    await accept(receive, send)
    first, second = (asyncio.create_task(receive()) for _ in range(2))
    await asyncio.sleep(0)
    print("two wait", flush=True)
    while not first.done():
        await asyncio.sleep(0)
        # In the very turn in which it was woken.
        first.cancel()
    await send({"type": "websocket.send", "text": (await second)["text"]})

async def scope(scope, receive, send):
    await accept(receive, send, subprotocol="b", headers=[(b"x-one", b"1")])
    await send({"type": "websocket.send", "text": repr(scope)})

async def refuse(scope, receive, send):
    await receive()
    await send({"type": "websocket.close"})

async def deny(scope, receive, send):
    await receive()
    start = {"type": "websocket.http.response.start", "status": 402, "headers": [(b"x-one", b"1")]}
    await send(start)
    await send({"type": "websocket.http.response.body", "body": b"pay", "more_body": True})
    await send({"type": "websocket.http.response.body", "body": b" first"})
    print("denied:", (await receive())["type"], flush=True)

async def close_with(scope, receive, send):
    await accept(receive, send)
    await send({"type": "websocket.close", "code": int(scope["query_string"])})

async def close(scope, receive, send):
    await accept(receive, send)
    await send({"type": "websocket.close", "code": 4321, "reason": "told so"})
    print((await receive())["code"], flush=True)
    try:
        await send({"type": "websocket.send", "text": "late"})
    except OSError:
        print("OSError", flush=True)

async def busy(scope, receive, send):
    await accept(receive, send)
    await receive()
    print("busy", flush=True)
    await asyncio.sleep(5)
    await send({"type": "websocket.send", "text": "done"})

async def turns_away(scope, receive, send):
    await accept(receive, send)
    await send({"type": "websocket.send", "text": "no"})
    await send({"type": "websocket.close", "code": 4401})

async def returns(scope, receive, send):
    await accept(receive, send)

async def raises(scope, receive, send):
    await accept(receive, send)
    raise ValueError("as told")

async def raises_early(scope, receive, send):
    raise ValueError("early, as told")

async def silent(scope, receive, send):
    await receive()

async def flood(scope, receive, send):
    await accept(receive, send)
    for number in range(200):
        await send({"type": "websocket.send", "bytes": b"x" * 100_000})
    await send({"type": "websocket.send", "text": "end"})

async def sends_alone(scope, receive, send):
    await accept(receive, send)
    try:
        while True:
            await send({"type": "websocket.send", "text": "tick"})
            await asyncio.sleep(0.001)
    except OSError:
        print("heard", flush=True)

async def mistakes(scope, receive, send):
    for message in (
        {"type": "websocket.send", "text": "early"},
        {"type": "http.response.start", "status": 200},
        {"type": "websocket.accept", "headers": [(b"a", b"b\\r\\nc: d")]},
    ):
        try:
            await send(message)
        except (RuntimeError, ValueError) as error:
            print("mistake", type(error).__name__, flush=True)
    await accept(receive, send)
    for message in (
        {"type": "websocket.accept"},
        {"type": "websocket.send"},
        {"type": "websocket.close", "reason": "x" * 124},
    ):
        try:
            await send(message)
        except (RuntimeError, ValueError) as error:
            print("mistake", type(error).__name__, flush=True)
"""

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


class WebSocket:
    """A client that speaks in frames."""

    def __init__(self, pod, path: str, fields: str = "") -> None:
        self.client: Client = pod.connect()
        self.client.ask(path, fields=HANDSHAKE + fields)

    @cached_property
    def answer(self) -> Answer:
        return self.client.answer()

    def send(self, opcode: int, data: bytes | str = b"", final: bool = True, **more) -> None:
        data = data.encode() if isinstance(data, str) else data
        masked, rsv = more.get("masked", True), more.get("rsv", 0)
        head = bytes([opcode | rsv << 4 | final << 7])
        mask = 0x80 if masked else 0
        if len(data) < 126:
            head += bytes([mask | len(data)])
        elif len(data) < 65536:
            head += struct.pack("!BH", mask | 126, len(data))
        else:
            head += struct.pack("!BQ", mask | 127, len(data))
        key = os.urandom(4)
        if masked:
            head += key
            times = -(-len(data) // 4)
            number = int.from_bytes(data, "big") if data else 0
            pad = int.from_bytes((key * times)[: len(data)], "big") if data else 0
            data = (number ^ pad).to_bytes(len(data), "big")
        self.client.send(head + data)

    def receive(self) -> tuple[int, bytes]:
        first, second = self.client.exactly(2)
        assert first & 0x80 and not second & 0x80
        length = second
        if length == 126:
            (length,) = struct.unpack("!H", self.client.exactly(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", self.client.exactly(8))
        return first & 15, self.client.exactly(length)

    def closed(self) -> int:
        """Receives a close; tells its code."""
        opcode, data = self.receive()
        assert opcode == CLOSE, (opcode, data)
        return struct.unpack("!H", data[:2])[0]


HANDSHAKE = (
    "connection: keep-alive, Upgrade\r\nupgrade: WebSocket\r\nsec-websocket-version: 13\r\n"
    f"sec-websocket-key: {base64.b64encode(b'0123456789abcdef').decode()}\r\n"
)


class WebSockets(PodCase):
    def open(self, path: str, fields: str = "", **options: object) -> WebSocket:
        """The first one of a worker."""
        self.running = self.pod(SOURCE, **options)
        return self.another(path, fields)

    def another(self, path: str, fields: str = "") -> WebSocket:
        socket = self.asking(path, fields)
        self.assertIsNotNone(socket.answer)
        return socket

    def asking(self, path: str, fields: str = "") -> WebSocket:
        """One that has not read its answer."""
        socket = WebSocket(self.running, path, fields)
        self.addCleanup(socket.client.close)
        return socket

    def test_messages_of_both_kinds_and_all_sizes_come_and_go(self):
        socket = self.open("/echo")
        self.assertEqual(socket.answer.status, 101)
        self.assertEqual(socket.answer.field("upgrade"), "websocket")
        self.assertEqual(
            socket.answer.field("sec-websocket-accept"), "BACScCJPNqyz+UBoqMH89VmURoA="
        )
        for size in (0, 1, 125, 126, 65535, 65536, 3_000_000):
            data = os.urandom(size)
            socket.send(BINARY, data)
            self.assertEqual(socket.receive(), (BINARY, data))
            socket.send(TEXT, "é" * (size // 2))
            self.assertEqual(socket.receive(), (TEXT, ("é" * (size // 2)).encode()))

    def test_a_message_in_fragments_is_one_and_pings_in_between_are_answered(self):
        socket = self.open("/echo")
        socket.send(TEXT, "one ", final=False)
        socket.send(PING, "there?")
        self.assertEqual(socket.receive(), (PONG, b"there?"))
        socket.send(0, "two ", final=False)
        socket.send(0, "three")
        self.assertEqual(socket.receive(), (TEXT, b"one two three"))

    def test_a_receive_that_is_cancelled_takes_no_message(self):
        socket = self.open("/counts")
        numbers = [str(number) for number in range(300)]
        for text in [*numbers, "end"]:
            socket.send(TEXT, text)
            time.sleep(0.001)
        self.assertEqual(socket.receive(), (TEXT, " ".join([*numbers, "end"]).encode()))

    def test_the_message_of_one_that_is_cancelled_is_the_next_ones(self):
        socket = self.open("/two_wait")
        self.running.until_written("two wait")
        socket.send(TEXT, "hello")
        self.assertEqual(socket.receive(), (TEXT, b"hello"))

    def test_the_scope_names_subprotocols_and_the_answer_the_chosen_one(self):
        socket = self.open("/scope?x=1", "sec-websocket-protocol: a, b\r\n")
        self.assertEqual(socket.answer.field("sec-websocket-protocol"), "b")
        self.assertEqual(socket.answer.field("x-one"), "1")
        scope = eval(socket.receive()[1])
        self.assertEqual(scope["subprotocols"], ["a", "b"])
        self.assertEqual((scope["type"], scope["scheme"]), ("websocket", "ws"))
        self.assertEqual(scope["query_string"], b"x=1")
        self.assertIn("websocket.http.response", scope["extensions"])
        self.assertNotIn("method", scope)

    def test_an_app_that_does_not_accept_is_a_403_or_what_it_says(self):
        self.assertEqual(self.open("/refuse").answer.status, 403)
        answer = self.another("/deny").answer
        self.assertEqual(
            (answer.status, answer.text, answer.field("x-one")), (402, "pay first", "1")
        )
        self.running.until_written("denied: websocket.disconnect")
        self.assertEqual(self.another("/silent").answer.status, 500)
        self.assertEqual(self.another("/raises_early").answer.status, 500)
        self.running.until_written("early, as told")
        self.assertEqual(self.running.get().text, "hello")

    def test_a_handshake_that_nobody_understands_is_refused(self):
        pod = self.pod(SOURCE)
        for old, new, status in (
            ("version: 13", "version: 12", 426),
            ("sec-websocket-key: ", "x: ", 400),
        ):
            with pod.connect() as client:
                self.assertEqual(
                    client.get("/echo", fields=HANDSHAKE.replace(old, new)).status, status
                )
        with pod.connect() as client:
            other = HANDSHAKE.replace("WebSocket", "h2c")
            self.assertEqual(client.get("/", fields=other).text, "hello", "none is asked for")
            other = HANDSHAKE.replace("keep-alive, Upgrade", "keep-alive")
            self.assertEqual(client.get("/", fields=other).text, "hello", "it is not meant")

    def test_a_client_that_closes_is_answered_and_the_app_told_why(self):
        socket = self.open("/echo")
        socket.send(CLOSE, struct.pack("!H", 3999) + b"done")
        self.assertEqual(socket.closed(), 3999)
        self.running.until_written("disconnect 3999 done\n")
        self.assertTrue(socket.client.is_closed())
        bare = self.another("/echo")
        bare.send(CLOSE)
        self.running.until_written("disconnect 1005 \n")
        bare.client.close()
        lost = self.another("/echo")
        lost.client.close()
        self.running.until_written("disconnect 1006 \n")

    def test_an_app_that_closes_says_so_with_its_code(self):
        socket = self.open("/close")
        self.assertEqual(socket.receive(), (CLOSE, struct.pack("!H", 4321) + b"told so"))
        failed = struct.pack("!H", 1011)
        for code, sent in ((1005, b""), (1006, b""), (1004, failed), (999, failed)):
            other = self.another(f"/close_with?{code}")
            self.assertEqual(other.receive(), (CLOSE, sent))
        socket.send(CLOSE, struct.pack("!H", 4321))
        self.assertTrue(socket.client.is_closed())
        self.running.until_written("4321\nOSError\n")

    def test_an_app_that_ends_closes_well_or_with_an_error(self):
        self.assertEqual(self.open("/returns").closed(), 1000)
        self.assertEqual(self.another("/raises").closed(), 1011)
        self.running.until_written("as told")

    def test_sockets_that_come_together_are_each_told_all_that_the_app_says(self):
        # They are read while the loop is blocked, and begin in one turn of it.
        self.running = self.pod(SOURCE)
        busy = self.running.connect()
        self.addCleanup(busy.close)
        busy.ask("/block")
        self.running.until_written("blocking")
        for socket in [self.asking("/turns_away") for _ in range(8)]:
            self.assertEqual(socket.answer.status, 101)
            self.assertEqual(socket.receive(), (TEXT, b"no"))
            self.assertEqual(socket.closed(), 4401)
        self.assertEqual(busy.answer().text, "hello")

    def test_a_peer_that_does_not_answer_a_close_is_cut_off(self):
        socket = self.open("/close", ws_close_grace=0.1)
        self.assertEqual(socket.closed(), 4321)
        self.assertTrue(socket.client.is_closed())

    def test_a_silent_peer_is_asked_and_cut_off_if_it_says_nothing(self):
        socket = self.open("/echo", ws_ping_interval=1)
        for _ in range(2):
            opcode, data = socket.receive()
            self.assertEqual(opcode, PING)
            socket.send(PONG, data)
        socket.send(TEXT, "here")
        while (came := socket.receive())[0] == PING:
            pass
        self.assertEqual(came, (TEXT, b"here"))
        # It says no more.
        while came := socket.client.file.read(2):
            self.assertEqual(came, bytes([0x80 | PING, 0]))
        self.running.until_written("disconnect 1006")
        self.assertEqual(self.running.get().text, "hello")

    def test_a_peer_is_not_taken_for_silent_while_the_app_is_behind(self):
        socket = self.open("/busy", ws_ping_interval=1)
        socket.send(BINARY, b"x" * (1 << 20))
        self.running.until_written("busy")
        # So long nobody receives, and what it answers is read for that alone.
        while (came := socket.receive())[0] == PING:
            socket.send(PONG, came[1])
        self.assertEqual(came, (TEXT, b"done"))

    def test_what_breaks_the_protocol_ends_with_its_code(self):
        def broken(code, *frames):
            socket = self.another("/echo")
            for arguments, more in frames:
                socket.send(*arguments, **more)
            self.assertEqual(socket.closed(), code)
            pod.until_written(f"disconnect {code}")
            socket.client.close()

        pod = self.running = self.pod(SOURCE, ws_max_message_size=1000)
        broken(1002, ((TEXT, "x"), {"masked": False}))
        broken(1002, ((TEXT, "x"), {"rsv": 4}))
        broken(1002, ((3, "x"), {}))
        broken(1002, ((0, "x"), {}))
        broken(1007, ((TEXT, b"\xff"), {}))
        broken(1009, ((BINARY, b"x" * 1001), {}))
        broken(1009, ((BINARY, b"x" * 900), {"final": False}), ((0, b"x" * 900), {}))

    def test_a_client_that_reads_slowly_holds_the_app_back_and_nobody_else(self):
        socket = self.open("/flood")
        self.assertEqual(self.running.get().text, "hello")
        for _ in range(200):
            self.assertEqual(len(socket.receive()[1]), 100_000)
        self.assertEqual(socket.receive(), (TEXT, b"end"))

    def test_a_client_that_reads_slowly_and_says_nothing_is_not_silent(self):
        socket = self.open("/flood", ws_ping_interval=1)
        left = 200
        while left:
            # It takes its time: several intervals for all of it.
            time.sleep(0.03)
            opcode, data = socket.receive()
            if opcode == BINARY:
                self.assertEqual(len(data), 100_000)
                left -= 1
        while (came := socket.receive())[0] == PING:
            pass
        self.assertEqual(came, (TEXT, b"end"))

    def test_a_close_is_heard_by_an_app_that_only_sends(self):
        socket = self.open("/sends_alone")
        self.assertEqual(socket.receive(), (TEXT, b"tick"))
        socket.send(CLOSE, struct.pack("!H", 1000))
        self.running.until_written("heard")

    def test_mistakes_of_the_app_are_raised_in_send(self):
        self.assertEqual(self.open("/mistakes").answer.status, 101)
        of_each = "mistake RuntimeError\n" * 2 + "mistake ValueError\n"
        self.running.until_written(of_each * 2)

    def test_a_pod_that_stops_says_1001_and_a_worker_that_is_replaced_1012(self):
        for told, code in (("drain", 1001), ("retire", 1012)):
            socket = self.open("/echo")
            silent = self.another("/echo")
            getattr(self.running, told)()
            self.assertEqual((socket.closed(), silent.closed()), (code, code))
            socket.send(CLOSE, struct.pack("!H", code))
            self.assertTrue(socket.client.is_closed())
            silent.client.close()
            self.running.until_written(f"disconnect {code}")
            self.running.wait_for("DRAINED=1")
            self.assertEqual(self.running.ended(), 0)


class WebSocketsOnUvloop(WebSockets):
    loop = "uvloop"


if __name__ == "__main__":
    unittest.main()
