"""A FastAPI app whose middleware reads the bodies of answers, as some that log or sign do."""

from fastapi import FastAPI, Response
from fastapi.responses import FileResponse

app = FastAPI()


@app.middleware("http")
async def read(request, call_next):
    answer = await call_next(request)
    body = b"".join([piece async for piece in answer.body_iterator])
    headers = {**answer.headers, "x-read": str(len(body))}
    return Response(body, answer.status_code, headers)


@app.get("/file")
def file():
    return FileResponse(__file__)
