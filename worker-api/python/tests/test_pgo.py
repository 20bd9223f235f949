"""The build with a profile: what it asks of the toolchain, and in which order it does what."""

from __future__ import annotations

import os
import sys
import unittest
import zipfile
from pathlib import Path
from unittest import mock

from case import Case

BACKEND = Path(__file__).resolve().parent.parent / "pep517"
RUSTC = """\
#!/bin/sh
case "$1" in
--version) printf 'rustc 1.95.0\\nhost: some-machine\\n' ;;
--print) echo '{folder}' ;;
esac
"""
MERGER = """\
#!/bin/sh
echo "$@" > '{folder}/merged-with'
touch "$3"
"""
# Its first argument is the program, which it must be able to start.
TRAIN = """\
import os, subprocess, sys
subprocess.run(sys.argv[1:2], check=True)
path = os.environ["LLVM_PROFILE_FILE"].replace("%m", "1")
os.makedirs(os.path.dirname(path))
open(path, "w").close()
"""


class Toolchain(Case):
    """With a rustc and an llvm-profdata that are scripts."""

    def setUp(self) -> None:
        super().setUp()
        sys.path.insert(0, str(BACKEND))
        import pgo

        self.pgo = pgo
        self.script("bin/rustc", RUSTC)
        self.merger = self.script("lib/rustlib/some-machine/bin/llvm-profdata", MERGER)
        self.train = Path(self.file("training/train.py", TRAIN))
        patch = mock.patch.object(pgo, "TRAINING", self.train.parent)
        patch.start()
        self.addCleanup(patch.stop)
        os.environ["PATH"] = f"{self.folder}/bin:{os.environ['PATH']}"
        for name in ("RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET"):
            os.environ.pop(name, None)
        os.environ["CARGO_TARGET_DIR"] = str(self.folder / "target")
        self.builds: list[tuple[str, list[str]]] = []

    def script(self, name: str, text: str) -> Path:
        path = Path(self.file(name, text.format(folder=self.folder)))
        path.chmod(0o755)
        return path

    def build(self, folder: str, target: str) -> str:
        """Notes what it is built with, and makes a wheel whose program does nothing."""
        self.assertEqual(target, "some-machine")
        self.assertEqual(os.environ["CARGO_TARGET_DIR"], str(self.folder / "target/pgo"))
        flags = os.environ["CARGO_ENCODED_RUSTFLAGS"].split("\x1f")
        self.builds.append((folder, flags))
        if flags[-1].startswith("-Cprofile-use="):
            self.assertTrue(os.path.exists(flags[-1].partition("=")[2]))
        with zipfile.ZipFile(Path(folder, "a.whl"), "w") as wheel:
            wheel.writestr("gracefork-1.data/scripts/gracefork", "#!/bin/sh\n")
        return "a.whl"

    def refused(self) -> str:
        with self.assertRaises(self.pgo.Unavailable) as refusal:
            self.pgo.build(str(self.folder), self.build)
        return str(refusal.exception)

    def test_it_is_built_to_count_trained_and_built_with_the_counts(self) -> None:
        os.environ["RUSTFLAGS"] = "-Ctarget-cpu=native"
        before = dict(os.environ)
        self.assertEqual(self.pgo.build(str(self.folder), self.build), "a.whl")
        self.assertEqual(dict(os.environ), before)
        (counting, first), (last, second) = self.builds
        self.assertNotEqual(counting, last)
        self.assertEqual(last, str(self.folder))
        self.assertEqual(first, ["-Ctarget-cpu=native", f"-Cprofile-generate={counting}"])
        self.assertEqual(second[0], "-Ctarget-cpu=native")
        self.assertEqual(second[1], f"-Cprofile-use={counting}/merged.profdata")
        self.assertIn(f"{counting}/profile/1.profraw", Path("merged-with").read_text())
        self.assertFalse(os.path.exists(counting))

    def test_a_toolchain_without_the_merger_is_told_how_to_get_it(self) -> None:
        self.merger.unlink()
        self.assertIn("rustup component add llvm-tools", self.refused())
        self.assertEqual(self.builds, [])

    def test_what_is_for_another_machine_is_not_trained(self) -> None:
        os.environ["CARGO_BUILD_TARGET"] = "another-machine"
        self.assertIn("another machine", self.refused())
        self.assertEqual(self.builds, [])

    def test_no_wheel_comes_of_a_training_that_fails(self) -> None:
        self.train.write_text("raise SystemExit(1)")
        self.assertIn("the training", self.refused())
        self.train.write_text("")
        self.assertIn("left no profile", self.refused())
        self.assertEqual(len(self.builds), 2)
        self.assertFalse((self.folder / "a.whl").exists())


if __name__ == "__main__":
    unittest.main()
