"""The life of a worker that serves a WSGI app: threads, signals, hooks, calls that hang, the end."""

from __future__ import annotations

import signal
import threading
import time
import unittest

from test_wsgi_http import WsgiCase

#: What a call that is in the way waits for, until the test says so.
WAIT = """
import os

def is_released():
    return os.path.exists(os.path.join(os.environ["TEST_FOLDER"], "release"))

def spin(environ, start_response):
    print("spinning", flush=True)
    while not is_released():
        pass
    start_response("200 OK", [])
    return [b"spun"]

def wait(environ, start_response):
    print("waiting", flush=True)
    while not is_released():
        time.sleep(0.01)
    start_response("200 OK", [])
    return [b"waited"]
"""


class Threads(WsgiCase):
    SOURCE = (
        WAIT
        + """
gate = threading.Barrier(3)

def meet(environ, start_response):
    gate.wait(20)
    start_response("200 OK", [])
    return [threading.current_thread().name.encode()]

def multi(environ, start_response):
    start_response("200 OK", [])
    return [repr(environ["wsgi.multithread"]).encode()]

local = threading.local()

def state(environ, start_response):
    local.count = getattr(local, "count", 0) + 1
    start_response("200 OK", [])
    return [b"%d" % local.count]
"""
    )

    def test_so_many_calls_run_at_once_as_there_are_threads(self):
        pod = self.serve(self.SOURCE, environ={"GRACEFORK_THREADS": "3"})
        self.assertEqual(pod.get("/multi").text, "True")
        clients = [pod.connect() for _ in range(3)]
        for client in clients:
            client.ask("/meet")
        names = {client.answer().text for client in clients}
        self.assertEqual(len(names), 3)
        self.assertTrue(all(name.startswith("gracefork-app-") for name in names), names)
        for client in clients:
            client.close()

    def test_a_thread_keeps_its_locals_from_call_to_call(self):
        pod = self.serve(self.SOURCE)
        with pod.connect() as client:
            self.assertEqual([client.get("/state").text for _ in range(5)], list("12345"))

    def test_one_thread_makes_all_calls_of_a_worker_that_makes_one_at_once(self):
        pod = self.serve(
            """
def thread(environ, start_response):
    time.sleep(float(environ["QUERY_STRING"]))
    start_response("200 OK", [])
    return [b"%d" % threading.get_ident()]
"""
        )
        seen = set()

        def ask(seconds: float) -> None:
            with pod.connect() as client:
                for _ in range(50):
                    seen.add(client.get(f"/thread?{seconds}").text)
                    self.assertEqual(client.get("/up").status, 200)

        askers = [threading.Thread(target=ask, args=(it,)) for it in (0, 0, 0.001, 0.003, 0.005)]
        for asker in askers:
            asker.start()
        for asker in askers:
            asker.join()
        self.assertEqual(len(seen), 1, seen)

    def test_health_is_answered_while_the_only_call_spins_or_sleeps(self):
        for path, told in (("/spin", "spinning"), ("/wait", "waiting")):
            pod = self.serve(self.SOURCE)
            with pod.connect() as busy, pod.connect() as other:
                busy.ask(path)
                pod.until_written(told)
                self.assertEqual(other.get("/up").status, 200)
                pod.release()
                self.assertEqual(busy.answer().status, 200)

    def test_many_clients_on_many_threads_each_get_their_own_answer(self):
        pod = self.serve(
            """
def echo(environ, start_response):
    query = environ["QUERY_STRING"]
    if query.endswith("7"):
        time.sleep(0.003)
    start_response("200 OK", [("X-Query", query)])
    body = query.encode() * 10
    return [body] if len(query) % 2 else (body[n:n + 10] for n in range(0, len(body), 10))
""",
            environ={"GRACEFORK_THREADS": "4"},
        )
        wrong = []

        def ask(number: int) -> None:
            with pod.connect() as client:
                for turn in range(100):
                    query = f"{number}.{turn}"
                    answer = client.get(f"/echo?{query}")
                    if answer.text != query * 10 or answer.field("x-query") != query:
                        wrong.append((query, answer.text))

        askers = [threading.Thread(target=ask, args=(number,)) for number in range(12)]
        for asker in askers:
            asker.start()
        for asker in askers:
            asker.join()
        self.assertEqual(wrong, [])


