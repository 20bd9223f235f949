"""The host's side of gunicorn's server hooks.

The host calls `load` once, then `Server.start`, then one method for each thing that happens. A hook
that fails ends the start if it belongs to it, and is logged otherwise: a pod that serves is not
taken down by a notification.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from . import _app
from ._config import Cfg, prepare_path, python_path, read
from ._fault import BAD_CONFIG, Fault, trimmed
from ._log import Log
from ._objects import Listener, Worker, addresses

#: Apps look for gunicorn in ``SERVER_SOFTWARE`` to know whether somebody serves them.
SOFTWARE = "gracefork (gunicorn compatible)"

_FIRST_LISTENER = 3
_MICROSECONDS = 1_000_000


class Application:
    """gunicorn's application object: ``server.app`` and ``worker.app``."""

    def __init__(self, cfg: Cfg, name: str, interface: str) -> None:
        self.cfg = cfg
        self.app_uri = name
        self._interface = interface
        self._loaded: _app.App | None = None

    @property
    def is_loaded(self) -> bool:
        """Whether the app was imported in this process, or in the host before it."""
        return self._loaded is not None

    def load(self) -> _app.App:
        """The app, imported at the first call. Raises `Fault` when it cannot be."""
        if self._loaded is None:
            self._loaded = _app.load(self.app_uri, self._interface)
        return self._loaded

    def wsgi(self) -> Any:
        """The app that is called; gunicorn's name for it, whatever its kind."""
        return self.load().call

    @property
    def callable(self) -> Any:
        """The same, as gunicorn keeps it."""
        return self.wsgi()


class Server:
    """What hooks are given as ``server``: gunicorn's arbiter, as far as it makes sense here.

    ``pid`` is the master's, the one to signal; ``WORKERS`` are those that this host has forked, by
    pid. The lower-case methods are the host's.
    """

    def __init__(self, cfg: Cfg, environ: Mapping[str, str], listeners: list[Listener]) -> None:
        self.cfg = cfg
        self.log = Log(cfg)
        self.pid = os.getppid()
        self.num_workers = int(cfg.workers)
        self.timeout = cfg.timeout
        self.proc_name = cfg.proc_name or environ.get("GRACEFORK_APP") or cfg.default_proc_name
        self.worker_age = 0
        self.LISTENERS = listeners
        self.WORKERS: dict[int, Worker] = {}
        interface = environ.get("GRACEFORK_PYTHON_INTERFACE", "auto")
        self.app = Application(cfg, environ.get("GRACEFORK_APP", ""), interface)
        self._preload = environ.get("GRACEFORK_PRELOAD") == "1"
        #: The worker that the next or the current fork is for.
        self.booting: Worker | None = None

    @property
    def address(self) -> list[Any]:
        """Where the server listens."""
        return [listener.getsockname() for listener in self.LISTENERS]

    def start(self) -> None:
        """``nworkers_changed``, the app's import with ``preload_app``, and ``on_starting``: before
        the host is ready. Raises `Fault` when the start has to end."""
        self._must("nworkers_changed", self.num_workers, None)
        if self._preload:
            self.app.load()
        self._must("on_starting")

    def about_to_fork(self, slot: int, generation: int) -> Worker:
        """``pre_fork``. What the hook raises goes to the caller as a `Fault`: no fork then."""
        self.worker_age += 1
        self.booting = Worker(self, self.worker_age, slot, generation)
        self._must("pre_fork", self.booting)
        return self.booting

    def forked(self, worker: Worker, pid: int) -> None:
        """The fork was done, in the host."""
        worker.pid = pid
        self.WORKERS[pid] = worker

    def ready(self) -> None:
        """``when_ready``: the pod is ready."""
        self._may("when_ready")

    def exited(self, pid: int) -> None:
        """``child_exit``: a worker of this host has gone."""
        worker = self.WORKERS.pop(pid, None)
        if worker is not None:
            worker.goes()
            self._may("child_exit", worker)

    def resized(self, workers: int, before: int) -> None:
        """``nworkers_changed``: there are to be more workers, or fewer."""
        self.num_workers = workers
        self._may("nworkers_changed", workers, before)

    def reloading(self) -> None:
        """``on_reload``: another host is about to take over."""
        self._may("on_reload")

    def stopping(self) -> None:
        """``on_exit``: the last worker of the pod has gone."""
        self._may("on_exit")

    def _must(self, hook: str, *arguments: Any) -> None:
        function = getattr(self.cfg, hook)
        if function is None:
            return
        try:
            function(self, *arguments)
        except (Exception, SystemExit) as error:
            help = "correct what the traceback names"
            raise Fault(f"the hook {hook} failed", help, BAD_CONFIG, error) from error

    def _may(self, hook: str, *arguments: Any) -> None:
        function = getattr(self.cfg, hook)
        if function is None:
            return
        try:
            function(self, *arguments)
        except (Exception, SystemExit) as error:
            self.log.error("the hook %s failed:\n%s", hook, trimmed(error))


