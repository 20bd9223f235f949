"""FastAPI, Starlette and a real WebSocket client: what they ask of a server."""

from __future__ import annotations

import asyncio
import time
import unittest

from pod import PodCase, has_module

APP = """
import asyncio, contextlib, gc
from fastapi import BackgroundTasks, FastAPI, File, Form, Request, UploadFile, WebSocket
from fastapi import WebSocketDisconnect
from fastapi.responses import FileResponse, PlainTextResponse, StreamingResponse
from pydantic import BaseModel

gate = asyncio.Event()

@contextlib.asynccontextmanager
async def lifespan(app):
    print("started", flush=True)
    yield {"opened": "once"}
    print("ended", flush=True)

app = FastAPI(lifespan=lifespan)

class Item(BaseModel):
    name: str
    price: float

@app.get("/json")
async def json(): return {"message": "hello"}

@app.get("/sync/{number}")
def sync(number: int): return {"number": number}

@app.post("/item")
async def item(item: Item): return {"name": item.name, "twice": item.price * 2}

@app.post("/upload")
async def upload(file: UploadFile = File(), word: str = Form()):
    return {"size": len(await file.read()), "word": word}

@app.get("/state")
async def state(request: Request): return {"opened": request.state.opened}

@app.get("/client")
async def client(request: Request): return {"url": str(request.url), "host": request.client.host}

@app.get("/waits")
async def waits():
    async def pieces():
        try:
            yield b"first"
            await asyncio.Event().wait()
        finally:
            print("the stream has ended", flush=True)
    return StreamingResponse(pieces())

@app.get("/stream")
async def stream():
    async def numbers():
        for number in range(1000):
            yield f"{number}\\n"
    return StreamingResponse(numbers(), media_type="text/plain")

@app.get("/stream_sync")
def stream_sync():
    return StreamingResponse((f"{number}\\n" for number in range(100)), media_type="text/plain")

@app.get("/collect")
async def collect(): return gc.collect()

@app.get("/forever")
async def forever():
    async def ticks():
        try:
            while True:
                yield "tick\\n"
                await asyncio.sleep(0.001)
        finally:
            print("stream ended", flush=True)
    return StreamingResponse(ticks())

@app.get("/file")
async def file(): return FileResponse(__file__)

async def write():
    await gate.wait()
    print("task done", flush=True)

@app.get("/background")
async def background(tasks: BackgroundTasks):
    tasks.add_task(write)
    return "later"

@app.get("/open")
async def open_(): gate.set()

@app.get("/raises")
async def raises(): raise ValueError("as told")

@app.middleware("http")
async def middleware(request, call_next):
    response = await call_next(request)
    response.headers["x-middleware"] = "1"
    return response

@app.websocket("/echo")
async def echo(socket: WebSocket):
    await socket.accept(subprotocol="chat" if "chat" in socket.scope["subprotocols"] else None)
    try:
        while True:
            message = await socket.receive()
            if message.get("text") is not None:
                await socket.send_text(message["text"])
            elif message.get("bytes") is not None:
                await socket.send_bytes(message["bytes"])
            else:
                print("disconnect", message["code"], flush=True)
                return
    except WebSocketDisconnect:
        print("raised", flush=True)

@app.websocket("/refuse")
async def refuse(socket: WebSocket): await socket.close()
"""


