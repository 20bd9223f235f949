"""Puts gracefork under the load that its native module is trained with: ``train.py PROGRAM``.

The requests of many clients at once, most of them small, as those of browsers, of other services
and of load tests; some with bodies, some that are streamed; WebSockets. The traffic is to this
machine only, and of a fixed number of requests.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import zlib
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
CLIENTS = 32
SETTINGS = ("-c", "config.py", "-b", "127.0.0.1:0", "-w", "1")
# Of one answer, and of the whole, in seconds.
PATIENCE = 30.0
LIMIT = 240

BROWSER = (
    b"Host: app.example.org\r\n"
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n"
    b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n"
    b"Accept-Language: en-US,en;q=0.5\r\n"
    b"Accept-Encoding: gzip, deflate, br\r\n"
    b"Connection: keep-alive\r\n"
    b"Referer: https://app.example.org/\r\n"
    b"Cookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n"
    b"Cache-Control: max-age=0\r\n"
)
SERVICE = (
    b"Host: app.internal:8000\r\n"
    b"User-Agent: python-requests/2.32.3\r\n"
    b"Accept: */*\r\n"
    b"Accept-Encoding: gzip, deflate\r\n"
    b"Authorization: Bearer 0123456789abcdef0123456789abcdef\r\n"
)
PLAIN = b"Host: 127.0.0.1:8000\r\n"
BODY = json.dumps({"name": "a name", "quantity": 3, "tags": ["one", "two", "three"]}).encode()


def _request(line: bytes, fields: bytes, body: bytes = b"") -> bytes:
    length = b"Content-Length: %d\r\n" % len(body) if body else b""
    return line + b" HTTP/1.1\r\n" + fields + length + b"\r\n" + body


def _chunked(body: bytes) -> bytes:
    fields = PLAIN + b"Transfer-Encoding: chunked\r\n"
    return _request(b"POST /echo", fields) + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)


class Question(NamedTuple):
    """A request, and what its answer must be."""

    # Of a hundred.
    share: int
    request: bytes
    echo: bytes | None = None
    status: bytes = b"200"


JSON = SERVICE + b"Content-Type: application/json\r\n"
MIX = [
    Question(40, _request(b"GET /", PLAIN)),
    Question(15, _request(b"GET /json?page=2&order=name", SERVICE)),
    Question(15, _request(b"GET /html", BROWSER)),
    Question(10, _request(b"POST /echo", JSON, BODY), BODY),
    Question(5, _request(b"GET /a%20path/that/is-not", BROWSER), status=b"404"),
    Question(5, _request(b"GET /stream", SERVICE)),
    Question(3, _request(b"HEAD /html", BROWSER)),
    Question(3, _request(b"GET /file", BROWSER)),
    Question(2, _request(b"POST /echo", PLAIN, BODY * 400), BODY * 400),
    Question(1, _request(b"GET /large", SERVICE)),
    Question(1, _chunked(BODY), BODY),
]


class Client:
    """A connection that is kept."""

    def __init__(self, port: int) -> None:
        """Connects."""
        self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE)

    def send(self, data: bytes) -> None:
        """Sends all of it."""
        self.socket.sendall(data)

    def receive(self) -> bytes:
        """What has come, something at least."""
        came = self.socket.recv(1 << 16)
        if not came:
            raise SystemExit("the server has closed a connection of the training")
        return came

    def answer(self, question: Question) -> None:
        """Reads the whole answer, which must be what was asked for."""
        came = b""
        while b"\r\n\r\n" not in came:
            came += self.receive()
        head, _, body = came.partition(b"\r\n\r\n")
        if head.split()[1] != question.status:
            raise SystemExit(f"the training got a wrong answer: {head!r}")
        if question.request.startswith(b"HEAD"):
            return
        length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
        if length:
            while len(body) < int(length[1]):
                body += self.receive()
        else:
            while not body.endswith(b"0\r\n\r\n"):
                body += self.receive()
        if question.echo is not None and body != question.echo:
            raise SystemExit(f"the training got another body than it sent: {body!r}")


def ask(port: int, rounds: int) -> int:
    """Has each client ask ``rounds`` times a hundred requests; how many that is."""
    # In an order that has no long runs, and is the same each time.
    mix = [question for question in MIX for _ in range(question.share)]
    order = [mix[step * 37 % len(mix)] for step in range(len(mix))]
    clients = [Client(port) for _ in range(CLIENTS)]
    for turn in range(rounds * len(order)):
        asked = [order[(turn + number) % len(order)] for number in range(CLIENTS)]
        for client, question in zip(clients, asked, strict=True):
            client.send(question.request)
        for client, question in zip(clients, asked, strict=True):
            client.answer(question)
        if turn % len(order) == 0:
            # A few come anew, as behind a load balancer.
            clients[turn // len(order) % CLIENTS].socket.close()
            clients[turn // len(order) % CLIENTS] = Client(port)
    for client in clients:
        client.socket.close()
    return rounds * len(order) * CLIENTS


def converse(port: int, rounds: int) -> None:
    """WebSockets, the second one with permessage-deflate: ``rounds`` times a hundred messages."""
    text = b'{"type": "message", "text": "some words, and some more"}'
    offer = b"Sec-WebSocket-Extensions: permessage-deflate\r\n"
    compressor = zlib.compressobj(wbits=-15)
    small = compressor.compress(text) + compressor.flush(zlib.Z_SYNC_FLUSH)
    for fields, first, payload in (
        (b"", 0x81, text),
        (offer, 0xC1, small.removesuffix(b"\0\0\xff\xff")),
    ):
        client = Client(port)
        client.send(
            b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
            b"%s\r\n" % fields
        )
        head = client.receive()
        while b"\r\n\r\n" not in head:
            head += client.receive()
        if b" 101 " not in head or (b"permessage-deflate" in head) != bool(fields):
            raise SystemExit(f"the training got no WebSocket: {head!r}")
        mask = b"\x12\x34\x56\x78"
        masked = bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))
        frame = struct.pack("!BB", first, 0x80 | len(payload)) + mask + masked
        for _ in range(rounds * 100):
            client.send(frame)
            client.receive()
        client.socket.close()


def train(program: str, app: str, rounds: int, *options: str) -> int:
    """Serves ``app``, and asks it; how many requests it has answered."""
    ours = ("GRACEFORK_", "GUNICORN_", "WEB_CONCURRENCY")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    environment.update(PYTHONDONTWRITEBYTECODE="1", GRACEFORK_PYTHON_EXECUTABLE=sys.executable)
    server = subprocess.Popen(
        [os.path.abspath(program), *SETTINGS, *options, app],
        cwd=HERE,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    said: list[str] = []
    try:
        port = 0
        for line in server.stderr:
            said.append(line)
            if listening := re.search(r"listening\W+127\.0\.0\.1:(\d+)", line):
                port = int(listening[1])
            if "serving" in line:
                break
        else:
            raise SystemExit("gracefork does not serve:\n" + "".join(said))
        # Read on, so that it is never full.
        rest = threading.Thread(target=lambda: said.extend(server.stderr), daemon=True)
        rest.start()
        requests = ask(port, rounds)
        if app == "apps:asgi":
            converse(port, rounds)
        server.terminate()
        status = server.wait(PATIENCE)
        rest.join(PATIENCE)
        if status != 0:
            raise SystemExit(f"gracefork has ended with {status}:\n" + "".join(said))
        return requests
    finally:
        # Host and workers end when their master is gone.
        server.kill()
        server.wait()


def give_up(number: int, _frame: object) -> None:
    """Of a signal: what is running here is not left behind."""
    if number == signal.SIGALRM:
        raise SystemExit(f"the training is not done within {LIMIT} s")
    raise SystemExit(f"the training was ended by {signal.Signals(number).name}")


def main(program: str, rounds: str = "20") -> None:
    """``rounds`` of 3,200 requests for a server of each kind, and a quarter of that for one with
    threads. Prints how many it was in all."""
    for number in (signal.SIGALRM, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, give_up)
    signal.alarm(LIMIT)
    whole = int(rounds)
    wsgi = train(program, "apps:wsgi", whole)
    threads = train(program, "apps:wsgi", max(1, whole // 4), "--threads", "4")
    print(wsgi + threads + train(program, "apps:asgi", whole))


if __name__ == "__main__":
    main(*sys.argv[1:])
