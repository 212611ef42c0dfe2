"""Text for a screen of some width: breaking lines between words, and aligning columns."""

from __future__ import annotations

import math
import os
import re
import shutil
import sys
from collections.abc import Iterator

from rich.cells import cell_len

LEAST = 40  # columns; what is narrower is written as for these


def screen_width() -> float:
    """The columns that there are: of the terminal, or as COLUMNS says; without end in a pipe."""
    if not sys.stdout.isatty() and "COLUMNS" not in os.environ:
        return math.inf
    return max(LEAST, shutil.get_terminal_size().columns)


def wrapped(text: str, width: float, first: str = "", rest: str = "") -> Iterator[str]:
    """A text in lines of at most so many columns, which begin with `first` and `rest`.

    Lines end between words; a word that is longer than a line, as a path can be, ends after a
    slash, and only where it has none in its middle.
    """
    line, empty = first, True
    for word in text.split(" "):
        for number, part in enumerate(_parts(word, width - cell_len(rest))):
            glue = " " if number == 0 and not empty else ""
            if not empty and cell_len(line) + cell_len(glue + part) > width:
                yield line.rstrip()
                line, glue = rest, ""
            line, empty = f"{line}{glue}{part}", False
    yield line.rstrip()


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


def padded(text: str, width: int, right: bool = False) -> str:
    """A text filled up with blanks to so many columns."""
    blanks = " " * max(0, width - cell_len(text))
    return blanks + text if right else text + blanks
