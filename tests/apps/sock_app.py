"""WebSockets in a Flask app, by Flask-Sock."""

from flask import Flask
from flask_sock import Sock

app = Flask(__name__)
sock = Sock(app)


@app.get("/")
def hello():
    return "hello"


@sock.route("/talk")
def talk(ws):
    while True:
        said = ws.receive()
        ws.send(said.upper())
        print("the socket said", said, flush=True)
