"""A worker's life, with its native part played by `life.py`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import unittest
from pathlib import Path
from unittest import mock

from case import Case
from gracefork import _orders, _owner
from gracefork._fault import BOOT_FAILED, Fault

HERE = Path(__file__).resolve().parent

APP = """
import atexit, os, threading

stop_event = threading.Event()
atexit.register(lambda: os.write(1, b"atexit\\n"))

def app(environ, start_response): return []
"""

CONFIG = """
import os

def say(*words): os.write(1, (" ".join(map(str, words)) + "\\n").encode())

def post_fork(server, worker): say("post_fork", worker.slot, worker.age, worker.booted)
def post_worker_init(worker): say("post_worker_init", worker.wsgi.__name__)
def worker_int(worker): say("worker_int")
def worker_abort(worker): say("worker_abort", worker.aborted)
def worker_exit(server, worker): say("worker_exit", worker.alive, worker.pid == os.getpid())
"""


class Life(Case):
    def live(self, *told: str, app: str = APP, config: str = CONFIG, **environ: str):
        """What the worker said, and what stands on its standard error."""
        self.file("main.py", app)
        environ = {
            **os.environ,
            "PYTHONPATH": str(HERE.parent),
            "PYTHONDONTWRITEBYTECODE": "1",
            "GRACEFORK_APP": "main:app",
            "GRACEFORK_WORKER_COUNT": "2",
            "GRACEFORK_PYTHON_CONFIG": self.file("gunicorn_config.py", config),
            **environ,
        }
        command = [sys.executable, str(HERE / "life.py"), *told]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60)
        return done.stdout.splitlines(), done.stderr

    def test_it_goes_in_gunicorns_order(self):
        said, error = self.live()
        self.assertEqual(
            said,
            [
                "native 2 7",
                "post_fork 2 1 False",
                "post_worker_init app",
                "serve True app",
                "drained",
                "worker_exit False True",
                "atexit",
                "status 0",
            ],
        )
        self.assertEqual(error, "")

    def test_an_app_without_a_signal_handler_serves_on_at_sigterm(self):
        said, _ = self.live("SIGTERM", "SIGINT", config="", TEST_PHASE="lameduck")
        self.assertEqual(said[-4:-1], ["serve True app", "drained", "atexit"])

    def test_a_signal_to_one_worker_alone_makes_it_leave(self):
        for name in ("SIGTERM", "SIGINT"):
            said, _ = self.live(name, config="", TEST_PHASE="ready")
            self.assertEqual(said[-4:], ["leaves", "drained", "atexit", "status 0"])

    def test_a_worker_whose_alive_is_set_to_false_leaves_once(self):
        config = """
            def post_worker_init(worker):
                worker.alive = worker.alive
                assert worker.alive
                worker.alive = False
                worker.alive = False
            """
        said, _ = self.live(config=config, TEST_PHASE="ready")
        self.assertEqual([line for line in said if line == "leaves"], ["leaves"])

    def test_what_a_hook_puts_in_the_apps_place_is_served(self):
        config = """
            def post_worker_init(worker):
                assert worker.app.callable is worker.wsgi
                def wrapped(environ, start_response): return []
                worker.wsgi = wrapped
            """
        said, _ = self.live(config=config)
        self.assertIn("serve True wrapped", said)

    def test_a_handler_that_the_config_installs_runs(self):
        config = """
            import signal

            def post_worker_init(worker):
                import main, sys

                def handle(signum, frame):
                    main.stop_event.set()
                    worker.log.info("set: %s", main.stop_event.is_set())
                    sys.exit(0)

                signal.signal(signal.SIGTERM, handle)
            """
        said, error = self.live("SIGTERM", config=config)
        self.assertIn("[INFO] set: True", error)
        self.assertEqual(said[-4:], ["told to go", "drained", "atexit", "status 0"])

    def test_the_masters_words_reach_the_apps_callbacks(self):
        app = APP + (
            "import gracefork\n"
            "@gracefork.on_term\n"
            "def term(): os.write(1, b'term\\n')\n"
            "@gracefork.on_drain\n"
            "def drain(): os.write(1, f'drain {gracefork.worker.stage}\\n'.encode())\n"
        )
        said, _ = self.live("on_term", "on_drain", app=app)
        served = said[said.index("serve True app") + 1 :]
        self.assertEqual(served[:4], ["term", "unhealthy", "drain draining", "drained"])

    def test_a_drain_without_a_lameduck_is_gunicorns_worker_int(self):
        said, _ = self.live("on_drain", TEST_PHASE="drain")
        self.assertIn("worker_int", said)
        said, _ = self.live("on_term", "on_drain", TEST_PHASE="drain")
        self.assertNotIn("worker_int", said)
        said, _ = self.live("on_drain", TEST_PHASE="ready")
        self.assertNotIn("worker_int", said)

    def test_an_abort_shows_every_thread_and_calls_the_hook_once(self):
        said, error = self.live("worker_abort", "SIGABRT")
        self.assertEqual(said.count("worker_abort True"), 1)
        self.assertIn("Fatal Python error: Aborted", error)
        self.assertIn("life.py", error)
        self.assertEqual(said[-1], "status 1")

    def test_a_forced_worker_waits_for_no_thread(self):
        app = APP + "threading.Thread(target=threading.Event().wait).start()\n"
        said, _ = self.live("worker_abort", app=app)
        self.assertEqual(said[-2:], ["worker_exit False True", "status 0"])

    def test_sigquit_ends_it_as_under_gunicorn(self):
        said, _ = self.live("SIGQUIT")
        self.assertEqual(said[-4:], ["worker_int", "worker_exit False True", "atexit", "status 0"])

    def test_a_signal_from_before_its_handlers_is_not_lost(self):
        said, _ = self.live(TEST_SIGNAL_BEFORE="1", TEST_STAGE="draining", TEST_PHASE="drain")
        self.assertNotIn("post_worker_init app", said)
        self.assertEqual(said[-2:], ["worker_exit False True", "status 0"])

    def test_an_app_that_cannot_be_loaded_is_told_to_the_master_in_boot_alone(self):
        said, error = self.live(app="def ap(): pass\n")
        self.assertIn("FATAL 'main' has no 'app'", said)
        self.assertEqual(said[-1], "status 4")
        self.assertEqual(error, "error: 'main' has no 'app'\n  = help: did you mean main:ap?\n")
        said, _ = self.live(app="", TEST_PHASE="ready")
        self.assertNotIn("FATAL", " ".join(said))
        self.assertEqual(said[-1], "status 4")

    def test_a_hook_that_fails_is_a_worker_that_cannot_boot(self):
        said, error = self.live(config="def post_fork(server, worker): raise OSError('no db')\n")
        self.assertEqual(said[-1], "status 3")
        self.assertIn("FATAL the hook post_fork failed: OSError: no db", said)
        self.assertIn('gunicorn_config.py", line 1', error)
        self.assertNotIn("_worker.py", error)

    @unittest.skipUnless(os.geteuid() == 0, "only root can run workers as somebody else")
    def test_it_runs_as_the_user_that_the_master_names(self):
        self.folder.chmod(0o755)
        app = APP + (
            "os.write(1, f'app {os.geteuid()} {os.getegid()} {os.getgroups()}\\n'.encode())\n"
        )
        owner = {"GRACEFORK_UID": "65533", "GRACEFORK_GID": "65532"}
        said, _ = self.live(app=app, **owner, GRACEFORK_GROUPS="65531,65532")
        self.assertIn("app 65533 65532 [65531, 65532]", said)
        self.assertEqual(said[-1], "status 0")

    def test_a_user_that_it_may_not_become_is_told(self):
        owner = {"GRACEFORK_UID": "65533", "GRACEFORK_GID": "65532", "GRACEFORK_GROUPS": "65532"}
        refused = mock.patch("os.setgroups", side_effect=PermissionError("not allowed"))
        with refused, self.assertRaises(Fault) as caught:
            _owner.become(owner)
        self.assertEqual(caught.exception.status, BOOT_FAILED)
        self.assertIn("user 65533, group 65532: not allowed", caught.exception.problem)

    def test_what_worker_exit_raises_is_logged(self):
        said, error = self.live(config="def worker_exit(server, worker): raise OSError('late')\n")
        self.assertIn("Exception during worker exit:", error)
        self.assertEqual(said[-1], "status 0")


class Composing(Case):
    def test_an_apps_handler_runs_and_cannot_end_the_loop(self):
        before = signal.getsignal(signal.SIGTERM)
        self.addCleanup(signal.signal, signal.SIGTERM, before)
        told = []

        def handle(number, frame):
            told.append(number)
            sys.exit(0)

        signal.signal(signal.SIGTERM, handle)
        _orders.compose()
        _orders.compose()
        signal.raise_signal(signal.SIGTERM)
        self.assertEqual(told, [signal.SIGTERM])


class Outside(Case):
    def test_the_api_answers_without_gracefork(self):
        import gracefork
        from gracefork import _current

        self.addCleanup(setattr, _current, "_state", _current._state)
        _current._state = _current._State()
        self.assertTrue(gracefork.health.is_healthy())
        gracefork.health.mark_unhealthy()
        self.assertFalse(gracefork.health.is_healthy())
        worker = gracefork.worker
        self.assertEqual((worker.slot, worker.generation, worker.pid), (0, 0, os.getpid()))
        self.assertEqual((worker.stage, worker.pod_phase), ("serving", "ready"))
        self.assertFalse(worker.is_supervised)
        worker.status("nobody hears")
        self.assertEqual(gracefork.on_term(len), len)


if __name__ == "__main__":
    unittest.main()
