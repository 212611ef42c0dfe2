"""A terminal as small as what the live view asks of one: anything else that is written to it is an
error.
"""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

_CUT = re.compile(r"\x1b(\[[?0-9;]*)?$")  # the rest of a sequence is still to come
_PIECES = re.compile(r"\x1b\[([?0-9;]*)([A-Za-z])|([\r\n])|([^\x1b\r\n]+)")


@dataclass
class Screen:
    """What is seen: `main` is the screen of the shell, `other` the alternate one. Lines only; no
    test needs columns.
    """

    main: list[str] = field(default_factory=lambda: [""])
    other: list[str] | None = None
    cursor: bool = True
    row: int = 0
    main_row: int = 0

    @property
    def lines(self) -> list[str]:
        shown = self.main if self.other is None else self.other
        return [line.rstrip() for line in shown]

    def feed(self, text: str) -> None:
        end = 0
        for found in _PIECES.finditer(text):
            assert found.start() == end, f"unknown: {text[end : found.start() + 20]!r}"
            end = found.end()
            self._take(*found.groups())

    def _take(self, values: str | None, letter: str | None, move: str | None, words: str) -> None:
        shown = self.main if self.other is None else self.other
        if letter is not None:
            self._control(f"{values}{letter}", shown)
        elif move == "\n":
            self.row += 1
            shown += [""] * (self.row + 1 - len(shown))
        elif words:
            shown[self.row] += words

    def _control(self, sequence: str, shown: list[str]) -> None:
        if sequence.endswith("m"):
            return
        if sequence == "?1049h":
            self.other, self.main_row, self.row = [""], self.row, 0
        elif sequence == "?1049l":
            self.other, self.row = None, self.main_row
        elif sequence in ("?25h", "?25l"):
            self.cursor = sequence.endswith("h")
        elif sequence == "H":
            self.row = 0
        elif sequence == "2K":
            shown[self.row] = ""
        elif sequence == "J":
            del shown[self.row + 1 :]
        else:
            raise AssertionError(f"unknown: {sequence}")


class Terminal:
    """A program in a session of its own on a pseudo-terminal, and what is seen there."""

    def __init__(
        self,
        command: Sequence[str],
        env: dict[str, str],
        size: tuple[int, int] = (80, 24),
        output: int | None = None,
        before: Callable[[], None] | None = None,
    ) -> None:
        self.master, theirs = pty.openpty()
        self.screen, self.left = Screen(), ""
        self.decoder = codecs.getincrementaldecoder("utf-8")()
        self.resize(*size)

        def take_terminal() -> None:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
            signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
            if before:
                before()

        out = theirs if output is None else output
        self.process = subprocess.Popen(
            command, env=env, stdin=theirs, stdout=out, stderr=out, start_new_session=True,
            preexec_fn=take_terminal, cwd=env["HOME"],
        )  # fmt: skip
        os.close(theirs)

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def keys(self, data: bytes) -> None:
        os.write(self.master, data)

    def until(self, right: Callable[[list[str]], bool], seconds: float = 40) -> list[str]:
        """The first screen that is `right`."""
        end = time.monotonic() + seconds
        while not right(self.screen.lines):
            assert time.monotonic() < end, "\n".join(self.screen.lines)
            self.read()
        return self.screen.lines

    def read(self) -> bool:
        """Take what was written; whether anybody can still write."""
        if not select.select([self.master], [], [], 0.1)[0]:
            return self.process.poll() is None
        try:
            data = os.read(self.master, 1 << 16)
        except OSError:  # EIO: nobody has it open any more
            return False
        text = self.left + self.decoder.decode(data)
        whole = _CUT.sub("", text)
        self.left = text[len(whole) :]
        self.screen.feed(whole)
        return True

    def hang_up(self) -> None:
        os.close(self.master)
        self.master = -1

    def end(self) -> int:
        """The exit status, once all that it wrote was read."""
        end = time.monotonic() + 40
        while self.master >= 0 and self.read():
            assert time.monotonic() < end, "it has not ended"
        return self.process.wait(40)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        if self.master >= 0:
            self.hang_up()
