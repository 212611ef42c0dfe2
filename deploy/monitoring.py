"""Alert rules for Prometheus and a dashboard for Grafana, for the metrics that
``report/outputs/textfile.py`` writes.

Every name of a metric is taken from what that module writes: one that it has no more, ends this.
"""

from __future__ import annotations

import json
from functools import cache
from typing import cast

from miyabi_healing.model import config
from miyabi_healing.report.document_types import Document
from miyabi_healing.report.outputs.output import OutputRequest
from miyabi_healing.report.outputs.textfile import metric_families

_PREFIX = "miyabi_healing_"
_RUN_IS_LATE = 3600  # seconds: four times what `install` has between two runs
_SAME_ISSUE, _FEWEST_HOSTS = 0.49, 5  # share of all hosts, from so many on; as a rollout's rule is
_EMPTY: dict[str, list[object]] = {"metrics": [], "issues_detected": [], "errors": []}
_FLEET_HEIGHT = 14  # of the dashboard's first part, all hosts together
_Json = dict[str, object]


@cache
def names() -> frozenset[str]:
    """What the metrics are called, as Prometheus reads them."""
    given = OutputRequest(cast("Document", _EMPTY), 0, config.Config(), False, 0)
    return frozenset(
        each.name + ("_total" if each.type == "counter" else "") for each in metric_families(given)
    )


def metric(short: str) -> str:
    """The full name of a metric. Raises KeyError where there is none."""
    if f"{_PREFIX}{short}" not in names():
        raise KeyError(f"{short} is no metric; there are {', '.join(sorted(names()))}")
    return f"{_PREFIX}{short}"


def _rule(name: str, expression: str, wait: str, severity: str, summary: str, words: str) -> str:
    return f"""
      - alert: MiyabiHealing{name}
        expr: {expression}
        for: {wait}
        labels:
          severity: {severity}
        annotations:
          summary: {json.dumps(summary)}
          description: {json.dumps(words)}
"""


def rules() -> bytes:
    """The alert rules, as a rule file (promtool check rules)."""
    up = metric("check_up")
    what = "{{ $labels.name }} {{ $labels.target }}"
    where, healer = "on {{ $labels.instance }}", "{{ $labels.healer }}"
    times = '{{ $value | printf "%.0f" }}'
    every = "\n".join(
        each.strip("\n")
        for each in (
            _rule(
                "Issue", f"{up} == 0", "30m", "warning", f"{what} {where}",
                "It was not healed for half an hour: 'miyabi-healing status' says why.",
            ),
            _rule(
                "UnknownCheck", f"{metric('unknown_checks')} > 0", "1h", "warning",
                f"{{{{ $value }}}} check(s) cannot run {where}",
                "What they look at is unknown, not healthy: 'miyabi-healing --dry-run' says why.",
            ),
            _rule(
                "NoRun", f"time() - {metric('last_run_timestamp_seconds')} > {_RUN_IS_LATE}", "5m",
                "warning", f"no run for {{{{ $value | humanizeDuration }}}} {where}",
                "The timer does not start it, or it hangs.",
            ),
            _rule(
                "Unusable", f"{metric('exit_status')} == 2", "5m", "warning",
                f"the configuration cannot be used {where}",
                "Nothing is looked at: 'miyabi-healing --dry-run' names what is wrong in it.",
            ),
            _rule(
                "RepairFails",
                f'increase({metric("heals_total")}{{result="failed"}}[2h]) > 0', "0m", "warning",
                f"{healer} failed {where}",
                "'miyabi-healing history' shows when, and its report why.",
            ),
            _rule(
                "HealedAgainAndAgain",
                f'increase({metric("heals_total")}{{result="success"}}[6h]) > 6', "0m", "info",
                f"{healer} healed {times} times {where}",
                "In six hours. Something makes it again and again: the cause is elsewhere.",
            ),
            _rule(
                "SameIssue",
                f"{_hosts_by_issue(up)} / on () group_left () {_HOSTS} > {_SAME_ISSUE} "
                f"and on () {_HOSTS} >= {_FEWEST_HOSTS}", "10m", "critical",
                "{{ $labels.name }} on {{ $value | humanizePercentage }} of all hosts",
                "So many at once have one cause: stop rollouts, and look at what they share. "
                "'miyabi-healing fleet status' names the hosts.",
            ),
            _rule(
                "Foreseen", f"{metric('foreseen_seconds')} < 4 * 3600", "30m", "info",
                f"{what} {where} will be over its limit",
                "Within four hours: 'miyabi-healing status' says when, and what that rests on.",
            ),
        )
    )  # fmt: skip
    head = "# Written by deploy/generate.py, for Prometheus (rule_files).\n"
    return f"{head}groups:\n  - name: miyabi-healing\n    rules:\n{every}\n".encode()


