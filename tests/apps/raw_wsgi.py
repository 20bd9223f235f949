"""A bare WSGI app, with what the load asks for."""

import time


def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/echo":
        body = environ["wsgi.input"].read()
    elif path.startswith("/slow/"):
        time.sleep(float(path.removeprefix("/slow/")))
        body = b"slow"
    else:
        body = b"hello"
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
