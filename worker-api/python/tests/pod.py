"""A worker process with the real native part, and the test as its master."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import textwrap
import time
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
PATIENCE = 20.0

_SEALED = 0x1 | 0x2 | 0x4
_BOARD = 64 + 23 * 64
_PHASES = {"ready": 1, "lameduck": 2, "drain": 3, "force": 4}


def has_native(python: str = sys.executable) -> bool:
    """Whether the package is installed, with its native part."""
    probe = [
        python,
        "-P" if sys.version_info >= (3, 11) else "-B",
        "-c",
        "import gracefork._gracefork",
    ]
    return subprocess.run(probe, capture_output=True, cwd="/").returncode == 0


def has_module(name: str) -> bool:
    """Whether the interpreter has a package of others."""
    return (
        subprocess.run([sys.executable, "-c", f"import {name}"], capture_output=True).returncode
        == 0
    )


class Pod:
    """One worker that serves the app of a source text."""

    def __init__(
        self,
        source: str,
        *,
        interface: str = "asgi",
        loop: str = "asyncio",
        listener: socket.socket | None = None,
        environ: dict[str, str] | None = None,
        **options: object,
    ) -> None:
        self.folder = tempfile.TemporaryDirectory()
        app = Path(self.folder.name, "app_under_test.py")
        app.write_text(textwrap.dedent(source), encoding="utf-8")
        listener = listener or socket.create_server(("127.0.0.1", 0))
        self.address = listener.getsockname()
        self.port = self.address[1] if isinstance(self.address, tuple) else None
        self.board = os.memfd_create("scoreboard", os.MFD_ALLOW_SEALING)
        os.ftruncate(self.board, _BOARD)
        header = struct.pack("=8sIIIII", b"krfecarg", 2, 1, 1, 1, 1)
        os.pwrite(self.board, header, 0)
        fcntl.fcntl(self.board, fcntl.F_ADD_SEALS, _SEALED)
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.control.settimeout(PATIENCE)
        self.log = open(Path(self.folder.name, "log"), "w+", encoding="utf-8")
        environ = {
            **os.environ,
            **(environ or {}),
            "TEST_INTERFACE": interface,
            "LISTEN_FDNAMES": "web",
            "GRACEFORK_PYTHON_LOOP": loop,
            "GRACEFORK_PYTHON_LIFESPAN": str(options.pop("lifespan", "auto")),
            "GRACEFORK_HEALTH_PATH": "/up",
            "TEST_FOLDER": self.folder.name,
            "TEST_OPTIONS": json.dumps(options),
            "TEST_DESCRIPTORS": " ".join(
                str(it) for it in (listener.fileno(), self.board, theirs.fileno())
            ),
        }
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "serve.py")],
            env=environ,
            pass_fds=(listener.fileno(), self.board, theirs.fileno()),
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
        )
        theirs.close()
        listener.close()
        self._reports: list[str] = []

    def wait_for(self, report: str) -> str:
        """Waits for a report that begins so."""
        while True:
            for it in self._reports:
                if it.startswith(report):
                    self._reports.remove(it)
                    return it
            frame = self.control.recv(4096)
            if not frame:
                raise AssertionError(f"the worker has gone before {report}")
            self._reports.extend(frame.decode().splitlines())

    def has_said(self, report: str) -> bool:
        """Whether it has made a report that begins so."""
        self.control.setblocking(False)
        try:
            while frame := self.control.recv(4096):
                self._reports.extend(frame.decode().splitlines())
        except BlockingIOError:
            pass
        finally:
            self.control.settimeout(PATIENCE)
        return any(it.startswith(report) for it in self._reports)

    def connect(self) -> Client:
        return Client(self.address)

    def get(self, path: str = "/", **more: object) -> Answer:
        with self.connect() as client:
            return client.get(path, **more)

    def lameduck(self) -> None:
        self._tell("lameduck", "LAMEDUCK=1")

    def drain(self) -> None:
        self._tell("drain", "DRAIN=1")

    def retire(self) -> None:
        self.control.send(b"RETIRE=1\nDEADLINE_USEC=60000000")

    def quit(self) -> None:
        self._tell("force", "QUIT=1")

    def _tell(self, phase: str, command: str) -> None:
        os.pwrite(self.board, struct.pack("=I", _PHASES[phase]), 16)
        os.pwrite(self.board, struct.pack("=I", 0), 20)
        self.control.send(command.encode())

    def ended(self) -> int:
        """Waits for its end; tells its exit status."""
        return self.process.wait(PATIENCE)

    def written(self) -> str:
        """What it has written to standard output and standard error."""
        self.log.flush()
        return Path(self.folder.name, "log").read_text(encoding="utf-8")

    def until_written(self, text: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while text not in self.written():
            if time.monotonic() > deadline:
                raise AssertionError(f"never written: {text!r}, but\n{self.written()}")
            time.sleep(0.005)

    def release(self) -> None:
        """Lets calls go on that wait for the file ``release`` in the folder of the test."""
        Path(self.folder.name, "release").touch()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        self.control.close()
        os.close(self.board)
        self.log.close()
        self.folder.cleanup()


class Answer:
    """What came back."""

    def __init__(self, status: int, fields: list[tuple[str, str]], body: bytes) -> None:
        self.status = status
        self.fields = fields
        self.body = body

    def field(self, name: str) -> str | None:
        return next((value for key, value in self.fields if key == name), None)

    @property
    def text(self) -> str:
        return self.body.decode()

    def json(self) -> object:
        return json.loads(self.body)


class Client:
    """One connection, spoken on by hand."""

    def __init__(self, address: object) -> None:
        family = socket.AF_INET if isinstance(address, tuple) else socket.AF_UNIX
        self.socket = socket.socket(family)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(address)
        self.file = self.socket.makefile("rb")

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.file.close()
        self.socket.close()

    def send(self, data: bytes | str) -> None:
        self.socket.sendall(data.encode() if isinstance(data, str) else data)

    def ask(self, path: str, method: str = "GET", fields: str = "", body: bytes = b"") -> None:
        length = f"content-length: {len(body)}\r\n" if body else ""
        head = f"{method} {path} HTTP/1.1\r\nhost: test\r\n{length}{fields}\r\n"
        self.send(head.encode("latin-1") + body)

    def get(self, path: str = "/", **more: object) -> Answer:
        self.ask(path, **more)  # type: ignore[arg-type]
        return self.answer(has_body=more.get("method") != "HEAD")

    def head(self) -> tuple[int, list[tuple[str, str]]]:
        line = self.file.readline()
        if not line:
            raise ConnectionError("closed")
        status = int(line.split()[1])
        fields = []
        while (line := self.file.readline().rstrip(b"\r\n")) != b"":
            name, _, value = line.decode("latin-1").partition(":")
            fields.append((name.lower(), value.strip()))
        return status, fields

    def answer(self, has_body: bool = True) -> Answer:
        status, fields = self.head()
        answer = Answer(status, fields, b"")
        if has_body and status not in (101, 204, 304):
            if answer.field("transfer-encoding") == "chunked":
                answer.body = b"".join(self.chunks())
                answer.fields.extend(self.trailers)
            elif (length := answer.field("content-length")) is not None:
                answer.body = self.exactly(int(length))
            else:
                answer.body = self.file.read()
        return answer

    def exactly(self, length: int) -> bytes:
        data = self.file.read(length)
        if len(data) < length:
            raise ConnectionError(f"cut off after {len(data)} of {length} bytes")
        return data

    def chunk(self) -> bytes:
        line = self.file.readline()
        if not line:
            raise ConnectionError("cut off")
        data = self.exactly(int(line, 16))
        if data:
            self.file.readline()
        return data

    def chunks(self):
        while chunk := self.chunk():
            yield chunk
        self.trailers = []
        while (line := self.file.readline().rstrip(b"\r\n")) != b"":
            name, _, value = line.decode("latin-1").partition(":")
            self.trailers.append((name.lower(), value.strip()))

    def is_closed(self) -> bool:
        return self.file.read(1) == b""


class PodCase(unittest.TestCase):
    """Tests against workers; the loop is asyncio's, unless a subclass says otherwise."""

    interface = "asgi"
    loop = "asyncio"

    @classmethod
    def setUpClass(cls) -> None:
        if not has_native():
            raise unittest.SkipTest("the package is not installed, with its native part")
        if cls.loop == "uvloop" and not has_module("uvloop"):
            raise unittest.SkipTest("uvloop is not installed")

    def pod(self, source: str, **options: object) -> Pod:
        """A worker that is ready."""
        pod = self.booting(source, **options)
        pod.wait_for("READY=1")
        return pod

    def booting(self, source: str, **options: object) -> Pod:
        pod = Pod(source, interface=self.interface, loop=self.loop, **options)
        self.addCleanup(self._show_and_close, pod)
        return pod

    def _show_and_close(self, pod: Pod) -> None:
        if self._outcome_is_bad():
            sys.stderr.write(pod.written())
        pod.close()

    def _outcome_is_bad(self) -> bool:
        outcome = getattr(self, "_outcome", None)
        return outcome is not None and not outcome.success
