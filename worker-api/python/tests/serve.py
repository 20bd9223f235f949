"""A worker that serves an app with the real native part: run by `pod`."""

from __future__ import annotations

import fcntl
import importlib
import json
import os
import signal
import sys
import types

NAMES = (3, 4, 5)


def main() -> int:
    # A shell's background job, as the tests may be, hands down that it is ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    given = [int(it) for it in os.environ["TEST_DESCRIPTORS"].split()]
    kept = [fcntl.fcntl(fd, fcntl.F_DUPFD, 10) for fd in given]
    for fd, name in zip(kept, NAMES, strict=True):
        os.dup2(fd, name)
    os.environ["LISTEN_FDS"] = "1"
    os.environ["GRACEFORK_SCOREBOARD_FD"] = "4"
    # Not the sources beside this file: what is installed has the native part.
    sys.path[0] = os.environ["TEST_FOLDER"]
    from gracefork import _asgi, _fault, _gracefork

    module = importlib.import_module("app_under_test")
    app = module.app
    hooks = getattr(module, "hooks", None)
    worker = _gracefork.Worker(0, 1, 5, 0, hooks)
    if os.environ["TEST_INTERFACE"] == "wsgi":
        options = {**json.loads(os.environ["TEST_OPTIONS"]), **getattr(module, "options", {})}
        _gracefork.serve_wsgi(worker, app, options)
        return 0
    try:
        orders = types.SimpleNamespace(booting=True)
        _asgi.serve(worker, app, json.loads(os.environ["TEST_OPTIONS"]), orders)
    except _fault.Fault as fault:
        fault.print()
        worker.fatal(fault.reason)
        return fault.status
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
