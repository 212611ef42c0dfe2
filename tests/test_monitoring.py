"""Alert rules and dashboard: Prometheus takes them, they speak of metrics that are written, and
each alert comes when it should and not else.
"""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy import monitoring

RULES = yaml.safe_load(monitoring.rules())
BOARD = json.loads(monitoring.dashboard())
DISK = 'name="disk_space_critical", target="/", instance="host"'
HOST, FAILED = 'instance="host"', 'healer="a", result="failed", instance="host"'
HEALED = 'healer="a", result="success", instance="host"'
LATE, USELESS = "no run for 1h 10m 0s on host", "the configuration cannot be used on host"
OFTEN = "a healed 12 times on host"


def hosts_with_issue(number: int, of: int) -> dict[str, str]:
    """Series of hosts, some of which have an issue, two of its targets each."""
    found = {f'issues{{instance="host{each}"}}': "1x60" for each in range(of)}
    for each in range(of):
        up = "0x60" if each < number else "1x60"
        for target in ("/", "/data"):
            labels = f'name="disk_space_critical", target="{target}", instance="host{each}"'
            found[f"check_up{{{labels}}}"] = up
    return found


# Each alert: series from minute to minute, when it is asked, and what it says then; nothing where
# it must be silent.
CASES = [
    ("Issue", {f"check_up{{{DISK}}}": "0x60"}, "31m", "disk_space_critical / on host"),
    ("Issue", {f"check_up{{{DISK}}}": "0x20 1x60"}, "59m", ""),
    ("Issue", {f"check_up{{{DISK}}}": "0x60"}, "20m", ""),
    ("UnknownCheck", {f"unknown_checks{{{HOST}}}": "2x90"}, "61m", "2 check(s) cannot run on host"),
    ("UnknownCheck", {f"unknown_checks{{{HOST}}}": "0x90"}, "61m", ""),
    (
        "NoRun",
        {f"last_run_timestamp_seconds{{{HOST}}}": "0x90"},
        "70m",
        "no run for 1h 10m 0s on host",
    ),
    ("NoRun", {f"last_run_timestamp_seconds{{{HOST}}}": "0+60x90"}, "70m", ""),
    (
        "Unusable",
        {f"exit_status{{{HOST}}}": "2x20"},
        "10m",
        "the configuration cannot be used on host",
    ),
    ("Unusable", {f"exit_status{{{HOST}}}": "1x20"}, "10m", ""),
    ("RepairFails", {f"heals_total{{{FAILED}}}": "0x30 1x30"}, "59m", "a failed on host"),
    ("RepairFails", {f"heals_total{{{FAILED}}}": "7x60"}, "59m", ""),
    (
        "HealedAgainAndAgain",
        {f"heals_total{{{HEALED}}}": "0+0.1x120"},
        "119m",
        "a healed 12 times on host",
    ),
    ("HealedAgainAndAgain", {f"heals_total{{{HEALED}}}": "0x60 1x60"}, "119m", ""),
    (
        "Foreseen",
        {f"foreseen_seconds{{{DISK}}}": "14000-60x90"},
        "60m",
        "disk_space_critical / on host will be over its limit",
    ),
    ("Foreseen", {f"foreseen_seconds{{{DISK}}}": "15000+0x90"}, "60m", ""),
    ("Foreseen", {f"foreseen_seconds{{{DISK}}}": "9000-60x10 stale"}, "60m", ""),
    ("SameIssue", hosts_with_issue(5, of=10), "20m", "disk_space_critical on 50% of all hosts"),
    ("SameIssue", hosts_with_issue(4, of=10), "20m", ""),
    ("SameIssue", hosts_with_issue(4, of=4), "20m", ""),  # of so few, many have it by chance
]


