"""What a fork in a call of a WSGI app needs: `multiprocessing`, or `os.fork` by hand.

Calls are made on threads that Python has not started. Where such a thread is known to `threading`,
as it is after a line of a log, the child's main thread is a dummy, and CPython before 3.11.8 and
3.12.2 fails at its end: `multiprocessing` tells of 1, whatever the child did
(https://github.com/python/cpython/issues/102512).
"""

from __future__ import annotations

import os
import threading
from typing import Any


def mend() -> None:
    """From now on a child's main thread is one."""
    if hasattr(threading.Thread, "_set_tstate_lock"):
        os.register_at_fork(after_in_child=_after)


def _after() -> None:
    # `threading` has been here before.
    inside: Any = threading
    main: Any = threading.main_thread()
    if isinstance(main, inside._DummyThread):
        main.__class__ = inside._MainThread
        main._name = "MainThread"
        main._daemonic = False
        main._set_tstate_lock()
