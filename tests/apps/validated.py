"""Every shape of a WSGI app, looked at by wsgiref.validate on its way."""

import io
import os
from wsgiref.validate import validator


def plain(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return [b"hello"]


def stream(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return Parts()


class Parts:
    """Closes by a line on standard output."""

    def __init__(self):
        self.left = iter(range(100))

    def __iter__(self):
        return self

    def __next__(self):
        return b"%d\n" % next(self.left)

    def close(self):
        print("the parts are closed", flush=True)


def writes(environ, start_response):
    write = start_response("200 OK", [("Content-Type", "text/plain")])
    write(b"written, ")
    return [b"returned"]


def echo(environ, start_response):
    parts = []
    while part := environ["wsgi.input"].read(1000):
        parts.append(part)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return parts


def lines(environ, start_response):
    count = str(sum(1 for _ in environ["wsgi.input"]))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [count.encode()]


def file(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return environ["wsgi.file_wrapper"](open(os.path.abspath(__file__), "rb"))


def memory(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return environ["wsgi.file_wrapper"](io.BytesIO(b"m" * 100_000), 1000)


def empty(environ, start_response):
    start_response("204 No Content", [])
    return []


SHAPES = {
    f"/{shape.__name__}": validator(shape)
    for shape in (plain, stream, writes, echo, lines, file, memory, empty)
}


def before(environ, start_response):
    raise RuntimeError("before the head")


def after(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "10")])
    yield b"12345"
    raise RuntimeError("after the head")


def instead(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    try:
        raise RuntimeError("between")
    except RuntimeError:
        import sys

        start_response("503 Busy", [("Content-Type", "text/plain")], sys.exc_info())
    return [b"instead"]


SHAPES |= {"/before": before, "/after": after, "/instead": instead}


def app(environ, start_response):
    return SHAPES[environ["PATH_INFO"]](environ, start_response)
