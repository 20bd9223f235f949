"""The routes of the examples, as a WSGI app."""

import os
import time


def block():
    """Holds its thread."""
    time.sleep(600)


def app(environ, start_response):
    path, body = environ["PATH_INFO"], b"hello"
    if path.startswith("/slow/"):
        time.sleep(float(path.split("/")[2]))
    elif path == "/echo":
        body = environ["wsgi.input"].read()
    elif path == "/block":
        block()
    elif path == "/health":
        body = b'{"pid": %d, "status": "ok"}' % os.getpid()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
