"""The build backend: what it asks maturin for, and when the module is built with a profile."""

from __future__ import annotations

import contextlib
import importlib
import io
import sys
import types
import unittest
from pathlib import Path
from unittest import mock

from case import Case

BACKEND = Path(__file__).resolve().parent.parent / "pep517"


class Backend(Case):
    """Between a maturin that notes what it is asked for, and a pgo that does as the test says."""

    def setUp(self) -> None:
        super().setUp()
        self.asked: list[tuple[str, str]] = []
        self.reason: str | None = None
        sys.path.insert(0, str(BACKEND))
        maturin = types.ModuleType("maturin")
        maturin.get_requires_for_build_wheel = lambda settings=None: []
        maturin.get_requires_for_build_editable = lambda settings=None: []
        maturin.build_wheel = self.noted
        maturin.build_editable = self.noted
        sys.modules["maturin"] = maturin
        self.backend = importlib.import_module("backend")
        self.pgo = importlib.import_module("pgo")
        for module, name, double in (
            (self.backend, "_lay_binary_down", lambda profile: "a program"),
            (self.pgo, "build", self.with_profile),
        ):
            patch = mock.patch.object(module, name, double)
            patch.start()
            self.addCleanup(patch.stop)

    def noted(self, folder, settings, metadata) -> str:
        self.asked.append((folder, settings["build-args"].strip()))
        return "a.whl"

    def with_profile(self, folder, program, build) -> str:
        if self.reason:
            raise self.pgo.Unavailable(self.reason)
        self.assertEqual(program, "a program")
        build("for the training", "--counts")
        return str(build(folder, "--uses"))

    def built(self, **settings: object) -> str:
        """What the build has said."""
        with contextlib.redirect_stdout(io.StringIO()) as said:
            named = {name.replace("_", "-"): value for name, value in settings.items()}
            self.assertEqual(self.backend.build_wheel("here", named), "a.whl")
        return said.getvalue()

    def refused(self, **settings: object) -> str:
        with self.assertRaises(SystemExit) as refusal:
            self.backend.build_wheel("here", settings)
        return str(refusal.exception)

    def test_a_release_is_built_with_a_profile(self) -> None:
        self.assertEqual(self.built(), "")
        training = ("for the training", "--profile release --counts")
        self.assertEqual(self.asked, [training, ("here", "--profile release --uses")])

    def test_anything_else_is_built_once(self) -> None:
        self.built(profile="dev")
        self.built(pgo="no")
        self.built(build_args="--verbose")
        asked = ["--profile dev", "--profile release", "--verbose"]
        self.assertEqual(self.asked, [("here", arguments) for arguments in asked])

    def test_without_a_profile_it_says_why_and_is_built_all_the_same(self) -> None:
        self.reason = "no such tool: install it"
        self.assertIn("no such tool: install it", self.built())
        self.assertEqual(self.asked, [("here", "--profile release")])

    def test_whoever_insists_on_a_profile_gets_an_error_instead(self) -> None:
        self.reason = "no such tool: install it"
        self.assertIn("no such tool: install it", self.refused(pgo="yes"))
        self.assertEqual(self.asked, [])
        self.assertIn("build-args", self.refused(**{"pgo": "yes", "build-args": "--verbose"}))
        with self.assertRaises(SystemExit):
            self.backend.build_editable("here", {"pgo": "yes"})

    def test_of_settings_that_are_given_twice_the_last_one_counts(self) -> None:
        self.built(pgo=["yes", "no"], profile=["release", "dev"])
        self.assertEqual(self.asked, [("here", "--profile dev")])
        self.assertIn("'perhaps'", self.refused(pgo=["no", "perhaps"]))


if __name__ == "__main__":
    unittest.main()
