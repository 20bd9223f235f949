"""A Flask app that does nothing for its shutdown. gracefork answers /health for it (`[health] path`
in gracefork.toml): before the app, never queued behind it, and 503 from SIGTERM on.

    pip install flask gracefork && gracefork -c gracefork.toml
"""

import time

from flask import Flask

app = Flask(__name__)


@app.get("/")
def hello():
    return "hello\n"


@app.get("/slow")
def slow():
    time.sleep(2)
    return "done\n"