def load() -> Server:
    """Reads what the master gave this host and runs the gunicorn config file, if there is one.

    Raises `Fault` when the file cannot be used.
    """
    environ = os.environ
    location = environ.get("GRACEFORK_PYTHON_CONFIG")
    start = environ.pop("GRACEFORK_HOST_START", os.curdir)
    cfg = Cfg({}) if location is None else _read_in(start, location)
    prepare_path()
    listeners = addresses(_FIRST_LISTENER, int(environ.get("LISTEN_FDS", "0")))
    _overlay(cfg, environ, listeners, location)
    return Server(cfg, environ, listeners)


def _read_in(start: str, location: str) -> Cfg:
    """Runs the config file where gracefork was started, as gunicorn does."""
    here = os.getcwd()
    # What it imports may lie beside the app, though.
    prepare_path()
    os.chdir(start)
    try:
        return read(location)
    finally:
        os.chdir(here)


def _overlay(
    cfg: Cfg, environ: Mapping[str, str], listeners: list[Listener], location: str | None
) -> None:
    """Lets ``cfg`` tell what is in force, since flags and variables go over the file."""
    values = cfg.settings
    numbers = {
        "workers": "GRACEFORK_WORKER_COUNT",
        "threads": "GRACEFORK_THREADS",
        "worker_connections": "GRACEFORK_MAX_CONNECTIONS",
        "limit_request_line": "GRACEFORK_LIMIT_REQUEST_LINE",
        "limit_request_fields": "GRACEFORK_LIMIT_REQUEST_FIELDS",
        "limit_request_field_size": "GRACEFORK_LIMIT_REQUEST_FIELD_SIZE",
        "websocket_max_message_size": "GRACEFORK_PYTHON_WS_MAX_MESSAGE_SIZE",
        "user": "GRACEFORK_UID",
        "group": "GRACEFORK_GID",
    }
    times = {
        "timeout": "GRACEFORK_HANG_TIMEOUT_USEC",
        "keepalive": "GRACEFORK_KEEP_ALIVE_USEC",
        "graceful_timeout": "GRACEFORK_DRAIN_TIMEOUT_USEC",
    }
    values.update({name: int(environ[key]) for name, key in numbers.items() if key in environ})
    values.update(
        {name: int(environ[key]) // _MICROSECONDS for name, key in times.items() if key in environ}
    )
    if "GRACEFORK_PYTHON_ROOT_PATH" in environ:
        values["root_path"] = environ["GRACEFORK_PYTHON_ROOT_PATH"]
    if "GRACEFORK_PRELOAD" in environ:
        values["preload_app"] = environ["GRACEFORK_PRELOAD"] == "1"
    if "GRACEFORK_LOG_LEVEL" in environ:
        level = environ["GRACEFORK_LOG_LEVEL"]
        values["loglevel"] = {"warn": "warning", "trace": "debug"}.get(level, level)
    if listeners:
        values["bind"] = [str(listener).removeprefix("http://") for listener in listeners]
    if location is not None:
        values["config"] = location
    values["pythonpath"] = ",".join(python_path()) or None
    values["chdir"] = os.getcwd()
