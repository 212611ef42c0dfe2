"""When a rollout is stopped by itself: pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from miyabi_healing.model.rollout import OPEN, Answer, HostState, Rollout

_FEWEST = 5  # answers, before one issue on many of them says something
_NAMED = 5  # hosts in a message


def why_to_stop(
    rollout: Rollout, wave: int, answers_of_wave: Sequence[Answer], answers_so_far: Iterable[Answer]
) -> str | None:
    """Which rule says so, with its numbers and hosts; None where none does. Hosts that are still
    open are neither well nor not.

    canary: the first wave has to be well, all of it. max_fail: more than that share of the wave's
    hosts is not well, for whatever reason. same_issue: more than that share of all hosts that gave
    a report found one and the same issue, healed or not (it may be ours, or something that hits all
    at once), from 5 reports on.
    """
    rules = rollout.rules
    bad = [each for each in answers_of_wave if each.state not in OPEN | {HostState.WELL}]
    if rules.canary and wave == 1 and bad:
        return f"canary: {len(bad)} of {_hosts(len(answers_of_wave))} not well: {_names(bad)}"
    if len(bad) * 100 > rules.max_fail * len(answers_of_wave):
        return (
            f"max_fail: {len(bad)} of {_hosts(len(answers_of_wave))} in wave {wave} not well "
            f"({_share(len(bad), len(answers_of_wave))}, limit {rules.max_fail:g} %): {_names(bad)}"
        )
    return _same_issue(rules.same_issue, answers_so_far)


def _same_issue(limit: float, answers: Iterable[Answer]) -> str | None:
    found: Counter[str] = Counter()
    first: dict[str, list[Answer]] = {}
    reports = 0
    for answer in answers:
        if answer.report is None or answer.state in OPEN:
            continue
        reports += 1
        for name in _issues(answer):
            found[name] += 1
            hosts = first.setdefault(name, [])
            if len(hosts) < _NAMED:
                hosts.append(Answer(answer.host, answer.state))
    if reports < _FEWEST or not found:
        return None
    name, count = min(found.items(), key=lambda each: (-each[1], each[0]))
    if count * 100 <= limit * reports:
        return None
    return (
        f"same_issue: {count} of {_hosts(reports)} found {name} "
        f"({_share(count, reports)}, limit {limit:g} %): {_names(first[name], count)}"
    )


def _issues(answer: Answer) -> set[str]:
    """Names of issues; nothing where the report is none."""
    issues = (answer.report or {}).get("issues_detected")
    if not isinstance(issues, list):
        return set()
    names = (each.get("name") for each in issues if isinstance(each, dict))
    return {each for each in names if isinstance(each, str)}


def _names(answers: Sequence[Answer], count: int | None = None) -> str:
    more = (len(answers) if count is None else count) - min(len(answers), _NAMED)
    shown = ", ".join(f"{each.host} ({each.state.value})" for each in answers[:_NAMED])
    return f"{shown} and {more} more" if more else shown


def _hosts(count: int) -> str:
    return f"{count} host{'s' * (count != 1)}"


def _share(part: int, whole: int) -> str:
    return f"{part * 100 / whole:.0f} %"
