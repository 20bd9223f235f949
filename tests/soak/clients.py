"""What clients do to a server of HTTP. Each behaviour is one connection; those that stay for their
answer check it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from wire import Wire, Wrong, expect, request

Client = Callable[[int, random.Random], None]
PIECE = 4096


def stays(port: int, chance: random.Random) -> None:
    with Wire(port) as wire:
        for _ in range(chance.randint(2, 20)):
            wire.send(request("/", f"Cookie: a={chance.random()}"))
            expect((200, b"ok"), wire.answer(), "a kept connection")


def comes_once(port: int, chance: random.Random) -> None:
    path = chance.choice(["/", "/slow", "/write", "/ignore", "/afterwards"])
    with Wire(port) as wire:
        wire.send(request(path, "Connection: close"))
        expect((200, b"ok"), wire.answer(), path)
        expect(False, wire.more(), "more than the answer")


def asks_ahead(port: int, chance: random.Random) -> None:
    count = chance.randint(2, 5)
    with Wire(port) as wire:
        wire.send(request("/") * count)
        for _ in range(count):
            expect((200, b"ok"), wire.answer(), "pipelined")


def posts(port: int, chance: random.Random) -> None:
    with Wire(port) as wire:
        for _ in range(chance.randint(1, 4)):
            body = chance.randbytes(chance.choice([0, 1, 500, 5_000, 70_000]))
            wire.send(request("/echo", f"Content-Length: {len(body)}", method="POST", body=body))
            expect((200, body), wire.answer(), "echo")


def posts_slowly_in_chunks(port: int, chance: random.Random) -> None:
    pieces = [chance.randbytes(chance.randint(1, 2_000)) for _ in range(4)]
    with Wire(port) as wire:
        wire.send(request("/echo", "Transfer-Encoding: chunked", method="POST"))
        for piece in pieces:
            time.sleep(0.005)
            wire.send(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        wire.send(b"0\r\n\r\n")
        expect((200, b"".join(pieces)), wire.answer(), "chunks")


def sends_what_nobody_reads(port: int, chance: random.Random) -> None:
    body = chance.randbytes(20_000)
    with Wire(port) as wire:
        wire.send(request("/ignore", f"Content-Length: {len(body)}", method="POST", body=body))
        expect((200, b"ok"), wire.answer(), "a body that is not read")


def reads_a_stream(port: int, _: random.Random) -> None:
    with Wire(port) as wire:
        wire.send(request("/stream"))
        status, body = wire.answer()
        expect((200, 16 * PIECE), (status, len(body)), "a stream")


def reads_a_file(port: int, _: random.Random) -> None:
    with Wire(port) as wire:
        wire.send(request("/file"))
        status, body = wire.answer()
        expect((200, 32 * PIECE), (status, len(body)), "a file")


def is_told_of_an_error(port: int, _: random.Random) -> None:
    with Wire(port) as wire:
        wire.send(request("/error"))
        expect(500, wire.head()[0], "an app that raises")


def sees_an_answer_break_off(port: int, _: random.Random) -> None:
    with Wire(port) as wire:
        wire.send(request("/late"))
        try:
            wire.answer()
        except (Wrong, ConnectionError):
            return
        raise Wrong("an answer that broke off looked whole")


def sends_nonsense(port: int, chance: random.Random) -> None:
    nonsense = [b"\x16\x03\x01\x00\xa5" * 20, b"GET\r\n\r\n", request("/", "Content-Length: x")]
    with Wire(port) as wire:
        wire.send(chance.choice(nonsense))
        wire.until_closed()


def is_slow_with_its_head(port: int, _: random.Random) -> None:
    with Wire(port) as wire:
        whole = request("/")
        for start in range(0, len(whole), 8):
            wire.send(whole[start : start + 8])
            time.sleep(0.002)
        expect((200, b"ok"), wire.answer(), "a slow head")


def shuts_its_half(port: int, _: random.Random) -> None:
    with Wire(port) as wire:
        wire.send(request("/"))
        wire.socket.shutdown(1)
        expect((200, b"ok"), wire.answer(), "a half-closed connection")


def leaves_at_once(port: int, chance: random.Random) -> None:
    with Wire(port) as wire:
        wire.send(request("/")[: chance.randint(0, 30)])
        leave(wire, chance)


def leaves_while_it_is_served(port: int, chance: random.Random) -> None:
    with Wire(port) as wire:
        wire.send(request(chance.choice(["/slow", "/watch", "/afterwards", "/stream"])))
        time.sleep(chance.random() * 0.02)
        leave(wire, chance)


def leaves_its_upload(port: int, chance: random.Random) -> None:
    with Wire(port) as wire:
        framing = chance.choice(["Content-Length: 100000", "Transfer-Encoding: chunked"])
        wire.send(request("/echo", framing, method="POST"))
        wire.send(b"1000\r\n" + b"y" * chance.randint(0, 4_000))
        time.sleep(chance.random() * 0.01)
        leave(wire, chance)


def leaves_its_download(port: int, chance: random.Random) -> None:
    with Wire(port) as wire:
        wire.send(request(chance.choice(["/flood", "/stream", "/file", "/watch"])))
        for _ in range(chance.randint(0, 3)):
            wire.more()
        leave(wire, chance)


def leave(wire: Wire, chance: random.Random) -> None:
    """By a close or by a reset."""
    if chance.random() < 0.5:
        wire.reset()


POLITE: list[Client] = [
    stays,
    comes_once,
    asks_ahead,
    posts,
    posts_slowly_in_chunks,
    sends_what_nobody_reads,
    reads_a_stream,
    reads_a_file,
    is_slow_with_its_head,
    shuts_its_half,
    is_told_of_an_error,
    sees_an_answer_break_off,
]
RUDE: list[Client] = [
    sends_nonsense,
    leaves_at_once,
    leaves_while_it_is_served,
    leaves_its_upload,
    leaves_its_download,
]
