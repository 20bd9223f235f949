"""A worker that serves an ASGI app: its start, its loop, its way out."""

from __future__ import annotations

import signal
import time
import unittest

from pod import PodCase
from test_asgi_http import ROUTES

SLOW = (
    ROUTES
    + """
gate = asyncio.Event()

async def hold(scope, receive, send):
    print("holding", flush=True)
    await gate.wait()
    await answer(send, "held")

async def release(scope, receive, send):
    gate.set()
    await answer(send, "released")

async def block(scope, receive, send):
    print("blocking", flush=True)
    while not os.path.exists("release"):
        time.sleep(0.01)
    await answer(send, "blocked")

async def spin(scope, receive, send):
    print("spinning", flush=True)
    while not os.path.exists("release"):
        pass
    await answer(send, "spun")

async def background(scope, receive, send):
    await answer(send, "answered")
    await gate.wait()
    print("background done", flush=True)

async def endless(scope, receive, send):
    print("endless", flush=True)
    await asyncio.Event().wait()
"""
)


class Loop(PodCase):
    def test_health_and_new_connections_are_served_while_the_app_blocks_or_spins_the_loop(self):
        for path, told in (("/block", "blocking"), ("/spin", "spinning")):
            pod = self.pod("import os; os.chdir(os.environ['TEST_FOLDER'])\n" + SLOW)
            with pod.connect() as known, pod.connect() as busy:
                self.assertEqual(known.get().text, "hello")
                busy.ask(path)
                pod.until_written(told)
                for client in (known, known):
                    answer = client.get("/up")
                    self.assertEqual((answer.status, answer.json()["status"]), (200, "ok"))
                self.assertEqual(pod.get("/up").status, 200)
                pod.lameduck()
                until(lambda: pod.get("/up").status == 503)
                pod.release()
                self.assertEqual(busy.answer().status, 200)
            self.assertEqual(pod.get().text, "hello")

    def test_a_loop_that_is_blocked_is_told_of_and_a_slow_request_is_not(self):
        pod = self.pod("import os; os.chdir(os.environ['TEST_FOLDER'])\n" + SLOW, hang_timeout=3)
        with pod.connect() as slow, pod.connect() as busy:
            slow.ask("/hold")
            pod.until_written("holding")
            time.sleep(5)
            self.assertFalse(pod.has_said("WATCHDOG=trigger"))
            busy.ask("/spin")
            pod.wait_for("WATCHDOG=trigger")

    def test_many_requests_at_once_wait_for_each_other_on_one_loop(self):
        pod = self.pod(SLOW)
        clients = [pod.connect() for _ in range(200)]
        for client in clients:
            client.ask("/hold")
        self.assertEqual(pod.get("/release").text, "released")
        self.assertEqual({client.answer().text for client in clients}, {"held"})
        for client in clients:
            client.close()


class Leaving(PodCase):
    def test_what_is_in_flight_is_finished_and_what_follows_an_answer_too(self):
        pod = self.pod(SLOW)
        with pod.connect() as held, pod.connect() as behind, pod.connect() as idle:
            self.assertEqual(idle.get().text, "hello")
            held.ask("/hold")
            pod.until_written("holding")
            self.assertEqual(behind.get("/background").text, "answered")
            pod.lameduck()
            until(lambda: pod.get().field("connection") == "close")
            self.assertEqual(pod.get("/release").text, "released")
            self.assertEqual(held.answer().text, "held")
            pod.drain()
            self.assertTrue(idle.is_closed())
        pod.until_written("background done")
        pod.wait_for("DRAINED=1")
        self.assertEqual(pod.ended(), 0)

    def test_an_app_that_wants_to_exit_leaves_after_all_its_requests(self):
        pod = self.pod(
            SLOW
            + """
async def leaves(scope, receive, send):
    raise SystemExit(3)
"""
        )
        with pod.connect() as held:
            held.ask("/hold")
            pod.until_written("holding")
            self.assertEqual(pod.get("/leaves").status, 500)
            pod.wait_for("REPLACE=1")
            # It serves until it is told.
            self.assertEqual(pod.get("/release").text, "released")
            self.assertEqual(held.answer().text, "held")
        pod.drain()
        pod.wait_for("DRAINED=1")
        self.assertEqual(pod.ended(), 0)
        pod.until_written("SystemExit: 3")

    def test_a_forced_end_does_not_wait_for_the_app(self):
        pod = self.pod(SLOW)
        with pod.connect() as client:
            client.ask("/endless")
            pod.until_written("endless")
            pod.quit()
            pod.wait_for("ABORTED=1")
            self.assertEqual(pod.ended(), 0)

    def test_signals_are_the_apps_and_do_not_end_the_loop(self):
        pod = self.pod(
            SLOW
            + """
import signal
signal.signal(signal.SIGTERM, lambda *_: print("SIGTERM", flush=True))

async def later(scope, receive, send):
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, lambda: print("SIGINT", flush=True))
    await answer(send, "added")
"""
        )
        self.assertEqual(pod.get("/later").text, "added")
        pod.process.send_signal(signal.SIGTERM)
        pod.until_written("SIGTERM")
        pod.process.send_signal(signal.SIGINT)
        pod.until_written("SIGINT")
        self.assertEqual(pod.get().text, "hello")
        pod.drain()
        self.assertEqual(pod.ended(), 0)

    def test_a_worker_may_leave_before_it_has_served_anybody(self):
        pod = self.pod(SLOW)
        pod.drain()
        self.assertEqual(pod.ended(), 0)


