"""A Flask app: what the load asks for, streams, uploads, errors."""

import logging
import sys
import time

from flask import Flask, jsonify, request, stream_with_context

logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="app says: %(message)s")
app = Flask(__name__)


@app.get("/")
def hello():
    return "hello"


@app.get("/slow/<float:seconds>")
def slow(seconds):
    time.sleep(seconds)
    return "slow"


@app.post("/echo")
def echo():
    return request.get_data()


@app.get("/log/<word>")
def log(word):
    logging.getLogger("shop").info("%s", word)
    return word


@app.get("/stream")
def stream():
    return stream_with_context(f"{number}\n" for number in range(1000))


@app.get("/fails")
def fails():
    raise RuntimeError("the app's own")


@app.get("/where")
def where():
    return jsonify(url=request.url, address=request.remote_addr)
