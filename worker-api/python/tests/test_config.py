"""Reading gunicorn config files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import unittest
from pathlib import Path

from case import Case
from gracefork import _config
from gracefork._fault import Fault
from gracefork._mapping import translated

PACKAGE = str(Path(_config.__file__).parents[1])


class Reading(Case):
    def read(self, text: str) -> _config.Cfg:
        return _config.read(self.file("gunicorn_config.py", text))

    def fault(self, text: str) -> Fault:
        with self.assertRaises(Fault) as raised:
            self.read(text)
        self.assertEqual(raised.exception.status, 1)
        return raised.exception

    def test_the_file_runs_as_it_does_under_gunicorn(self):
        cfg = self.read(
            """
            import os
            assert __name__ == "__config__"
            proc_name = os.path.basename(__file__)
            """
        )
        self.assertEqual(cfg.proc_name, "gunicorn_config.py")
        self.assertIn("__config__", sys.modules)

    def test_it_can_import_what_lies_in_the_working_directory(self):
        self.file("numbers_of_mine.py", "WORKERS = 3\n")
        cfg = self.read("from numbers_of_mine import WORKERS as workers\n")
        self.assertEqual(cfg.workers, 3)

    def test_only_the_lower_case_names_of_settings_count(self):
        cfg = self.read("Workers = 7\nthreads_of_mine = 8\nthreads = 2\n_x = 1\n")
        self.assertEqual(cfg.given, {"threads": 2})
        self.assertEqual(cfg.workers, 1)

    def test_a_module_can_be_named_instead(self):
        self.file("conf_package/__init__.py", "")
        self.file("conf_package/production.py", "workers = 5\n")
        self.assertEqual(_config.read("python:conf_package.production").workers, 5)
        self.assertEqual(_config.read("file:conf_package/production.py").workers, 5)

    def test_a_module_with_a_mistake_is_told_by_its_file(self):
        path = self.file("conf_package/wrong.py", "workers = 'many'\n")
        self.file("conf_package/needs.py", "import nothing_like_this\n")
        for name, problem in (
            ("conf_package.wrong", f"{path}:1: `workers = 'many'`"),
            ("conf_package.missing", "there is no module 'conf_package.missing' for the config"),
            ("nothing.at.all", "there is no module 'nothing' for the config"),
            ("conf_package.needs", "the config file python:conf_package.needs fails"),
        ):
            with self.assertRaises(Fault) as raised:
                _config.read(f"python:{name}")
            self.assertIn(problem, raised.exception.problem)

    def test_folders_to_import_from_come_before_the_working_directory(self):
        self.file("src/conf_module.py", "workers = 3\n")
        self.file("conf_module.py", "workers = 2\n")
        os.environ["GRACEFORK_PYTHON_PATH"] = f"{self.folder}/lib:{self.folder}/src"
        self.assertEqual(_config.read("python:conf_module").workers, 3)

    def test_values_are_taken_as_gunicorn_takes_them(self):
        cfg = self.read(
            """
            workers = "0x3"
            preload_app = " True "
            bind = "127.0.0.1:9000"
            forwarded_allow_ips = "10.0.0.0/8, 127.0.0.1"
            proxy_protocol = True
            user = "0"
            asgi_loop = "UVLOOP"
            """
        )
        self.assertEqual(cfg.workers, 3)
        self.assertIs(cfg.preload_app, True)
        self.assertEqual(cfg.bind, ["127.0.0.1:9000"])
        self.assertEqual(cfg.address, [("127.0.0.1", 9000)])
        self.assertEqual(cfg.forwarded_allow_ips, ["10.0.0.0/8", "127.0.0.1"])
        self.assertEqual(cfg.proxy_protocol, "auto")
        self.assertEqual(cfg.user, 0)
        self.assertEqual(cfg.asgi_loop, "uvloop")

    def test_a_hook_may_be_named_by_its_module(self):
        self.file("hooks_of_mine.py", "def ready(server):\n    return 'ready'\n")
        cfg = self.read("when_ready = 'hooks_of_mine.ready'\n")
        self.assertEqual(cfg.when_ready(None), "ready")

    def test_a_post_request_hook_may_leave_arguments_out(self):
        cfg = self.read("def post_request(worker, req): return (worker, req)\n")
        self.assertEqual(cfg.post_request(1, 2, 3, 4), (1, 2))
        cfg = self.read("def post_request(worker, req, environ): return environ\n")
        self.assertEqual(cfg.post_request(1, 2, 3, 4), 3)

    def test_values_of_the_wrong_kind_are_told_with_what_fits(self):
        for text, problem in (
            ("workers = 'many'", "expected a whole number"),
            ("workers = -1", "not negative"),
            ("workers = 2.5", "expected a whole number"),
            ("preload_app = 1", "expected True or False"),
            ("accesslog = 5", "expected a string"),
            ("forwarded_allow_ips = '10.0.0.1/8'", "has host bits set"),
            ("chdir = '/no/such/folder'", "there is no such folder"),
            ("user = 'nobody-by-this-name'", "there is no such user"),
            ("asgi_lifespan = 'maybe'", "expected one of auto, on, off"),
        ):
            with self.subTest(text):
                fault = self.fault(text + "\n")
                self.assertIn(problem, fault.problem)
                self.assertIn(f"gunicorn_config.py:1: `{text.split()[0]} =", fault.problem)
                self.assertEqual(len(fault.report.splitlines()), 2)

    def test_a_hook_of_the_wrong_signature_is_told_with_the_right_one(self):
        fault = self.fault("workers = 2\n\ndef post_fork(server): pass\n")
        self.assertTrue(
            fault.problem.endswith(
                "gunicorn_config.py:3: `def post_fork(server)`: "
                "expected a function of (server, worker), it takes 1"
            ),
            fault.problem,
        )
        fault = self.fault("post_fork = 3\n")
        self.assertIn("expected a function", fault.problem)
        fault = self.fault("when_ready = 'no_such_module.ready'\n")
        self.assertIn("No module named 'no_such_module'", fault.problem)

    def test_code_that_raises_is_shown_by_its_own_frames_alone(self):
        fault = self.fault("def divide():\n    return 1 / 0\n\ndivide()\n")
        lines = fault.report.splitlines()
        self.assertEqual(lines[0], "Traceback (most recent call last):")
        self.assertIn("gunicorn_config.py", lines[1])
        self.assertNotIn("importlib", fault.report)
        self.assertNotIn('_config.py", line', fault.report.replace("gunicorn_config.py", ""))
        self.assertIn("ZeroDivisionError: division by zero", fault.report)
        self.assertIn("error: the config file", lines[-2])
        self.assertIn("help: ", lines[-1])

    def test_a_syntax_error_a_missing_module_and_an_exit_are_told(self):
        self.assertIn("SyntaxError", self.fault("def\n").report)
        self.assertIn("install no_such_module", self.fault("import no_such_module\n").report)
        self.assertIn("SystemExit: 3", self.fault("raise SystemExit(3)\n").report)

    def test_a_file_that_is_not_there_is_told(self):
        with self.assertRaises(Fault) as raised:
            _config.read("no.py")
        self.assertIn(f"there is no config file no.py in {self.folder}", raised.exception.problem)

    def test_the_settings_that_hooks_see_cannot_be_written_by_accident(self):
        cfg = self.read("workers = 2\n")
        with self.assertRaises(AttributeError):
            cfg.workers = 3
        with self.assertRaises(AttributeError):
            _ = cfg.wrokers
        cfg.set("workers", "3")
        self.assertEqual(cfg.workers, 3)


class Translating(Case):
    def keys(self, text: str) -> dict:
        return self.answer(text)["settings"]

    def answer(self, text: str) -> dict:
        cfg = _config.read(self.file("gunicorn_config.py", text))
        return translated(cfg.given, "gunicorn_config.py")

    def test_only_what_is_given_is_translated(self):
        self.assertEqual(self.keys("x = 1\n"), {})
        self.assertEqual(self.keys("keepalive = 2\n"), {"http.keep_alive": "2s"})

    def test_a_file_of_everyday_settings(self):
        keys = self.keys(
            """
            workers = 4
            threads = 8
            worker_class = "gthread"
            timeout = 60
            graceful_timeout = 45
            max_requests = 1000
            max_requests_jitter = 100
            preload_app = True
            accesslog = "-"
            errorlog = "/var/log/app.log"
            loglevel = "WARNING"
            raw_env = ["A=b", "C=d=e"]
            umask = 0o27
            user = "0"
            group = 1
            initgroups = True
            limit_request_line = 0
            proxy_protocol = "v2"
            backlog = 64
            pidfile = "/run/app.pid"
            pythonpath = "src, /opt/lib"
            root_path = "shop"
            websocket_max_message_size = 65536
            """
        )
        self.assertEqual(
            keys,
            {
                "workers.count": 4,
                "workers.threads": 8,
                "python.interface": "wsgi",
                "workers.hang_timeout": "60s",
                "shutdown.drain_timeout": "45s",
                "workers.max_requests": 1000,
                "workers.max_requests_jitter": 100,
                "workers.preload": True,
                "log.access": "-",
                "log.file": "/var/log/app.log",
                "log.level": "warn",
                "env": {"A": "b", "C": "d=e"},
                "security.umask": "027",
                "security.user": 0,
                "security.group": 1,
                "security.initgroups": True,
                "http.limit_request_line": 0,
                "http.proxy_protocol": True,
                "listen.backlog": 64,
                "pidfile": "/run/app.pid",
                "python.path": ["src", "/opt/lib"],
                "python.root_path": "/shop",
                "python.ws_max_message_size": 65536,
            },
        )

    def test_addresses_are_written_as_gracefork_writes_them(self):
        for written, address in (
            ("127.0.0.1", "127.0.0.1:8000"),
            (":8080", ":8080"),
            ("[::]:80", "[::]:80"),
            ("[::1]", "[::1]:8000"),
            ("tcp://0.0.0.0:80", "0.0.0.0:80"),
            ("unix:/run/app.sock", "unix:/run/app.sock"),
            ("unix:///run/app.sock", "unix:/run/app.sock"),
            ("unix:app.sock", "unix:app.sock"),
            ("fd://3", "fd:3"),
        ):
            with self.subTest(written):
                keys = self.keys(f"bind = [{written!r}]\n")
                self.assertEqual(keys, {"listen.bind": [address]})

    def test_worker_classes_tell_the_interface(self):
        for name, interface in (
            ("sync", "wsgi"),
            ("egg:gunicorn#sync", "wsgi"),
            ("gunicorn.workers.gthread.ThreadWorker", "wsgi"),
            ("asgi", "asgi"),
            ("uvicorn.workers.UvicornWorker", "uvicorn"),
            ("uvicorn_worker.UvicornWorker", "uvicorn"),
        ):
            keys = self.keys(f"worker_class = {name!r}\n")
            self.assertEqual(keys, {"python.interface": interface}, name)

    def test_a_worker_class_of_ones_own_counts_as_what_it_is_made_from(self):
        keys = self.keys(
            """
            class UvicornWorker: pass
            class worker_class(UvicornWorker): pass
            """
        )
        self.assertEqual(keys, {"python.interface": "uvicorn"})

    def test_what_it_says_to_uvicorn_is_set_here(self):
        self.file("uvicorn_worker.py", "class UvicornWorker: CONFIG_KWARGS = {'loop': 'auto'}\n")
        self.file(
            "code/workers_of_mine.py",
            """
            from uvicorn_worker import UvicornWorker

            class Base(UvicornWorker):
                CONFIG_KWARGS = {"root_path": "/not", "lifespan": "off"}

            class Worker(Base):
                CONFIG_KWARGS = {
                    "loop": "asyncio", "timeout_keep_alive": 65, "ws_max_size": 4096, "http": "h11",
                    "root_path": "api", "ws_ping_interval": 2.5, "limit_max_requests": None,
                    "forwarded_allow_ips": ["10.0.0.1", "10.1.0.0/16"], "proxy_headers": True,
                }

            class Plain(UvicornWorker):
                pass
            """,
        )
        answer = self.answer(
            "chdir = 'code'\nkeepalive = 5\nworker_class = 'workers_of_mine.Worker'\n"
        )
        del answer["settings"]["chdir"]
        self.assertEqual(
            answer["settings"],
            {
                "python.interface": "uvicorn",
                "python.root_path": "/api",
                "python.loop": "asyncio",
                "python.ws_max_message_size": 4096,
                "python.ws_ping_interval": "2500ms",
                "http.keep_alive": "65s",
                "http.forwarded_allow_ips": ["10.0.0.1", "10.1.0.0/16"],
            },
        )
        self.assertEqual(answer["warnings"], [])
        keys = self.keys("worker_class = 'workers_of_mine.Plain'\n")
        self.assertEqual(keys, {"python.interface": "uvicorn"})

    def test_uvicorn_s_own_class_counts_as_somebody_has_changed_it(self):
        self.file("uvicorn_worker.py", "class UvicornWorker: CONFIG_KWARGS = {'loop': 'auto'}\n")
        keys = self.keys(
            """
            from uvicorn_worker import UvicornWorker
            UvicornWorker.CONFIG_KWARGS = {"lifespan": "off", "interface": "wsgi"}
            worker_class = "uvicorn_worker.UvicornWorker"
            """
        )
        self.assertEqual(keys, {"python.interface": "wsgi", "python.lifespan": "off"})

    def test_what_of_a_worker_class_is_not_carried_out_is_told(self):
        answer = self.answer(
            """
            class UvicornWorker: pass

            class worker_class(UvicornWorker):
                CONFIG_KWARGS = {"headers": [("a", "b")], "loop": "mine:Loop", "http": "h11",
                                 "log_config": "logging.yaml", "ws_ping_interval": float("inf")}

                def init_process(self): ...
            """
        )
        self.assertEqual(answer["settings"], {"python.interface": "uvicorn"})
        (warning,) = answer["warnings"]
        for name in (
            "worker_class.init_process",
            "['headers']",
            "['loop']",
            "['log_config']",
            "['ws_ping_interval']",
        ):
            self.assertIn(name, warning)
        self.assertNotIn("http", warning)

    def test_a_worker_class_that_is_not_known_is_told_with_the_reason(self):
        self.file("broken_worker.py", "import sys\nsys.exit('no licence')\n")
        for name, reason in (
            ("not_there.Worker", "No module named 'not_there'"),
            ("broken_worker.Worker", "no licence"),
            ("case.Case", "made from none that is known"),
            ("json.dumps", "no class"),
            ("worker", "not known"),
        ):
            answer = self.answer(f"worker_class = {name!r}\n")
            (warning,) = answer["warnings"]
            self.assertIn(reason, warning)
            self.assertEqual(answer["settings"], {}, name)

    def test_arguments_that_are_no_dict_are_an_error(self):
        text = "class UvicornWorker: CONFIG_KWARGS = ['loop']\nworker_class = UvicornWorker\n"
        with self.assertRaises(Fault) as raised:
            self.keys(text)
        self.assertIn("CONFIG_KWARGS of UvicornWorker is of type list", raised.exception.problem)

    def test_only_a_class_of_gunicorn_s_is_of_another_loop_by_its_name(self):
        self.file("mine.py", "class UvicornWorker: pass\nclass NoGevent(UvicornWorker): pass\n")
        self.assertEqual(
            self.keys("worker_class = 'mine.NoGevent'\n"), {"python.interface": "uvicorn"}
        )

    def test_a_worker_class_without_a_place_is_an_error_that_names_the_way_out(self):
        for name in (
            "gevent",
            "egg:gunicorn#gevent",
            "eventlet",
            "tornado",
            "gunicorn.workers.ggevent.GeventWorker",
        ):
            with self.assertRaises(Fault) as raised:
                self.keys(f"worker_class = {name!r}\n")
            self.assertIn("threads = 8", raised.exception.help)

    def test_what_would_be_missed_is_refused(self):
        for text in ("certfile = 'a.pem'", "protocol = 'uwsgi'", "paste = 'production.ini'"):
            with self.subTest(text), self.assertRaises(Fault):
                self.keys(text + "\n")
        self.assertEqual(self.keys("certfile = None\nprotocol = 'http'\n"), {})

    def test_an_environment_setting_without_a_value_is_told(self):
        with self.assertRaises(Fault) as raised:
            self.keys("raw_env = ['NAME']\n")
        self.assertIn("NAME", raised.exception.problem)


class Program(Case):
    def run_it(self, text: str) -> subprocess.CompletedProcess:
        path = self.file("gunicorn_config.py", text)
        env = {**os.environ, "PYTHONPATH": PACKAGE, "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-m", "gracefork._config", path]
        return subprocess.run(command, capture_output=True, text=True, env=env, timeout=60)

    def test_what_the_file_starts_is_not_waited_for(self):
        done = self.run_it(
            """
            import threading, time
            threading.Thread(target=time.sleep, args=(600,)).start()
            workers = 3
            """
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(json.loads(done.stdout)["settings"], {"workers.count": 3})

    def test_it_answers_in_json_whatever_the_file_prints(self):
        done = self.run_it(
            """
            import os
            print("noise")
            os.system("echo more noise")
            wsgi_app = "main:app"
            workers = 2
            worker_tmp_dir = "/dev/shm"
            spew = False
            proc_name = "mine"
            """
        )
        answer = json.loads(done.stdout)
        self.assertEqual(answer["settings"], {"workers.count": 2})
        self.assertEqual(answer["app"], "main:app")
        self.assertEqual(len(answer["warnings"]), 1)
        self.assertIn("nothing here needs proc_name, worker_tmp_dir:", answer["warnings"][0])
        self.assertIn("noise", done.stderr)
        self.assertEqual(done.returncode, 0)

    def test_it_exits_1_with_a_report(self):
        done = self.run_it("workers = 'x'\n")
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn("error: ", done.stderr)
        self.assertIn("help: ", done.stderr)


if __name__ == "__main__":
    unittest.main()
