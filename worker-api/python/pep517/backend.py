"""Builds the wheel: maturin builds the native module, and the binary `gracefork` comes with it.

`pip install . --config-settings profile=dev` builds both without optimization. An optimized module
is built with a profile where the toolchain can (see `pgo`): `--config-settings pgo=no` leaves that
out, and with `pgo=yes` it is an error where it cannot be done.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import maturin

import pgo

_HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_WORKSPACE = os.path.dirname(os.path.dirname(_HERE))
_SCRIPTS = os.path.join(_HERE, "gracefork.data", "scripts")

Settings = Mapping[str, Any] | None

get_requires_for_build_wheel = maturin.get_requires_for_build_wheel
get_requires_for_build_editable = maturin.get_requires_for_build_editable


def build_wheel(
    wheel_directory: str, config_settings: Settings = None, metadata_directory: str | None = None
) -> str:
    """PEP 517."""
    wanted = _wants_pgo(config_settings)
    program = _lay_binary_down(_profile(config_settings))

    def build(folder: str, arguments: str = "") -> str:
        settings = _for_maturin(config_settings, arguments)
        return str(maturin.build_wheel(folder, settings, metadata_directory))

    if wanted != "no":
        try:
            return pgo.build(wheel_directory, program, build)
        except pgo.Unavailable as reason:
            if wanted == "yes":
                sys.exit(f"error: pgo: {reason}")
            print(f"The module is built without a profile, and somewhat slower: {reason}")
    return build(wheel_directory)


def build_editable(
    wheel_directory: str, config_settings: Settings = None, metadata_directory: str | None = None
) -> str:
    """PEP 660."""
    if _wants_pgo(config_settings) == "yes":
        sys.exit("error: pgo: what is to be edited is built too often for that; leave -e out")
    _lay_binary_down(_profile(config_settings))
    settings = _for_maturin(config_settings)
    return str(maturin.build_editable(wheel_directory, settings, metadata_directory))


def prepare_metadata_for_build_wheel(
    metadata_directory: str, config_settings: Settings = None
) -> str:
    """PEP 517. maturin wants the folder of the binary to be there."""
    os.makedirs(_SCRIPTS, exist_ok=True)
    return maturin.prepare_metadata_for_build_wheel(
        metadata_directory, _for_maturin(config_settings)
    )


prepare_metadata_for_build_editable = prepare_metadata_for_build_wheel


def build_sdist(sdist_directory: str, config_settings: Settings = None) -> str:
    """PEP 517. The binary's sources lie beside this folder: what is packed here lacks them."""
    raise SystemExit("gracefork has no source distribution: build a wheel from its repository")


def _setting(settings: Settings, name: str, default: str) -> str:
    """The last one, where pip was told of several."""
    value = (settings or {}).get(name, default)
    return str(value[-1] if isinstance(value, list) else value)


def _profile(settings: Settings) -> str:
    return _setting(settings, "profile", "release")


def _wants_pgo(settings: Settings) -> str:
    """``yes``, ``no``, or ``auto``: where it can be done, and is worth it."""
    # Whoever tells cargo what to do knows what becomes of it.
    plain = _profile(settings) == "release" and "build-args" not in (settings or {})
    wanted = _setting(settings, "pgo", "auto" if plain else "no")
    if wanted not in ("yes", "no", "auto"):
        sys.exit(f"error: the setting pgo is yes, no or auto, not {wanted!r}")
    if wanted == "yes" and "build-args" in (settings or {}):
        sys.exit("error: pgo: not with build-args, which would replace its own")
    return wanted


def _for_maturin(settings: Settings, arguments: str = "") -> dict[str, Any]:
    ours = ("profile", "pgo")
    rest = {name: value for name, value in (settings or {}).items() if name not in ours}
    return {"build-args": f"--profile {_profile(settings)} {arguments}", **rest}


def _lay_binary_down(profile: str) -> str:
    """Builds the binary and puts it where maturin takes scripts from. Where cargo has put it."""
    # Not `-p`: with the features that the whole workspace asks for, `cargo build` has built it.
    build = ["cargo", "build", "--locked", "--profile", profile, "--bin", "gracefork"]
    built = subprocess.run(
        [*build, "--message-format=json-render-diagnostics"],
        cwd=_WORKSPACE,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if built.returncode != 0:
        sys.exit(f"error: {' '.join(build)} failed")
    os.makedirs(_SCRIPTS, exist_ok=True)
    program = _executable(built.stdout)
    shutil.copy2(program, os.path.join(_SCRIPTS, "gracefork"))
    return program


def _executable(messages: str) -> str:
    """The path of the binary, as cargo told it."""
    for line in messages.splitlines():
        message = json.loads(line)
        if message.get("executable") and message["target"]["name"] == "gracefork":
            return str(message["executable"])
    sys.exit("error: cargo built no binary called gracefork")
