"""A FastAPI app: what the load asks for, streams, tasks, WebSockets, a lifespan with state."""

import asyncio
import contextlib

from fastapi import BackgroundTasks, FastAPI, Request, Response, WebSocket
from fastapi.responses import StreamingResponse


@contextlib.asynccontextmanager
async def lifespan(app):
    print("the app starts", flush=True)
    yield {"opened": "once"}
    print("the app ends", flush=True)


app = FastAPI(lifespan=lifespan)


@app.get("/")
async def hello():
    return "hello"


@app.get("/slow/{seconds}")
async def slow(seconds: float):
    await asyncio.sleep(seconds)
    return "slow"


@app.post("/echo")
async def echo(request: Request):
    return Response(await request.body())


@app.get("/state")
async def state(request: Request):
    return request.state.opened


@app.get("/stream")
async def stream():
    async def numbers():
        for number in range(1000):
            yield f"{number}\n"

    return StreamingResponse(numbers(), media_type="text/plain")


async def speak(word):
    await asyncio.sleep(0.5)
    print(f"the task says {word}", flush=True)


@app.get("/task/{word}")
async def task(word: str, tasks: BackgroundTasks):
    tasks.add_task(speak, word)
    return word


@app.websocket("/talk")
async def talk(socket: WebSocket):
    await socket.accept()
    async for text in socket.iter_text():
        await socket.send_text(text.upper())
        print(f"the socket said {text}", flush=True)
