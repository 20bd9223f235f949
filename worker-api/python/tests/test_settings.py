"""The declarations of gunicorn's settings, against gunicorn's own list and this project's docs."""

from __future__ import annotations

import ast
import csv
import re
import unittest

import table
from gracefork._mapping import _CONVERSIONS
from gracefork._settings import SETTINGS, Fate

FACTS = table.REPOSITORY.parent / "shared" / "gunicorn-27.0.1-settings.tsv"


class Declarations(unittest.TestCase):
    def test_every_setting_that_becomes_a_key_has_a_conversion_and_no_other(self):
        keyed = {name for name, it in SETTINGS.items() if it.fate is Fate.KEY}
        self.assertEqual(set(_CONVERSIONS), keyed - {"config", "worker_class"})

    def test_every_key_is_one_of_graceforks(self):
        reference = (table.REPOSITORY / "docs" / "settings.md").read_text(encoding="utf-8")
        known = set(re.findall(r"^(?:### |\| )`([a-z_.]+)`", reference, re.MULTILINE))
        for name, setting in SETTINGS.items():
            for key in setting.keys:
                with self.subTest(name):
                    self.assertIn(key, known)

    def test_whatever_has_no_key_says_why(self):
        for name, setting in SETTINGS.items():
            with self.subTest(name):
                self.assertTrue(setting.keys or setting.note)

    def test_the_page_has_the_table_that_follows(self):
        table.update()
        self.assertEqual(table.in_page(), table.made(), "run `UPDATE_DOCS=1 make test`")

    def test_the_page_has_a_row_for_each_setting(self):
        page = table.PAGE.read_text(encoding="utf-8")
        rows = re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)
        self.assertEqual(sorted(rows), sorted(SETTINGS))
        self.assertEqual(len(rows), 120)


@unittest.skipUnless(FACTS.exists(), "gunicorn's list of settings is not beside this checkout")
class GunicornsList(unittest.TestCase):
    def setUp(self):
        with FACTS.open(encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            self.rows = {row["setting"]: row for row in rows}

    def test_all_settings_are_declared_and_no_other(self):
        self.assertEqual(set(SETTINGS), set(self.rows))

    def test_all_hooks_are_hooks(self):
        hooks = {name for name, row in self.rows.items() if row["section"] == "Server Hooks"}
        called = {name for name, it in SETTINGS.items() if it.fate is Fate.HOOK}
        self.assertEqual(hooks - called, {"pre_exec", "ssl_context"})
        self.assertEqual(called - hooks, set())

    def test_defaults_are_gunicorns(self):
        machine = {"chdir", "control_socket", "user", "group", "ssl_version", "cert_reqs"}
        for name, row in self.rows.items():
            setting = SETTINGS[name]
            if name in machine or "hook" in row["default"] or row["type"] == "callable":
                continue
            with self.subTest(name):
                default = ast.literal_eval(row["default"])
                if default is not None and setting.default is not None:
                    default = setting.check(default)
                self.assertEqual(setting.default, default)


if __name__ == "__main__":
    unittest.main()
