"""Server hooks in the host, and the objects that they are given."""

from __future__ import annotations

import logging
import os
import socket
import unittest
from pathlib import Path

from case import Case
from gracefork import _hooks
from gracefork._fault import Fault
from gracefork._objects import Request, addresses

CONFIG = """
calls = []

def note(name):
    return lambda *arguments: calls.append((name, arguments))

def on_starting(server): note("on_starting")(server)
def on_reload(server): note("on_reload")(server)
def when_ready(server): note("when_ready")(server)
def pre_fork(server, worker): note("pre_fork")(server, worker, worker.pid, worker.age)
def child_exit(server, worker): note("child_exit")(server, worker, worker.pid)
def nworkers_changed(server, new_value, old_value): note("nworkers_changed")(new_value, old_value)
def on_exit(server): note("on_exit")(server)
"""


class HostCase(Case):
    def server(self, config: str | None = None, **environ: str) -> _hooks.Server:
        if config is not None:
            os.environ["GRACEFORK_PYTHON_CONFIG"] = self.file("gunicorn_config.py", config)
        os.environ.update({"GRACEFORK_APP": "main:app", **environ})
        self.addCleanup(self.forget_log)
        return _hooks.load()

    def forget_log(self) -> None:
        for logger in map(logging.getLogger, (None, "gunicorn.error", "gunicorn.access")):
            for handler in list(logger.handlers):
                logger.removeHandler(handler)
                handler.close()


class Hooks(HostCase):
    def test_they_run_in_gunicorns_order_with_its_arguments(self):
        server = self.server(CONFIG, GRACEFORK_WORKER_COUNT="2")
        calls = server.cfg.on_starting.__globals__["calls"]
        server.start()
        worker = server.about_to_fork(1, 4)
        server.forked(worker, 123)
        self.assertEqual(server.WORKERS, {123: worker})
        server.ready()
        server.resized(3, 2)
        server.exited(123)
        server.exited(456)
        server.reloading()
        server.stopping()
        self.assertEqual(
            calls,
            [
                ("nworkers_changed", (2, None)),
                ("on_starting", (server,)),
                ("pre_fork", (server, worker, "[booting]", 1)),
                ("when_ready", (server,)),
                ("nworkers_changed", (3, 2)),
                ("child_exit", (server, worker, 123)),
                ("on_reload", (server,)),
                ("on_exit", (server,)),
            ],
        )
        self.assertEqual((worker.slot, worker.generation, worker.alive), (1, 4, False))
        self.assertEqual((server.num_workers, server.WORKERS), (3, {}))

    def test_without_a_config_there_are_none(self):
        server = self.server()
        server.start()
        server.about_to_fork(0, 1)
        server.ready()
        server.stopping()

    def test_one_that_fails_at_the_start_ends_it(self):
        server = self.server("def on_starting(server): raise OSError('no disk')\n")
        with self.assertRaises(Fault) as raised:
            server.start()
        self.assertEqual(raised.exception.status, 1)
        self.assertEqual(raised.exception.reason, "the hook on_starting failed: OSError: no disk")
        self.assertNotIn("_hooks.py", raised.exception.report)

    def test_one_that_fails_before_a_fork_fails_the_fork(self):
        server = self.server("def pre_fork(server, worker): raise RuntimeError('no')\n")
        server.start()
        with self.assertRaises(Fault):
            server.about_to_fork(0, 1)

    def test_one_that_fails_later_is_logged_and_no_more(self):
        with self.standard_error() as written:
            server = self.server("def when_ready(server): raise RuntimeError('no radio')\n")
            server.start()
            server.ready()
        self.assertIn("the hook when_ready failed:", written.getvalue())
        self.assertIn("RuntimeError: no radio", written.getvalue())

    def test_the_app_is_imported_before_on_starting_with_preload(self):
        app = "import conf_log\nconf_log.seen.append('import')\napp = lambda e, s: []\n"
        self.file("main.py", app)
        self.file("conf_log.py", "seen = []\n")
        config = "import conf_log\ndef on_starting(server): conf_log.seen.append('on_starting')\n"
        server = self.server(config, GRACEFORK_PRELOAD="1")
        server.start()
        import conf_log

        self.assertEqual(conf_log.seen, ["import", "on_starting"])
        self.assertTrue(server.app.is_loaded)

    def test_a_preload_that_fails_is_the_apps_fault(self):
        server = self.server(GRACEFORK_PRELOAD="1", GRACEFORK_APP="nowhere:app")
        with self.assertRaises(Fault) as raised:
            server.start()
        self.assertEqual(raised.exception.status, 4)


