"""``gunicorn.socket``: apps that take the connection over to speak another protocol on it."""

from __future__ import annotations

import contextlib
import time
import unittest
from pathlib import Path

from pod import PATIENCE, Client, PodCase

ASK = "GET {} HTTP/1.1\r\nhost: test\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n"

APP = r"""
import socket
import threading

SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"


def app(environ, start_response):
    return globals()[environ["PATH_INFO"].strip("/")](environ, start_response)


def echo(environ, start_response):
    sock = environ["gunicorn.socket"]
    sock.send(SWITCH)
    while said := sock.recv(65536):
        sock.sendall(said)
    sock.sendall(b"good-bye")
    sock.close()
    print("over", flush=True)
    raise StopIteration


def whole(environ, start_response):
    environ["gunicorn.socket"].sendall(SWITCH + b"that is all")
    raise StopIteration


def unused(environ, start_response):
    start_response("200 OK", [("Content-Length", "6")])
    return [b"unused"]


def looked_at(environ, start_response):
    number = environ["gunicorn.socket"].fileno()
    start_response("200 OK", [])
    return [str(number > 0).encode()]


def missing(environ, start_response):
    start_response("200 OK", [])
    return [str("gunicorn.socket" in environ).encode()]


def by_hand(environ, start_response):
    text = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nX-From: hand\r\n\r\nno"
    environ["gunicorn.socket"].sendall(text)
    raise StopIteration


def garbage(environ, start_response):
    environ["gunicorn.socket"].sendall(b"no response\r\n\r\n")
    raise StopIteration


def half(environ, start_response):
    environ["gunicorn.socket"].sendall(SWITCH[:20])
    start_response("200 OK", [])
    return [b"the other way"]


KEPT = []


def kept(environ, start_response):
    sock = environ["gunicorn.socket"]
    sock.sendall(SWITCH + b"kept")
    KEPT.append(sock)
    raise StopIteration


def generates(environ, start_response):
    sock = environ["gunicorn.socket"]
    sock.sendall(SWITCH + b"generated")
    yield b""


def with_a_limit(environ, start_response):
    socket.setdefaulttimeout(0.01)
    with environ["gunicorn.socket"] as sock:
        sock.sendall(SWITCH)
        said = sock.recv(100)
        sock.sendall(said)
    raise StopIteration


def elsewhere(environ, start_response):
    sock = environ["gunicorn.socket"]
    def talk():
        sock.sendall(SWITCH)
        while said := sock.recv(100):
            sock.sendall(said)
    thread = threading.Thread(target=talk)
    thread.start()
    thread.join()
    raise StopIteration


def pumps(environ, start_response):
    sock = environ["gunicorn.socket"]
    sock.sendall(SWITCH)
    while True:
        sock.sendall(b"more")


def in_chunks(environ, start_response):
    text = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    environ["gunicorn.socket"].sendall(text)
    raise StopIteration


def fails(environ, start_response):
    environ["gunicorn.socket"].sendall(SWITCH)
    raise RuntimeError("after the switch")
"""