class Lifespan(PodCase):
    SOURCE = (
        ROUTES
        + """
http = app

async def app(scope, receive, send):
    if scope["type"] != "lifespan":
        return await http(scope, receive, send)
    message = await receive()
    assert message == {"type": "lifespan.startup"}, message
    scope["state"]["opened"] = ["once"]
    print("started", flush=True)
    await send({"type": "lifespan.startup.complete"})
    message = await receive()
    assert message == {"type": "lifespan.shutdown"}, message
    print("ended", flush=True)
    await send({"type": "lifespan.shutdown.complete"})

async def state(scope, receive, send):
    await answer(send, scope["state"]["opened"][0])
"""
    )

    def test_an_app_starts_before_the_worker_is_ready_and_ends_after_it_has_drained(self):
        pod = self.pod(self.SOURCE)
        self.assertIn("started", pod.written())
        self.assertEqual(pod.get("/state").text, "once")
        pod.drain()
        self.assertEqual(pod.ended(), 0)
        self.assertTrue(pod.written().endswith("ended\n"))

    def test_it_can_be_switched_off(self):
        pod = self.pod(self.SOURCE, lifespan="off")
        self.assertEqual(pod.get().text, "hello")
        self.assertEqual(pod.written(), "")

    def test_an_app_that_says_that_it_cannot_start_is_given_up_with_its_message(self):
        for mode in ("auto", "on"):
            pod = self.booting(
                """
                async def app(scope, receive, send):
                    await receive()
                    await send({"type": "lifespan.startup.failed", "message": "no database"})
                """,
                lifespan=mode,
            )
            pod.wait_for("FATAL=the app failed to start no database")
            self.assertEqual(pod.ended(), 4)
            self.assertIn("no database", pod.written())

    def test_an_app_without_a_lifespan_serves_unless_it_must_have_one(self):
        source = "async def start(): assert False\n" + ROUTES.replace(
            'if scope["type"] == "http":', "if True:"
        )
        self.assertEqual(self.pod(source).get().text, "hello")
        pod = self.booting(source, lifespan="on")
        pod.wait_for("FATAL=the app failed to start")
        self.assertEqual(pod.ended(), 4)
        self.assertIn("KeyError: 'path'", pod.written())
        returns = "async def app(scope, receive, send): pass"
        pod = self.booting(returns, lifespan="on")
        self.assertEqual(pod.ended(), 4)

    def test_one_that_fails_in_its_lifespan_is_told_of(self):
        raises = 'raise ValueError("at the start")'
        fails = self.SOURCE.replace('print("started", flush=True)', raises)
        pod = self.pod(fails)
        self.assertEqual(pod.get().text, "hello")
        self.assertIn("the app failed to start; it serves without", pod.written())
        self.assertIn("ValueError: at the start", pod.written())
        complete = 'await send({"type": "lifespan.startup.complete"})'
        dies = self.SOURCE.replace(complete, f'{complete}\n    raise ValueError("while it serves")')
        pod = self.pod(dies)
        pod.until_written("ValueError: while it serves")
        self.assertEqual(pod.get().text, "hello")

    def test_a_forced_end_cuts_requests_off_before_the_app_ends(self):
        pod = self.pod(
            self.SOURCE
            + """
async def holds(scope, receive, send):
    try:
        print("held", flush=True)
        await asyncio.Event().wait()
    finally:
        print("cut off", flush=True)
"""
        )
        with pod.connect() as client:
            client.ask("/holds")
            pod.until_written("held")
            pod.drain()
            pod.quit()
            pod.ended()
        self.assertTrue(pod.written().endswith("cut off\nended\n"), pod.written())

    def test_an_app_that_fails_to_end_is_told_of(self):
        for wrong in (
            'await send({"type": "lifespan.shutdown.failed", "message": "as told"})',
            'raise ValueError("as told")',
        ):
            pod = self.pod(self.SOURCE.replace('print("ended", flush=True)', wrong))
            pod.drain()
            self.assertEqual(pod.ended(), 0)
            self.assertIn("as told", pod.written())


def until(condition) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError("never")
        time.sleep(0.005)


class LoopOnUvloop(Loop):
    loop = "uvloop"


class LeavingOnUvloop(Leaving):
    loop = "uvloop"


class LifespanOnUvloop(Lifespan):
    loop = "uvloop"


if __name__ == "__main__":
    unittest.main()
