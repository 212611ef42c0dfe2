"""Text for a screen of some width: breaking lines between words, and aligning columns."""

from __future__ import annotations

import math
import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator

from rich.cells import cell_len

from miyabi_healing.report.style import LEAST, Style, current

_STAYS = "\N{NO-BREAK SPACE}"  # for a blank at which no line ends
_SHOWN = 12  # of a list; all of them with -v
_WITH_UNIT = re.compile(r"(?<=[0-9]) (?=(?:[kMGT]?B|s|min|h|d|%)(?![\w/]))")


def screen_width() -> float:
    """The columns that there are: of the terminal, or as COLUMNS says; without end in a pipe."""
    if not sys.stdout.isatty() and "COLUMNS" not in os.environ:
        return math.inf
    return max(LEAST, shutil.get_terminal_size().columns)


def wrapped(text: str, width: float, first: str = "", rest: str = "") -> Iterator[str]:
    """A text in lines of at most so many columns, which begin with `first` and `rest`.

    Lines end between words, not between a number and its unit; a word that is longer than a line,
    as a path can be, ends after a slash, and only where it has none in its middle.
    """
    line, empty = first, True
    for word in _WITH_UNIT.sub(_STAYS, text).split(" "):
        for number, part in enumerate(_parts(word, width - cell_len(rest))):
            glue = " " if number == 0 and not empty else ""
            begun = not empty or (line != rest and line.strip())
            if begun and cell_len(line) + cell_len(glue + part) > width:
                yield line.rstrip().replace(_STAYS, " ")
                line, glue = rest, ""
            line, empty = f"{line}{glue}{part}", False
    yield line.rstrip().replace(_STAYS, " ")


def unbroken(command: str) -> str:
    """A command to copy, in a text that is wrapped: on one line where a line can hold it."""
    return command.replace(" ", _STAYS)


def fitted(lines: Iterable[str], width: float) -> Iterator[str]:
    """Lines that are too long, broken between words; what goes on is indented a little more. A mark
    at the start of one is as standard output has marks.
    """
    for line in lines:
        text = current().marked(line.lstrip(" "))
        indent = line[: len(line) - len(line.lstrip(" "))]
        yield from wrapped(text, width, indent, indent + "    ") if text else (line,)


def _parts(word: str, width: float) -> Iterator[str]:
    """A word in pieces that fit."""
    if cell_len(word) <= width:
        yield word
        return
    piece = ""
    for each in re.findall(r"[^/]*/|[^/]+", word):
        if piece and cell_len(piece + each) > width:
            yield piece
            piece = ""
        while cell_len(each) > width:
            cut = next(
                number for number in range(len(each), 0, -1) if cell_len(each[:number]) <= width
            )
            yield each[:cut]
            each = each[cut:]
        piece += each
    if piece:
        yield piece


def flowed(
    items: Iterable[str], between: str, width: float, first: str = "", rest: str = ""
) -> Iterator[str]:
    """Items one after the other, each on one line where a line can hold it."""
    room = width - max(cell_len(first), cell_len(rest)) - cell_len(between)
    words = (each.replace(" ", _STAYS) if cell_len(each) <= room else each for each in items)
    yield from wrapped(between.join(words), width, first, rest)


def end_of_path(text: str, width: int, dots: str) -> str:
    """The end of a path that fits, since its last names tell more: whole names, where that leaves
    enough to go by.
    """
    if cell_len(text) <= width:
        return text
    while text and cell_len(text) > max(width - len(dots), 0):
        text = text[1:]
    names = text[max(text.find("/"), 0) :]
    return (dots + (names if 2 * len(names) > len(text) else text))[: max(width, 0)]


def padded(text: str, width: int, right: bool = False) -> str:
    """A text filled up with blanks to so many columns."""
    blanks = " " * max(0, width - cell_len(text))
    return blanks + text if right else text + blanks


def at_both_ends(left: str, right: str, width: int, indent: str) -> Iterator[str]:
    """A text, and at the right another that is never broken: beside it where both fit."""
    if not right:
        yield from wrapped(left, width, "", indent)
        return
    lines = list(wrapped(left, width, "", indent))
    room = width - cell_len(left) - cell_len(right)
    if len(lines) == 1 and room >= 2:
        yield f"{left}{' ' * room}{right}"
    else:
        yield from (*lines, f"{indent}{right}")


def titled(mark: str, title: str, style: Style) -> tuple[str, str]:
    """The title of a section, and the line below it."""
    return f"{style.lead(mark)}{title}", "-" * 40


def shortened(rows: Iterable[str], style: Style, most: int = _SHOWN) -> Iterator[str]:
    """A long list ends with how much was left out."""
    every = list(rows)
    if style.every_step or len(every) <= most:
        yield from every
    else:
        yield from every[:most]
        yield f"… and {len(every) - most} more (-v shows them)"
