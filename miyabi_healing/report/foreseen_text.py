"""Issues that are foreseen, in words: never worded as issues, and no surer than the forecast."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from miyabi_healing.report.folding import home_folded, home_in
from miyabi_healing.report.layout import shortened, wrapped
from miyabi_healing.report.moments import Days, band_text, moment_text
from miyabi_healing.report.style import Style
from miyabi_healing.report.summary import short_name
from miyabi_healing.support.formatting import figure, timestamp_seconds

if TYPE_CHECKING:
    from miyabi_healing.report.document_types import Document

SETTLED = 2  # of the last three runs: from then on it is news
_MOST = 3  # lines of them in a report
_OF_A_PLACE = ("disk_space_critical", "tmpfs_usage")  # their target says what it is
_SEVERAL = ("worktrees", "zombies", "orphans", "logs")
# numbers of a forecast's basis that have the value's unit: rates and steps, no times
_AMOUNT = re.compile(r"(?<![\w.])(\d[\d.e+-]*)(?= (?:a minute|an hour|a day|every) ?|,|$)")
# ``new files in /a (the cache of uv): 5.0 MB, 71 % of the growth of 7.0 MB in 3 h``
_SHARE = re.compile(
    r"(?:(?:new )?files in (?P<place>.+?)(?: \([^)]*\))?|(?P<other>.+)): [\d.]+ \S+, "
    r"(?P<share>\d+) % of the growth of .+"
)
_MOSTLY = 50  # per cent
ACTED = ("success", "partial")


def settled(document: Mapping[str, Any]) -> list[Any]:
    """What was foreseen often enough to be told to somebody who is not looking; the next first."""
    rows = [each for each in document.get("foreseen", ()) if each["seen"] >= SETTLED]
    return sorted(rows, key=lambda each: each["eta_seconds"])


def early_actions(row: Mapping[str, Any], document: Mapping[str, Any]) -> list[Any]:
    """What was done about an issue before it occurs."""
    key = row["name"], row["target"]
    return [
        each
        for each in document["actions_taken"]
        if each.get("early") and (each["issue"], each["target"]) == key
    ]


def subject(row: Mapping[str, Any]) -> str:
    """``/``, ``memory``, ``logs ~/logs/*.log``."""
    where = home_folded(row["target"])
    if row["name"] in _OF_A_PLACE and where:
        return where
    return f"{short_name(row['name'])} {where}".rstrip()


def sentence(row: Mapping[str, Any], now: float, days: Days = "words") -> str:
    """All of it in a sentence without its full stop: ``/ reaches 90 % tonight between 21:00 and
    02:00, growing 1.2 % an hour for 9 hours, mostly ~/.cache/uv; 3 of 4 earlier forecasts of it
    came true``. Raises ValueError, OverflowError for times that are none.
    """
    parts = [f"{happens(row, now, days)}, {basis(row)}".removesuffix(", ")]
    if row["causes"]:
        cause = home_in(row["causes"][0])
        short = f"mostly {cause}" if _is_name(cause) else _share(cause)
        parts[0] += f", {short}" if short else ""
        parts += [] if short else [cause]
    return "; ".join(filter(None, (*parts, confidence(row))))


def sentences(document: Mapping[str, Any], days: Days) -> list[str]:
    """Of everything that a run foresaw, as of that run, the next first."""
    now = timestamp_seconds(document["timestamp"])
    rows = sorted(document.get("foreseen", ()), key=lambda each: float(each["eta_seconds"]))
    return [sentence(each, now, days) for each in rows]


def happens(row: Mapping[str, Any], now: float, days: Days = "words") -> str:
    """``/ reaches 90 % today about 21:40``; of one whose time is over, that it was to. A count may
    be at its limit.
    """
    several = short_name(row["name"]) in _SEVERAL
    limit = figure(row["threshold"], row["unit"], row["threshold"])
    is_past = timestamp_seconds(row["latest"] or row["reached"]) < now
    plain = "reach" if row["unit"] else "exceed"
    verb = plain if several else f"{plain}{'es' if row['unit'] else 's'}"
    if is_past:
        verb = f"{'were' if several else 'was'} to {plain}"
    return f"{subject(row)} {verb} {limit} {when(row, now, days)}"


def when(row: Mapping[str, Any], now: float, days: Days = "words") -> str:
    if row["earliest"] and row["latest"]:
        edges = timestamp_seconds(row["earliest"]), timestamp_seconds(row["latest"])
        return band_text(*edges, now, days)
    return moment_text(timestamp_seconds(row["reached"]), now, days)


def basis(row: Mapping[str, Any]) -> str:
    """What the forecast rests on, as a part of a sentence."""
    unit = row["unit"]
    text = row["basis"]
    if unit and unit != "s":
        text = _AMOUNT.sub(rf"\1 {unit}", text)
    if text.startswith("grows "):
        return f"growing {text.removeprefix('grows ')}"
    return f"as it {text}" if text else ""


def confidence(row: Mapping[str, Any]) -> str:
    """``3 of 4 earlier forecasts of it came true``; empty where there was none."""
    if not row["alarms"] or row["confidence"] is None:
        return ""
    number, true = row["alarms"], round(row["confidence"] * row["alarms"])
    if number == 1:
        return f"the one earlier forecast of it {'came true' if true else 'did not come true'}"
    return f"{true or 'none'} of {number} earlier forecasts of it came true"


def _share(text: str) -> str:
    """A cause that has a share of the growth, without its figures: ``mostly ~/.cache/uv``; empty
    for any other.
    """
    if not (found := _SHARE.fullmatch(text)):
        return ""
    share = int(found["share"])
    how = "mostly" if share >= _MOSTLY else f"{share} % of it"
    return f"{how} {home_in(found['place'] or found['other'])}"


def _is_name(text: str) -> bool:
    """Whether a cause only names what it is."""
    return text.startswith(("/", "~")) and " " not in text


def foreseen_lines(document: Document, style: Style) -> Iterator[str]:
    """For people, after the line of numbers; the next first."""
    now = timestamp_seconds(document["timestamp"])
    rows: Sequence[Any] = sorted(document.get("foreseen", ()), key=lambda each: each["eta_seconds"])
    lead, rest = style.lead("foreseen"), "   "
    for text in shortened(_sentences(rows, document, now, style), style, _MOST):
        yield from wrapped(text, style.width, "  " if text.startswith("…") else lead, rest)


def _sentences(rows: Sequence[Any], document: Document, now: float, style: Style) -> Iterator[str]:
    days: Days = "dates" if style.dated else "words"
    for row in rows:
        text = sentence(row, now, days)
        if healers := acted_early(row, document):
            text += f"; {healers} acted early"
        if style.every_step:
            value = figure(row["value"], row["unit"], row["threshold"])
            others = [home_in(each) for each in row["causes"] if home_in(each) not in text]
            seen = f"foreseen in {row['seen']} of the last 3 runs"
            text = "; ".join((text, *others, f"now {value}", seen))
        yield text


def acted_early(row: Mapping[str, Any], document: Mapping[str, Any]) -> str:
    """The healers that did something about it before it occurs; empty where none did."""
    done = [each["action"] for each in early_actions(row, document) if each["status"] in ACTED]
    return ", ".join(dict.fromkeys(done))
