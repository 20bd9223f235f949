"""A FastAPI app with handlers of its own for SIGINT and SIGTERM. They run as the app installs them;
the worker serves on and drains by gracefork's word, not by theirs.

    pip install fastapi ../../worker-api/python && gracefork -w 2 --lameduck 10s main:app
"""

import asyncio
import os
import signal
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.responses import JSONResponse, StreamingResponse

stopping = False


def stop(signum, frame):
    global stopping
    stopping = True


@asynccontextmanager
async def lifespan(app):
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    yield


app = FastAPI(lifespan=lifespan)


@app.get("/")
async def hello():
    return {"hello": "world"}


@app.get("/health")
async def health():
    status = "unhealthy" if stopping else "ok"
    return JSONResponse({"pid": os.getpid(), "status": status}, 503 if stopping else 200)


@app.get("/slow/{seconds}")
async def slow(seconds: float):
    async def parts():
        yield "sleeps, "
        await asyncio.sleep(min(seconds, 60))
        yield "slept\n"

    return StreamingResponse(parts(), media_type="text/plain")
