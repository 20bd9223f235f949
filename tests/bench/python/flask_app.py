"""A Flask app that answers JSON."""

from flask import Flask

app = Flask(__name__)


@app.route("/")
def index():
    return {"message": "Hello, World!"}
