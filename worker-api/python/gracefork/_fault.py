"""What is wrong with what the user gave, told so that the user can mend it."""

from __future__ import annotations

import os
import sys
import traceback
from typing import NoReturn

#: Exit status: the configuration, or a hook of it, cannot be used.
BAD_CONFIG = 1
#: Exit status: a worker could not boot.
BOOT_FAILED = 3
#: Exit status: the app could not be loaded.
BAD_APP = 4

_OWN_FOLDER = os.path.dirname(os.path.abspath(__file__))
_MOST_OF_A_REASON = 500


class Fault(Exception):
    """A mistake that is not gracefork's: what is wrong, what to do, and the exit status.

    ``cause`` is what the user's code raised, if it did; its traceback is shown, less the frames
    that are not the user's.
    """

    def __init__(
        self,
        problem: str,
        help: str,
        status: int,
        cause: BaseException | None = None,
    ) -> None:
        super().__init__(problem)
        self.problem = problem
        self.help = help
        self.status = status
        self.cause = cause

    @property
    def reason(self) -> str:
        """The problem in one line, for a message to the master."""
        line = " ".join(self.problem.split())
        if self.cause is not None:
            line = f"{line}: {in_one_line(self.cause)}"
        return line[:_MOST_OF_A_REASON]

    @property
    def report(self) -> str:
        """All of it, for a person: the traceback, the problem, what to do."""
        shown = "" if self.cause is None else trimmed(self.cause)
        return f"{shown}error: {self.problem}\n  = help: {self.help}\n"

    def print(self) -> None:
        """Writes the report to standard error."""
        sys.stderr.write(self.report)
        sys.stderr.flush()


def leave(status: int) -> NoReturn:
    """Ends a process that has run the user's code and said what it was asked: threads, children and
    exit handlers of that code are not waited for."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            pass
    os._exit(status)


def in_one_line(error: BaseException) -> str:
    """An exception as Python names it in the last line of a traceback."""
    return " ".join("".join(traceback.format_exception_only(type(error), error)).split())


def trimmed(error: BaseException) -> str:
    """The traceback of ``error`` without the frames of gracefork and of the import system."""
    shown = traceback.TracebackException.from_exception(error)
    _trim(shown, set())
    return "".join(shown.format())


def _trim(shown: traceback.TracebackException, seen: set[int]) -> None:
    if id(shown) in seen:
        return
    seen.add(id(shown))
    shown.stack[:] = [frame for frame in shown.stack if _is_users(frame.filename)]
    for other in (shown.__cause__, shown.__context__):
        if other is not None:
            _trim(other, seen)


def _is_users(filename: str) -> bool:
    if filename.startswith(("<frozen importlib", "<frozen runpy")):
        return False
    folder = os.path.dirname(os.path.abspath(filename))
    return folder != _OWN_FOLDER and os.path.basename(folder) != "importlib"
