"""The live view of a watch: a screen of its own (the terminal's alternate one) that goes when the
watch ends, and leaves its last frame behind as plain lines.

Every draw writes the whole frame: whatever else was written to the terminal meanwhile is gone with
the next second. No setting of the terminal's driver is changed.
"""

from __future__ import annotations

import os
import select
import sys
import time
from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from miyabi_healing.report.check_states import CheckState, Key, Kind, deeds, states_of
from miyabi_healing.report.folding import home_folded
from miyabi_healing.report.live_frame import Picture, draw_frame, render_line
from miyabi_healing.state import recent_runs
from miyabi_healing.state.run_clock import since_boot
from miyabi_healing.support import paths
from miyabi_healing.support.formatting import DAY, display, figure, minute_text
from miyabi_healing.support.terminal import owns_terminal, write_all

if TYPE_CHECKING:
    from miyabi_healing.report.document_types import ActionRow, Document, ForeseenRow

# xterm's control sequences: the alternate screen, and the cursor
_ENTER = "\x1b[?1049h\x1b[?25l"
_LEAVE = "\x1b[H\x1b[J\x1b[?25h\x1b[?1049l"
_HOME, _CLEAR_LINE, _CLEAR_BELOW = "\x1b[H", "\x1b[2K", "\x1b[J"
_BLOCKS = "▁▂▃▄▅▆▇█✓✗–…·→"
_DONE = 5  # deeds that are remembered
_USUAL_SIZE = os.terminal_size((80, 24))


@dataclass(frozen=True)
class _Done:
    """Something that was done: when it was last, and how often in a row."""

    when: float
    text: str
    times: int = 1

    @property
    def line(self) -> str:
        often = f" ({self.times} times)" if self.times > 1 else ""
        return f"{_moment(self.when)} {self.text}{often}"


