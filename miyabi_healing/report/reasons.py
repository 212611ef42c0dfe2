"""Reasons in words: what has grown, by whom, and what to do about it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from miyabi_healing.model.because import ACCOUNTS_FOR, OTHER, UNEXPLAINED, WENT_TOGETHER, Because
from miyabi_healing.report.because_text import percent
from miyabi_healing.report.shares import LEAST, Growth, Part
from miyabi_healing.support.formatting import display, duration_text, size_text

if TYPE_CHECKING:
    from miyabi_healing.report.document_types import BecauseRow

_MOST = 6  # parts that are named
_MOSTLY = 0.5  # of a growth: more is most of it


def reasons(growth: Growth) -> tuple[Because, ...]:
    """What accounts for a growth, the largest share first, with what is small and what is not
    explained: the shares make one whole. Nothing where too much is unexplained; a word where that
    may be because not all was looked at.
    """
    if not growth.is_explained:
        if not growth.partial:
            return ()
        text = f"{_whole(growth)}; {_not_seen(growth)}"
        what = "not fully looked at"
        return (Because(grade=WENT_TOGETHER, what=what, share=None, text=text),)
    named = growth.named[:_MOST]
    found = [_reason(each, growth) for each in named]
    rest = sum(each.bytes for each in growth.parts) - sum(each.bytes for each in named)
    if round(share := rest / growth.total, 2):
        text = f"{percent(share)}: smaller parts"
        found.append(Because(grade=ACCOUNTS_FOR, what=OTHER, share=_bounded(share), text=text))
    return (*found, _unexplained(growth))


def _unexplained(growth: Growth) -> Because:
    share = growth.unexplained
    text = f"{percent(share)} of {_whole(growth)} is not explained"
    if share < 0:
        text = f"the parts come to {percent(-share)} more than {_whole(growth)}"
    if growth.partial or share >= LEAST:
        text = "; ".join(filter(None, (text, _not_seen(growth))))
    return Because(grade=ACCOUNTS_FOR, what=UNEXPLAINED, share=_bounded(share), text=text)


def _not_seen(growth: Growth) -> str:
    """What was not looked at; empty where that is nothing."""
    found = [growth.partial] if growth.partial else []
    if growth.unseen:
        found.append(f"{growth.unseen} process(es) could not be looked into")
    return f"not fully looked at: {'; '.join(found)}" if found else ""


def _whole(growth: Growth) -> str:
    return f"the growth of {size_text(growth.total)} in {duration_text(growth.seconds)}"


def _bounded(share: float) -> float:
    return round(min(max(share, 0), 1), 4)


def _reason(part: Part, growth: Growth) -> Because:
    share = part.bytes / growth.total
    text = f"{_words(part)}: {size_text(part.bytes)}, {percent(share)} of {_whole(growth)}"
    if part.kind == "deleted":
        text += "; free once it has closed it or ended"
    return Because(
        grade=ACCOUNTS_FOR,
        what=display(part.path or _process(part) or "files in tmpfs and shared memory"),
        share=_bounded(share),
        text=text,
        pid=part.pid,
        start=part.start,
        command=_command(part),
        path=part.path,
        rate=part.bytes / growth.seconds,
        bytes=part.bytes,
        deleted=part.kind == "deleted",
    )


def _words(part: Part) -> str:
    where, by = display(part.path), _process(part)
    if part.kind == "deleted":
        files = f"{part.count} deleted files" if part.count > 1 else "a deleted file"
        return f"{files} that {by} still has open ({where})"
    if part.kind == "in place":
        return f"{where}, which {by} writes" if by else where
    if part.kind == "program":
        return f"{by}{f' ×{part.count}' if part.count > 1 else ''}"
    if part.kind == "shared":
        return "files in tmpfs and shared memory"
    what = f" ({part.what})" if part.what else ""
    writer = f", as much as {by} has written" if by else ""
    return f"{part.kind} in {where}{what}{writer}"


def _process(part: Part) -> str:
    if part.pid is None:
        return part.program
    unit = f", {part.unit}" if part.unit else ""
    return f"{part.program} (pid {part.pid}{unit})"


def _command(part: Part) -> str:
    """What makes a process let go of a file, or shows it."""
    if part.kind == "deleted":
        if part.unit.endswith(".service"):
            return f"systemctl restart {shlex.quote(part.unit)}"
        return f"ls -l /proc/{part.pid}/fd/{part.descriptor}"
    if part.kind == "in place":
        return f"tail {shlex.quote(display(part.path))}"
    if part.pid is not None and part.kind != "program":
        return f"ls -l /proc/{part.pid}/fd"
    return ""


def counted(
    things: str, groups: Iterable[tuple[str, int, int | None]], words: Callable[[int], str] = str
) -> tuple[Because, ...]:
    """What accounts for a number of things, by who has them: rows of a name, how many (said by
    `words`), and a pid. The shares make one whole.
    """
    rows = sorted(groups, key=lambda each: -each[1])
    total = sum(number for _, number, _ in rows)
    found = [
        Because(
            grade=ACCOUNTS_FOR,
            what=display(name),
            share=_bounded(number / total),
            text=f"{display(name)}: {words(number)} of {words(total)} {things}",
            pid=pid,
        )
        for name, number, pid in rows
        if number >= total / 10
    ]
    rest = sum(number for _, number, _ in rows if number < total / 10)
    if rest:
        share = _bounded(rest / total)
        text = f"others: {words(rest)} of {words(total)} {things}"
        found.append(Because(grade=ACCOUNTS_FOR, what=OTHER, share=share, text=text))
    return tuple(found)


def because_row(found: Because) -> BecauseRow:
    """A reason, as the report has it."""
    row: BecauseRow = {
        "grade": found.grade,
        "what": found.what,
        "share": found.share,
        "text": found.text,
    }
    if found.pid is not None:
        row["pid"] = found.pid
    if found.command:
        row["command"] = found.command
    return row


def causes(found: Sequence[Because]) -> tuple[str, ...]:
    """Of an issue that has not occurred: what is known in sentences, without what is not; before
    them the path alone that has most of it, where there is one.
    """
    known = [each for each in found if each.what not in (UNEXPLAINED, OTHER)]
    most = [
        display(each.path)
        for each in known
        if each.grade == ACCOUNTS_FOR and each.path and (each.share or 0) > _MOSTLY
    ]
    return (*most, *(each.text for each in known))
