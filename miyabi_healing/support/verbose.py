"""What is asked, how long it takes, and where it fails: on standard error, where somebody wants to
know (--verbose).

Everything of ours logs to the logger of its module; without this, nobody hears it. What others
chose (names, messages, output) comes as printable text, and no line break in it begins a record.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from types import TracebackType

from miyabi_healing.support import console
from miyabi_healing.support.formatting import display

_NAMES = ("miyabi_healing", "miyabi_healing_healers")  # ours, and those of healers, by __name__
DEBUG = 7  # sd-daemon(3)
_CONTINUED = "    | "


class _Lines(logging.Handler):
    """Writes each record at once to where standard error led when this was made: pytest exchanges
    it meanwhile.
    """

    def __init__(self) -> None:
        super().__init__()
        self.marked = console.is_journal(console.STDERR)
        self.out = os.fdopen(os.dup(console.STDERR), "wb", buffering=0)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
        except Exception as error:
            # a healer's own call whose arguments do not fit: pytest's handlers, which come after
            # this one, would make that an error of the healer's
            record.msg, record.args = f"a message that cannot be put together: {error}", ()
            text = self.format(record)
        first, *others = (display(line) for line in text.split("\n"))
        text = "\n".join((first, *(_CONTINUED + line for line in others)))
        if self.marked:
            text = console.marked(text, DEBUG)
        with contextlib.suppress(OSError):  # nobody reads it: the run goes on
            self.out.write(f"{text}\n".encode())


class _Clock(logging.Formatter):
    """The seconds since the start, the module, what it says, and the traceback if there is one."""

    def __init__(self) -> None:
        super().__init__("%(relative)9.3f %(short)s: %(message)s")
        self.began = time.time()

    def format(self, record: logging.LogRecord) -> str:
        record.relative = record.created - self.began
        record.short = record.name.removeprefix("miyabi_healing.")
        return super().format(record)


def enable() -> None:
    """Show from here on what is logged, by forks as well. Nobody else's logging is touched."""
    handler = _Lines()
    handler.setFormatter(_Clock())
    for name in _NAMES:
        logger = logging.getLogger(name)
        logger.setLevel(logging.DEBUG)
        logger.propagate = False
        logger.addHandler(handler)


def raised(
    error: BaseException, file: object
) -> tuple[type[BaseException], BaseException, TracebackType | None]:
    """An error as logging takes it, from where it reached `file` on; whole where it never did."""
    found = error.__traceback__
    while found and found.tb_frame.f_code.co_filename != str(file):
        found = found.tb_next
    return type(error), error, found or error.__traceback__


def end(error: BaseException) -> None:
    """Say where what ended the run came from."""
    logging.getLogger(__name__).debug("the run cannot go on", exc_info=error)
