"""How what is printed looks: marks, colour and columns, by the reader's screen and wishes.

Every mark of ours is in one table: what reads like an emoji exists nowhere else. Names that others
chose stay as they are; where the encoding lacks their letters, these are escaped.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, replace
from typing import NamedTuple

LEAST, MOST = 40, 200  # columns; what is narrower, or wider, is written as for these
IN_A_PIPE = 100
_UNKNOWN = 80


class _Mark(NamedTuple):
    emoji: str
    plain: str


MARKS = {
    "title": _Mark("🔧", ""),
    "when": _Mark("📅", ""),
    "summary": _Mark("📝", ""),
    "issues": _Mark("🔍", ""),
    "actions": _Mark("🔧", ""),
    "recovered": _Mark("🩹", ""),
    "quarantine": _Mark("📦", ""),
    "alerts": _Mark("📣", ""),
    "notes": _Mark("📌", ""),
    "warning": _Mark("⚠️ ", "!"),
    "hint": _Mark("💡", ""),
    "foreseen": _Mark("🔭", "^"),
    "good": _Mark("✅", "✓"),
    "flapping": _Mark("🔁", "~"),
    "bad": _Mark("❌", "✗"),
    "fine": _Mark("✓", "✓"),
    "unknown": _Mark("❓", "?"),
    "blocked": _Mark("⛔", "!"),
    "low": _Mark("🔵", "·"),
    "medium": _Mark("🟡", "!"),
    "high": _Mark("🟠", "!!"),
    "critical": _Mark("🔴", "!!!"),
    "success": _Mark("✅", "✓"),
    "partial": _Mark("⚠️ ", "~"),
    "failed": _Mark("❌", "✗"),
    "skipped": _Mark("⏭️ ", "–"),
}
# The others, for encodings without them.
TO_ASCII = str.maketrans(
    {"✓": "+", "✗": "x", "·": "|", "…": "...", "→": "->", "–": "-", "×": "x", "≥": ">=", "↩": "<",
     "↷": ">", "─": "-", "“": '"', "”": '"'}
)  # fmt: skip
_PROBE = "✓✗·…→–×"


@dataclass(frozen=True)
class Style:
    """`encoding` is that of what is written to; `width` in columns. `every_step` shows everything,
    `terminal` has tables with lines; `dated` names days by their dates, in a report of the past.
    """

    emoji: bool = True
    colour: bool = False
    encoding: str = "utf-8"
    width: int = IN_A_PIPE
    every_step: bool = False
    terminal: bool = False
    dated: bool = False

    @property
    def letters(self) -> bool:
        """Whether the encoding has letters that are not everybody's."""
        try:
            _PROBE.encode(self.encoding)
        except (UnicodeEncodeError, LookupError):
            return False
        return True

    def mark(self, name: str) -> str:
        return MARKS[name].emoji if self.emoji and self.letters else MARKS[name].plain

    def lead(self, name: str) -> str:
        """A mark and a blank, or nothing."""
        mark = self.mark(name)
        return f"{mark} " if mark else ""

    def marked(self, line: str) -> str:
        """A line that begins with an emoji of ours, which it may not have here, with its mark."""
        if self.emoji and self.letters:
            return line
        for emoji, plain in MARKS.values():
            if line.startswith(emoji):
                return f"{plain} {line[len(emoji) :].lstrip()}".lstrip()
        return line

    def finished(self, line: str) -> str:
        """A line of ours in the letters that there are."""
        if self.letters:
            return line
        return line.translate(TO_ASCII).encode(self.encoding, "backslashreplace").decode(
            self.encoding
        )  # fmt: skip

    def shown(self, value: object) -> object:
        """What others named, in the letters that there are; whatever it is nested in."""
        if self.letters:
            return value
        if isinstance(value, str):
            return value.encode(self.encoding, "backslashreplace").decode(self.encoding)
        if isinstance(value, dict):
            return {key: self.shown(each) for key, each in value.items()}
        return [self.shown(each) for each in value] if isinstance(value, list) else value


_wishes: dict[str, bool] = {}


def wish(**wishes: bool) -> None:
    """What was asked for on the command line or in the configuration: `emoji`, `every_step`; holds
    in this process.
    """
    _wishes.update(wishes)


def current() -> Style:
    """The style of standard output: a terminal's, or that of a pipe. NO_COLOR (no-color.org) and
    TERM=dumb switch colour and emoji off.
    """
    plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
    terminal = sys.stdout.isatty()
    encoding = getattr(sys.stdout, "encoding", "") or "utf-8"
    found = Style(
        emoji=not plain,
        colour=terminal and not plain,
        encoding=encoding,
        width=_columns(terminal),
        terminal=terminal and os.environ.get("TERM") != "dumb",
    )
    return replace(
        found,
        emoji=found.emoji and _wishes.get("emoji", True),
        every_step=_wishes.get("every_step", False),
    )


def _columns(terminal: bool) -> int:
    """The columns that there are: as COLUMNS says, or of the terminal."""
    named = os.environ.get("COLUMNS", "")
    if named.isdigit() and int(named):
        return min(max(LEAST, int(named)), MOST)
    if not terminal:
        return IN_A_PIPE
    try:
        found = os.get_terminal_size(sys.stdout.fileno()).columns
    except (OSError, ValueError):
        return IN_A_PIPE
    return min(max(LEAST, found), MOST) if found else _UNKNOWN  # tty_ioctl(4): 0 is not known