_HOSTS = f"count({_PREFIX}issues)"


def _hosts_by_issue(up: str) -> str:
    """How many hosts have each issue, on however many targets."""
    return f"count by (name) (count by (name, instance) ({up} == 0))"


def _fleet_row(chosen: str, one: str) -> list[_Json]:
    """All hosts together: who is silent, what is wrong on how many, which versions there are."""
    # a host that is away has no metrics, so its last one is looked for
    last = f"last_over_time({metric('last_run_timestamp_seconds')}{chosen}[1d])"
    info = f"last_over_time({metric('build_info')}{chosen}[1d])"
    panels = [
        _stat("Hosts that report", f"count(time() - {last} <= {_RUN_IS_LATE}) or vector(0)",
              "none", None),
        _stat("Silent hosts, of the last day",
              f"count(time() - {last} > {_RUN_IS_LATE}) or vector(0)", "none", 1),
        _stat("Hosts with issues",
              f"count({metric('issues')}{chosen} > 0) or vector(0)", "none", 1),
        _stat("Hosts where checks cannot run",
              f"count({metric('unknown_checks')}{chosen} > 0) or vector(0)", "none", 1),
        _bars("Issues by number of hosts", f"topk(10, {_hosts_by_issue(metric('check_up') + one)})",
              "{{name}}"),
        _bars("Versions by number of hosts", f"count by (version) ({info})", "{{version}}"),
    ]  # fmt: skip
    for number, panel in enumerate(panels):
        across, height = (4, 4) if number < 4 else (2, 8)
        panel["gridPos"] = {
            "h": height, "w": 24 // across, "x": 24 // across * (number % across),
            "y": 1 if number < 4 else 5,
        }  # fmt: skip
    return [_row("All hosts", 0), *panels, _row("Host by host", 13)]


