"""The Flask app, which says how long its import took."""

import os
import sys
import time

_begun = time.monotonic()

from flask_app import app  # noqa: E402, F401, it is what is timed

_took = (time.monotonic() - _begun) * 1000
os.write(sys.stderr.fileno(), f"imported pid={os.getpid()} in {_took:.3f} ms\n".encode())
