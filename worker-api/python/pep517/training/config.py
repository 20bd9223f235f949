"""Of the workers in training: a gunicorn config file."""

import ctypes

accesslog = "/dev/null"


def worker_exit(server, worker):
    """A worker leaves by ``_exit``, which keeps no profile: C's own way out writes it."""
    ctypes.CDLL(None).exit(0)
