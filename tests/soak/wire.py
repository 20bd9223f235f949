"""A client's socket: what goes out and comes in, byte by byte, so that it can be cut anywhere."""

from __future__ import annotations

import socket
import struct

HOST = "127.0.0.1"
PATIENCE = 20.0


class Wrong(Exception):
    """An answer that is not what the request asks for."""


class Wire:
    """A connection. Leaving it closes it, with a reset where `reset` was called."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection((HOST, port), PATIENCE)
        self.rest = b""

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def reset(self) -> None:
        """The close will be a reset, as of a client that was killed."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def more(self) -> bool:
        """Reads on; whether something came."""
        data = self.socket.recv(65536)
        self.rest += data
        return bool(data)

    def exactly(self, size: int) -> bytes:
        while len(self.rest) < size:
            if not self.more():
                raise Wrong(f"the end after {len(self.rest)} bytes of {size}")
        data, self.rest = self.rest[:size], self.rest[size:]
        return data

    def line(self) -> bytes:
        while b"\r\n" not in self.rest:
            if not self.more():
                raise Wrong(f"the end within a line: {self.rest[:80]!r}")
        line, _, self.rest = self.rest.partition(b"\r\n")
        return line

    def head(self) -> tuple[int, dict[bytes, bytes]]:
        """Status and headers."""
        status = int(self.line().split(b" ", 2)[1])
        headers = {}
        while line := self.line():
            name, _, value = line.partition(b":")
            headers[name.lower()] = value.strip()
        return status, headers

    def answer(self) -> tuple[int, bytes]:
        """Status and body of a whole answer."""
        status, headers = self.head()
        if headers.get(b"transfer-encoding") == b"chunked":
            return status, self._chunks()
        if b"content-length" in headers:
            return status, self.exactly(int(headers[b"content-length"]))
        while self.more():
            pass
        return status, self.rest

    def _chunks(self) -> bytes:
        body = b""
        while size := int(self.line(), 16):
            body += self.exactly(size)
            self.exactly(2)
        self.line()
        return body

    def until_closed(self) -> None:
        """Reads whatever comes, to the end."""
        try:
            while self.more():
                self.rest = b""
        except ConnectionError:
            pass


def request(path: str, *lines: str, method: str = "GET", body: bytes = b"") -> bytes:
    """A request with these further header lines."""
    head = [f"{method} {path} HTTP/1.1", "Host: soak", *lines, "", ""]
    return "\r\n".join(head).encode() + body


def expect(wanted: object, seen: object, what: str) -> None:
    """Raises `Wrong` where the two differ."""
    if wanted != seen:
        raise Wrong(f"{what}: {seen!r:.200} instead of {wanted!r:.80}")
