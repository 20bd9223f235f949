"""Runs the unit tests with the interpreter that runs this, and closes with a line of figures.

`python worker-api/python/tests/run.py`; nothing has to be installed.
"""

from __future__ import annotations

import os
import platform
import sys
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main() -> int:
    """The exit status."""
    sys.dont_write_bytecode = True
    sys.path[:0] = [str(HERE.parent), str(HERE)]
    tests = unittest.defaultTestLoader.discover(str(HERE), top_level_dir=str(HERE))
    result = unittest.TextTestRunner(verbosity=1, buffer=True).run(tests)
    failed = len(result.failures) + len(result.errors) + len(result.unexpectedSuccesses)
    skipped = len(result.skipped)
    passed = result.testsRun - failed - skipped
    note_skips(reason for _, reason in result.skipped)
    version = platform.python_version()
    print(f"python-{version}: {passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed or not passed else 0


def note_skips(reasons) -> None:
    """Says where the tests of the workspace say it what this machine lacks."""
    path = os.environ.get("GRACEFORK_SKIP_LOG")
    if path:
        with open(path, "a", encoding="utf-8") as log:
            log.writelines(f"{reason}\n" for reason in reasons)


if __name__ == "__main__":
    sys.exit(main())
