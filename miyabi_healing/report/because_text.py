"""Why an issue is as it is, in words: shares that add up, what came just before, and hints."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from miyabi_healing.model.because import (
    ACCOUNTS_FOR,
    CAME_BEFORE,
    OTHER,
    UNEXPLAINED,
    WENT_TOGETHER,
)
from miyabi_healing.report.folding import home_in
from miyabi_healing.report.layout import wrapped

if TYPE_CHECKING:
    from miyabi_healing.report.style import Style

_LEADS = {  # the surest first
    ACCOUNTS_FOR: "because",
    CAME_BEFORE: "just before",
    WENT_TOGETHER: "at the same time, perhaps by chance",
}
_GRADES = tuple(_LEADS)
_MOST = 3  # lines an issue
# what shares are of: ``9.0 MB, 60 % of the growth of 15.0 MB in 4 s``
_WHOLE = re.compile(r" of the growth of \S+ \S+ in [^;]+(?=;|$)")
_WORTH = 0.005  # of what grew: a smaller rest is none


class Reasons(NamedTuple):
    """The reasons of one issue, the surest and largest first; `rest` is the share that nothing
    explains, None where no shares are known.
    """

    rows: Sequence[Any]
    rest: float | None


def reasons_of(issue: Mapping[str, Any]) -> Reasons:
    rows = [each for each in issue.get("because", ()) if each["grade"] in _GRADES]
    shares = [each for each in rows if each["grade"] == ACCOUNTS_FOR and each["share"] is not None]
    told = [each for each in rows if UNEXPLAINED not in (each["what"], each["grade"])]
    told.sort(key=lambda each: (_GRADES.index(each["grade"]), -(each["share"] or 0)))
    known = sum(each["share"] for each in shares if each["what"] != UNEXPLAINED)
    rest = 1 - known if 1 - known >= _WORTH else 0
    return Reasons(told, rest if shares else None)


def reason_text(row: Mapping[str, Any]) -> str:
    """One reason, with how sure it is: ``because: 47 % is ~/.cache/uv``."""
    text = home_in(row["text"])
    if row["grade"] == ACCOUNTS_FOR and row["share"] is not None and "%" not in text:
        text += f" ({percent(row['share'])})"
    return f"{_LEADS[row['grade']]}: {text}"


def reason_lines(issue: Mapping[str, Any], every: bool) -> Iterator[str]:
    """At most three lines, or `every` one of them; the unexplained rest is on the last share's."""
    rows, rest = reasons_of(issue)
    if not every:
        rows = [each for each in rows if each["what"] != OTHER]
    texts = list(_whole_once(reason_text(each) for each in rows))
    last = max((at for at, each in enumerate(rows) if each["grade"] == ACCOUNTS_FOR), default=None)
    shown = len(texts) if every or len(texts) <= _MOST else _MOST - 1
    if rest and last is not None:
        texts[min(last, shown - 1)] += f"; {percent(rest)} unexplained"
    for text, row in zip(texts[:shown], rows, strict=False):
        yield text
        if every and row.get("command"):
            yield f"  {row['command']}"
    for row in issue["because"] if every else ():
        if row["what"] == UNEXPLAINED:
            yield home_in(row["text"])
    if shown < len(texts):
        yield f"… and {len(texts) - shown} more (-v shows them)"


def _whole_once(texts: Iterable[str]) -> Iterator[str]:
    """What the shares are of is told with the first of them."""
    told = ""
    for text in texts:
        found = _WHOLE.search(text)
        if found and found[0] == told:
            text = _WHOLE.sub("", text, count=1)
        told = found[0] if found else told
        yield text


def styled_lines(issue: Mapping[str, Any], style: Style, indent: str) -> Iterator[str]:
    for line in reason_lines(issue, style.every_step):
        if line.startswith("  "):  # to be copied
            yield f"{indent}{line}"
        else:
            yield from wrapped(line, style.width, indent, f"{indent}  ")


def percent(share: float) -> str:
    return f"{share:.0%}".replace("%", " %")
