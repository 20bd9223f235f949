"""HTTP as a WSGI app sees it, and what it makes of it."""

from __future__ import annotations

import os
import socket
import tempfile
import unittest

from pod import PodCase

#: Runs the function that the path names.
ROUTES = """
import os, sys, threading, time

def app(environ, start_response):
    name = environ["PATH_INFO"].strip("/").split("/")[0] or "hello"
    return globals()[name](environ, start_response)

def hello(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]
"""


class WsgiCase(PodCase):
    interface = "wsgi"

    def serve(self, more: str = "", **options: object):
        return self.pod(ROUTES + more, **options)


class Environs(WsgiCase):
    SOURCE = """
def show(environ, start_response):
    shown = {key: value for key, value in environ.items() if isinstance(value, (str, bool, tuple))}
    shown["type"] = type(environ) is dict
    start_response("200 OK", [])
    return [repr(shown).encode("latin-1")]
"""

    def environ(self, target: str = "/show", *, pod=None, method: str = "GET", **more: object):
        pod = pod or self.serve(self.SOURCE)
        with pod.connect() as client:
            self.client = client.socket.getsockname()
            answer = client.get(target, method=method, **more)
        return eval(answer.body.decode("latin-1"))

    def test_everything_that_gunicorn_gives_is_there(self):
        fields = "X-One: 1\r\nuser-agent: me\r\ncontent-type: text/x\r\n"
        pod = self.serve(self.SOURCE)
        environ = self.environ("/show/a%20b%C3%A9%zz?x=%20&y", pod=pod, fields=fields)
        self.assertEqual(
            environ,
            {
                "type": True,
                "REQUEST_METHOD": "GET",
                "SCRIPT_NAME": "",
                "PATH_INFO": "/show/a b\u00c3\u00a9%zz",
                "QUERY_STRING": "x=%20&y",
                "RAW_URI": "/show/a%20b%C3%A9%zz?x=%20&y",
                "SERVER_PROTOCOL": "HTTP/1.1",
                "SERVER_SOFTWARE": environ["SERVER_SOFTWARE"],
                "SERVER_NAME": "127.0.0.1",
                "SERVER_PORT": str(pod.port),
                "REMOTE_ADDR": self.client[0],
                "REMOTE_PORT": str(self.client[1]),
                "HTTP_HOST": "test",
                "HTTP_X_ONE": "1",
                "HTTP_USER_AGENT": "me",
                "CONTENT_TYPE": "text/x",
                "wsgi.version": (1, 0),
                "wsgi.url_scheme": "http",
                "wsgi.multithread": False,
                "wsgi.multiprocess": False,
                "wsgi.run_once": False,
                "wsgi.input_terminated": True,
            },
        )
        self.assertTrue(environ["SERVER_SOFTWARE"].startswith("gracefork/"))

    def test_repeated_fields_are_joined_and_names_with_underscores_are_dropped(self):
        fields = "a: 1\r\nb: 2\r\na: 3\r\ncookie: x=1\r\ncookie: y=2\r\nx_forwarded_for: evil\r\n"
        environ = self.environ(fields=fields)
        self.assertEqual((environ["HTTP_A"], environ["HTTP_B"]), ("1,3", "2"))
        self.assertEqual(environ["HTTP_COOKIE"], "x=1; y=2")
        self.assertNotIn("HTTP_X_FORWARDED_FOR", environ)

    def test_a_value_of_one_request_is_not_that_of_the_next(self):
        pod = self.serve(self.SOURCE)
        for value in ("one", "two", "", "one", "\xe9"):
            environ = self.environ(pod=pod, fields=f"x-it: {value}\r\n")
            self.assertEqual(environ["HTTP_X_IT"], value)
        self.assertNotIn("HTTP_X_IT", self.environ(pod=pod))

    def test_methods_and_versions_are_as_they_came(self):
        pod = self.serve(self.SOURCE)
        for method in ("PUT", "DELETE", "PURGE"):
            self.assertEqual(self.environ(pod=pod, method=method)["REQUEST_METHOD"], method)
        with pod.connect() as client:
            client.send("GET /show HTTP/1.0\r\n\r\n")
            environ = eval(client.answer().text)
        self.assertEqual(environ["SERVER_PROTOCOL"], "HTTP/1.0")
        self.assertNotIn("HTTP_HOST", environ)

    def test_a_proxy_is_believed_about_the_scheme_and_where_the_app_is(self):
        fields = "x-forwarded-proto: https\r\nSCRIPT_NAME: /show\r\n"
        pod = self.serve(
            """
def it(environ, start_response):
    return show(environ, start_response)
"""
            + self.SOURCE
        )
        environ = self.environ("/mount/it", pod=pod, fields=fields.replace("/show", "/mount"))
        self.assertEqual(environ["wsgi.url_scheme"], "https")
        self.assertEqual((environ["SCRIPT_NAME"], environ["PATH_INFO"]), ("/mount", "/it"))
        self.assertEqual(environ["RAW_URI"], "/mount/it")
        strangers = self.serve(self.SOURCE, environ={"GRACEFORK_FORWARDED_ALLOW_IPS": "192.0.2.1"})
        environ = self.environ(pod=strangers, fields=fields)
        self.assertEqual(environ["wsgi.url_scheme"], "http")
        self.assertEqual((environ["SCRIPT_NAME"], environ["PATH_INFO"]), ("", "/show"))

    def test_a_request_that_is_not_below_the_mount_is_an_error(self):
        pod = self.serve(self.SOURCE, script_name="/mount")
        self.assertEqual(self.environ("/mount/show", pod=pod)["SCRIPT_NAME"], "/mount")
        self.assertEqual(pod.get("/show").status, 500)

    def test_a_unix_socket_has_the_name_that_the_client_gives_it(self):
        with tempfile.TemporaryDirectory() as folder:
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(os.path.join(folder, "app.sock"))
            listener.listen()
            pod = self.serve(self.SOURCE, listener=listener)
            environ = self.environ(pod=pod)
        self.assertEqual((environ["SERVER_NAME"], environ["SERVER_PORT"]), ("test", "80"))
        self.assertEqual(environ["REMOTE_ADDR"], "")
        self.assertNotIn("REMOTE_PORT", environ)

    def test_what_is_the_same_for_all_cannot_be_changed_for_the_next(self):
        pod = self.serve(
            """
def spoil(environ, start_response):
    spoiled = "mine" in environ
    environ["mine"] = environ["wsgi.url_scheme"] = "ours"
    start_response("200 OK", [])
    return [b"spoiled" if spoiled or environ["SERVER_PROTOCOL"] != "HTTP/1.1" else b"fine"]
"""
        )
        for _ in range(3):
            self.assertEqual(pod.get("/spoil").text, "fine")