class Signals(WsgiCase):
    SOURCE = (
        WAIT
        + """
import signal

def heard(number, frame):
    on_main = threading.current_thread() is threading.main_thread()
    print("heard", signal.Signals(number).name, on_main, flush=True)

def sleep(environ, start_response):
    print("sleeping", flush=True)
    time.sleep(float(environ["QUERY_STRING"]))
    start_response("200 OK", [])
    return [b"slept"]

signal.signal(signal.SIGTERM, heard)
signal.signal(signal.SIGUSR1, heard)
"""
    )

    def test_handlers_run_on_the_main_thread_while_calls_go_on(self):
        for path, said in (("/", ""), ("/wait", "waiting"), ("/spin", "spinning")):
            pod = self.serve(self.SOURCE)
            with pod.connect() as client:
                client.ask(path)
                pod.until_written(said)
                pod.process.send_signal(signal.SIGUSR1)
                pod.until_written("heard SIGUSR1 True")
                pod.release()
                self.assertEqual(client.answer().status, 200)

    def test_an_app_that_takes_sigterm_for_itself_serves_on_and_drains(self):
        pod = self.serve(self.SOURCE)
        pod.lameduck()
        pod.process.send_signal(signal.SIGTERM)
        pod.until_written("heard SIGTERM True")
        self.assertEqual(pod.get("/").text, "hello")
        self.assertEqual(pod.get("/up").status, 503)
        pod.drain()
        self.assertEqual(pod.ended(), 0)

    def test_a_handler_that_exits_ends_nothing_that_is_under_way(self):
        leaving = "\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(1))\n"
        pod = self.serve(self.SOURCE + leaving)
        with pod.connect() as client:
            client.ask("/sleep?0.3")
            pod.until_written("sleeping")
            pod.process.send_signal(signal.SIGTERM)
            pod.wait_for("REPLACE=1")
            self.assertEqual(client.answer().text, "slept")
            self.assertEqual(client.get("/").text, "hello", "it serves until it is told")
        pod.retire()
        pod.wait_for("DRAINED=1")
        self.assertEqual(pod.ended(), 0)
        self.assertNotIn("Traceback", pod.written())

    def test_where_the_pod_stops_a_handler_that_exits_waits_for_the_master(self):
        leaving = "\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(1))\n"
        pod = self.serve(self.SOURCE + leaving)
        pod.lameduck()
        pod.process.send_signal(signal.SIGTERM)
        with pod.connect() as client:
            self.assertEqual(client.get("/").text, "hello")
        self.assertFalse(pod.has_said("REPLACE=1") or pod.has_said("STOPPING=1"))
        pod.drain()
        self.assertEqual(pod.ended(), 0)

    def test_an_interrupt_leaves_without_a_traceback(self):
        pod = self.serve()
        pod.process.send_signal(signal.SIGINT)
        pod.wait_for("REPLACE=1")
        pod.drain()
        pod.wait_for("DRAINED=1")
        self.assertEqual(pod.ended(), 0)
        self.assertNotIn("Traceback", pod.written())

    def test_another_exception_of_a_handler_comes_out_at_once(self):
        pod = self.serve(self.SOURCE + "\nsignal.signal(signal.SIGTERM, lambda *_: 1 / 0)\n")
        pod.process.send_signal(signal.SIGTERM)
        self.assertEqual(pod.ended(), 1)
        self.assertIn("ZeroDivisionError", pod.written())

    def test_a_program_that_the_app_starts_hears_signals(self):
        pod = self.serve(
            """
import subprocess, sys

def child(environ, start_response):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    child.terminate()
    start_response("200 OK", [])
    return [str(child.wait(20)).encode()]
"""
        )
        self.assertEqual(pod.get("/child").text, "-15")


class Ends(WsgiCase):
    SOURCE = (
        WAIT
        + """
class Hooks:
    def __getattr__(self, name):
        if name not in ("on_term", "on_drain", "on_drained", "worker_abort", "worker_exit"):
            raise AttributeError(name)
        return lambda: print("hook", name, flush=True)

hooks = Hooks()

def hold(environ, start_response):
    print("holding", flush=True)
    while not is_released():
        time.sleep(0.01)
    start_response("200 OK", [])
    return [b"held"]

def background(environ, start_response):
    def beat():
        while True:
            print("beat", flush=True)
            time.sleep(0.01)
    threading.Thread(target=beat, daemon=True).start()
    start_response("200 OK", [])
    return [b"begun"]
"""
    )

    def test_a_drain_waits_for_calls_and_runs_the_hooks_in_order(self):
        pod = self.serve(self.SOURCE)
        with pod.connect() as client:
            client.ask("/hold")
            pod.until_written("holding")
            pod.lameduck()
            pod.drain()
            pod.until_written("hook on_drain")
            pod.release()
            answer = client.answer()
            self.assertEqual((answer.text, answer.field("connection")), ("held", "close"))
        self.assertEqual(pod.wait_for("DRAINED=1"), "DRAINED=1")
        self.assertEqual(pod.ended(), 0)
        hooks = [line for line in pod.written().splitlines() if line.startswith("hook")]
        expected = ["hook on_term", "hook on_drain", "hook on_drained", "hook worker_exit"]
        self.assertEqual(hooks, expected)

    def test_a_forced_end_does_not_wait_for_a_call(self):
        pod = self.serve(self.SOURCE)
        with pod.connect() as client:
            client.ask("/hold")
            pod.until_written("holding")
            pod.quit()
            pod.wait_for("DRAINED=1")
            self.assertEqual(pod.ended(), 0)
        self.assertIn("hook worker_abort", pod.written())

    def test_threads_of_the_app_go_on(self):
        pod = self.serve(self.SOURCE)
        self.assertEqual(pod.get("/background").text, "begun")
        for _ in range(3):
            before = pod.written().count("beat")
            self.assertEqual(pod.get("/").text, "hello")
            deadline = time.monotonic() + 20
            while pod.written().count("beat") < before + 3:
                self.assertLess(time.monotonic(), deadline)
                time.sleep(0.005)


