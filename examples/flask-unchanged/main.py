"""A Flask app that keeps its own health, as many do under gunicorn: SIGTERM sets an event, and
/health says so. Nothing in it knows of gracefork.

    pip install -r requirements.txt ../../worker-api/python && gracefork -c gunicorn_config.py --lameduck 10s main:app
"""

import os
import threading
import time

from flask import Flask, jsonify

app = Flask(__name__)
stop_event = threading.Event()


@app.get("/")
def hello():
    return "hello\n"


@app.get("/slow/<float:seconds>")
def slow(seconds):
    time.sleep(min(seconds, 60))
    return "slept\n"


@app.get("/health")
def health():
    if stop_event.is_set():
        return jsonify(pid=os.getpid(), status="unhealthy"), 503
    return jsonify(pid=os.getpid(), status="ok")
