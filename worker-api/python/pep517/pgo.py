"""Profile-guided optimization of the native module, as CPython itself is built: a first build
counts what it does under the load of `training/`, and the second one is laid out for that.

https://doc.rust-lang.org/rustc/profile-guided-optimization.html
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

TRAINING = Path(__file__).resolve().parent / "training"
WORKSPACE = TRAINING.parents[3]
# What separates flags in CARGO_ENCODED_RUSTFLAGS, so that a path may have spaces.
SEPARATOR = "\x1f"

Build = Callable[[str, str], str]


class Unavailable(Exception):
    """Why there is no profile to be had here, and what to do about it."""


def build(wheel_directory: str, program: str, build: Build) -> str:
    """Calls ``build(folder, arguments)``, with arguments for cargo, once for the training and once
    for good, and returns what the second call does: the wheel's name. ``program`` is the binary as
    cargo has built it. Raises :class:`Unavailable`."""
    target, merger = _toolchain()
    place = _folder(program, target) / "pgo"
    place.mkdir(exist_ok=True)
    with open(place / "lock", "w") as lock, tempfile.TemporaryDirectory() as folder:
        # Two builds at once would take each other's modules.
        fcntl.flock(lock, fcntl.LOCK_EX)
        with _flag(target, "-Cprofile-generate", place / "count") as arguments:
            try:
                wheel = Path(folder, build(folder, arguments))
            except SystemExit as error:
                raise Unavailable("the build that counts has failed, see above") from error
        profile = place / f"{_fingerprint(wheel)}.profdata"
        if not profile.exists():
            for outdated in place.glob("*.profdata"):
                outdated.unlink()
            _learn(wheel, merger, profile)
        with _flag(target, f"-Cprofile-use={profile}", place / "use") as arguments:
            return build(wheel_directory, arguments)


def _toolchain() -> tuple[str, Path]:
    """The host's triple, and the program that merges profiles."""
    rustc = os.environ.get("RUSTC", "rustc")
    facts = _run([rustc, "--version", "--verbose"], "to ask rustc for its version")
    target = re.search(r"^host: (.+)$", facts, re.MULTILINE)
    if not target:
        raise Unavailable(f"{rustc} does not say what machine it is for")
    root = _run([rustc, "--print", "sysroot"], "to ask rustc for its folder").strip()
    merger = Path(root, "lib", "rustlib", target[1], "bin", "llvm-profdata")
    if not merger.exists():
        raise Unavailable(
            "the Rust toolchain has no llvm-profdata: rustup component add llvm-tools"
        )
    return target[1], merger


def _folder(program: str, host: str) -> Path:
    """Cargo's folder for what it builds."""
    command = ["cargo", "metadata", "--no-deps", "--format-version", "1"]
    metadata = _run(command, "to ask cargo for its folder", WORKSPACE)
    folder = Path(json.loads(metadata)["target_directory"])
    # What is built for a machine that was named lies in a folder of its name.
    if Path(program).parents[1] not in (folder, folder / host):
        raise Unavailable("what is built for another machine cannot be trained on this one")
    return folder


def _fingerprint(wheel: Path) -> str:
    """Of a module that counts, and of what it is trained with."""
    known = hashlib.sha256()
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.endswith(".so"):
                known.update(archive.read(name))
    for path in sorted(TRAINING.glob("*.py")):
        known.update(path.read_bytes())
    return known.hexdigest()[:16]


def _learn(wheel: Path, merger: Path, profile: Path) -> None:
    """Puts the package of a wheel under load, and writes down what its module has counted."""
    package, counts = wheel.parent / "package", wheel.parent / "counts"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(package)
    # An archive keeps no modes.
    program = next(package.glob("*.data/scripts/gracefork"))
    program.chmod(0o755)
    train = [sys.executable, str(TRAINING / "train.py"), str(program)]
    # One file for the module, into which host and workers add what each has counted.
    with _environment(PYTHONPATH=str(package), LLVM_PROFILE_FILE=str(counts / "%m.profraw")):
        requests = int(_run(train, "the training"))
    files = sorted(map(str, counts.glob("*.profraw")))
    if not files:
        raise Unavailable("the training has left no profile")
    merged = wheel.parent / "merged"
    _run([str(merger), "merge", "-o", str(merged), *files], "to merge the profiles")
    shown = _run([str(merger), "show", str(merged)], "to read the profile")
    most = re.search(r"Maximum function count: (\d+)", shown)
    if not most or int(most[1]) < requests:
        raise Unavailable(f"the profile does not have the training's {requests} requests")
    profile.write_bytes(merged.read_bytes())


@contextmanager
def _flag(target: str, flag: str, folder: Path) -> Iterator[str]:
    """Has rustc get ``flag`` beside those that are set already, for the target's code alone, and
    cargo a folder of its own. Arguments for cargo."""
    arguments = ["--target", target]
    environment = {"CARGO_TARGET_DIR": str(folder)}
    encoded, plain = (os.environ.get(name) for name in ("CARGO_ENCODED_RUSTFLAGS", "RUSTFLAGS"))
    if encoded or plain:
        before = encoded.split(SEPARATOR) if encoded else (plain or "").split()
        environment["CARGO_ENCODED_RUSTFLAGS"] = SEPARATOR.join([*before, flag])
    else:
        # Variables go over the files of cargo's configuration; this is joined with them.
        arguments += ["--config", f"target.{target}.rustflags={json.dumps([flag])}"]
    with _environment(**environment):
        yield shlex.join(arguments)


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _run(command: list[str], purpose: str, folder: Path | None = None) -> str:
    """What it prints; its errors go where ours go."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=folder)
    except (OSError, subprocess.SubprocessError) as error:
        raise Unavailable(f"{purpose}: {error}") from error
    return done.stdout
