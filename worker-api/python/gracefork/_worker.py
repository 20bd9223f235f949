"""A worker's life, in the process that the host has forked for it."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import atexit
import faulthandler
import os
import sys
import threading
from typing import TYPE_CHECKING, Any, NoReturn

from . import _current, _forks, _owner
from ._fault import BOOT_FAILED, Fault, in_one_line, trimmed
from ._hooks import Server
from ._objects import Request, Worker
from ._orders import Leave, Orders

if TYPE_CHECKING:
    from ._gracefork import Worker as Native

_CRASHED = 255


def _seconds(name: str, default: str) -> float:
    return int(os.environ.get(name, default)) / 1_000_000


# What the master has said to the host is the same for each of its workers.
_PING_INTERVAL = _seconds("GRACEFORK_PYTHON_WS_PING_INTERVAL_USEC", "20000000")
_CLOSE_GRACE = _seconds("GRACEFORK_PYTHON_WS_CLOSE_GRACE_USEC", "5000000")
_HANG_TIMEOUT = _seconds("GRACEFORK_HANG_TIMEOUT_USEC", "0")


def run(
    slot: int,
    generation: int,
    control_fd: int,
    max_requests: int,
    server: Server,
    native: type[Native],
) -> NoReturn:
    """Lives a worker's life and ends the process.

    ``control_fd`` is the worker's end of its control channel, which it takes over; ``native`` makes
    its native part. The signals that it handles are still blocked when this is called.
    """
    os.setpgid(0, 0)
    worker = server.booting or Worker(server, 0, slot, generation)
    worker.pid = os.getpid()
    os.environ["GRACEFORK_WORKER"] = str(slot)
    os.environ["LISTEN_PID"] = str(worker.pid)
    orders = Orders(worker)
    status = _CRASHED
    try:
        status = _live(worker, server, orders, native, control_fd, max_requests)
    except Leave as leave:
        # It was told to go while it told why it cannot work.
        status = leave.status
    except BaseException as error:
        sys.stderr.write(trimmed(error))
    finally:
        orders.leaving = True
        _leave(worker, server, status)


def _live(
    worker: Worker,
    server: Server,
    orders: Orders,
    native: type[Native],
    control_fd: int,
    max_requests: int,
) -> int:
    """From the fork to the last request; returns the exit status."""
    try:
        orders.install()
        orders.native = native(worker.slot, worker.generation, control_fd, max_requests, orders)
        worker.native = orders.native
        _boot(worker, server, orders)
        _serve(worker, server, orders)
        return 0
    except Leave as leave:
        return leave.status
    except SystemExit as error:
        return _status_of(error)
    except Fault as fault:
        return _given_up(worker, fault)
    except Exception as error:
        server.log.error("Exception in worker process:\n%s", trimmed(error))
        return _CRASHED if worker.booted else BOOT_FAILED


def _boot(worker: Worker, server: Server, orders: Orders) -> None:
    """In gunicorn's order: ``post_fork``, the user, the app, ``post_worker_init``."""
    _current.become(orders.native)
    orders.take_effect()
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
    orders.leave_if_draining()
    _hook("post_fork", server.cfg.post_fork, server, worker)
    if _owner.IS_NAMED:
        _owner.become(os.environ)
    app = server.app.load()
    worker.wsgi = app.call
    _hook("post_worker_init", server.cfg.post_worker_init, worker)
    worker.booted = True


def _serve(worker: Worker, server: Server, orders: Orders) -> None:
    app = server.app.load()
    options = _options(worker, server)
    if app.interface == "asgi":
        from ._asgi import serve
        from ._paths import sends_paths
        from ._request_hooks import around

        options["pathsend"] = sends_paths(worker.wsgi)
        server.log.lend_to("uvicorn.error")
        hooks = server.cfg.pre_request, server.cfg.post_request
        serve(worker.native, around(worker.wsgi, worker, *hooks), options, orders)
        return
    from ._gracefork import serve_wsgi

    _forks.mend()
    orders.booting = False
    serve_wsgi(worker.native, worker.wsgi, options)


def _options(worker: Worker, server: Server) -> dict[str, Any]:
    """What the native part is told besides its settings in the environment."""
    cfg = server.cfg
    return {
        "multiprocess": server.num_workers > 1,
        "script_name": os.environ.get("SCRIPT_NAME", ""),
        "root_path": cfg.root_path or "",
        "ws_max_message_size": cfg.websocket_max_message_size,
        "ws_ping_interval": _PING_INTERVAL,
        "ws_close_grace": _CLOSE_GRACE,
        "hang_timeout": _HANG_TIMEOUT,
        "worker": worker,
        "request": Request,
        "pre_request": cfg.pre_request,
        "post_request": cfg.post_request,
    }


def _hook(name: str, function: Any, *arguments: Any) -> None:
    if function is None:
        return
    try:
        function(*arguments)
    except Exception as error:
        help = "correct what the traceback names"
        raise Fault(f"the hook {name} failed", help, BOOT_FAILED, error) from error


def _given_up(worker: Worker, fault: Fault) -> int:
    """The worker cannot work; at the start of the pod another one would fare no better."""
    fault.print()
    if worker.native is not None:
        if worker.native.pod_phase() == "boot":
            worker.native.fatal(fault.reason)
        else:
            # For who asks what became of a reload.
            worker.native.status(fault.reason)
    return fault.status


def _status_of(error: SystemExit) -> int:
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code & 0xFF
    sys.stderr.write(f"{error.code}\n")
    return 1


def _leave(worker: Worker, server: Server, status: int) -> NoReturn:
    """What Python does at the end of a program, but for taking the interpreter apart: threads that
    are no daemons end, then what was registered with ``atexit`` runs. gunicorn's ``worker_exit``
    comes first. One that was aborted waits for no thread: clients still come to it, and their
    requests would end with it."""
    try:
        worker.goes()
        if server.cfg.worker_exit is not None:
            try:
                server.cfg.worker_exit(server, worker)
            except Exception as error:
                server.log.warning("Exception during worker exit:\n%s", trimmed(error))
        if worker.native is None or worker.native.stage() != "forced":
            if not worker.aborted:
                threading._shutdown()  # type: ignore[attr-defined]
            atexit._run_exitfuncs()
    except BaseException as error:
        sys.stderr.write(f"while leaving: {in_one_line(error)}\n")
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except Exception:
                pass
        faulthandler.disable()
        os._exit(status)
