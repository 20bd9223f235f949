"""Compares gracefork with the servers that Python apps run on: `make bench-python`.

Each server is started with one worker on one core, is asked by wrk from the other core, and is
stopped; then comes the next one. That is one round. Printed is the median of all rounds, with CPU
time a request from /proc, of all processes of the server. A server that is not installed is left
out, and so is what an option leaves out, see --help.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
BIN = Path(sys.executable).parent
HOST = "127.0.0.1"
TICK = os.sysconf("SC_CLK_TCK")
CLIENTS = 32
START_LIMIT = 20.0

APPS = {
    "raw WSGI": ("raw_wsgi:app", ["gracefork", "fastwsgi", "bjoern", "granian", "gunicorn"]),
    "Flask JSON": ("flask_app:app", ["gracefork", "fastwsgi", "bjoern", "granian", "gunicorn"]),
    "raw ASGI": ("raw_asgi:app", ["gracefork", "fastpysgi", "uvicorn", "granian"]),
    "FastAPI JSON": ("fastapi_app:app", ["gracefork", "uvicorn", "granian"]),
}


@dataclass
class Figures:
    """What the rounds of one server have shown."""

    rate: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    user: list[float] = field(default_factory=list)


def command(server: str, app: str, port: int, workers: int) -> list[str] | None:
    """How a server is started; nothing where it is not installed."""
    interface = "asgi" if "asgi" in app or "fastapi" in app else "wsgi"
    address, number = f"{HOST}:{port}", str(workers)
    commands = {
        "gracefork": ["gracefork", "-b", address, "-w", number, app],
        "gunicorn": ["gunicorn", "-b", address, "-w", number, "-k", "gthread", app],
        "uvicorn": [
            *("uvicorn", "--host", HOST, "--port", str(port), "--workers", number),
            *("--no-access-log", "--log-level", "warning", app),
        ],
        "granian": [
            *("granian", "--host", HOST, "--port", str(port), "--workers", number),
            *("--interface", interface, "--no-ws", "--log-level", "warning", app),
        ],
        "fastwsgi": ["fastwsgi", "--host", HOST, "--port", str(port), "--loglevel", "2", app],
        "fastpysgi": ["fastpysgi", "--host", HOST, "--port", str(port), "--loglevel", "2", app],
    }
    if server == "bjoern":
        module, _, name = app.partition(":")
        run = f"import bjoern, {module} as m; bjoern.run(m.{name}, '{HOST}', {port})"
        check = subprocess.run([sys.executable, "-c", "import bjoern"], capture_output=True)
        return [sys.executable, "-c", run] if check.returncode == 0 and workers == 1 else None
    if server in ("fastwsgi", "fastpysgi") and workers > 1:
        return None
    program, *arguments = commands[server]
    path = os.environ.get("GRACEFORK") if server == "gracefork" else None
    path = path or shutil.which(program, path=f"{BIN}:{os.environ['PATH']}")
    return [path, *arguments] if path else None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


class Server:
    """A server that runs on its cores, in a session of its own."""

    def __init__(self, arguments: list[str], port: int, cores: set[int]) -> None:
        self.process = subprocess.Popen(
            arguments,
            cwd=HERE,
            env={**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )
        deadline = time.monotonic() + START_LIMIT
        while not answers(port):
            if time.monotonic() > deadline or self.process.poll() is not None:
                self.stop()
                raise RuntimeError(f"does not serve: {' '.join(arguments)}")
            time.sleep(0.05)

    def processes(self) -> list[tuple[int, int, int]]:
        """Pid and CPU ticks, in user mode and in the kernel, of each process of the session."""
        found = []
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    stat = Path(f"/proc/{entry}/stat").read_text()
                except OSError:
                    continue
                fields = stat.rpartition(")")[2].split()
                if int(fields[3]) == self.process.pid:
                    found.append((int(entry), int(fields[11]), int(fields[12])))
        return found

    def cpu(self) -> tuple[float, float]:
        """Seconds of CPU time, in all and in user mode."""
        processes = self.processes()
        user = sum(user for _, user, _ in processes)
        return (user + sum(kernel for *_, kernel in processes)) / TICK, user / TICK

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            pass
        for pid, *_ in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait()


def answers(port: int) -> bool:
    try:
        with socket.create_connection((HOST, port), 1) as client:
            # Without `Connection: close`, of which fastpysgi 0.6 dies.
            client.sendall(b"GET / HTTP/1.1\r\nHost: b\r\n\r\n")
            return client.recv(64).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def load(port: int, seconds: float, core: set[int]) -> tuple[float, float, int]:
    """Requests a second, p99 in milliseconds, and how many requests there were."""
    run = subprocess.run(
        ["wrk", "-t1", f"-c{CLIENTS}", f"-d{seconds}s", "--latency", f"http://{HOST}:{port}/"],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: os.sched_setaffinity(0, core),
    )
    if re.search(r"Non-2xx|Socket errors", run.stdout):
        raise RuntimeError(run.stdout)
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", run.stdout)[1])
    value, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)", run.stdout).groups()
    count = int(re.search(r"(\d+) requests in", run.stdout)[1])
    return rate, float(value) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[unit], count


def round_of(server: str, app: str, options: argparse.Namespace, figures: Figures) -> None:
    port = free_port()
    arguments = command(server, app, port, options.workers)
    cores = {0} if options.workers == 1 else {0, 1}
    running = Server(arguments, port, cores)
    try:
        load(port, options.warm_up, {1})
        before = running.cpu()
        rate, p99, count = load(port, options.seconds, {1})
        spent = [after - start for after, start in zip(running.cpu(), before, strict=True)]
        figures.cpu.append(spent[0] / count * 1e6)
        figures.user.append(spent[1] / count * 1e6)
        figures.rate.append(rate)
        figures.p99.append(p99)
    finally:
        running.stop()


def compare(title: str, options: argparse.Namespace) -> None:
    app, servers = APPS[title]
    asked = options.servers or servers
    figures = {}
    for server in servers:
        if server in asked and command(server, app, 1, options.workers):
            figures[server] = Figures()
    for _ in range(options.rounds):
        for server in list(figures):
            try:
                round_of(server, app, options, figures[server])
            except RuntimeError as error:
                print(f"{server}: {error}", file=sys.stderr)
                del figures[server]
    print(f"\n{title}, {options.workers} worker(s), median of {options.rounds}\n")
    print("| server | requests/s | p99 ms | CPU us a request | least to most | in user mode |")
    print("|---|---|---|---|---|---|")
    for server, seen in figures.items():
        rows = (seen.rate, seen.p99, seen.cpu, seen.user)
        rate, p99, cpu, user = [statistics.median(row) for row in rows]
        spread = f"{min(seen.cpu):.1f} to {max(seen.cpu):.1f}"
        print(
            f"| {server} | {rate:.0f} | {p99:.2f} | {cpu:.1f} | {spread} | {user:.1f} |", flush=True
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--app", choices=APPS, action="append", help="only this one; may be repeated"
    )
    parser.add_argument("--server", dest="servers", action="append", help="as --app")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4, help="of each measurement")
    parser.add_argument("--warm-up", type=int, default=1, help="seconds before it")
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    if not shutil.which("wrk"):
        sys.exit("wrk is missing: apt-get install wrk")
    for title in options.app or APPS:
        compare(title, options)


if __name__ == "__main__":
    main()
