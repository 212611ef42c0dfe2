"""Texts for people: paths, sizes, moments and plurals, each as one printable line."""

from __future__ import annotations

import os

DAY = 86_400  # seconds


def display(path: object) -> str:
    """A path as one printable line: undecodable bytes and control characters are escaped."""
    try:
        text = os.fsencode(str(path)).decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half a character, as JSON can have one
        text = str(path).encode("utf-8", "backslashreplace").decode()
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )


def size_text(count: float) -> str:
    """Bytes for people, in powers of 1000: ``1.5 GB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def printable(value: object) -> object:
    """A value for a report: every text in it as one printable line, whoever it came from, in
    whatever it is nested.
    """
    if isinstance(value, str):
        return display(value)
    if isinstance(value, dict):
        return {display(key): printable(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [printable(each) for each in value]
    return value


def plain_number(value: float) -> str:
    """A number as people write it: not more than two decimals."""
    return f"{round(value, 2):.15g}"
