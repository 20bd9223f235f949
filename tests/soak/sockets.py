"""What clients do to a server of WebSockets."""

from __future__ import annotations

import random
import struct

from clients import Client, leave
from wire import Wire, expect, request

UPGRADE = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
FINAL, MASKED = 0x80, 0x80
MASK = b"\x01\x02\x03\x04"


def frame(kind: int, data: bytes) -> bytes:
    """A whole frame of a client."""
    size = len(data)
    if size < 126:
        head = bytes([FINAL | kind, MASKED | size])
    else:
        head = bytes([FINAL | kind, MASKED | 126]) + struct.pack(">H", size)
    return head + MASK + bytes(byte ^ MASK[index % 4] for index, byte in enumerate(data))


def received(wire: Wire) -> tuple[int, bytes]:
    first, size = wire.exactly(2)
    if size == 126:
        (size,) = struct.unpack(">H", wire.exactly(2))
    return first & 0x0F, wire.exactly(size)


def opened(wire: Wire) -> None:
    wire.send(request("/socket", *UPGRADE))
    expect(101, wire.head()[0], "a WebSocket")


def talk(wire: Wire, chance: random.Random) -> None:
    for _ in range(chance.randint(1, 8)):
        text = (f"{chance.random()}" * chance.choice([1, 40])).encode()
        kind = chance.choice([TEXT, BINARY])
        wire.send(frame(kind, text))
        expect((kind, text), received(wire), "a message")


def talks_and_closes(port: int, chance: random.Random) -> None:
    with Wire(port) as wire:
        opened(wire)
        talk(wire, chance)
        wire.send(frame(CLOSE, struct.pack(">H", 1000)))
        expect(CLOSE, received(wire)[0], "the answer to a close")
        wire.until_closed()


def pings(port: int, chance: random.Random) -> None:
    with Wire(port) as wire:
        opened(wire)
        wire.send(frame(PING, b"there?"))
        expect((PONG, b"there?"), received(wire), "a pong")
        talk(wire, chance)
        leave(wire, chance)


def is_closed(port: int, _: random.Random) -> None:
    with Wire(port) as wire:
        opened(wire)
        wire.send(frame(TEXT, b"close"))
        expect((CLOSE, struct.pack(">H", 4000)), received(wire), "a close of the app")
        wire.send(frame(CLOSE, struct.pack(">H", 4000)))
        wire.until_closed()


def is_refused(port: int, _: random.Random) -> None:
    with Wire(port) as wire:
        wire.send(request("/refuse", *UPGRADE))
        expect(403, wire.head()[0], "a refused WebSocket")


def makes_the_app_fail(port: int, _: random.Random) -> None:
    with Wire(port) as wire:
        opened(wire)
        wire.send(frame(TEXT, b"error"))
        expect(CLOSE, received(wire)[0], "what an app that raises leaves")


def leaves_before_it_is_open(port: int, chance: random.Random) -> None:
    with Wire(port) as wire:
        wire.send(request("/socket", *UPGRADE))
        leave(wire, chance)


def leaves_within_a_frame(port: int, chance: random.Random) -> None:
    with Wire(port) as wire:
        opened(wire)
        whole = frame(TEXT, b"half of it" * 20)
        wire.send(whole[: chance.randint(1, len(whole) - 1)])
        leave(wire, chance)


def breaks_the_protocol(port: int, chance: random.Random) -> None:
    with Wire(port) as wire:
        opened(wire)
        wire.send(chance.choice([b"\xff" * 14, frame(TEXT, b"\xff\xfe")]))
        wire.until_closed()


POLITE: list[Client] = [talks_and_closes, is_closed, is_refused, pings, makes_the_app_fail]
RUDE: list[Client] = [
    leaves_before_it_is_open,
    leaves_within_a_frame,
    breaks_the_protocol,
]
