"""Profile-guided optimization of the native module, as CPython itself is built: a first build
counts what it does under the load of `training/`, and the second one is laid out for that.

https://doc.rust-lang.org/rustc/profile-guided-optimization.html
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

TRAINING = Path(__file__).resolve().parent / "training"
# What separates flags in CARGO_ENCODED_RUSTFLAGS, so that a path may have spaces.
SEPARATOR = "\x1f"

Build = Callable[[str, str], str]


class Unavailable(Exception):
    """Why there is no profile to be had here, and what to do about it."""


def build(wheel_directory: str, build: Build) -> str:
    """Calls ``build(folder, target)`` twice, and returns what the second call does: the wheel's
    name. Raises :class:`Unavailable`."""
    target, merger = _toolchain()
    # cargo builds all anew where its flags change; so this has a folder of its own.
    root = os.environ.get("CARGO_TARGET_DIR") or TRAINING.parents[3] / "target"
    with (
        tempfile.TemporaryDirectory(prefix="gracefork-pgo-") as folder,
        _environment(CARGO_TARGET_DIR=str(Path(root) / "pgo")),
    ):
        work = Path(folder)
        with _environment(CARGO_ENCODED_RUSTFLAGS=_flags(f"-Cprofile-generate={work}")):
            try:
                wheel = build(str(work), target)
            except SystemExit as error:
                raise Unavailable("the build that counts has failed, see above") from error
        with zipfile.ZipFile(work / wheel) as archive:
            archive.extractall(work / "wheel")
        profile = work / "profile"
        _train(work / "wheel", profile)
        merged = work / "merged.profdata"
        counts = sorted(map(str, profile.glob("*.profraw")))
        _run([str(merger), "merge", "-o", str(merged), *counts], "to merge the profiles")
        with _environment(CARGO_ENCODED_RUSTFLAGS=_flags(f"-Cprofile-use={merged}")):
            return build(wheel_directory, target)


def _toolchain() -> tuple[str, Path]:
    """The host's triple, and the program that merges profiles."""
    facts = _run(["rustc", "--version", "--verbose"], "to ask rustc for its version")
    target = next(
        line.removeprefix("host: ") for line in facts.splitlines() if line.startswith("host: ")
    )
    if os.environ.get("CARGO_BUILD_TARGET", target) != target:
        raise Unavailable("what is built for another machine cannot be trained on this one")
    root = _run(["rustc", "--print", "sysroot"], "to ask rustc for its folder").strip()
    merger = Path(root, "lib", "rustlib", target, "bin", "llvm-profdata")
    if not merger.exists():
        raise Unavailable(
            "the Rust toolchain has no llvm-profdata: rustup component add llvm-tools"
        )
    return target, merger


def _train(wheel: Path, profile: Path) -> None:
    """Puts the package of an unpacked wheel under load. What was counted comes into ``profile``."""
    # An archive keeps no modes.
    program = next(wheel.glob("*.data/scripts/gracefork"))
    program.chmod(0o755)
    # A file for each of host and workers, which those of one module add to.
    counts = {"LLVM_PROFILE_FILE": str(profile / "%m.profraw")}
    with _environment(PYTHONPATH=str(wheel), **counts):
        _run([sys.executable, str(TRAINING / "train.py"), str(program)], "the training")
    if not any(profile.glob("*.profraw")):
        raise Unavailable("the training has left no profile")


def _flags(flag: str) -> str:
    """``flag`` behind those that are set already."""
    encoded = os.environ.get("CARGO_ENCODED_RUSTFLAGS")
    before = encoded.split(SEPARATOR) if encoded else os.environ.get("RUSTFLAGS", "").split()
    return SEPARATOR.join([*before, flag])


def _run(command: list[str], purpose: str) -> str:
    """What it prints; its errors go where ours go."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise Unavailable(f"{purpose}: {error}") from error
    return done.stdout


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