class Objects(HostCase):
    def test_cfg_shows_what_is_in_force(self):
        server = self.server(
            "workers = 1\ntimeout = 5\nproc_name = 'mine'\n",
            GRACEFORK_WORKER_COUNT="4",
            GRACEFORK_THREADS="8",
            GRACEFORK_HANG_TIMEOUT_USEC="60000000",
            GRACEFORK_KEEP_ALIVE_USEC="75000000",
            GRACEFORK_LOG_LEVEL="warn",
            GRACEFORK_PRELOAD="0",
        )
        cfg = server.cfg
        self.assertEqual((cfg.workers, cfg.threads, cfg.timeout), (4, 8, 60))
        self.assertEqual((cfg.keepalive, cfg.loglevel, cfg.preload_app), (75, "warning", False))
        self.assertEqual((server.num_workers, server.proc_name), (4, "mine"))
        self.assertEqual(server.pid, os.getppid())
        self.assertEqual(server.about_to_fork(0, 1).ppid, server.pid)

    def test_pythonpath_is_looked_in_for_the_app(self):
        self.file("src/elsewhere.py", "def app(environ, start_response): return []\n")
        path = f"{self.folder}/src"
        server = self.server(
            "import elsewhere\n", GRACEFORK_APP="elsewhere:app", GRACEFORK_PYTHON_PATH=path
        )
        self.assertEqual(server.cfg.pythonpath, path)
        self.assertEqual(server.app.load().interface, "wsgi")
        self.assertEqual(server.app.wsgi().__name__, "app")

    def test_the_log_has_gunicorns_names_and_level(self):
        with self.standard_error() as written:
            log = self.server("loglevel = 'warning'\n").log
            log.info("not %s", "this")
            log.warning("but %s", "this")
            log.log("error", "and this")
            logging.getLogger("gunicorn.error").critical("and that")
        lines = written.getvalue().splitlines()
        self.assertEqual(len(lines), 3)
        self.assertRegex(lines[0], r"^\[.* [+-]\d{4}\] \[\d+\] \[WARNING\] but this$")

    def test_logconfig_dict_sets_python_logging_up(self):
        config = """
            logconfig_dict = {
                "handlers": {"mine": {"class": "logging.FileHandler", "filename": "mine.log"}},
                "loggers": {"gunicorn.error": {"handlers": ["mine"], "level": "DEBUG"}},
            }
            """
        log = self.server(config).log
        log.debug("kept")
        os.rename("mine.log", "mine.log.1")
        log.reopen_files()
        log.debug("after rotation")
        self.forget_log()
        self.assertEqual((self.folder / "mine.log.1").read_text(), "kept\n")
        self.assertEqual((self.folder / "mine.log").read_text(), "after rotation\n")

    def test_a_logconfig_may_build_on_gunicorns_own_parts(self):
        level = {"handlers": ["error_console"], "level": "DEBUG"}
        for config in (
            {"loggers": {"gunicorn.error": level}},
            {"formatters": {"generic": {"format": "{message}!", "style": "{"}}},
        ):
            with self.standard_error() as written:
                self.server(f"logconfig_dict = {config!r}\n").log.info("said")
            expected = r"said!\n$" if "formatters" in config else r"^\[.*\[INFO\] said\n$"
            self.assertRegex(written.getvalue(), expected)
            self.forget_log()

    def test_a_logconfig_file_knows_where_it_is(self):
        Path("log.ini").write_text(
            "[loggers]\nkeys=root\n[handlers]\nkeys=file\n[formatters]\nkeys=\n"
            "[logger_root]\nhandlers=file\n"
            "[handler_file]\nclass=FileHandler\nargs=('%(here)s/mine.log',)\n"
        )
        self.server(f"logconfig = {str(self.folder / 'log.ini')!r}\n")
        logging.getLogger("app").warning("kept")
        self.forget_log()
        self.assertEqual((self.folder / "mine.log").read_text(), "kept\n")

    def test_a_logconfig_that_cannot_be_used_is_told(self):
        with self.assertRaises(Fault) as raised:
            self.server("logconfig = 'no.ini'\n")
        self.assertIn("`logconfig` cannot be used", raised.exception.problem)

    def test_sockets_tell_their_addresses_and_stay_open(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            found = addresses(listener.fileno(), 1)[0]
            self.assertEqual(found.getsockname(), listener.getsockname())
            port = listener.getsockname()[1]
            self.assertEqual(str(found), f"http://127.0.0.1:{port}")
            socket.create_connection(("127.0.0.1", port)).close()

    def test_a_request_has_its_parts(self):
        request = Request("GET", "/a/b?c=d#e", (1, 1), [("HOST", "x")], ("127.0.0.1", 5))
        self.assertEqual((request.path, request.query), ("/a/b", "c=d"))
        self.assertEqual((request.uri, request.version), ("/a/b?c=d#e", (1, 1)))


if __name__ == "__main__":
    unittest.main()
