"""Where pages are."""

from __future__ import annotations

import os
from pathlib import Path

from miyabi_healing.support import mount_answers

_FILE = "report.html"


def usual(state: Path) -> Path:
    """In the state folder, which is its owner's alone."""
    return state / _FILE


def newest(*names: str | Path) -> Path | None:
    """The file that was written last; None where there is none, or none that answers."""
    found = []
    for name in names:
        path = Path(os.path.expanduser(name))
        if str(name) and not mount_answers.is_silent(path) and path.is_file():
            found.append(path)
    return max(found, key=lambda path: path.stat().st_mtime, default=None)
