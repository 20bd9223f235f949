"""Who is told that a file can be sent by its path."""

from __future__ import annotations

import unittest

from gracefork._paths import sends_paths

try:
    from fastapi import APIRouter, FastAPI
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.middleware.gzip import GZipMiddleware
    from starlette.responses import PlainTextResponse
    from starlette.routing import Mount, Route, Router
    from starlette.staticfiles import StaticFiles
except ImportError:
    Starlette = None


async def app(scope, receive, send):
    pass


class Instance:
    async def __call__(self, scope, receive, send):
        pass


class Wrapper(Instance):
    def __init__(self, inner):
        self.inner = inner


def decorated(inner):
    async def call(scope, receive, send):
        await inner(scope, receive, send)

    return call


class Paths(unittest.TestCase):
    def test_one_that_cannot_be_looked_at_is_not(self):
        class Closed(Instance):
            @property
            def routes(self):
                raise RuntimeError("not for you")

        self.assertFalse(sends_paths(Closed()))

    def test_an_app_by_itself_is_and_what_is_wrapped_is_not(self):
        for direct in (app, Instance(), Instance().__call__):
            self.assertTrue(sends_paths(direct), direct)
        for wrapped in (decorated(app), Wrapper(app), Wrapper(Wrapper(Instance()))):
            self.assertFalse(sends_paths(wrapped), wrapped)


@unittest.skipIf(Starlette is None, "FastAPI is not installed")
class Frameworks(unittest.TestCase):
    def setUp(self):
        async def endpoint(request):
            return PlainTextResponse("")

        self.endpoint = endpoint
        self.files = StaticFiles(directory="/")
        self.gzip = [Middleware(GZipMiddleware)]

    def test_one_without_middlewares_is(self):
        fastapi = FastAPI()
        router = APIRouter()
        router.get("/one")(lambda: 1)
        fastapi.get("/two")(lambda: 2)
        fastapi.include_router(router, prefix="/more")
        fastapi.mount("/static", self.files)
        fastapi.mount("/sub", FastAPI())
        routes = [Route("/", self.endpoint), Mount("/static", self.files), Mount("/fast", fastapi)]
        for direct in (fastapi, Starlette(routes=routes), Router(routes), self.files):
            self.assertTrue(sends_paths(direct), direct)

    def test_one_with_a_middleware_anywhere_is_not(self):
        fastapi = FastAPI()
        fastapi.middleware("http")(lambda request, call_next: call_next(request))
        sub = FastAPI()
        sub.mount("/deep", fastapi)
        for wrapped in (
            fastapi,
            sub,
            Starlette(middleware=self.gzip),
            Starlette(routes=[Mount("/", self.files, middleware=self.gzip)]),
            Starlette(routes=[Route("/", self.endpoint, middleware=self.gzip)]),
            Starlette(routes=[Mount("/", Starlette(middleware=self.gzip))]),
            Starlette(routes=[Mount("/", GZipMiddleware(self.files))]),
            Router([Route("/", self.endpoint)], middleware=self.gzip),
            GZipMiddleware(FastAPI()),
        ):
            self.assertFalse(sends_paths(wrapped), wrapped)


if __name__ == "__main__":
    unittest.main()
