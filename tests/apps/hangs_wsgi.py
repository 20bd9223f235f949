"""A call that does not return."""

import time


def app(environ, start_response):
    if environ["PATH_INFO"] == "/hang":
        does_not_return()
    start_response("200 OK", [])
    return [b"hello"]


def does_not_return():
    while True:
        time.sleep(600)
