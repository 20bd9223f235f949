"""A Django site in one file, as WSGI (`wsgi`) and as ASGI (`asgi`)."""

import asyncio
import time

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path

settings.configure(
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="none",
    LOGGING={
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {"console": {"class": "logging.StreamHandler"}},
        "root": {"handlers": ["console"]},
    },
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
)
django.setup()


def hello(request):
    return HttpResponse("hello")


def slow(request, seconds):
    time.sleep(float(seconds))
    return HttpResponse("slow")


async def waits(request):
    await asyncio.sleep(0.01)
    return HttpResponse("waited")


def echo(request):
    return HttpResponse(request.body)


def stream(request):
    if not hasattr(request, "scope"):
        return StreamingHttpResponse(f"{number}\n" for number in range(1000))

    async def numbers():
        for number in range(1000):
            yield f"{number}\n"

    return StreamingHttpResponse(numbers())


def form(request):
    return JsonResponse({"word": request.POST["word"], "url": request.build_absolute_uri()})


def fails(request):
    raise RuntimeError("the app's own")


urlpatterns = [
    path("", hello),
    path("slow/<str:seconds>", slow),
    path("waits", waits),
    path("echo", echo),
    path("stream", stream),
    path("form", form),
    path("fails", fails),
]

wsgi = get_wsgi_application()
asgi = get_asgi_application()
