"""Imports an app and tells what is wrong with it, for ``gracefork check``: nothing is served."""

from __future__ import annotations

import os
import sys
import threading

from ._app import load
from ._config import prepare_path, standard_output_kept
from ._fault import Fault


def main(arguments: list[str]) -> int:
    """Imports ``APP`` as an app of the kind ``INTERFACE``; returns the exit status."""
    name, interface = arguments
    sys.argv[:] = ["gracefork"]
    # As in a host.
    os.environ["SERVER_SOFTWARE"] = "gracefork (gunicorn compatible)"
    prepare_path()
    try:
        with standard_output_kept():
            load(name, interface)
    except Fault as fault:
        fault.print()
        return _end(fault.status)
    return _end(0)


def _end(status: int) -> int:
    """Threads that the app has started are not waited for."""
    if threading.active_count() > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status
