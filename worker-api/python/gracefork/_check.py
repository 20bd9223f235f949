"""Imports the app as a host or a worker would, and tells what is wrong: ``gracefork check``.

Nothing is served and no hook is called.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from . import _owner
from ._config import standard_output_kept
from ._fault import Fault, leave
from ._hooks import SOFTWARE, load


def main(arguments: list[str]) -> NoReturn:
    """Imports the app that the environment names, says ``imported`` or ``refused``, and ends. The
    environment and the arguments are those of a host."""
    sys.argv[:] = ["gracefork", *arguments]
    environ = os.environ
    for name in ("GRACEFORK_HOST_FD", "GRACEFORK_HOST_FIRST", "WATCHDOG_PID"):
        environ.pop(name, None)
    environ["SERVER_SOFTWARE"] = SOFTWARE
    with standard_output_kept() as answer:
        try:
            server = load()
            # With preload_app it is the host that imports it.
            if _owner.IS_NAMED and not server.cfg.preload_app:
                _owner.become(environ)
            server.app.load()
        except Fault as fault:
            fault.print()
            answer.write(b"refused\n")
            answer.flush()
            leave(fault.status)
        answer.write(b"imported\n")
    leave(0)
