"""What a host imports ahead of its workers, so that they share it: parts of the standard library
that web frameworks import, and what the first request makes of them.

Without ``preload`` each worker imports the app for itself. A third of what Flask's import takes, in
memory and in time, is these modules. They are the interpreter's own: importing them runs no code of
the app, and a reload finds the app's as they are.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import os
import sys

#: With all that they import in turn. ``encodings.idna`` would come with the first request.
_MODULES = (
    "calendar",
    "csv",
    "datetime",
    "decimal",
    "encodings.idna",
    "gettext",
    "hmac",
    "html",
    "http.client",
    "http.server",
    "importlib.metadata",
    "importlib.resources",
    "mimetypes",
    "pathlib",
    "pkgutil",
    "platform",
    "pprint",
    "secrets",
    "shutil",
    "tempfile",
    "urllib.parse",
    "uuid",
    "zipfile",
)
#: A folder of this name is no reason: nothing imports the interpreter's own.
_HARMLESS = {"test"}


def load() -> bool:
    """Imports them. An app that has a module of such a name for itself will import that, and no
    other: then nothing is imported here, and the answer is false."""
    if _replaced():
        return False
    for name in _MODULES:
        try:
            importlib.import_module(name)
        except ImportError:
            # A distribution that ships less; the app may never ask for it.
            pass
    return True


def _replaced() -> list[str]:
    """Names of the standard library that mean something else here."""
    standard = os.path.dirname(os.__file__)
    if standard not in sys.path:
        return []
    before = sys.path[: sys.path.index(standard)]
    find = importlib.machinery.PathFinder.find_spec
    specs = (find(name, before) for name in sys.stdlib_module_names - _HARMLESS)
    # A folder without __init__.py has no origin, and replaces nothing.
    return [spec.name for spec in specs if spec is not None and spec.origin is not None]
