"""Imports the app as a host or a worker would, and tells what is wrong: ``gracefork check``.

Nothing is served and no hook is called. Threads that the app starts are not waited for.
"""

from __future__ import annotations

import os
import sys
import threading

from . import _owner
from ._config import standard_output_kept
from ._fault import Fault
from ._hooks import load


def main(arguments: list[str]) -> int:
    """Imports the app that the environment names, and says ``imported`` where that worked; returns
    the exit status. The environment and the arguments are those of a host."""
    sys.argv[:] = ["gracefork", *arguments]
    environ = os.environ
    for name in ("GRACEFORK_HOST_FD", "GRACEFORK_HOST_FIRST", "WATCHDOG_PID"):
        environ.pop(name, None)
    environ["SERVER_SOFTWARE"] = "gracefork (gunicorn compatible)"
    try:
        with standard_output_kept() as answer:
            server = load()
            # With preload_app it is the host that imports it.
            if _owner.IS_NAMED and not server.cfg.preload_app:
                _owner.become(environ)
            server.app.load()
            answer.write(b"imported\n")
    except Fault as fault:
        fault.print()
        return _end(fault.status)
    return _end(0)


def _end(status: int) -> int:
    if threading.active_count() > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status
