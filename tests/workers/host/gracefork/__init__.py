"""The package as it is, but for its native part, which is written by hand beside this file: what
the supervisor does is tested without a build of the other."""

from pathlib import Path

_ORIGINAL = Path(__file__).parents[4] / "worker-api/python/gracefork"
__path__.append(str(_ORIGINAL))
exec(compile((_ORIGINAL / "__init__.py").read_text(), str(_ORIGINAL / "__init__.py"), "exec"))
