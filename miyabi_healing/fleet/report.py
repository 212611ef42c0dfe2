"""The report of one rollout: a head, and a row for each host, as JSON lines.

``fleet-report.schema.json`` is its contract: keys are only ever added. Rows are made as they are
read: the reports of many hosts do not fit into memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from miyabi_healing.fleet.outcome import exit_status_of
from miyabi_healing.model.exit_codes import ExitCode
from miyabi_healing.model.rollout import Answer, HostState, RolloutState, Standing

SCHEMA_VERSION = 1
_AT_A_TIME = 500  # reports
# Those whose reports may have issues that remain.
_UNWELL = (HostState.ISSUES, HostState.UNKNOWN)


class Store(Protocol):
    """Of a store (`miyabi_healing.fleet.store`), what this reads."""

    def standing(self, label: str) -> Standing | None: ...

    def answers(self, label: str, *, reports: bool = True) -> Iterator[Answer]: ...

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]: ...


def report_lines(store: Store, standing: Standing) -> Iterator[str]:
    """The report of a rollout, a JSON document a line: the head first, then the hosts by name.
    Raises StoreError.
    """
    yield json.dumps(head_of(standing, issues_of(store, standing.label)))
    for each in store.answers(standing.label):
        yield json.dumps(host_row(each))


def head_of(standing: Standing, issues: Mapping[str, list[str]]) -> dict[str, Any]:
    """The head, with `issues` as `issues_of` gives them."""
    counts = {each.value: standing.counts.get(each, 0) for each in HostState}
    return {
        "kind": "fleet",
        "schema_version": SCHEMA_VERSION,
        "label": standing.label,
        "state": standing.state.value,
        "reason": standing.reason,
        "by_rule": standing.by_rule,
        "in_hand": standing.in_hand,
        "wave": standing.wave,
        "waves": standing.waves,
        "made": standing.made,
        "made_by": standing.made_by,
        "ended": standing.ended,
        "hosts": sum(counts.values()),
        "counts": counts,
        "issues": [{"name": name, "hosts": len(hosts)} for name, hosts in issues.items()],
        "exit_status": int(status_of(standing)),
    }


def status_of(standing: Standing) -> ExitCode:
    """The exit status of a rollout as it stands."""
    return exit_status_of(standing.counts, standing.state is RolloutState.STOPPED)


def host_row(answer: Answer) -> dict[str, Any]:
    """The row of one host. What its report should say and does not is null or empty: it is the word
    of a host, and of any version.
    """
    document = answer.report if isinstance(answer.report, Mapping) else {}
    return {
        "kind": "host",
        "host": answer.host,
        "state": answer.state.value,
        "code": answer.code,
        "message": answer.message,
        "summary": _text(document, "summary"),
        "issues": list(_issues(document)),
        "version": _text(document, "version"),
        "run": _text(document, "run_id"),
        "again": document.get("again") is True,
        "report": document or None,
    }


def issues_of(store: Store, label: str) -> dict[str, list[str]]:
    """The issues that remain by what the hosts of a rollout have answered it, each with its hosts
    by name; the one that most have first.
    """
    found: dict[str, list[str]] = {}
    for host, document in _reports_of_unwell(store, label):
        for name in sorted({each["name"] for each in _issues(document) if not each["healed"]}):
            found.setdefault(name, []).append(host)
    return {
        name: sorted(hosts)
        for name, hosts in sorted(found.items(), key=lambda each: (-len(each[1]), each[0]))
    }


def _reports_of_unwell(store: Store, label: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    query = """select host, report from fleet_host
        where label = ? and state = ? and host > ? order by host limit ?"""
    for state in _UNWELL:
        last = ""
        while rows := store.rows(query, label, state.value, last, _AT_A_TIME):
            for host, text in rows:
                document = json.loads(text) if text else {}
                if isinstance(document, Mapping):
                    yield host, document
            last = rows[-1][0]


def _issues(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    rows = document.get("issues_detected")
    for row in rows if isinstance(rows, list) else ():
        if isinstance(row, Mapping) and _text(row, "name"):
            yield {
                **{name: _text(row, name) for name in ("name", "target", "severity")},
                "healed": row.get("healed") is True,
            }


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name, "")
    return value if isinstance(value, str) else ""
