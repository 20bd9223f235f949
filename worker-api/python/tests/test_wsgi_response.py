"""What becomes of what a WSGI app returns."""

from __future__ import annotations

import hashlib
import unittest

from test_wsgi_http import WsgiCase


class Responses(WsgiCase):
    SOURCE = """
def status(environ, start_response):
    start_response(environ["wsgi.input"].read().decode("latin-1"), [])
    return [b"body"]

def fields(environ, start_response):
    start_response("200 OK", eval(environ["wsgi.input"].read()))
    return [b"body"]

def pieces(environ, start_response):
    start_response("200 OK", [])
    return eval(environ["wsgi.input"].read())

def generator(environ, start_response):
    length = environ["QUERY_STRING"]
    start_response("200 OK", [("Content-Length", length)] if length else [])
    yield b""
    yield b"one,"
    yield b"two,"
    yield b"three"

class Closing:
    def __init__(self, pieces):
        self.pieces = iter(pieces)
    def __iter__(self):
        return self
    def __next__(self):
        return next(self.pieces)
    def close(self):
        print("closed", flush=True)

def closing(environ, start_response):
    start_response("200 OK", [("Content-Length", "3")])
    return Closing([b"one"])

def lazy(environ, start_response):
    start_response("201 Created", [])
    yield b"late"

def writes(environ, start_response):
    write = start_response("200 OK", [("X-By", "write")])
    write(b"one,")
    write(b"")
    write(b"two,")
    return [b"three"]

def twice(environ, start_response):
    start_response("200 OK", [("X-It", "first")])
    try:
        raise ValueError("as told")
    except ValueError:
        start_response("500 Oops", [("X-It", "second")], sys.exc_info())
    return [b"oops"]

def endless(environ, start_response):
    start_response("200 OK", [])
    def produce():
        try:
            while True:
                yield b"x" * 65536
        finally:
            print("produced enough", flush=True)
    return produce()
"""

    def setUp(self):
        self.pod_ = self.serve(self.SOURCE)

    def get(self, path: str, **more: object):
        return self.pod_.get(path, **more)

    def post(self, path: str, body: str):
        return self.get(path, method="POST", body=body.encode())

    def test_a_status_is_sent_with_its_reason(self):
        with self.pod_.connect() as client:
            for status, line in (
                ("200 OK", "200 OK"),
                ("404 Nichts da", "404 Nichts da"),
                ("299 x", "299 x"),
            ):
                client.ask("/status", method="POST", body=status.encode())
                self.assertEqual(client.file.readline().decode().strip(), f"HTTP/1.1 {line}")
                while client.file.readline().strip():
                    pass
                client.exactly(4)

    def test_what_is_no_status_is_an_error(self):
        for status in (
            "200 a\nb",
            "200 \x7f",
            "OK",
            "20",
            "2000",
            "100 Continue",
            "101 Switching",
            "x00",
            "099 x",
        ):
            self.assertEqual(self.post("/status", status).status, 500, status)

    def test_fields_are_sent_as_given_but_those_of_the_connection_are_not(self):
        sent = [
            ("X-One", "1"),
            ("x-one", " 2\t"),
            ("Set-Cookie", "a"),
            ("X-Latin", "\xe9"),
            ("Connection", "close"),
        ]
        sent += [
            ("Transfer-Encoding", "chunked"),
            ("Keep-Alive", "x"),
            ("Upgrade", "h2"),
            ("Content-Length", "4"),
        ]
        answer = self.post("/fields", repr(sent))
        got = [(name, value) for name, value in answer.fields if name != "date"]
        self.assertEqual(
            sorted(got),
            [
                ("content-length", "4"),
                ("set-cookie", "a"),
                ("x-latin", "\xe9"),
                ("x-one", "1"),
                ("x-one", "2"),
            ],
        )
        self.assertEqual(answer.body, b"body")

    def test_fields_that_could_be_taken_for_something_else_are_an_error(self):
        for field in (
            ("X-A", "b\r\nX-C: d"),
            ("X-A\r\nX-B", "c"),
            ("X A", "b"),
            ("", "b"),
            ("X-A", "b\0"),
            ("X-A", "\u20ac"),
            ("X-A", 5),
            (b"X-A", "b"),
            ("X-A",),
            ("Content-Length", "five"),
            ("Content-Length", "+5"),
        ):
            with self.subTest(field):
                answer = self.post("/fields", repr([field]))
                self.assertEqual((answer.status, answer.field("x-c")), (500, None))
        self.assertEqual(
            self.post("/fields", repr([("Content-Length", "4"), ("Content-Length", "5")])).status,
            500,
        )

    def test_lists_and_tuples_are_sent_in_one_piece_with_their_length(self):
        for pieces, body in (
            ([b"one"], b"one"),
            ((b"one", b"", b"two"), b"onetwo"),
            ([], b""),
            ([b"x" * 200_000], b"x" * 200_000),
            ([b"x" * 70_000] * 3, b"x" * 210_000),
        ):
            answer = self.post("/pieces", repr(pieces))
            self.assertEqual(answer.field("content-length"), str(len(body)))
            self.assertEqual(answer.body, body)

    def test_what_is_not_made_of_bytes_is_an_error(self):
        for pieces in (b"bytes", ["text"], [b"one", 2], None, 5, iter(["text"]), [bytearray(b"x")]):
            text = repr(pieces) if not hasattr(pieces, "__next__") else "iter(['text'])"
            self.assertEqual(self.post("/pieces", text).status, 500, text)
        self.assertIn("TypeError", self.pod_.written())

    def test_a_generator_is_sent_in_chunks_or_as_long_as_it_says(self):
        answer = self.get("/generator")
        self.assertEqual(
            (answer.field("transfer-encoding"), answer.body), ("chunked", b"one,two,three")
        )
        answer = self.get("/generator?13")
        self.assertEqual((answer.field("content-length"), answer.body), ("13", b"one,two,three"))

    def test_what_is_too_long_is_cut_and_what_is_too_short_closes_the_connection(self):
        with self.pod_.connect() as client:
            self.assertEqual(client.get("/generator?6").body, b"one,tw")
            self.assertEqual(client.get("/generator?4").body, b"one,")
            client.ask("/generator?20")
            with self.assertRaises(ConnectionError):
                client.answer()
        self.pod_.until_written("the response is shorter than its Content-Length")
        # Of what is known to be too short before a byte is out, nothing gets out.
        answer = self.post("/fields", repr([("Content-Length", "9")]))
        self.assertEqual((answer.status, answer.field("x-c")), (500, None))

    def test_an_http_1_0_client_gets_a_generator_without_chunks(self):
        with self.pod_.connect() as client:
            client.send("GET /generator HTTP/1.0\r\n\r\n")
            answer = client.answer()
        self.assertIsNone(answer.field("transfer-encoding"))
        self.assertEqual(answer.body, b"one,two,three")

    def test_head_has_the_fields_of_get_and_no_body(self):
        with self.pod_.connect() as client:
            for path, length in (
                ("/hello", "5"),
                ("/generator", None),
                ("/generator?13", "13"),
                ("/closing", "3"),
            ):
                answer = client.get(path, method="HEAD")
                self.assertEqual(
                    (answer.status, answer.field("content-length")), (200, length), path
                )
            self.assertEqual(client.get("/").text, "hello")
        self.pod_.until_written("closed")

    def test_no_content_and_not_modified_have_no_body(self):
        with self.pod_.connect() as client:
            for status in (b"204 No Content", b"304 Not Modified"):
                answer = client.get("/status", method="POST", body=status)
                self.assertIn(answer.status, (204, 304))
                self.assertIsNone(answer.field("content-length"))
                self.assertIsNone(answer.field("transfer-encoding"))
            self.assertEqual(client.get("/").text, "hello")

    def test_close_is_called(self):
        self.assertEqual(self.get("/closing").body, b"one")
        self.pod_.until_written("closed")

    def test_start_response_may_be_called_with_the_first_piece(self):
        answer = self.get("/lazy")
        self.assertEqual((answer.status, answer.body), (201, b"late"))

    def test_what_is_written_goes_out_before_what_is_returned(self):
        answer = self.get("/writes")
        self.assertEqual((answer.body, answer.field("x-by")), (b"one,two,three", "write"))

    def test_an_error_replaces_a_head_that_is_not_out(self):
        answer = self.get("/twice")
        self.assertEqual((answer.status, answer.field("x-it")), (500, "second"))

    def test_a_client_that_goes_away_ends_a_generator(self):
        with self.pod_.connect() as client:
            client.ask("/endless")
            client.exactly(1 << 20)
        self.pod_.until_written("produced enough")
        self.assertEqual(self.get("/").text, "hello")


