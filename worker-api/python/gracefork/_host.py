"""The fork server of one generation: the interpreter, the hooks and, with ``preload``, the app are
loaded once, and workers are forked from it when the master says so.

``python -m gracefork._host`` is run by the master. The two speak ``KEY=VALUE`` lines over a
SOCK_SEQPACKET channel, whose number is in ``GRACEFORK_HOST_FD``. A worker is forked twice over, so
that it becomes a child of the master, which is a subreaper or PID 1; this process only learns its
pid, and tells it. It has one thread of its own, and it ends with its channel.

What it writes to while it forks, and what a worker writes to before it serves, is memory that they
no longer share: so both do without what is dear that way, the enums of `signal` above all.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import array
import faulthandler
import gc
import os
import select
import socket
import sys
import threading
import traceback
import warnings
from typing import NoReturn

from . import _ahead, _hooks, _opening, _worker
from ._fault import BAD_CONFIG, Fault, in_one_line
from ._gracefork import Worker as Native
from ._gracefork import inherit, release_file_pages
from ._hooks import Server
from ._objects import Worker

_MOST_OF_A_MESSAGE = 4096
_MOST_OF_A_PID = 32
_MOST_OF_A_REASON = 500
_QUIET = 1000  # milliseconds
#: Those that a worker has handlers for.
_SIGNALS = (
    *(_signal.SIGHUP, _signal.SIGINT, _signal.SIGQUIT, _signal.SIGABRT, _signal.SIGUSR1),
    *(_signal.SIGUSR2, _signal.SIGTERM, _signal.SIGCHLD, _signal.SIGWINCH),
)


class Master:
    """This end of the channel."""

    def __init__(self, number: int) -> None:
        self._channel = socket.SocketType(fileno=number)
        self._channel.setblocking(True)
        self._poll = select.poll()
        self._poll.register(number, select.POLLIN)

    def say(self, **words: object) -> None:
        """One message. A master that is gone is noticed when it is listened to."""
        lines = "".join(f"{key}={_in_one_line(value)}\n" for key, value in words.items())
        try:
            self._channel.send(lines.encode(errors="replace"))
        except OSError:
            pass

    def hear(self) -> tuple[dict[str, str], int | None] | None:
        """The next message and the descriptor that came with it; ``None`` at the end."""
        size = array.array("i").itemsize
        data, ancillary, _, _ = self._channel.recvmsg(
            _MOST_OF_A_MESSAGE, socket.CMSG_SPACE(size), socket.MSG_CMSG_CLOEXEC
        )
        if not data:
            return None
        descriptor = None
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                descriptor = int.from_bytes(payload[:size], sys.byteorder)
        lines = data.decode(errors="replace").splitlines()
        pairs = (line.partition("=") for line in lines)
        return {key: value for key, _, value in pairs}, descriptor

    def is_silent(self) -> bool:
        """Whether there is nothing to hear for a while."""
        return not self._poll.poll(_QUIET)

    def close(self) -> None:
        """In a worker, whose channel is another."""
        self._channel.close()


class Host:
    """The fork server, once everything is loaded."""

    def __init__(self, master: Master, server: Server) -> None:
        self._master = master
        self._server = server
        self._generation = int(os.environ["GRACEFORK_GENERATION"])
        self._told_threads: set[str] = set()

    def run(self) -> None:
        """Does what the master says, until it says that it is the end."""
        while True:
            if self._master.is_silent():
                # Libraries are what most of its memory is by now, and it may be long until the next
                # fork. It is more work the more the app has loaded.
                release_file_pages()
            heard = self._master.hear()
            if heard is None:
                return
            words, descriptor = heard
            if "QUIT" in words:
                self._server.stopping()
                return
            try:
                self._obey(words, descriptor)
            except (KeyError, ValueError) as error:
                self._server.log.warning("a message of the master makes no sense: %r", error)
            except OSError as error:
                # A full disk, for example, is no reason for workers not to be forked any more.
                self._server.log.error("what the master wants cannot be done: %s", error)
            finally:
                if descriptor is not None:
                    os.close(descriptor)

    def _obey(self, words: dict[str, str], descriptor: int | None) -> None:
        server = self._server
        if "FORK" in words and descriptor is not None:
            limit = int(words["MAX_REQUESTS"])
            self._fork(int(words["FORK"]), int(words["WORKER"]), limit, descriptor)
        elif "EXITED" in words:
            self._exited(int(words["PID"]), int(words["WORKER"]))
        elif "WHEN_READY" in words:
            server.ready()
        elif "WORKERS" in words:
            server.resized(int(words["WORKERS"]), int(words["BEFORE"]))
        elif "RELOAD" in words:
            server.reloading()
        elif "REOPEN" in words:
            server.log.reopen_files()

    def _fork(self, order: int, slot: int, max_requests: int, control: int) -> None:
        try:
            worker = self._server.about_to_fork(slot, self._generation)
        except Fault as fault:
            fault.print()
            self._master.say(REFUSED=order, REASON=fault.reason)
            return
        self._warn_of_threads()
        try:
            pid = self._fork_twice(slot, max_requests, control)
        except OSError as error:
            self._master.say(REFUSED=order, REASON=f"cannot fork: {error}")
            return
        self._server.forked(worker, pid)
        self._master.say(FORKED=order, PID=pid)

    def _fork_twice(self, slot: int, max_requests: int, control: int) -> int:
        """The worker's pid, once it has lost its parent to the master."""
        _flush()
        reader, writer = os.pipe()
        # None may find a worker that has no handlers yet: it lets them through when it has.
        before = _signal.pthread_sigmask(_signal.SIG_BLOCK, _SIGNALS)
        try:
            between = os.fork()
            if between == 0:
                self._between(writer, slot, max_requests, control)
        except OSError:
            os.close(reader)
            raise
        finally:
            _signal.pthread_sigmask(_signal.SIG_SETMASK, before)
            os.close(writer)
        # It is written at once, and fits.
        told = os.read(reader, _MOST_OF_A_PID)
        os.close(reader)
        try:
            os.waitpid(between, 0)
        except ChildProcessError:
            # The app ignores SIGCHLD.
            pass
        if not told:
            raise OSError("the system has no process left, or killed it at once")
        return int(told)

    def _between(self, writer: int, slot: int, max_requests: int, control: int) -> NoReturn:
        """In the child: fork the worker and end."""
        status = 1
        try:
            if os.fork() == 0:
                self._become_worker(writer, slot, max_requests, control)
            status = 0
        finally:
            os._exit(status)

    def _become_worker(self, writer: int, slot: int, max_requests: int, control: int) -> NoReturn:
        """In the grandchild: its own group first, since the host's ends with the host."""
        status = BAD_CONFIG
        try:
            os.setpgid(0, 0)
            os.write(writer, str(os.getpid()).encode())
            os.close(writer)
            self._master.close()
            # The message's own copy of it is closed in the host alone.
            _worker.run(slot, self._generation, control, max_requests, self._server, Native)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)

    def _warn_of_threads(self) -> None:
        if threading.active_count() == 1:
            return
        here = threading.current_thread()
        others = {thread.name for thread in threading.enumerate() if thread is not here}
        if others - self._told_threads:
            self._told_threads |= others
            self._server.log.warning(
                "threads run in the host, and no worker will have them; start them in"
                " post_worker_init: %s",
                ", ".join(sorted(others)),
            )

    def _exited(self, pid: int, slot: int) -> None:
        if pid not in self._server.WORKERS:
            # Another host had forked it.
            worker = Worker(self._server, 0, slot, self._generation)
            self._server.forked(worker, pid)
        self._server.exited(pid)


