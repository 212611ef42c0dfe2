"""How this program was called, so that what it suggests can be typed as it is."""

from __future__ import annotations

import os
import shlex
import sys

from miyabi_healing.support.formatting import display

# how shells ask the program for what could come next, whatever it was called as (click)
COMPLETE_VARIABLE = "_MIYABI_HEALING_COMPLETE"
_SCRIPT, _MAIN = "run_healing.sh", "self_healer.py"
_options: list[str] = []


def use_configuration(file: str | None) -> None:
    """Have commands that are suggested from here on read the same configuration: without it, they
    would speak of, and heal, something else.
    """
    _options[:] = ["--config", shell_word(file)] if file is not None else []


def own_command() -> str:
    """The command that started it, with the configuration that it was given: ``./run_healing.sh``,
    ``python3 self_healer.py``, or ``miyabi-healing``, from the current folder.
    """
    return " ".join((own_program(), *_options))


def own_program() -> str:
    """The same without any option."""
    called = sys.argv[0] if sys.argv else ""
    if os.path.basename(called) != _MAIN:
        return "miyabi-healing"
    folder = os.path.dirname(os.path.abspath(called))
    if sys.flags.isolated:  # as run_healing.sh starts it
        return _short(os.path.join(folder, _SCRIPT), "./")
    return f"python3 {_short(os.path.join(folder, _MAIN))}"


def shell_word(path: object) -> str:
    """A path, or another name, as one word of a shell; what no line can show is escaped."""
    return shlex.quote(display(path))


def _short(path: str, lead: str = "") -> str:
    """A path as a word of a shell, by its name alone where it lies in the current folder."""
    try:
        here = os.path.samefile(os.path.dirname(path), os.curdir)
    except OSError:
        here = False
    return lead + os.path.basename(path) if here else display(shlex.quote(path))