@dataclass
class ScreenView:
    """What is known of the checks, and the screen that it is drawn on."""

    output: int
    encoding: str
    colour: bool
    picture: Picture
    courses: dict[Key, recent_runs.Course]
    done: deque[_Done]
    healed: dict[Key, float]
    tick: float | None = 1.0
    last: float | None = None
    due: float = 0
    at_work: float | None = None
    entered: bool = False
    foreseen: list[ForeseenRow] = field(default_factory=list)

    @classmethod
    def begin(cls) -> ScreenView:
        """A view on standard output that begins with what the last runs measured and did."""
        recent = recent_runs.read_recent(paths.state_folder())
        encoding = sys.stdout.encoding or "utf-8"
        try:
            blocks = bool(_BLOCKS.encode(encoding))
        except UnicodeEncodeError:
            blocks = False
        view = cls(
            sys.stdout.fileno(),
            encoding,
            not os.environ.get("NO_COLOR"),
            Picture(display(os.uname().nodename), "The first run is at work.", blocks=blocks),
            recent.courses,
            deque(maxlen=_DONE),
            {each.key: each.ended for each in recent.deeds if each.healed},
        )
        for deed in recent.deeds:
            view._remember(deed.ended, _deed_text(deed))
        return view

    def begin_run(self) -> None:
        self.at_work = since_boot()
        self.redraw()

    def show(self, document: Document, wait: float) -> None:
        now = time.time()
        states = self._with_limits(states_of(document))
        for state in states:
            course = self.courses.setdefault(state.key, deque(maxlen=recent_runs.RUNS))
            course.extend(state.points)
            if state.kind == Kind.HEALED:
                self.healed[state.key] = now
        if document["metrics"]:  # a view that stays for months forgets what is gone
            there = {each.key for each in states}
            self.courses = {key: each for key, each in self.courses.items() if key in there}
            self.healed = {key: each for key, each in self.healed.items() if key in there}
        for action in deeds(document):
            self._remember(now, _action_text(action))
        self.foreseen = document.get("foreseen", [])
        self.last, self.due, self.at_work = now, since_boot() + wait, None
        self.picture = replace(self.picture, summary=document["summary"], states=tuple(states))
        self.redraw()

    def _with_limits(self, states: list[CheckState]) -> list[CheckState]:
        """With the limits that were known before to those that could not be checked now."""
        before = {each.key: each for each in self.picture.states if each.threshold is not None}
        return [
            replace(each, threshold=before[each.key].threshold, unit=before[each.key].unit)
            if each.threshold is None and each.key in before
            else each
            for each in states
        ]

    def say(self, words: str) -> None:
        text = f"last error {_moment(time.time())}: {display(words)}"
        self.picture = replace(self.picture, complaint=text)
        self.redraw()

    def redraw(self) -> None:
        """Draw, unless somebody else has the terminal, or has stopped its output."""
        if not owns_terminal(self.output) or not select.select([], [self.output], [], 0)[1]:
            return
        width, height = self._size()
        lead = "" if self.entered else _ENTER
        self.entered = True
        lines = self._lines(self._current(), width, height)
        body = "\r\n".join(f"{_CLEAR_LINE}{line}" for line in lines)
        self._write(f"{lead}{_HOME}{body}{_CLEAR_BELOW}")

    def suspend(self) -> None:
        if self.entered:
            self.entered = False
            self._write(_LEAVE)

    def end(self) -> None:
        """Give the terminal back, with the last state on it. Raises OSError where it is gone."""
        self.suspend()
        if not owns_terminal(self.output):
            return
        picture = replace(self._current(), next=f"stopped {_clock(time.time())}")
        lines = self._lines(picture, self._size()[0])
        # a Ctrl-C may have been echoed since: the kernel does so after it has sent the signal
        self._write(f"\r{_CLEAR_LINE}" + "".join(f"{line}\r\n" for line in lines))

    def _current(self) -> Picture:
        """What there is to show at this moment."""
        now = time.time()
        left = self.due - since_boot()
        coming = f"next run {_clock(now + max(left, 0))}, in {_countdown(left)}"
        if self.at_work is not None:
            coming = f"a run is at work, {since_boot() - self.at_work:.0f} s"
        return replace(
            self.picture,
            last="" if self.last is None else f"last run {_clock(self.last)}",
            next=coming,
            courses={key: tuple(each) for key, each in self.courses.items()},
            healed={
                key: time.strftime("%H:%M", time.localtime(when))
                for key, when in self.healed.items()
                if 0 <= now - when < DAY
            },
            foreseen=_sentences(self.foreseen, now),
            done=[each.line for each in self.done],
        )

    def _lines(self, picture: Picture, width: int, height: float = float("inf")) -> list[str]:
        drawn = draw_frame(picture, width, height)
        return [render_line(each, self.colour, picture.blocks) for each in drawn]

    def _size(self) -> tuple[int, int]:
        """Columns and lines; a terminal that does not say is taken for one of the usual size."""
        try:
            size = os.get_terminal_size(self.output)
        except OSError:
            size = _USUAL_SIZE
        return (size.columns or _USUAL_SIZE.columns, size.lines or _USUAL_SIZE.lines)

    def _write(self, words: str) -> None:
        write_all(self.output, words.encode(self.encoding, "replace"))

    def _remember(self, when: float, text: str) -> None:
        last = self.done[-1] if self.done else None
        if last and last.text == text:
            self.done[-1] = _Done(when, text, last.times + 1)
        else:
            self.done.append(_Done(when, text))


def _deed_text(deed: recent_runs.Deed) -> str:
    """What an earlier run did."""
    change = ""
    if deed.before is not None and deed.after is not None:
        change = f", {figure(deed.before, deed.unit)} → {figure(deed.after, deed.unit)}"
    what = f"{deed.key[0]} {home_folded(deed.key[1])}".rstrip()
    return f"{what}: {deed.text}{change}"


def _sentences(rows: list[ForeseenRow], now: float) -> list[str]:
    """What is foreseen, the next first, in words of this moment."""
    if not rows:
        return []
    from miyabi_healing.report.foreseen_text import sentence

    return [sentence(each, now) for each in sorted(rows, key=lambda row: row["eta_seconds"])]


def _action_text(action: ActionRow) -> str:
    where = f" {home_folded(action['target'])}" if action["target"] else ""
    return f"{action['action']}{where}: {action['message']}"


def _clock(seconds: float) -> str:
    """A moment of today: ``12:40:05``."""
    return time.strftime("%H:%M:%S", time.localtime(seconds))


def _moment(seconds: float) -> str:
    """A moment to the minute; with its date where that is another one than today's."""
    text, today = minute_text(seconds), minute_text(time.time())
    return text.split(" ")[1] if text[:10] == today[:10] else text


def _countdown(seconds: float) -> str:
    """``4:12``, ``1:04:12``, ``42 s``."""
    left = max(round(seconds), 0)
    if left < 60:
        return f"{left} s"
    minutes, rest = divmod(left, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