class FastApi(PodCase):
    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        for module in ("fastapi", "multipart", "websockets"):
            if not has_module(module):
                raise unittest.SkipTest(f"{module} is not installed")

    def test_requests_of_all_kinds(self):
        pod = self.pod(APP)
        self.assertIn("started", pod.written())
        with pod.connect() as client:
            answer = client.get("/json")
            self.assertEqual(answer.json(), {"message": "hello"})
            self.assertEqual(answer.field("x-middleware"), "1")
            self.assertEqual(client.get("/sync/7").json(), {"number": 7})
            self.assertEqual(client.get("/sync/x").status, 422)
            body = b'{"name": "a", "price": 1.5}'
            fields = "content-type: application/json\r\n"
            answer = client.get("/item", method="POST", fields=fields, body=body)
            self.assertEqual(answer.json(), {"name": "a", "twice": 3.0})
            self.assertEqual(client.get("/state").json(), {"opened": "once"})
            self.assertEqual(
                client.get("/client").json(), {"url": "http://test/client", "host": "127.0.0.1"}
            )
            self.assertEqual(client.get("/nowhere").status, 404)
            self.assertEqual(client.get("/json", method="OPTIONS").status, 405)
            self.assertEqual(client.get("/raises").status, 500)
            pod.until_written("ValueError: as told")
            self.assertEqual(client.get("/json").json(), {"message": "hello"})

    def test_an_upload_of_some_size(self):
        with self.pod(APP).connect() as client:
            body = (
                b"--x\r\ncontent-disposition: form-data; name=word\r\n\r\nhello\r\n"
                b"--x\r\ncontent-disposition: form-data; name=file; filename=a\r\n\r\n"
                + b"y" * 3_000_000
                + b"\r\n--x--\r\n"
            )
            fields = "content-type: multipart/form-data; boundary=x\r\n"
            answer = client.get("/upload", method="POST", fields=fields, body=body)
            self.assertEqual(answer.json(), {"size": 3_000_000, "word": "hello"})

    def test_answers_that_are_streamed(self):
        pod = self.pod(APP)
        with pod.connect() as client:
            expected = "".join(f"{number}\n" for number in range(1000))
            self.assertEqual(client.get("/stream").text, expected)
            self.assertEqual(client.get("/stream_sync").text[-3:], "99\n")
            self.assertIn("FileResponse(__file__)", client.get("/file").text)
            client.ask("/forever")
            client.head()
            self.assertEqual(client.chunk(), b"tick\n")
        # A generator that stands at its yield when its request is cancelled ends by the collector.
        deadline = time.monotonic() + 20
        while "stream ended" not in pod.written():
            self.assertEqual(pod.get("/collect").status, 200)
            self.assertLess(time.monotonic(), deadline)
        # One that has nothing to say ends with its client as well.
        with pod.connect() as client:
            client.ask("/waits")
            client.head()
            self.assertEqual(client.chunk(), b"first")
        pod.until_written("the stream has ended")
        self.assertNotIn("Traceback", pod.written())

    def test_background_tasks_are_waited_for_and_the_lifespan_ends_last(self):
        pod = self.pod(APP)
        self.assertEqual(pod.get("/background").json(), "later")
        with pod.connect() as idle:
            idle.get("/json")
            pod.drain()
            self.assertTrue(idle.is_closed())
        self.assertIsNone(pod.process.poll(), "it waits for the task")
        pod.quit()
        self.assertEqual(pod.ended(), 0)
        other = self.pod(APP)
        self.assertEqual(other.get("/background").json(), "later")
        other.get("/open")
        other.drain()
        self.assertEqual(other.ended(), 0)
        self.assertTrue(other.written().endswith("task done\nended\n"))

    def test_a_real_client_of_websockets(self):
        pod = self.pod(APP)

        async def talk():
            import websockets

            url = f"ws://127.0.0.1:{pod.port}"
            async with websockets.connect(f"{url}/echo", subprotocols=["chat"]) as socket:
                self.assertEqual(socket.subprotocol, "chat")
                for message in ("text", b"bytes", "x" * 300_000, b"y" * 300_000):
                    await socket.send(message)
                    self.assertEqual(await socket.recv(), message)
                await (await socket.ping())
            with self.assertRaises(websockets.exceptions.InvalidStatus) as caught:
                await websockets.connect(f"{url}/refuse")
            self.assertEqual(caught.exception.response.status_code, 403)
            async with websockets.connect(f"{url}/echo") as socket:
                pod.drain()
                with self.assertRaises(websockets.exceptions.ConnectionClosed) as closed:
                    await socket.recv()
                self.assertEqual(closed.exception.rcvd.code, 1001)

        asyncio.run(talk())
        pod.until_written("disconnect 1001")
        self.assertEqual(pod.ended(), 0)


class FastApiOnUvloop(FastApi):
    loop = "uvloop"


if __name__ == "__main__":
    unittest.main()
