"""What the small test workers share: a thread-a-connection HTTP server on the inherited socket,
sd_notify, and gracefork's control channel spoken by hand. Standard library only."""

import json
import mmap
import os
import select
import signal
import socket
import sys
import threading
import time
from urllib.parse import urlsplit

LISTENER = 3


def say(text):
    """One line in the server's log."""
    os.write(2, f"worker {os.getpid()}: {text}\n".encode())


class App:
    """Serves until it is told to stop. `healthy` is what its /health says."""

    def __init__(self, fds=(LISTENER,)):
        self.listeners = [socket.socket(fileno=os.dup(fd)) for fd in fds]
        self.healthy = True
        self.stopping = False
        self.in_flight = 0
        self.served = 0
        self.lock = threading.Condition()
        self.connections = set()

    def start(self):
        for listener in self.listeners:
            threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        return self

    def stop(self, limit=60):
        """Serves what waits in the accept queue, finishes what is in flight, closes the rest."""
        self.stopping = True
        for listener in self.listeners:
            while self._accept_one(listener, 0):
                pass
        with self.lock:
            self.lock.wait_for(lambda: self.in_flight == 0, limit)
        for connection in list(self.connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def _accept(self, listener):
        while not self.stopping:
            self._accept_one(listener, 50)

    def _accept_one(self, listener, wait_ms):
        poll = select.poll()
        poll.register(listener, select.POLLIN)
        if not poll.poll(wait_ms):
            return False
        try:
            connection, _ = listener.accept()
        except OSError:
            return False  # another worker was faster
        connection.setblocking(True)
        self.connections.add(connection)
        threading.Thread(target=self._serve, args=(connection,), daemon=True).start()
        return True

    def _serve(self, connection):
        reader = connection.makefile("rb")
        try:
            while True:
                line = reader.readline()
                if not line:
                    return
                method, target, _ = line.decode().split()
                length = 0
                while (header := reader.readline().strip().lower()):
                    if header.startswith(b"content-length:"):
                        length = int(header.split(b":")[1])
                body = reader.read(length)
                with self.lock:
                    self.in_flight += 1
                try:
                    status, answer = self.route(method, urlsplit(target).path, body)
                    close = self.stopping
                    connection.sendall(head(status, len(answer), close) + answer)
                    self.served += 1
                finally:
                    with self.lock:
                        self.in_flight -= 1
                        self.lock.notify_all()
                if close:
                    return
        except (OSError, ValueError):
            pass
        finally:
            self.connections.discard(connection)
            reader.close()
            connection.close()

    def route(self, method, path, body):
        if path == "/health":
            status = 200 if self.healthy else 503
            return status, json.dumps({"pid": os.getpid(), "status": "ok" if self.healthy else "unhealthy"}).encode()
        if path == "/env":
            return 200, json.dumps(seen()).encode()
        if path == "/orphan":
            return 200, str(orphan()).encode()
        if path.startswith("/slow/"):
            say("takes its time")
            time.sleep(float(path.split("/")[2]))
        return 200, body or b"hello"


def head(status, length, close):
    connection = "close" if close else "keep-alive"
    return f"HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: {connection}\r\n\r\n".encode()


def seen():
    """What the process finds itself in: arguments, environment, descriptors, signals."""
    status = dict(line.rstrip("\n").split(":\t", 1) for line in open("/proc/self/status") if ":\t" in line)
    descriptors = {}
    for fd in os.listdir("/proc/self/fd"):
        try:
            descriptors[fd] = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            pass  # the descriptor of the listing itself
    return {
        "pid": os.getpid(),
        "argv": sys.argv[1:],
        "cwd": os.getcwd(),
        "env": dict(os.environ),
        "fds": descriptors,
        "blocked": status["SigBlk"],
        "ignored": status["SigIgn"],
    }


def orphan():
    """Leaves a grandchild behind that waits for its end; its pid."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        grandchild = os.fork()
        if grandchild == 0:
            signal.pause()
            os._exit(0)
        os.write(write, str(grandchild).encode())
        os._exit(0)
    os.waitpid(child, 0)
    pid = int(os.read(read, 20))
    os.close(read)
    os.close(write)
    return pid


def notify(text):
    """sd_notify: one datagram to NOTIFY_SOCKET, or nothing where there is none."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(text.encode(), address)


def wait_for_signal(*numbers):
    """Blocks until one of the signals has come; its number."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    got = []

    def handler(number, _frame):
        got.append(number)
        os.write(wake, b"x")

    for number in numbers:
        signal.signal(number, handler)
    say("is up")
    os.read(woken, 1)
    return got[0]


class Control:
    """The native control channel: one frame a packet."""

    def __init__(self):
        self.socket = socket.socket(fileno=int(os.environ["GRACEFORK_CONTROL_FD"]))
        self.socket.setblocking(True)

    def send(self, frame):
        if isinstance(frame, str):
            frame = frame.encode()
        self.socket.send(frame)

    def frames(self):
        """Every frame as a dictionary, until the master is gone."""
        while True:
            frame = self.socket.recv(65536)
            if not frame:
                return
            yield dict(line.split("=", 1) for line in frame.decode().split("\n") if "=" in line)


def scoreboard():
    """The shared memory, mapped."""
    fd = int(os.environ["GRACEFORK_SCOREBOARD_FD"])
    return mmap.mmap(fd, os.fstat(fd).st_size)
