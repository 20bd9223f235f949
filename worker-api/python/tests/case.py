"""What the tests have in common: a folder of their own to work in, and files in it."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import tempfile
import textwrap
import unittest
from pathlib import Path
from unittest import mock


class Case(unittest.TestCase):
    """A test in a folder of its own, with an environment and an import path of its own."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name).resolve()
        before = os.getcwd()
        self.addCleanup(os.chdir, before)
        os.chdir(self.folder)
        for patch in (
            mock.patch.object(sys, "path", list(sys.path)),
            mock.patch.dict(sys.modules),
            mock.patch.dict(os.environ),
        ):
            patch.start()
            self.addCleanup(patch.stop)

    def file(self, name: str, text: str) -> str:
        """Writes a file, and returns its path."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return str(path)

    @contextlib.contextmanager
    def standard_error(self):
        """What is written to standard error meanwhile."""
        with contextlib.redirect_stderr(io.StringIO()) as written:
            yield written
