"""What a host imports because the app's module begins with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import unittest
from pathlib import Path

from case import Case

PACKAGE = Path(__file__).resolve().parent.parent
LOOK = f"""
import json, sys
sys.path.insert(1, {str(PACKAGE)!r})
from gracefork import _opening
from gracefork._config import Cfg
hooks = {{name: print for name in sys.argv[2:]}}
_opening.load(sys.argv[1], Cfg(hooks))
print(json.dumps(sorted(sys.modules)))
"""
NEVER = "raise AssertionError('this is code of the app')"


class Opening(Case):
    """In a new interpreter each, which has this folder first in its path, and behind it a folder
    that pip has installed to."""

    def setUp(self) -> None:
        super().setUp()
        self.file("lib/site-packages/flask/__init__.py", "class Flask: pass")
        self.file("lib/site-packages/flask/views.py", "class View: pass")
        self.file("lib/site-packages/unknown.py", NEVER)

    def modules(self, app: str = "main:app", *hooks: str) -> list[str]:
        environ = {**os.environ, "PYTHONPATH": "lib/site-packages"}
        look = [sys.executable, "-c", LOOK, app, *hooks]
        told = subprocess.run(look, check=True, stdout=subprocess.PIPE, env=environ)
        return list(json.loads(told.stdout))

    def test_a_framework_that_the_app_begins_with_is_there(self) -> None:
        self.file(
            "main.py",
            f'''
            """A docstring."""
            from __future__ import annotations
            import wave, os.path as path
            from flask import Flask, views
            {NEVER}
            ''',
        )
        there = self.modules()
        for name in ("wave", "flask", "flask.views"):
            self.assertIn(name, there)
        self.assertNotIn("main", there)

    def test_it_ends_at_the_first_statement_of_another_kind(self) -> None:
        for statement in ("sys.path.insert(0, 'vendor')", "import own", "import unknown", "x = 1"):
            self.file("own.py", NEVER)
            self.file("main.py", f"import sys\n{statement}\nimport flask")
            self.assertNotIn("flask", self.modules(), statement)

    def test_what_the_app_has_under_the_name_of_a_framework_is_left_alone(self) -> None:
        self.file("main.py", "import flask")
        self.file("flask.py", NEVER)
        self.assertNotIn("flask", self.modules())

    def test_a_package_is_run_before_its_module(self) -> None:
        self.file("pkg/__init__.py", "")
        self.file("pkg/main.py", "import flask")
        self.assertIn("flask", self.modules("pkg.main:make()"))
        self.file("pkg/__init__.py", "from . import settings")
        self.assertNotIn("flask", self.modules("pkg.main:make()"))

    def test_a_module_without_packages_file_may_be_in_a_folder(self) -> None:
        self.file("folder/main.py", "import flask")
        self.assertIn("flask", self.modules("folder.main:app"))

    def test_a_hook_that_runs_before_the_app_keeps_it_from_being_foreseen(self) -> None:
        self.file("main.py", "import flask")
        for hook in ("pre_fork", "post_fork"):
            self.assertNotIn("flask", self.modules("main:app", hook))
        self.assertIn("flask", self.modules("main:app", "post_worker_init"))

    def test_plugins_of_pydantic_are_not_imported(self) -> None:
        self.file("lib/site-packages/fastapi.py", "")
        self.file("main.py", "import fastapi")
        self.assertIn("fastapi", self.modules())
        self.file("lib/site-packages/plugin-1.dist-info/METADATA", "Name: plugin\nVersion: 1\n")
        self.file(
            "lib/site-packages/plugin-1.dist-info/entry_points.txt", "[pydantic]\nx = unknown"
        )
        self.assertNotIn("fastapi", self.modules())

    def test_what_cannot_be_found_or_read_or_imported_is_left_to_the_worker(self) -> None:
        self.assertNotIn("flask", self.modules("nothing:app"))
        self.file("main.py", "import flask\nthis is no Python")
        self.assertNotIn("flask", self.modules())
        self.file("lib/site-packages/flask/__init__.py", "raise SystemExit(3)")
        self.file("main.py", "import flask\nimport wave")
        self.assertNotIn("wave", self.modules())


if __name__ == "__main__":
    unittest.main()
