"""Loading apps."""

from __future__ import annotations

import asyncio
import os
import unittest

from case import Case
from gracefork import _app
from gracefork._fault import Fault

APPS = """
import functools

def wsgi(environ, start_response): return []
async def asgi(scope, receive, send): pass
def wrapped(scope, receive, send): return asgi(scope, receive, send)
def either(*args): pass

class Wsgi:
    def __call__(self, environ, start_response): return []

class WsgiClass:
    def __init__(self, environ, start_response): pass
    def __iter__(self): return iter(())

class Asgi:
    async def __call__(self, scope, receive, send): pass

class Asgi2:
    def __init__(self, scope): self.scope = scope
    async def __call__(self, receive, send): send(self.scope["type"])

wsgi_object = Wsgi()
asgi_object = Asgi()
partial = functools.partial(wrapped)
number = 5

class space:
    app = wsgi_object

def make(name="x", *, asgi_too=False):
    return asgi_object if asgi_too else wsgi_object

def create_app(): return wsgi_object
def broken(): return 1 / 0
def leaves(): raise SystemExit("no")

application = wsgi
"""


class Loading(Case):
    def setUp(self):
        super().setUp()
        self.file("apps.py", APPS)

    def fault(self, name: str, interface: str = "auto") -> Fault:
        with self.assertRaises(Fault) as raised:
            _app.load(name, interface)
        self.assertEqual(raised.exception.status, 4)
        return raised.exception

    def test_the_kind_is_found_out(self):
        for name, interface in (
            ("wsgi", "wsgi"),
            ("wsgi_object", "wsgi"),
            ("WsgiClass", "wsgi"),
            ("either", "wsgi"),
            ("space.app", "wsgi"),
            ("asgi", "asgi"),
            ("asgi_object", "asgi"),
            ("wrapped", "asgi"),
            ("partial", "asgi"),
            ("Asgi2", "asgi"),
        ):
            with self.subTest(name):
                self.assertEqual(_app.load(f"apps:{name}").interface, interface)

    def test_the_usual_attribute_is_application(self):
        self.assertEqual(_app.load("apps").call.__name__, "wsgi")

    def test_factories_are_called_with_plain_values(self):
        self.assertEqual(_app.load("apps:make()").interface, "wsgi")
        self.assertEqual(_app.load("apps:make('a', asgi_too=True)").interface, "asgi")

    def test_an_app_of_asgi_2_is_called_as_one_of_3(self):
        app = _app.load("apps:Asgi2").call
        said = []
        asyncio.run(app({"type": "http"}, None, said.append))
        self.assertEqual(said, ["http"])

    def test_an_unclear_app_is_what_was_asked_for(self):
        self.assertEqual(_app.load("apps:either", "asgi").interface, "asgi")

    def test_a_module_that_is_not_there(self):
        fault = self.fault("aps:wsgi")
        self.assertIn(f"there is no module 'aps' in {self.folder}", fault.problem)
        self.assertEqual(fault.help, "did you mean apps?")
        self.assertNotIn("Traceback", fault.report)
        self.assertIn("--chdir", self.fault("zzz.wsgi:app").help)
        self.assertEqual(self.fault("apps.py:wsgi").help, "did you mean apps:wsgi?")

    def test_a_module_that_needs_another(self):
        self.file("needy.py", "import no_such_thing\n")
        fault = self.fault("needy:app")
        self.assertIn("'needy' needs the module 'no_such_thing'", fault.problem)
        self.assertIn("install it for", fault.help)
        self.assertIn('needy.py", line 1', fault.report)
        self.assertNotIn("importlib", fault.report)

    def test_a_module_that_raises(self):
        self.file("failing.py", "def f():\n    return {}['key']\n\nf()\n")
        fault = self.fault("failing:app")
        self.assertEqual(fault.problem, "importing 'failing' failed")
        self.assertEqual(fault.reason, "importing 'failing' failed: KeyError: 'key'")
        self.assertEqual(fault.report.count("File "), 2)
        self.file("leaving.py", "raise SystemExit(0)\n")
        self.assertIn("SystemExit", self.fault("leaving:app").reason)

    def test_an_attribute_that_is_missing(self):
        fault = self.fault("apps:wsgj")
        self.assertEqual(fault.problem, "'apps' has no 'wsgj'")
        self.assertEqual(fault.help, "did you mean apps:wsgi?")
        self.assertEqual(self.fault("apps:zzz").help, "did you mean apps:application?")

    def test_a_factory_that_fails(self):
        fault = self.fault("apps:broken()")
        self.assertIn("ZeroDivisionError", fault.report)
        self.assertNotIn("_app.py", fault.report)
        self.assertIn("SystemExit: no", self.fault("apps:leaves()").report)

    def test_a_factory_that_is_given_what_it_does_not_take(self):
        self.assertIn("multiple values", self.fault("apps:make('a', name='b')").problem)
        self.assertIn("unexpected keyword", self.fault("apps:create_app(x=1)").problem)
        self.assertIn("it is of type int", self.fault("apps:number()").problem)

    def test_a_name_that_is_none(self):
        for name in ("apps:1 + 1", "apps:f(x)", "apps:f(**{})", "apps:(", "apps:f()()"):
            with self.subTest(name):
                self.assertIn("does not name an app", self.fault(name).problem)

    def test_an_app_of_the_wrong_kind(self):
        self.assertIn("cannot be called: it is of type int", self.fault("apps:number").problem)
        fault = self.fault("apps:create_app")
        self.assertEqual(fault.help, "write apps:create_app()")
        fault = self.fault("apps:asgi", "wsgi")
        self.assertIn("is an ASGI app, and a WSGI app was asked for", fault.problem)
        fault = self.fault("apps:wsgi", "asgi")
        self.assertIn("is a WSGI app, and an ASGI app was asked for", fault.problem)
        self.assertNotIn("Traceback", fault.report)

    def test_the_working_directory_can_be_imported_from(self):
        os.makedirs("inner")
        os.chdir("inner")
        self.file("inner/there.py", "def app(environ, start_response): return []\n")
        self.assertEqual(_app.load("there:app").interface, "wsgi")


if __name__ == "__main__":
    unittest.main()
