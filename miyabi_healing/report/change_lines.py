"""What a watch says in a pipe: a line for each change, not the same report again and again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from miyabi_healing.report.check_states import (
    ALL_CHECKS,
    BAD,
    CheckState,
    Key,
    Kind,
    counts,
    deeds,
    states_of,
)
from miyabi_healing.support import console
from miyabi_healing.support.formatting import (
    DAY,
    duration_text,
    size_text,
    time_text,
    timestamp_seconds,
)

if TYPE_CHECKING:
    from miyabi_healing.report.document_types import ActionRow, Document

_Ranked = tuple[int, str]  # with its priority (`miyabi_healing.support.console`)
_OVER = 2  # runs in a row in which it was not foreseen
_NOT_YET = "waits: gate"  # it has not lasted long enough to be anybody's business


@dataclass(frozen=True)
class _Said:
    """The state of a check as it was told last, since when it is so (in words), and when that was
    told (`clock`).
    """

    state: CheckState
    since: str
    told: float


@dataclass
class ChangeLines:
    """The lines for each run of a watch. With `quiet`, only what got worse or was done, and once a
    day what is wrong all the same.
    """

    quiet: bool = False
    clock: Callable[[], float] = time.monotonic
    known: dict[Key, _Said] = field(default_factory=dict)
    foreseen: dict[Key, int] = field(default_factory=dict)  # in how many runs it was not, since
    began: bool = False

    def of_run(self, document: Document, wait: float) -> list[_Ranked]:
        """What a run has changed; the first run of all is told as it is."""
        states = states_of(document)
        when = time_text(document["timestamp"])
        lines = [*_side_lines(document)]
        if not (self.began or self.quiet):
            number = f"{len(states)} check{'s' * (len(states) != 1)}"
            text = f"{number}: {counts(states)}; next run in {duration_text(wait)}"
            lines.append((console.INFO, text if states else "no checks"))
        actions: dict[Key, list[ActionRow]] = {}
        for action in deeds(document):
            actions.setdefault((action["issue"], action["target"]), []).append(action)
        for state in states:
            lines += self._of_check(state, actions.get(state.key, []), when)
        if self.foreseen or "foreseen" in document:
            lines += self._foreseen(document, states)
        # where nothing could be checked, nothing is known to be gone
        if ALL_CHECKS not in {each.key for each in states}:
            lines += self._gone({each.key for each in states})
        self.began = True
        return [(level, f"{when} {line}") for level, line in lines]

    def _foreseen(self, document: Document, states: list[CheckState]) -> Iterator[_Ranked]:
        """What is foreseen, once, and that it is not any more: what has occurred is told as that,
        and what was not looked at is as it was.
        """
        from miyabi_healing.report.foreseen_text import sentence, settled

        for row in settled(document):
            key = row["name"], row["target"]
            if key not in self.foreseen:
                yield console.NOTICE, f"foreseen: {sentence(row, _moment_of(document))}"
            self.foreseen[key] = 0
        there = {(each["name"], each["target"]) for each in document.get("foreseen", ())}
        self.foreseen |= dict.fromkeys(there & self.foreseen.keys(), 0)
        for state in states:
            if state.key in there or state.key not in self.foreseen or state.kind == Kind.UNKNOWN:
                continue
            self.foreseen[state.key] += 1
            if state.kind in BAD:
                del self.foreseen[state.key]
            elif self.foreseen[state.key] >= _OVER:
                del self.foreseen[state.key]
                if not self.quiet:
                    yield console.INFO, f"{state.label}: no longer foreseen"

    def _of_check(self, state: CheckState, done: list[ActionRow], when: str) -> Iterator[_Ranked]:
        said = self.known.get(state.key)
        news = not said or said.state.news != state.news
        now = self.clock()
        if not news and said and not done:
            if state.kind not in BAD or now - said.told < DAY:
                return
            self.known[state.key] = _Said(state, said.since, now)
            yield _level(state), f"{state.label}: still {_words(state)}, since {said.since}"
            return
        since = when if news or not said else said.since
        self.known[state.key] = _Said(state, since, now)
        if done and all(each.get("early") for each in done) and state.kind == Kind.WITHIN:
            text = "; ".join(f"{each['action']}: {each['message']}" for each in done)
            yield console.NOTICE, f"{state.label}: {text}"  # which says that it is no issue yet
            return
        deed = "".join(f"; {each['action']}: {each['message']}" for each in done)
        if not (done or self._is_told(state, said)):
            return
        before = "not checked → " if self.began else ""
        if said:
            before = f"{said.state.kind.value} → " if news or state.kind not in BAD else "still "
        level = console.NOTICE if done and state.kind not in BAD else _level(state)
        yield level, f"{state.label}: {before}{_words(state, bool(done))}{deed}"

    def _is_told(self, state: CheckState, said: _Said | None) -> bool:
        """Whether a change is told of by which nothing was done."""
        if self.quiet:
            return state.kind in BAD and not state.news.startswith(_NOT_YET)
        return self.began or state.kind != Kind.WITHIN

    def _gone(self, there: set[Key]) -> Iterator[_Ranked]:
        """What is not looked at any more: a mount that went, a check that is off."""
        for key in [each for each in self.known if each not in there]:
            state = self.known.pop(key).state
            self.foreseen.pop(key, None)
            if not self.quiet:
                after = "checked again" if key == ALL_CHECKS else "no longer checked"
                yield console.INFO, f"{state.label}: {state.kind.value} → {after}"


def _moment_of(document: Document) -> float:
    return timestamp_seconds(document["timestamp"])


def _words(state: CheckState, done: bool = False) -> str:
    """``over the limit (28 of 15: nothing safe to do)``. What was `done` says the rest itself."""
    detail = "" if done and state.kind == Kind.OVER else state.detail
    facts = ": ".join(filter(None, (state.now_of_limit, detail)))
    return f"{state.kind.value} ({facts})" if facts else state.kind.value


def _level(state: CheckState) -> int:
    if state.kind not in BAD:
        return console.NOTICE if state.kind == Kind.HEALED else console.INFO
    severe = state.kind == Kind.UNKNOWN or state.severity in ("high", "critical")
    return console.ERROR if severe else console.WARNING


def _side_lines(document: Document) -> Iterator[_Ranked]:
    """What was done besides healing, and what a run may have cost others."""
    for row in document["recovered"]:
        text = f"an earlier run's step {row['step']}, {row['kind']} {row['target']}"
        yield console.NOTICE, f"{text}: {row['result']}"
    held = document.get("quarantine")
    purged = [each for each in held["purged"] if each["status"] == "applied"] if held else []
    if purged:
        freed = size_text(sum(each["freed"] for each in purged))
        yield console.NOTICE, f"quarantine: {len(purged)} expired, {freed} freed"
    if document.get("out_of_memory_kills"):
        yield console.ERROR, document["summary"]