def main(arguments: list[str]) -> NoReturn:
    """The host's life. What it is started with is what others see of it, the app as well."""
    sys.argv[:] = ["gracefork", *arguments]
    faulthandler.enable()
    warnings.filterwarnings("ignore", message=".*multi-threaded.*fork", category=DeprecationWarning)
    environ = os.environ
    number = int(environ.pop("GRACEFORK_HOST_FD"))
    first = environ.pop("GRACEFORK_HOST_FIRST", "1") == "1"
    environ.pop("WATCHDOG_PID", None)
    environ["SERVER_SOFTWARE"] = _hooks.SOFTWARE
    # The channel, the listeners and the scoreboard are not for programs that the app starts.
    os.set_inheritable(number, False)
    inherit()
    master = Master(number)
    master.say(HELLO=1)
    try:
        server = _hooks.load()
        if not first:
            # The server starts once, however many hosts it has.
            _warn_of_what_is_gone(server)
            server.cfg.settings["on_starting"] = None
        server.start()
        if _ahead.load():
            _opening.load(server.app.app_uri, server.cfg)
    except Fault as fault:
        fault.print()
        master.say(FATAL=fault.reason)
        sys.exit(fault.status)
    except BaseException as error:
        master.say(FATAL=in_one_line(error))
        raise
    # What is here by now is here for good: a collection would only copy shared pages.
    gc.collect()
    gc.freeze()
    master.say(READY=1)
    Host(master, server).run()
    sys.exit(0)


def _warn_of_what_is_gone(server: Server) -> None:
    once = [name for name in ("on_starting", "when_ready") if getattr(server.cfg, name) is not None]
    if once:
        server.log.warning(
            "%s ran in the process before this one, and what it left there (attributes of the"
            " server, threads, ports, variables) is not here: make what a reload needs in the"
            " config file itself",
            " and ".join(once),
        )


def _flush() -> None:
    """What is printed and not written yet would be written by each worker as well."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            pass


def _in_one_line(value: object) -> str:
    return " ".join(str(value).split())[:_MOST_OF_A_REASON].replace("\0", "")
