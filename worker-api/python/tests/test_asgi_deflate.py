"""permessage-deflate (RFC 7692), with frames by hand and with a client that people use."""

from __future__ import annotations

import asyncio
import json
import random
import unittest
import zlib

import test_asgi_websocket as plain
from pod import PodCase, has_module
from test_asgi_websocket import BINARY, PING, PONG, TEXT

RSV1 = 4
OFFER = "sec-websocket-extensions: permessage-deflate; client_max_window_bits\r\n"
AGREED = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"


def squeezed(data: bytes, flush: int = zlib.Z_SYNC_FLUSH) -> bytes:
    tool = zlib.compressobj(wbits=-15)
    return (tool.compress(data) + tool.flush(flush)).removesuffix(b"\0\0\xff\xff")


class WebSocket(plain.WebSocket):
    """One that has offered to compress."""

    #: Bytes on the wire of the last message.
    length = 0

    def receive(self) -> tuple[int, bytes]:
        first = self.client.file.peek(1)[0]
        opcode, data = super().receive()
        self.length = len(data)
        if first & 0x40:
            data = zlib.decompressobj(wbits=-15).decompress(data + b"\0\0\xff\xff")
        return opcode, data


class Deflate(PodCase):
    def open(self, offer: str = OFFER, **options: object) -> WebSocket:
        self.running = self.pod(plain.SOURCE, **options)
        return self.another(offer)

    def another(self, offer: str = OFFER) -> WebSocket:
        socket = WebSocket(self.running, "/echo", offer)
        self.addCleanup(socket.client.close)
        self.assertEqual(socket.answer.status, 101)
        return socket

    def test_what_is_long_goes_compressed_and_what_comes_may(self):
        socket = self.open()
        self.assertEqual(socket.answer.field("sec-websocket-extensions"), AGREED)
        text = json.dumps([{"name": "cinnamon", "price": number} for number in range(3000)])
        for _ in range(2):
            socket.send(TEXT, squeezed(text.encode()), rsv=RSV1)
            self.assertEqual(socket.receive(), (TEXT, text.encode()))
            self.assertLess(socket.length, len(text) / 5)
            socket.send(TEXT, text)
            self.assertEqual(socket.receive(), (TEXT, text.encode()))
            # Not worth it.
            socket.send(BINARY, squeezed(b"short"), rsv=RSV1)
            self.assertEqual(socket.receive(), (BINARY, b"short"))
            self.assertEqual(socket.length, 5)
            noise = random.Random(7).randbytes(100_000)
            socket.send(BINARY, squeezed(noise), rsv=RSV1)
            self.assertEqual(socket.receive(), (BINARY, noise))
            self.assertEqual(socket.length, len(noise))

    def test_a_message_in_fragments_is_one_and_pings_in_between_are_answered(self):
        socket = self.open()
        data = squeezed(b"one two three")
        socket.send(TEXT, data[:4], final=False, rsv=RSV1)
        socket.send(PING, "there?")
        self.assertEqual(socket.receive(), (PONG, b"there?"))
        socket.send(0, data[4:9], final=False)
        socket.send(0, data[9:])
        self.assertEqual(socket.receive(), (TEXT, b"one two three"))

    def test_a_stream_that_ends_in_a_message_is_one(self):
        socket = self.open()
        for text in (b"once", b"and again"):
            socket.send(TEXT, squeezed(text, zlib.Z_FINISH) + b"\0", rsv=RSV1)
            self.assertEqual(socket.receive(), (TEXT, text))

    def test_without_an_offer_that_can_be_kept_nothing_is_compressed(self):
        self.running = self.pod(plain.SOURCE)
        smaller = "sec-websocket-extensions: permessage-deflate; server_max_window_bits=10\r\n"
        for offer in ("", smaller):
            socket = self.another(offer)
            self.assertIsNone(socket.answer.field("sec-websocket-extensions"))
            socket.send(TEXT, "x" * 5000)
            self.assertEqual(socket.receive(), (TEXT, b"x" * 5000))
            self.assertEqual(socket.length, 5000)
            socket.send(TEXT, squeezed(b"x"), rsv=RSV1)
            self.assertEqual(socket.closed(), 1002)

    def test_what_breaks_the_protocol_ends_with_its_code(self):
        self.running = self.pod(plain.SOURCE, ws_max_message_size=1000)

        def broken(code, *frames):
            socket = self.another()
            for arguments, more in frames:
                socket.send(*arguments, **more)
            self.assertEqual(socket.closed(), code)
            self.running.until_written(f"disconnect {code}")
            socket.client.close()

        compressed = {"rsv": RSV1}
        begun = ((TEXT, squeezed(b"x" * 50)), {"rsv": RSV1, "final": False})
        broken(1002, ((TEXT, b"\xff\xff\xff"), compressed))
        broken(1002, ((TEXT, squeezed(b"x")), {"rsv": RSV1, "masked": False}))
        broken(1002, ((PING, b"x"), compressed))
        broken(1002, ((0, b"x"), compressed))
        broken(1002, begun, ((0, b"x"), compressed))
        broken(1002, begun, ((TEXT, b"x"), {}))
        broken(1007, ((TEXT, squeezed(b"\xff")), compressed))
        # A thousand bytes may come, however few they were on the way.
        broken(1009, ((BINARY, squeezed(b"x" * 1001)), compressed))
        broken(1009, ((BINARY, squeezed(b"x" * 10_000_000)), compressed))
        socket = self.another()
        socket.send(BINARY, squeezed(b"x" * 1000), rsv=RSV1)
        self.assertEqual(socket.receive(), (BINARY, b"x" * 1000))

    def test_a_client_that_people_use_is_understood(self):
        if not has_module("websockets"):
            self.skipTest("websockets is not installed")
        from websockets.asyncio.client import connect

        self.running = self.pod(plain.SOURCE)
        source = random.Random(11)
        texts = ["", "short", "long " * 100_000]
        texts += ["".join(source.choices("abcd ", k=source.randrange(20_000))) for _ in range(50)]

        async def talk() -> str:
            async with connect(f"ws://127.0.0.1:{self.running.port}/echo") as socket:
                for text in texts:
                    await socket.send(text)
                    self.assertEqual(await socket.recv(), text)
                    await socket.send(text.encode())
                    self.assertEqual(await socket.recv(), text.encode())
                # In fragments of its own making.
                await socket.send(texts[-3:])
                self.assertEqual(await socket.recv(), "".join(texts[-3:]))
                return socket.response.headers["Sec-WebSocket-Extensions"]

        self.assertEqual(asyncio.run(talk()), AGREED)


if __name__ == "__main__":
    unittest.main()
