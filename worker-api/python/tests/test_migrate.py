"""gunicorn config files as TOML."""

from __future__ import annotations

import os
import subprocess
import sys
import unittest
from pathlib import Path

from case import Case
from gracefork import _config, _migrate

PACKAGE = str(Path(_migrate.__file__).parents[1])

CONFIG = r"""
wsgi_app = "main:app"
bind = ["0.0.0.0:80", "unix:/run/app.sock"]
workers = 3
graceful_timeout = 60
raw_env = ["PLAIN=1", "with.dot=a \"quoted\" \\ line\nbreak"]
access_log_format = '%(h)s "%(r)s"'
reuse_port = True
root_path = "/api"
preload_app = True
def post_fork(server, worker): pass
"""

TOML = r"""# From gunicorn_config.py.
# reuse_port: workers share one socket and take connections in turns.
app = "main:app"
env = { PLAIN = "1", "with.dot" = "a \"quoted\" \\ line\nbreak" }

[listen]
bind = ["0.0.0.0:80", "unix:/run/app.sock"]

[workers]
count = 3
preload = true

[shutdown]
drain_timeout = "60s"
grace_period = "75s"

[log]
access_format = "%(h)s \"%(r)s\""

[python]
root_path = "/api"
# for post_fork
config = "gunicorn_config.py"
"""


class Migrating(Case):
    def toml(self, text: str) -> str:
        cfg = _config.read(self.file("gunicorn_config.py", text))
        return _migrate.toml(cfg.given, "gunicorn_config.py")

    def test_a_file_as_toml(self):
        self.assertEqual(self.toml(CONFIG), TOML)

    def test_a_file_without_hooks_is_not_needed_any_more(self):
        self.assertEqual(
            self.toml("workers = 2\n"), "# From gunicorn_config.py.\n\n[workers]\ncount = 2\n"
        )

    @unittest.skipIf(sys.version_info < (3, 11), "Python 3.10 has no TOML parser")
    def test_it_reads_back_as_the_same_settings(self):
        import tomllib

        read = tomllib.loads(self.toml(CONFIG))
        self.assertEqual(read["env"]["with.dot"], 'a "quoted" \\ line\nbreak')
        self.assertEqual(read["listen"]["bind"], ["0.0.0.0:80", "unix:/run/app.sock"])
        self.assertEqual(read["workers"], {"count": 3, "preload": True})

    def test_the_program_prints_it_and_nothing_else(self):
        self.file("gunicorn_config.py", "print('noise')\n" + CONFIG)
        env = {**os.environ, "PYTHONPATH": PACKAGE, "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-m", "gracefork._migrate", "gunicorn_config.py"]
        done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=60)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, TOML, "noise\n"))
        command[-1] = "no.py"
        done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=60)
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn("there is no config file no.py", done.stderr)


if __name__ == "__main__":
    unittest.main()
