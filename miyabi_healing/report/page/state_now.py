"""How the host stands: the verdict, what is open, and the few numbers that matter most."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from miyabi_healing.report.page import words
from miyabi_healing.report.page.parts import (
    BAD,
    GOOD,
    QUIET,
    WARN,
    KeptGroup,
    Line,
    Quarantine,
    Tile,
)
from miyabi_healing.state.courses import Course, Courses
from miyabi_healing.support.formatting import display, duration_text, size_text

_REASONS = 3  # of what is to be decided, in its tile
_VALUES = 2  # tiles
_MOST = 20  # lines of a kind


def verdict(
    document: Mapping[str, Any] | None, status: Mapping[str, Any], courses: Courses, program: str
) -> Line:
    """How it stands in a sentence; what is old, or was rolled back since, is not known."""
    if document is None:
        return Line("Nothing was checked yet.", WARN, f"{program} --dry-run")
    if not document.get("run_id"):
        return Line(document["summary"], BAD)
    if undone := status.get("rolled_back"):
        when = words.moment(words.seconds_of(undone["last"]), courses.end)
        steps = words.many(undone["steps"], "step")
        text = f"Not known: {steps} of a run rolled back since, the last {when}"
        return Line(f"{text}.", WARN, program)
    if status.get("stale"):
        return Line(f"Not known: the last run was {_ago(status['age_seconds'])}.", WARN, program)
    freed = _freed(document)
    summary = f"{document['summary'].removesuffix('.')} · {freed}" if freed else document["summary"]
    if any(not each["healed"] for each in document["issues_detected"]):
        return Line(summary, BAD)
    if document.get("left_out"):  # a run of a part says nothing of the others
        return Line(summary, WARN, program)
    return Line(summary, GOOD if document["overall_success"] else WARN)


def _ago(seconds: float) -> str:
    if seconds < 0:
        return f"{duration_text(-seconds)} from now by this clock"
    return f"{duration_text(seconds)} ago"


def _freed(document: Mapping[str, Any]) -> str:
    details = [each.get("details", {}) for each in document["actions_taken"]]
    now = sum(each.get("bytes_freed", 0) for each in details)
    later = sum(each.get("bytes_freed_later", 0) for each in details)
    said = [f"{size_text(now)} freed now"] if now > 0 else []
    if later > 0:
        said.append(f"{size_text(later)} {'later' if said else 'are freed later'}")
    return ", ".join(said)


def lines(
    document: Mapping[str, Any] | None, status: Mapping[str, Any], program: str, now: float
) -> Iterator[Line]:
    """What is open, in a line each."""
    if pause := status.get("paused"):
        until = words.moment(words.seconds_of(pause["until"]), now)
        text = f"Healing is paused until {until} by {pause['by']}: {pause['reason']}"
        yield Line(display(text), WARN, f"{program} resume")
    if document is None:
        return
    for row in document.get("errors", ())[:_MOST]:
        where = words.place(row.get("target") or "")
        name = f"{words.short_name(row['check'])} {where}".strip() or "all checks"
        yield Line(f"{name} could not be checked: {row['message']}", WARN)
    for row in [each for each in document["issues_detected"] if not each["healed"]][:_MOST]:
        yield Line(row["description"], BAD, more=_reason(row, document))
    for row in status.get("issues", ()) if document.get("left_out") else ():
        if row["name"] in document["left_out"]:
            more = f"{row['severity']} · as an earlier run left it"
            yield Line(row["description"], BAD, more=more)
    for name in status.get("waived", ()):
        yield Line(f"{words.short_name(name)} is waived.", QUIET)


def _reason(row: Mapping[str, Any], document: Mapping[str, Any]) -> str:
    """How bad an issue is, and why it is still there, in its last action's words."""
    said = [
        each["message"]
        for each in document["actions_taken"]
        if each.get("issue") == row["name"] and each.get("target", "") == row["target"]
    ]
    limit = words.value_text(row["threshold"], row["unit"])
    return " · ".join((row["severity"], f"limit {limit}", *said[-1:]))


def tiles(
    values: Sequence[Course], courses: Courses, held: Quarantine, kept: Sequence[KeptGroup]
) -> tuple[Tile, ...]:
    """The values nearest to their limits, one a check; the quarantine; what is to be decided."""
    nearest: dict[str, Course] = {}
    for each in values:
        nearest.setdefault(each.name, each)
    chosen = list(nearest.values())[:_VALUES]
    decide = [each for each in kept if each.decide]
    return (
        *(_value_tile(each, courses) for each in chosen),
        _quarantine_tile(held),
        Tile(
            label="to decide",
            number=f"{sum(each.count for each in decide):,}",
            rest="",
            note=_by_reason(decide) or "nothing waits for a person",
            tone=WARN if decide else QUIET,
        ),
    )


def _by_reason(decide: Sequence[KeptGroup]) -> str:
    """The first reasons with their numbers, and how many things have others."""
    parts = [f"{each.count:,} {each.reason}" for each in decide[:_REASONS]]
    if left := sum(each.count for each in decide[_REASONS:]):
        parts.append(f"{left:,} more")
    return ", ".join(parts)


def _value_tile(course: Course, courses: Courses) -> Tile:
    state, tone = state_of(course)
    highs = [each.high for each in course.buckets if each.high is not None]
    highest = words.value_text(max(highs), course.unit) if highs else ""
    span = words.span_text(courses.end - courses.begin)
    return Tile(
        label=f"{words.short_name(course.name)} {words.place(course.target)}".strip(),
        number=words.value_text(course.value, course.unit),
        rest=f"of {words.value_text(course.threshold, course.unit)}",
        note=state or (f"at most {highest} in the last {span}" if highest else ""),
        tone=tone,
    )


def state_of(course: Course) -> tuple[str, str]:
    """What is to be said of a value's last check beside its number, and the tone."""
    return {
        "issue": ("over its limit", BAD),
        "healed": ("healed by the last run", GOOD),
        "unknown": ("could not be checked", WARN),
        "waived": ("waived", QUIET),
    }.get(course.outcome, ("", QUIET))


def _quarantine_tile(held: Quarantine) -> Tile:
    return Tile(
        label="quarantine",
        number=held.size,
        rest=f"of {held.limit}" if held.rows else "",
        note=f"first leaves {held.first}" if held.rows else "nothing is set aside",
        tone=WARN if held.is_full else QUIET,
    )
