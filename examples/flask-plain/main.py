"""A Flask app that does nothing for its shutdown. gracefork answers /health for it (`[health] path`
in gracefork.toml): before the app, never queued behind it, and 503 from SIGTERM on.

    pip install flask ../../worker-api/python && gracefork -c gracefork.toml
"""

import time

from flask import Flask

app = Flask(__name__)


@app.get("/")
def hello():
    return "hello\n"


@app.get("/slow/<float:seconds>")
def slow(seconds):
    time.sleep(min(seconds, 60))
    return "slept\n"
