"""Python's http.server under gracefork: standard library only, speaks sd_notify."""

import json
import os
import signal
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

stopping = threading.Event()
connections = set()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body leave together

    def do_GET(self):
        if self.path == "/":
            self.answer(200, b"hello")
        elif self.path == "/health":
            status, text = (503, "unhealthy") if stopping.is_set() else (200, "ok")
            self.answer(status, json.dumps({"pid": os.getpid(), "status": text}).encode())
        elif self.path.startswith("/slow/"):
            try:
                time.sleep(float(self.path.removeprefix("/slow/")))
            except (ValueError, OverflowError):
                return self.answer(400, b"expected /slow/{seconds}")
            self.answer(200, b"slept")
        else:
            self.answer(404, b"not found")

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.answer(200 if self.path == "/echo" else 404, body)

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if stopping.is_set():
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def handle(self):
        connections.add(self)
        try:
            super().handle()
        finally:
            connections.discard(self)

    def handle_one_request(self):
        self.idle = True
        super().handle_one_request()

    def parse_request(self):
        self.idle = False
        return super().parse_request()

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = False  # so that server_close() waits for requests in flight


def notify(state):
    """sd_notify: one datagram to the socket that gracefork names."""
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifier:
            notifier.connect("\0" + address[1:] if address[0] == "@" else address)
            notifier.sendall(state)


def main():
    server = Server(None, Handler, bind_and_activate=False)
    server.socket.close()
    server.socket = socket.socket(fileno=int(sys.argv[1]))
    # Workers share the socket: another one may have taken what woke this one up.
    server.socket.setblocking(False)
    signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    threading.Thread(target=server.serve_forever, args=(0.05,)).start()
    notify(b"READY=1")
    signal.sigwait(signals)
    notify(b"STOPPING=1")
    stopping.set()
    server.shutdown()
    # Who waits for a request that will not come is told that none will be read.
    for connection in list(connections):
        if connection.idle:
            connection.connection.shutdown(socket.SHUT_RD)
    server.server_close()


if __name__ == "__main__":
    main()
