"""Answers in all the ways that WSGI has."""

import json
import os
import time
from tempfile import TemporaryFile

from looks import look

CHUNK = b"x" * 4096
open_streams = 0


class Stream:
    """Pieces, counted while somebody has not closed them."""

    def __init__(self, pieces, pause):
        global open_streams
        open_streams += 1
        self.left, self.pause = pieces, pause

    def __iter__(self):
        return self

    def __next__(self):
        if self.left == 0:
            raise StopIteration
        self.left -= 1
        time.sleep(self.pause)
        return CHUNK

    def close(self):
        global open_streams
        open_streams -= 1


def app(environ, start_response):
    path = environ["PATH_INFO"]
    plain = [("Content-Type", "text/plain"), ("X-Number", str(time.monotonic_ns()))]
    if path == "/echo":
        body = environ["wsgi.input"].read()
        start_response("200 OK", plain)
        return [body]
    if path == "/ignore":
        start_response("200 OK", plain)
        return [b"ok"]
    if path == "/stream":
        start_response("200 OK", plain)
        return Stream(16, 0.001)
    if path == "/flood":
        start_response("200 OK", plain)
        return Stream(512, 0)
    if path == "/slow":
        time.sleep(0.02)
        start_response("200 OK", plain)
        return [b"ok"]
    if path == "/error":
        raise ValueError("as asked")
    if path == "/late":
        return late(start_response, plain)
    if path == "/write":
        write = start_response("200 OK", plain)
        write(b"o")
        return [b"k"]
    if path == "/file":
        file = TemporaryFile()
        file.write(CHUNK * 32)
        file.seek(0)
        start_response("200 OK", plain)
        return environ["wsgi.file_wrapper"](file)
    if path == "/look":
        start_response("200 OK", [("Content-Type", "application/json")])
        told = {**look(), "open_streams": open_streams, "tasks": 0, "pid": os.getpid()}
        return [json.dumps(told).encode()]
    start_response("200 OK", plain)
    return [b"ok"]


def late(start_response, headers):
    """An error when the head has gone out."""
    start_response("200 OK", headers)
    yield CHUNK
    raise ValueError("as asked, late")