class Connection(PodCase):
    interface = "wsgi"

    def threads(self, pod) -> list[str]:
        names = []
        for task in Path(f"/proc/{pod.process.pid}/task").iterdir():
            # It may end before it is looked at.
            with contextlib.suppress(OSError):
                names.append((task / "comm").read_text())
        return names

    def until_nothing_is_carried(self, pod) -> None:
        deadline = time.monotonic() + PATIENCE
        while "gracefork-carry\n" in self.threads(pod):
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.01)

    def switched(self, pod, path: str = "/echo", early: str = "") -> Client:
        client = pod.connect()
        self.addCleanup(client.close)
        client.send(ASK.format(path) + early)
        status, fields = client.head()
        self.assertEqual(status, 101)
        self.assertIn(("upgrade", "echo"), fields)
        return client

    def test_bytes_go_both_ways_until_the_client_ends(self):
        pod = self.pod(APP)
        client = self.switched(pod, early="early")
        self.assertEqual(client.exactly(5), b"early")
        large = bytes(range(256)) * 4000
        for said in (b"ping", large):
            client.send(said)
            self.assertEqual(client.exactly(len(said)), said)
        client.socket.shutdown(1)
        self.assertEqual(client.exactly(8), b"good-bye")
        self.assertTrue(client.is_closed())
        pod.until_written("over")
        self.assertEqual(pod.get("/missing").text, "False")
        self.assertNotIn("Traceback", pod.written())

    def test_a_client_that_is_gone_is_an_end(self):
        pod = self.pod(APP)
        self.switched(pod).close()
        pod.until_written("over")
        self.assertEqual(pod.get("/missing").text, "False")

    def test_what_was_written_before_the_call_ended_arrives(self):
        pod = self.pod(APP)
        for _ in range(20):
            client = self.switched(pod, "/whole")
            self.assertEqual(client.exactly(11), b"that is all")
            self.assertTrue(client.is_closed())
        # The clients have not closed their ends.
        self.until_nothing_is_carried(pod)

    def test_the_connection_ends_with_the_call_whoever_keeps_the_socket(self):
        pod = self.pod(APP)
        for _ in range(20):
            client = self.switched(pod, "/kept")
            self.assertEqual(client.exactly(4), b"kept")
            self.assertTrue(client.is_closed())
            client.close()
        self.until_nothing_is_carried(pod)
        pod.drain()
        pod.wait_for("DRAINED=1")
        self.assertEqual(pod.ended(), 0)

    def test_a_generator_may_take_it(self):
        pod = self.pod(APP)
        for _ in range(20):
            client = self.switched(pod, "/generates")
            self.assertEqual(client.exactly(9), b"generated")
            self.assertTrue(client.is_closed())
        self.assertNotIn("Error", pod.written())

    def test_it_has_no_time_limit_of_others_and_may_be_closed_by_with(self):
        pod = self.pod(APP)
        client = self.switched(pod, "/with_a_limit")
        # Ten times the limit.
        time.sleep(0.1)
        client.send(b"ping")
        self.assertEqual(client.exactly(4), b"ping")
        self.assertTrue(client.is_closed())

    def test_a_client_that_is_gone_is_no_error_of_the_apps(self):
        pod = self.pod(APP)
        client = self.switched(pod, "/pumps")
        self.assertEqual(client.exactly(4), b"more")
        client.close()
        self.until_nothing_is_carried(pod)
        self.assertEqual(pod.get("/missing").text, "False")
        self.assertNotIn("Error", pod.written())

    def test_it_is_for_those_who_ask_as_http_wants_it(self):
        pod = self.pod(APP)
        head = "GET /missing HTTP/{}\r\nhost: test\r\nconnection: {}\r\nupgrade: echo\r\n\r\n"
        for version, connection, missing in (
            ("1.1", "keep-alive, Upgrade", "True"),
            ("1.1", "keep-alive", "False"),
            ("1.0", "upgrade", "False"),
        ):
            with self.subTest(version=version, connection=connection), pod.connect() as client:
                client.send(head.format(version, connection))
                self.assertEqual(client.answer().text, missing)

    def test_one_that_uses_it_not_is_answered_as_ever(self):
        pod = self.pod(APP)
        with pod.connect() as client:
            for path, text in (
                ("/unused", "unused"),
                ("/looked_at", "True"),
                ("/unused", "unused"),
            ):
                client.send(ASK.format(path))
                answer = client.answer()
                self.assertEqual((answer.status, answer.text), (200, text))

    def test_less_than_a_head_is_no_answer(self):
        pod = self.pod(APP)
        with pod.connect() as client:
            client.send(ASK.format("/half"))
            self.assertEqual(client.answer().text, "the other way")

    def test_another_response_may_be_written_by_hand(self):
        pod = self.pod(APP)
        with pod.connect() as client:
            client.send(ASK.format("/by_hand"))
            answer = client.answer()
            self.assertEqual((answer.status, answer.text), (403, "no"))
            self.assertEqual(answer.field("x-from"), "hand")

    def test_what_is_no_response_is_told(self):
        pod = self.pod(APP)
        for path, told in (
            ("/garbage", "gunicorn.socket is no response"),
            ("/in_chunks", "its body is in chunks"),
        ):
            with self.subTest(path), pod.connect() as client:
                client.send(ASK.format(path))
                self.assertEqual(client.answer().status, 500)
                pod.until_written(told)

    def test_an_error_after_the_switch_is_logged_and_ends_the_connection(self):
        pod = self.pod(APP)
        client = self.switched(pod, "/fails")
        self.assertTrue(client.is_closed())
        pod.until_written("RuntimeError: after the switch")

    def test_the_app_finds_the_end_when_the_worker_goes(self):
        for tell in ("retire", "drain"):
            with self.subTest(tell):
                pod = self.pod(APP)
                client = self.switched(pod)
                client.send(b"ping")
                self.assertEqual(client.exactly(4), b"ping")
                getattr(pod, tell)()
                self.assertEqual(client.exactly(8), b"good-bye")
                self.assertTrue(client.is_closed())
                pod.wait_for("DRAINED=1")
                self.assertEqual(pod.ended(), 0)

    def test_a_call_that_lasts_as_long_as_its_connection_does_not_hang(self):
        for path in ("/echo", "/elsewhere"):
            pod = self.pod(APP, hang_timeout=0.1)
            client = self.switched(pod, path)
            for _ in range(5):
                time.sleep(0.1)
                client.send(b"ping")
                self.assertEqual(client.exactly(4), b"ping")
            self.assertFalse(pod.has_said("HUNG"))
            self.assertNotIn("does not return", pod.written())


if __name__ == "__main__":
    unittest.main()
