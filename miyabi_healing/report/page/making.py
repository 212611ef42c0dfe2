"""Making the page and putting it in its place."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from miyabi_healing.model.config import Config
from miyabi_healing.report.page.contents import build_page
from miyabi_healing.state.store import open_read_only
from miyabi_healing.support import atomic_write, mount_answers
from miyabi_healing.support.formatting import display

if TYPE_CHECKING:
    from markupsafe import Markup

    from miyabi_healing.report.status import Service

_KEEP = "\N{NO-BREAK SPACE}"
_FOLDER = Path(__file__).parent
_MADE_BY = b'<meta name="generator" content="Miyabi Healing '
_HEAD = 4096  # bytes of a page in which that stands


class CannotWrite(Exception):
    """Where the page was to go cannot be written; the message is one line."""


def make_page(
    state: Path,
    config: Config,
    document: Mapping[str, Any] | None = None,
    services: Sequence[Service] = (),
) -> str:
    """The page, after a run with its `document`, else of the last run on record; `services` are
    what begins runs.

    Raises OSError, TooNew, sqlite3.Error.
    """
    with open_read_only(state) as journal:
        page = build_page(journal, document, state, config, time.time(), services)
    return render(page)


def render(page: object, template: Path = _FOLDER / "page.html") -> str:
    """The page as HTML: whatever came from a host is escaped. A template may include what lies
    beside it, and the style sheet here.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader((template.parent, _FOLDER), encoding="utf-8"),
        autoescape=True,
        finalize=_printable,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["slashes"] = _slashes
    return environment.get_template(template.name).render(page=page)


def _printable(value: object) -> object:
    """Any text as one printable line, whoever it came from; blanks that keep words together are
    ours.
    """
    if type(value) is not str:  # what is markup was text before
        return value
    return _KEEP.join(map(display, value.split(_KEEP)))


def _slashes(path: str) -> Markup:
    """A path that is broken after its slashes where it has to be."""
    from markupsafe import Markup, escape

    return Markup("/<wbr>").join(escape(_printable(each)) for each in path.split("/"))


def write_page(path: Path, words: str, private: bool = False) -> None:
    """Put the page in its place as a whole, or not at all, for all to read unless it is `private`.
    Raises CannotWrite.
    """
    data = words.encode("utf-8", "backslashreplace")
    file_mode, folder_mode = (0o600, 0o700) if private else (0o644, 0o755)
    try:
        mount_answers.check(path)
        if reason := _objection(path):
            raise CannotWrite(f"{display(path)} {reason}")
        atomic_write.replace(path, data, mode=file_mode, folder_mode=folder_mode)
    except mount_answers.NoAnswer as error:
        raise CannotWrite(str(error)) from None
    except OSError as error:
        raise CannotWrite(f"{display(path)}: {error.strerror}") from None


def is_page(path: Path) -> bool:
    """Whether a regular file, not a link to one, is a page that was made here. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        return regular and _MADE_BY in file.read(_HEAD)


def _objection(path: Path) -> str | None:
    """Why what is there is not to be replaced: a device, a link, a folder, a file of somebody's;
    None where it may be.
    """
    try:
        status = os.lstat(path)
        if not stat.S_ISREG(status.st_mode):
            return "is no regular file"
        if status.st_size and not is_page(path):
            return "is no page of ours: it stays; name another file, or take it away"
    except FileNotFoundError:
        pass
    return None
