"""What a host imports ahead of its workers."""

from __future__ import annotations

import json
import subprocess
import sys
import unittest
from pathlib import Path

from case import Case

PACKAGE = Path(__file__).resolve().parent.parent
LOOK = f"""
import json, sys
sys.path.insert(1, {str(PACKAGE)!r})
from gracefork import _ahead
_ahead.load()
print(json.dumps({{name: getattr(it, "__file__", None) for name, it in sys.modules.items()}}))
"""


class WhatIsThere(Case):
    """In a new interpreter each, which has this folder first in its path."""

    def modules(self) -> dict[str, str | None]:
        told = subprocess.run([sys.executable, "-c", LOOK], check=True, stdout=subprocess.PIPE)
        return dict(json.loads(told.stdout))

    def test_parts_of_the_standard_library_are_there_ahead_of_the_app(self) -> None:
        self.assertIn("http.client", self.modules())

    def test_nothing_is_imported_where_the_app_has_a_module_of_such_a_name(self) -> None:
        self.file("calendar.py", "raise AssertionError('this is code of the app')")
        self.assertNotIn("http.client", self.modules())

    def test_a_folder_that_is_no_package_replaces_nothing(self) -> None:
        self.file("html/index.html", "")
        self.file("test/__init__.py", "")
        self.assertIn("http.client", self.modules())


if __name__ == "__main__":
    unittest.main()
