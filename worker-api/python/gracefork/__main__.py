"""``python -m gracefork`` is ``gracefork``."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from typing import NoReturn


def main() -> NoReturn:
    """Becomes the gracefork binary; exits with 1 if there is none."""
    beside = os.path.join(sysconfig.get_path("scripts"), "gracefork")
    binary = beside if os.path.exists(beside) else shutil.which("gracefork")
    if binary is None:
        sys.stderr.write("error: there is no gracefork binary\n  = help: pip install gracefork\n")
        sys.exit(1)
    os.execv(binary, [binary, *sys.argv[1:]])


if __name__ == "__main__":
    main()
