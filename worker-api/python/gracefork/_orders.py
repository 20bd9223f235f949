"""What a worker does when it is told something: by the master on its channel, or by a signal.

The master's commands do the work: they come on the control channel, to a thread of the native part,
which calls the methods of `Orders`. Signals come besides, for handlers that the app installs, as
under gunicorn.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import faulthandler
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from . import _current
from ._fault import trimmed
from ._objects import Worker

_ON_THE_WAY_OUT = ("draining", "forced")


class Leave(BaseException):
    """The worker ends while it boots, or at a signal. No exception that an app would catch."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class LeaveLoop(Leave, SystemExit):
    """The same out of an event loop, which would keep any other exception to itself."""


class Orders:
    """The hooks that the native part calls, and the signals' handlers."""

    def __init__(self, worker: Worker) -> None:
        self.native: Any = None
        #: Whether the app is not yet served: then the worker may end at once.
        self.booting = True
        #: Whether the worker is on its way out already: nothing is to interrupt that.
        self.leaving = False
        self._worker = worker
        self._main = threading.get_ident()
        self._told_term = False
        self._told_abort = False

    # What the master says, on the control thread.

    def on_term(self) -> None:
        """The pod goes down; this worker serves on, unhealthy."""
        self._told_term = True
        self._call_each(_current.term_callbacks())
        # While the master holds the pod's health up for a while, this worker does as well.
        if self.native is not None and not self.native.is_healthy():
            self.native.mark_unhealthy()

    def on_drain(self) -> None:
        """This worker begins to drain."""
        self._worker.goes()
        self._call_each(_current.drain_callbacks())
        if self.native is None:
            return
        if not self._told_term and self.native.pod_phase() == "drain":
            self._hook("worker_int")
        if self.booting:
            signal.pthread_kill(self._main, signal.SIGTERM)

    def worker_abort(self) -> None:
        """What is in flight will be cut off."""
        if not self._told_abort:
            self._told_abort = True
            self._worker.aborted = True
            self._hook("worker_abort")

    def reopen_logs(self) -> None:
        """Log files were moved away."""
        self._worker.log.reopen_files()

    def take_effect(self) -> None:
        """Does what was said before there was a native part to do it."""
        if self._told_term and not self.native.is_healthy():
            self.native.mark_unhealthy()

    # Signals, on the main thread.

    def install(self) -> None:
        """Puts gracefork's handlers in place; the app may replace any of them."""
        # The C module, whose numbers are plain: `signal` makes enums of them, and what it writes to
        # then is one more copy in each worker.
        handle = _signal.signal
        for number in (_signal.SIGHUP, _signal.SIGCHLD, _signal.SIGUSR2):
            handle(number, _signal.SIG_DFL)
        handle(_signal.SIGWINCH, _signal.SIG_IGN)
        handle(_signal.SIGTERM, self._on_sigterm)
        handle(_signal.SIGINT, self._on_sigint)
        handle(_signal.SIGQUIT, self._on_sigquit)
        handle(_signal.SIGUSR1, self._on_sigusr1)
        faulthandler.disable()
        handle(_signal.SIGABRT, self._on_sigabrt)
        # Writes every thread's traceback first, then lets the handler above run.
        faulthandler.enable(file=2, all_threads=True)
        for number in (_signal.SIGTERM, _signal.SIGUSR1):
            _signal.siginterrupt(number, False)
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        """In a process that the app forks: it is no worker, and signals end it as elsewhere."""
        self.native = self._worker.native = None
        self.leaving = True
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1):
            handler = signal.getsignal(number)
            if isinstance(handler, _Composed):
                # The app's own may end the process here.
                handler = handler.handler
                signal.signal(number, handler)
            if getattr(handler, "__self__", None) is self:
                is_int = number == signal.SIGINT
                signal.signal(number, signal.default_int_handler if is_int else signal.SIG_DFL)

    def leave_if_draining(self) -> None:
        """Ends the worker if it is on its way out before it serves."""
        is_told = self.native is not None and self.native.stage() in _ON_THE_WAY_OUT
        if self.booting and is_told:
            self._leave(0)

    def _on_sigterm(self, number: int, _frame: FrameType | None) -> None:
        if self._is_elsewhere(number):
            return
        self.leave_if_draining()
        self._leave_by_itself()

    def _on_sigint(self, number: int, _frame: FrameType | None) -> None:
        if self._is_elsewhere(number):
            return
        self._hook("worker_int")
        self.leave_if_draining()
        self._leave_by_itself()

    def _is_elsewhere(self, number: int) -> bool:
        """Whether this is a process that the app has forked, which has not forgotten yet that it is
        no worker: the signal ends it then."""
        if os.getpid() == self._worker.pid:
            return False
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)
        return True

    def _leave_by_itself(self) -> None:
        """The signal is for this worker alone: where the pod goes down, that is known by now."""
        if self.booting:
            self._worker.goes()
        else:
            self._worker.leave()

    def _on_sigquit(self, _signal: int, _frame: FrameType | None) -> None:
        self._hook("worker_int")
        self._leave(0)

    def _on_sigusr1(self, _signal: int, _frame: FrameType | None) -> None:
        self.reopen_logs()

    def _on_sigabrt(self, _signal: int, _frame: FrameType | None) -> None:
        self._worker.goes()
        self.worker_abort()
        self._leave(1)

    def _leave(self, status: int) -> None:
        if self.leaving:
            return
        # Signals are handled on the thread that runs the loop.
        events = sys.modules.get("asyncio.events")
        if events is not None and events._get_running_loop() is not None:
            raise LeaveLoop(status)
        raise Leave(status)

    def _hook(self, name: str) -> None:
        function = getattr(self._worker.cfg, name)
        if function is not None:
            self._call_each([lambda: function(self._worker)])

    def _call_each(self, callbacks: list[Callable[[], Any]]) -> None:
        for callback in callbacks:
            try:
                callback()
            except Exception as error:
                self._worker.log.error("a hook failed:\n%s", trimmed(error))


def compose() -> None:
    """Keeps the app's own handlers of SIGTERM and SIGINT from ending an event loop.

    Many end with ``sys.exit()``, as they must elsewhere. Here the worker serves on until it has
    drained, so that is heard as "goes down", which the worker knows. (Without a loop the native
    part waits for signals, and sees to it.)
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        handler = signal.getsignal(number)
        if callable(handler) and not isinstance(handler, _Composed):
            signal.signal(number, _Composed(handler))


class _Composed:
    """A handler that cannot end the process by raising."""

    def __init__(self, handler: Callable[[int, FrameType | None], Any]) -> None:
        self.handler = handler

    def __call__(self, number: int, frame: FrameType | None) -> None:
        try:
            self.handler(number, frame)
        except (SystemExit, KeyboardInterrupt):
            pass
