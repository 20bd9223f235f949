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
CARGO = """\
#!/bin/sh
echo '{{"target_directory": "{folder}/target"}}'
"""
MERGER = """\
#!/bin/sh
case "$1" in
merge) echo "$@" > '{folder}/merged-with' && touch "$3" ;;
show) echo 'Maximum function count: {most}' ;;
esac
"""
# Its first argument is the program, which it must be able to start.
TRAIN = """\
import os, subprocess, sys
subprocess.run(sys.argv[1:2], check=True)
assert os.path.exists(os.environ["PYTHONPATH"] + "/gracefork/it")
path = os.environ["LLVM_PROFILE_FILE"].replace("%m", "1")
os.makedirs(os.path.dirname(path))
open(path, "w").close()
print(100)
"""


class Toolchain(Case):
    """With a rustc and an llvm-profdata that are scripts."""

    def setUp(self) -> None:
        super().setUp()
        sys.path.insert(0, str(BACKEND))
        import pgo

        self.pgo = pgo
        self.script("bin/rustc", RUSTC)
        self.script("bin/cargo", CARGO)
        self.merger = self.merger_that_counts(100)
        self.train = Path(self.file("training/train.py", TRAIN))
        (self.folder / "target").mkdir()
        for name, value in (("TRAINING", self.train.parent), ("WORKSPACE", self.folder)):
            patch = mock.patch.object(pgo, name, value)
            patch.start()
            self.addCleanup(patch.stop)
        os.environ["PATH"] = f"{self.folder}/bin:{os.environ['PATH']}"
        for name in ("RUSTC", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS"):
            os.environ.pop(name, None)
        self.program = f"{self.folder}/target/release/gracefork"
        self.place = self.folder / "target" / "pgo"
        self.builds: list[tuple[str, str]] = []
        self.module = "counts"

    def script(self, name: str, text: str, **more: object) -> Path:
        path = Path(self.file(name, text.format(folder=self.folder, **more)))
        path.chmod(0o755)
        return path

    def merger_that_counts(self, most: int) -> Path:
        return self.script("lib/rustlib/some-machine/bin/llvm-profdata", MERGER, most=most)

    def build(self, folder: str, arguments: str) -> str:
        """Notes what it is built with, and makes a wheel whose program does nothing."""
        flags = os.environ.get("CARGO_ENCODED_RUSTFLAGS", arguments)
        self.builds.append((os.environ["CARGO_TARGET_DIR"], flags))
        with zipfile.ZipFile(Path(folder, "a.whl"), "w") as wheel:
            wheel.writestr("gracefork-1.data/scripts/gracefork", "#!/bin/sh\n")
            wheel.writestr("gracefork/it", str(len(self.builds)))
            wheel.writestr("gracefork/it.so", self.module)
        return "a.whl"

    def built(self) -> str:
        return str(self.pgo.build(str(self.folder), self.program, self.build))

    def refused(self) -> str:
        with self.assertRaises(self.pgo.Unavailable) as refusal:
            self.built()
        return str(refusal.exception)

    def test_it_is_built_to_count_trained_and_built_with_the_counts(self) -> None:
        before = dict(os.environ)
        self.assertEqual(self.built(), "a.whl")
        self.assertEqual(dict(os.environ), before)
        (profile,) = self.place.glob("*.profdata")
        config = "--target some-machine --config 'target.some-machine.rustflags=[\"{}\"]'"
        self.assertEqual(
            self.builds,
            [
                (str(self.place / "count"), config.format("-Cprofile-generate")),
                (str(self.place / "use"), config.format(f"-Cprofile-use={profile}")),
            ],
        )
        self.assertIn("/counts/1.profraw", Path("merged-with").read_text())

    def test_flags_of_the_environment_stay(self) -> None:
        os.environ["RUSTFLAGS"] = "-Ctarget-cpu=native -g"
        self.built()
        flags = [flags.split("\x1f") for _, flags in self.builds]
        self.assertEqual(flags[0], ["-Ctarget-cpu=native", "-g", "-Cprofile-generate"])
        self.assertEqual(flags[1][:2], ["-Ctarget-cpu=native", "-g"])

    def test_what_was_trained_before_is_not_trained_again(self) -> None:
        self.built()
        Path("merged-with").unlink()
        self.built()
        self.assertFalse(Path("merged-with").exists())
        # With another training it is, or another module, and the profile from before goes.
        self.train.write_text(f"{TRAIN}# Changed.")
        self.built()
        Path("merged-with").unlink()
        self.module = "counts otherwise"
        self.built()
        self.assertTrue(Path("merged-with").exists())
        self.assertEqual(len(list(self.place.glob("*.profdata"))), 1)

    def test_a_toolchain_without_the_merger_is_told_how_to_get_it(self) -> None:
        self.merger.unlink()
        self.assertIn("rustup component add llvm-tools", self.refused())
        self.assertEqual(self.builds, [])

    def test_what_is_for_another_machine_is_not_trained(self) -> None:
        self.program = f"{self.folder}/target/another-machine/release/gracefork"
        self.assertIn("another machine", self.refused())
        self.assertEqual(self.builds, [])

    def test_no_wheel_comes_of_a_training_that_fails(self) -> None:
        self.train.write_text("raise SystemExit(1)")
        self.assertIn("the training", self.refused())
        self.train.write_text("print(100)")
        self.assertIn("left no profile", self.refused())
        self.assertEqual(len(self.builds), 2)
        self.assertFalse(Path("a.whl").exists())

    def test_a_profile_that_lacks_requests_is_of_something_else(self) -> None:
        self.merger_that_counts(99)
        self.assertIn("does not have the training's 100 requests", self.refused())
        self.assertEqual(list(self.place.glob("*.profdata")), [])


if __name__ == "__main__":
    unittest.main()