class Failures(WsgiCase):
    SOURCE = """
def early(environ, start_response):
    raise ValueError("too early")

def said(environ, start_response):
    start_response("200 OK", [("X-It", "was said")])
    raise ValueError("after start_response")

def half(environ, start_response):
    start_response("200 OK", [])
    yield b"half"
    raise ValueError("half way")

def silent(environ, start_response):
    return [b"no head"]

def again(environ, start_response):
    start_response("200 OK", [])
    start_response("200 OK", [])
    return []

def late(environ, start_response):
    write = start_response("200 OK", [])
    write(b"out")
    try:
        raise KeyError("original")
    except KeyError:
        start_response("500 Oops", [], sys.exc_info())

class Close:
    def __init__(self, pieces):
        self.pieces = pieces
    def __iter__(self):
        yield from self.pieces
        raise ValueError("in between")
    def close(self):
        print("closed all the same", flush=True)

def closes(environ, start_response):
    start_response("200 OK", [])
    return Close([b"piece"])

def bad_close(environ, start_response):
    class Bad:
        def __iter__(self):
            return iter([b"whole"])
        def close(self):
            raise ValueError("in close")
    start_response("200 OK", [("Content-Length", "5")])
    return Bad()

def leaves(environ, start_response):
    sys.exit(3)

kept = []
def keeps(environ, start_response):
    kept.append(start_response)
    start_response("200 OK", [])
    return [b"kept"]

def abuses(environ, start_response):
    start_response("200 OK", [])
    try:
        kept[0]("500 Wrong", [])(b"not mine")
    except BaseException as error:
        print("abuse:", type(error).__name__, flush=True)
    return [b"mine"]
"""

    def setUp(self):
        self.pod_ = self.serve(self.SOURCE)

    def test_an_exception_before_the_head_is_out_is_an_error_page_and_a_traceback(self):
        for path, error in (
            ("/early", "ValueError: too early"),
            ("/said", "ValueError: after start_response"),
            ("/silent", "without a call of start_response"),
            ("/again", "start_response was called already"),
        ):
            answer = self.pod_.get(path)
            self.assertEqual((answer.status, answer.field("x-it")), (500, None))
            self.pod_.until_written(error)
            self.pod_.until_written(f"Error handling request {path}\n")
            self.pod_.until_written("Traceback (most recent call last)")

    def test_an_exception_after_that_cuts_the_response_off(self):
        for path, sent, error in (
            ("/half", b"half", "half way"),
            ("/late", b"out", "KeyError: 'original'"),
            ("/closes", b"piece", "in between"),
        ):
            with self.pod_.connect() as client:
                client.ask(path)
                # What the app has sent before is not kept back.
                self.assertEqual(client.head()[0], 200)
                self.assertEqual(client.chunk(), sent)
                with self.assertRaises(ConnectionError):
                    client.chunk()
            self.pod_.until_written(error)
        self.pod_.until_written("closed all the same")
        self.assertIn("its response is cut off", self.pod_.written())

    def test_an_exception_in_close_does_not_spoil_a_response_that_is_whole(self):
        self.assertEqual(self.pod_.get("/bad_close").text, "whole")
        self.pod_.until_written("ValueError: in close")

    def test_an_app_that_wants_to_exit_leaves_after_its_requests(self):
        self.assertEqual(self.pod_.get("/leaves").status, 500)
        self.pod_.wait_for("REPLACE=1")
        self.pod_.drain()
        self.pod_.wait_for("DRAINED=1")
        self.assertEqual(self.pod_.ended(), 0)

    def test_a_start_response_that_was_kept_does_not_reach_another_request(self):
        self.assertEqual(self.pod_.get("/keeps").text, "kept")
        self.assertEqual(self.pod_.get("/abuses").text, "mine")
        self.assertEqual(self.pod_.get("/hello").text, "hello")