def promtool(folder: Path, kind: str, content: dict[str, Any]) -> None:
    if not shutil.which("promtool"):
        pytest.skip("promtool is not installed")
    (folder / "file.yml").write_text(yaml.safe_dump(content))
    done = subprocess.run(
        ["promtool", kind, "rules", "file.yml"], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def alerts() -> dict[str, dict[str, Any]]:
    rules = RULES["groups"][0]["rules"]
    return {each["alert"].removeprefix("MiyabiHealing"): each for each in rules}


def expressions() -> list[str]:
    """All of the dashboard, with its variables filled in."""
    found = [target["expr"] for panel in BOARD["panels"] for target in panel["targets"]]
    return [re.sub(r"\$(instance|check)", ".*", each) for each in found]


def test_every_name_is_that_of_a_metric_that_is_written() -> None:
    text = monitoring.rules().decode() + monitoring.dashboard().decode()
    used = set(re.findall(r"miyabi_healing_\w+", text))
    assert used <= monitoring.names()
    assert monitoring.names() - used == set(), "nobody sees these"
    with pytest.raises(KeyError, match="no metric"):
        monitoring.metric("check_uptime")


def test_rules_and_expressions_are_what_prometheus_takes(tmp_path: Path) -> None:
    promtool(tmp_path, "check", RULES)
    recorded = [{"record": f"panel:{at}", "expr": each} for at, each in enumerate(expressions())]
    promtool(tmp_path, "check", {"groups": [{"name": "panels", "rules": recorded}]})


def test_each_alert_comes_when_it_should_and_not_else(tmp_path: Path) -> None:
    assert {name for name, _, _, summary in CASES if summary} == set(alerts())
    assert {name for name, _, _, summary in CASES if not summary} == set(alerts())
    (tmp_path / "rules.yml").write_bytes(monitoring.rules())
    tests = []
    for name, series, when, summary in CASES:
        rule = alerts()[name]
        labels = re.findall(r'(\w+)="([^"]*)"', next(iter(series)))
        if name == "SameIssue":  # of no host alone
            labels = [("name", "disk_space_critical")]
        alert = {
            "exp_labels": {**rule["labels"], **dict(labels)},
            "exp_annotations": {**rule["annotations"], "summary": summary},
        }
        asked = {
            "eval_time": when,
            "alertname": rule["alert"],
            "exp_alerts": [alert] * bool(summary),
        }
        rows = [
            {"series": f"miyabi_healing_{each}", "values": values}
            for each, values in series.items()
        ]
        tests.append(
            {"interval": "1m", "name": name, "input_series": rows, "alert_rule_test": [asked]}
        )
    promtool(tmp_path, "test", {"rule_files": ["rules.yml"], "tests": tests})


def test_panels_of_the_dashboard_are_apart_and_have_their_own_numbers() -> None:
    panels = BOARD["panels"]
    assert len({each["id"] for each in panels}) == len(panels)
    for one, other in itertools.combinations([each["gridPos"] for each in panels], 2):
        apart = (
            one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"],
            one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"],
        )
        assert any(apart), (one, other)
    assert all(each["x"] + each["w"] <= 24 for each in (panel["gridPos"] for panel in panels))


def test_fleet_row_counts_hosts_whose_metrics_are_gone_as_silent(tmp_path: Path) -> None:
    titles = {
        "Hosts that report": 1,
        "Silent hosts, of the last day": 2,
        "Hosts with issues": 1,
        "Hosts where checks cannot run": 0,
    }
    asked = {
        each["title"]: re.sub(r"\$(instance|check)", ".*", each["targets"][0]["expr"])
        for each in BOARD["panels"]
        if each["type"] == "stat"
    }
    series = {
        'last_run_timestamp_seconds{instance="well"}': "0+60x600",
        'last_run_timestamp_seconds{instance="hangs"}': "0x600",
        'last_run_timestamp_seconds{instance="gone"}': "0+60x60 stale",
        'issues{instance="well"}': "1x600",
        'unknown_checks{instance="well"}': "0x600",
    }
    test = {
        "interval": "1m",
        "input_series": [
            {"series": f"miyabi_healing_{name}", "values": values}
            for name, values in series.items()
        ],
        "promql_expr_test": [
            {
                "expr": asked[title],
                "eval_time": "5h",
                "exp_samples": [{"labels": "{}", "value": value}],
            }
            for title, value in titles.items()
        ],
    }
    promtool(tmp_path, "test", {"rule_files": [], "tests": [test]})
