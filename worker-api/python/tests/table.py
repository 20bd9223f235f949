"""The table of docs/migrating-from-gunicorn.md, made from the declarations of the settings.

`UPDATE_DOCS=1 make test` writes it anew.
"""

from __future__ import annotations

import os
from pathlib import Path

from gracefork._settings import GROUPS, Fate, Setting

REPOSITORY = Path(__file__).resolve().parents[3]
PAGE = REPOSITORY / "docs" / "migrating-from-gunicorn.md"
BEGIN = "<!-- Made from worker-api/python/gracefork/_settings.py: change it there, then run"
END = "<!-- The end of what is made. -->"

_FATES = {
    Fate.FILE: "same",
    Fate.HOOK: "same",
    Fate.NONE: "not needed",
    Fate.REFUSED: "refused",
}


def made() -> str:
    """All tables, a heading before each."""
    parts = []
    for title, settings in GROUPS.items():
        rows = "\n".join(row(setting) for setting in settings)
        parts.append(f"### {title}\n\n| gunicorn | here | |\n|---|---|---|\n{rows}\n")
    return "\n".join(parts)


def row(setting: Setting) -> str:
    """One setting's row."""
    keys = ", ".join(f"`{key}`" for key in setting.keys)
    note = setting.note
    if not note.startswith("gracefork"):
        note = note[:1].upper() + note[1:]
    line = f"| `{setting.name}` | {keys or _FATES[setting.fate]} | {note} |"
    return line.replace("|  |", "| |")


def in_page() -> str:
    """The tables as the page has them."""
    text = PAGE.read_text(encoding="utf-8")
    return text[_where(text)]


def update() -> None:
    """Writes the tables into the page, if that is asked for."""
    if os.environ.get("UPDATE_DOCS"):
        text = PAGE.read_text(encoding="utf-8")
        where = _where(text)
        PAGE.write_text(text[: where.start] + made() + text[where.stop :], encoding="utf-8")


def _where(text: str) -> slice:
    begin = text.index("-->\n\n", text.index(BEGIN)) + len("-->\n\n")
    return slice(begin, text.index(f"\n{END}", begin))