class Inputs(WsgiCase):
    SOURCE = """
def read(environ, start_response):
    body, how = environ["wsgi.input"], environ["QUERY_STRING"]
    start_response("200 OK", [])
    return [repr(eval(how.replace("%20", " "), {"body": body})).encode()]

def early(environ, start_response):
    start_response("200 OK", [])
    return [b"early"]

def broken(environ, start_response):
    try:
        environ["wsgi.input"].read()
    except OSError as error:
        print("broken:", type(error).__name__, flush=True)
        raise

def together(environ, start_response):
    body, outcome = environ["wsgi.input"], []
    def second():
        try:
            outcome.append(body.read(10))
        except RuntimeError:
            outcome.append("refused")
    def late():
        time.sleep(0.1)
        second()
        print("second:", outcome[0], flush=True)
    thread = threading.Thread(target=late)
    thread.start()
    length = len(body.read())
    thread.join()
    start_response("200 OK", [])
    return [str(length).encode()]
"""

    def test_all_the_ways_to_read_give_what_a_file_would(self):
        import io

        pod = self.serve(self.SOURCE)
        sent = b"one\ntwo\n\nthree" * 3
        for how in (
            "body.read()",
            "body.read(-1)",
            "[body.read(5),body.read(0),body.read(100),body.read()]",
            "[body.readline(),body.readline(2),body.readline(100),body.readline(0),body.read(3)]",
            "body.readlines()",
            "[body.readlines(5),body.readlines(1),body.read()]",
            "list(body)",
            "[next(body),list(body),body.read(),body.readline()]",
        ):
            with self.subTest(how):
                expected = repr(eval(how, {"body": io.BytesIO(sent)}))
                with pod.connect() as client:
                    self.assertEqual(
                        client.get(f"/read?{how}", method="POST", body=sent).text, expected
                    )
                    fields = "transfer-encoding: chunked\r\n"
                    client.ask(f"/read?{how}", method="POST", fields=fields)
                    for start in range(0, len(sent), 4):
                        piece = sent[start : start + 4]
                        client.send(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
                    client.send(b"0\r\n\r\n")
                    self.assertEqual(client.answer().text, expected)

    def test_without_a_body_there_is_nothing_to_read(self):
        pod = self.serve(self.SOURCE)
        shown = pod.get("/read?[body.read(),body.readline(),body.readlines(),list(body)]").text
        self.assertEqual(eval(shown), [b"", b"", [], []])

    def test_a_large_body_is_read_as_it_comes(self):
        pod = self.serve(self.SOURCE)
        sent = os.urandom(1 << 20)
        with pod.connect() as client:
            client.ask(
                "/read?len(body.read())", method="POST", fields=f"content-length: {len(sent)}\r\n"
            )
            for start in range(0, len(sent), 100_000):
                client.send(sent[start : start + 100_000])
            self.assertEqual(client.answer().text, str(len(sent)))

    def test_a_body_that_is_not_read_does_not_spoil_the_next_request(self):
        pod = self.serve(self.SOURCE)
        with pod.connect() as client:
            for size in (10, 10, 60_000):
                self.assertEqual(
                    client.get("/early", method="POST", body=b"x" * size).text, "early"
                )

    def test_a_client_that_goes_away_is_an_error_of_the_connection(self):
        pod = self.serve(self.SOURCE)
        with pod.connect() as client:
            client.ask("/broken", method="POST", fields="content-length: 100000\r\n")
            client.send(b"x" * 100)
        pod.until_written("broken: ConnectionResetError")
        self.assertEqual(pod.get().text, "hello")

    def test_a_second_reader_is_refused_instead_of_blocking_everything(self):
        pod = self.serve(self.SOURCE)
        with pod.connect() as client:
            client.ask("/together", method="POST", fields="content-length: 100000\r\n")
            pod.until_written("second: refused")
            client.send(b"x" * 100_000)
            self.assertEqual(client.answer().text, "100000")

    def test_expect_100_continue_is_answered_when_the_body_is_wanted(self):
        pod = self.serve(self.SOURCE)
        with pod.connect() as client:
            fields = "content-length: 100000\r\nexpect: 100-continue\r\n"
            client.ask("/read?len(body.read())", method="POST", fields=fields)
            self.assertEqual(client.head()[0], 100)
            client.send(b"x" * 100_000)
            self.assertEqual(client.answer().text, "100000")


if __name__ == "__main__":
    unittest.main()