class Files(WsgiCase):
    SOURCE = """
import gzip, io, tempfile

path = os.environ["TEST_FOLDER"] + "/large"
content = os.urandom(3_000_000)
with open(path, "wb") as large:
    large.write(content)

class Noisy(io.FileIO):
    def close(self):
        if not self.closed:
            print("file closed", flush=True)
        super().close()

def file(environ, start_response):
    opened = Noisy(path)
    opened.seek(1_000)
    start_response("200 OK", [])
    return environ["wsgi.file_wrapper"](opened, 4096)

def part(environ, start_response):
    start_response("200 OK", [("Content-Length", "10")])
    return environ["wsgi.file_wrapper"](open(path, "rb"))

def too_short(environ, start_response):
    start_response("200 OK", [("Content-Length", "3000001")])
    return environ["wsgi.file_wrapper"](open(path, "rb"))

def unpacked_and_buffered(environ, start_response):
    with gzip.open(path + ".gz", "wb") as packed:
        packed.write(content)
    start_response("200 OK", [])
    return environ["wsgi.file_wrapper"](io.BufferedReader(gzip.open(path + ".gz")))

def memory(environ, start_response):
    start_response("200 OK", [])
    return environ["wsgi.file_wrapper"](io.BytesIO(content))

def unpacked(environ, start_response):
    with gzip.open(path + ".gz", "wb") as packed:
        packed.write(content)
    start_response("200 OK", [])
    return environ["wsgi.file_wrapper"](gzip.open(path + ".gz"))

def temporary(environ, start_response):
    file = tempfile.NamedTemporaryFile()
    file.write(content)
    file.seek(0)
    start_response("200 OK", [])
    return environ["wsgi.file_wrapper"](file)

def wrapped(environ, start_response):
    start_response("200 OK", [])
    return iter(environ["wsgi.file_wrapper"](open(path, "rb"), 100_000))

def digest(environ, start_response):
    import hashlib
    start_response("200 OK", [])
    return [hashlib.sha256(content).hexdigest().encode()]
"""

    def test_files_are_sent_from_where_they_are(self):
        pod = self.serve(self.SOURCE)
        digest = pod.get("/digest").text
        with pod.connect() as client:
            answer = client.get("/file")
            self.assertEqual(answer.field("content-length"), "2999000")
            pod.until_written("file closed")
            self.assertEqual(len(client.get("/part").body), 10)
            self.assertEqual(client.get("/temporary").field("content-length"), "3000000")
            self.assertEqual(client.get("/too_short").status, 500)
            for path in ("/memory", "/wrapped", "/unpacked", "/unpacked_and_buffered"):
                self.assertEqual(hashlib.sha256(client.get(path).body).hexdigest(), digest, path)
            self.assertEqual(client.get("/file", method="HEAD").field("content-length"), "2999000")