class Hangs(WsgiCase):
    SOURCE = """
import faulthandler
faulthandler.enable()

def hang(environ, start_response):
    time.sleep(60)

def blind(environ, start_response):
    import ctypes
    # Keeps Python's lock.
    ctypes.PyDLL(None).sleep(60)

def patient(environ, start_response):
    body = environ["wsgi.input"].read()
    start_response("200 OK", [])
    for number in range(12):
        time.sleep(0.1)
        yield b"%d." % number
"""

    def test_a_call_that_does_not_return_is_reported_with_what_is_in_flight(self):
        for path in ("/hang", "/blind"):
            pod = self.serve(self.SOURCE, hang_timeout=0.3)
            with pod.connect() as client:
                client.ask(f"{path}?secret")
                # Whoever sees to the other connections needs no lock of Python's for it.
                self.assertEqual(pod.get("/up").status, 200)
                pod.wait_for("WATCHDOG=trigger")
                pod.until_written(f"GET {path} for ")
                self.assertNotIn("secret", pod.written())
                pod.process.send_signal(signal.SIGABRT)
                self.assertEqual(pod.ended(), -signal.SIGABRT)
                self.assertIn(f"in {path[1:]}", pod.written())

    def test_of_several_threads_all_have_to_hang_or_one_to_keep_the_lock(self):
        for path in ("/hang", "/blind"):
            environ = {"GRACEFORK_THREADS": "2", "GRACEFORK_LOG_LEVEL": "info"}
            pod = self.serve(self.SOURCE, hang_timeout=3, environ=environ)
            with pod.connect() as client, pod.connect() as second:
                client.ask(path)
                pod.until_written("does not return; others are made")
                if path == "/hang":
                    self.assertEqual(pod.get("/").text, "hello")
                    self.assertFalse(pod.has_said("WATCHDOG=trigger"))
                    second.ask(path)
                pod.wait_for("WATCHDOG=trigger")

    def test_a_call_that_moves_or_waits_for_its_client_does_not_hang(self):
        pod = self.serve(self.SOURCE, hang_timeout=2)
        with pod.connect() as client:
            client.ask("/patient", method="POST", fields="content-length: 100000\r\n")
            time.sleep(3)
            client.send(b"x" * 100_000)
            expected = "".join(f"{number}." for number in range(12))
            self.assertEqual(client.answer().text, expected)
        self.assertFalse(pod.has_said("WATCHDOG"))


class RequestHooks(WsgiCase):
    SOURCE = """
class Log:
    def error(self, message, *args, exc_info=None):
        print("logged:", message % args, repr(exc_info), flush=True)

class Worker:
    log = Log()

class Request:
    def __init__(self, method, uri, version, headers, remote_addr):
        self.__dict__.update(locals())

def before(worker, req):
    print("before:", type(worker).__name__, req.method, req.uri, req.version, req.headers, flush=True)
    if "refuse" in req.uri:
        raise ValueError("refused")

def after(worker, req, environ, resp):
    print("after:", environ["PATH_INFO"], resp.status, resp.status_code, resp.sent, flush=True)
    if "bad" in req.uri:
        raise ValueError("bad hook")

def fails(environ, start_response):
    raise KeyError("app")

options = {"worker": Worker(), "request": Request, "pre_request": before, "post_request": after}
"""

    def test_each_request_is_shown_to_the_hooks(self):
        pod = self.serve(self.SOURCE)
        self.assertEqual(pod.get("/hello?x", fields="X-A: 1\r\n").text, "hello")
        headers = [("HOST", "test"), ("X-A", "1")]
        pod.until_written(f"before: Worker GET /hello?x (1, 1) {headers}")
        pod.until_written("after: /hello 200 OK 200 5")

    def test_hooks_that_fail_are_logged(self):
        pod = self.serve(self.SOURCE)
        self.assertEqual(pod.get("/hello?refuse").status, 500)
        pod.until_written("logged: Error handling request /hello?refuse ValueError('refused')")
        self.assertEqual(pod.get("/hello?bad").text, "hello")
        pod.until_written("logged: Exception in post_request hook ValueError('bad hook')")

    def test_an_error_of_the_app_goes_to_the_log(self):
        pod = self.serve(self.SOURCE)
        self.assertEqual(pod.get("/fails").status, 500)
        pod.until_written("logged: Error handling request /fails KeyError('app')")
        pod.until_written("after: /fails None None 0")


if __name__ == "__main__":
    unittest.main()