def dashboard() -> bytes:
    """The dashboard, to import into Grafana."""
    chosen = '{instance=~"$instance"}'
    one = '{instance=~"$instance", name=~"$check"}'
    late = f"time() - {metric('last_run_timestamp_seconds')}{chosen}"
    panels = [
        _stat("Issues that remain", f"sum({metric('issues')}{chosen})", "none", 1),
        _stat("Checks that cannot run", f"sum({metric('unknown_checks')}{chosen})", "none", 1),
        _stat("Longest time without a run", f"max({late})", "s", _RUN_IS_LATE),
        _stat("Longest run", f"max({metric('last_run_duration_seconds')}{chosen})", "s", 60),
        _table("What is wrong now", f"{metric('check_up')}{one} == 0"),
        _course(
            "Value / limit", "percentunit", 8,
            (f"{metric('check_value')}{one} / ({metric('check_threshold')}{one} > 0)",
             "{{instance}} {{name}} {{target}}"),
        ),
        _course(
            "Values and limits", "short", 16,
            (f"{metric('check_value')}{one}", "{{instance}} {{name}} {{target}}"),
            (f"{metric('check_threshold')}{one}", "limit of {{name}} {{target}}"),
        ),
        _course(
            "Foreseen: time until a limit is reached", "s", 24,
            (f"{metric('foreseen_seconds')}{one}", "{{instance}} {{name}} {{target}}"),
        ),
        _course(
            "Runs of healers, in an hour", "short", 32,
            (f"sum by (healer, result) (increase({metric('heals_total')}{chosen}[1h])) > 0",
             "{{healer}}: {{result}}"),
        ),
    ]  # fmt: skip
    for number, panel in enumerate(panels[:4]):
        panel["gridPos"] = {"h": 4, "w": 6, "x": 6 * number, "y": 0}
    for panel in panels:
        place = cast("dict[str, int]", panel["gridPos"])
        place["y"] += _FLEET_HEIGHT
    panels = [*_fleet_row(chosen, one), *panels]
    for number, panel in enumerate(panels, 1):
        panel["id"] = number
    variables = [
        {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"},
        _variable("instance", "Host", f"label_values({metric('issues')}, instance)"),
        _variable("check", "Check", f"label_values({metric('check_value')}, name)"),
    ]
    page: _Json = {
        "title": "Miyabi Healing",
        "uid": "miyabi-healing",
        "tags": ["miyabi-healing"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "refresh": "1m",
        "time": {"from": "now-24h", "to": "now"},
        "templating": {"list": variables},
        "panels": panels,
    }
    return (json.dumps(page, indent=2) + "\n").encode()


_SOURCE: _Json = {"type": "prometheus", "uid": "${datasource}"}


def _variable(name: str, label: str, query: str) -> _Json:
    return {
        "name": name, "label": label, "type": "query", "datasource": _SOURCE, "query": query,
        "includeAll": True, "multi": True, "allValue": ".*", "refresh": 2, "sort": 1,
        "current": {"text": "All", "value": "$__all"},
    }  # fmt: skip


def _panel(kind: str, title: str, place: tuple[int, int], *targets: _Json) -> _Json:
    height, top = place
    return {
        "type": kind, "title": title, "datasource": _SOURCE,
        "gridPos": {"h": height, "w": 24, "x": 0, "y": top},
        "targets": [
            {"refId": chr(ord("A") + number), "datasource": _SOURCE, **each}
            for number, each in enumerate(targets)
        ],
    }  # fmt: skip


def _row(title: str, top: int) -> _Json:
    place = {"h": 1, "w": 24, "x": 0, "y": top}
    return {
        "type": "row", "title": title, "collapsed": False, "gridPos": place, "panels": [],
        "targets": [],
    }  # fmt: skip


def _bars(title: str, expression: str, legend: str) -> _Json:
    target: _Json = {"expr": expression, "instant": True, "legendFormat": legend}
    return {
        **_panel("bargauge", title, (8, 0), target),
        "fieldConfig": {"defaults": {"unit": "none", "min": 0}, "overrides": []},
        "options": {
            "orientation": "horizontal", "displayMode": "basic",
            "reduceOptions": {"calcs": ["lastNotNull"]},
        },
    }  # fmt: skip


def _stat(title: str, expression: str, unit: str, red: float | None) -> _Json:
    """A number that turns red from `red` on, or never."""
    steps: list[_Json] = [{"color": "green", "value": None}]
    steps += [] if red is None else [{"color": "red", "value": red}]
    limits = {"mode": "absolute", "steps": steps}
    return {
        **_panel("stat", title, (4, 0), {"expr": expression, "instant": True}),
        "fieldConfig": {"defaults": {"unit": unit, "thresholds": limits}, "overrides": []},
        "options": {"colorMode": "background", "reduceOptions": {"calcs": ["lastNotNull"]}},
    }


def _table(title: str, expression: str) -> _Json:
    target: _Json = {"expr": expression, "instant": True, "format": "table"}
    hidden = dict.fromkeys(("Time", "Value", "__name__", "job"), True)
    return {
        **_panel("table", title, (4, 4), target),
        "transformations": [{"id": "organize", "options": {"excludeByName": hidden}}],
    }


def _course(title: str, unit: str, top: int, *series: tuple[str, str]) -> _Json:
    targets: list[_Json] = [{"expr": each, "legendFormat": legend} for each, legend in series]
    return {
        **_panel("timeseries", title, (8, top), *targets),
        "fieldConfig": {"defaults": {"unit": unit}, "overrides": []},
    }


def contents() -> dict[str, bytes]:
    """Both, by their names below this folder."""
    return {
        "monitoring/prometheus-rules.yml": rules(),
        "monitoring/grafana-dashboard.json": dashboard(),
    }