class Validated(WsgiCase):
    """Everything passes through the reference's validator, which raises where we do wrong."""

    SOURCE = """
from wsgiref.validate import validator

def plain(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"plain"]

def echo(environ, start_response):
    body = environ["wsgi.input"]
    pieces = [body.readline(), body.read(3), *body.readlines(), *body]
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"".join(pieces)]

def stream(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    for number in range(3):
        yield b"%d" % number

def writes(environ, start_response):
    write = start_response("200 OK", [("Content-Type", "text/plain")])
    write(b"written,")
    return [b"returned"]

def empty(environ, start_response):
    start_response("204 No Content", [])
    return []

def errors(environ, start_response):
    environ["wsgi.errors"].write("to the log\\n")
    environ["wsgi.errors"].flush()
    return plain(environ, start_response)

unchecked = app
app = validator(lambda environ, start_response: unchecked(environ, start_response))
"""

    def test_the_reference_has_nothing_to_say_against_us(self):
        pod = self.serve(self.SOURCE)
        with pod.connect() as client:
            for path, text in (
                ("/plain", "plain"),
                ("/plain?a=b", "plain"),
                ("/stream", "012"),
                ("/writes", "written,returned"),
                ("/empty", ""),
                ("/errors", "plain"),
            ):
                self.assertEqual(client.get(path).text, text, pod.written())
                self.assertEqual(client.get(path, method="HEAD").text, "", pod.written())
            sent = b"one\ntwo\nthree"
            self.assertEqual(
                client.get("/echo", method="POST", body=sent).body, sent, pod.written()
            )
            self.assertEqual(client.get("/echo", method="OPTIONS").body, b"", pod.written())
        self.assertIn("to the log", pod.written())
        self.assertNotIn("Traceback", pod.written())


if __name__ == "__main__":
    unittest.main()
