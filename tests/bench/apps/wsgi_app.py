"""What the examples answer at `/` and `/health`, as a WSGI app."""

import os


def app(environ, start_response):
    body = b"hello"
    if environ["PATH_INFO"] == "/health":
        body = b'{"pid": %d, "status": "ok"}' % os.getpid()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
