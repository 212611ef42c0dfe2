"""Metrics for Prometheus: a file that node_exporter's textfile collector reads
(https://github.com/prometheus/node_exporter).

A check that is unknown or waived has no ``up``: neither 0 nor 1 would be true, and NaN would spoil
every sum it came into.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from miyabi_healing import __version__
from miyabi_healing.report.outputs.output import OutputError, OutputRequest
from miyabi_healing.state import history
from miyabi_healing.state.store import open_read_only
from miyabi_healing.support import atomic_write, mount_answers, paths
from miyabi_healing.support.formatting import display

if TYPE_CHECKING:
    from miyabi_healing.report.document_types import Document, ForeseenRow, IssueRow, MetricRow

_RESULTS = ("success", "partial", "failed", "skipped")
_STALE = 600  # seconds; by then, whoever wrote a temporary file is gone
_LABELS = ("name", "target")
_Totals = dict[tuple[str, str], int]


def send(given: OutputRequest) -> None:
    """Write the file anew. Raises OutputError, NoAnswer."""
    path = Path(os.path.expanduser(given.settings.metrics.textfile))
    mount_answers.check(path)
    mount_answers.check(paths.state_folder())
    names = CollectorRegistry(auto_describe=False)
    names.register(_RunMetrics(given, totals(given)))
    try:
        clean(path)
        atomic_write.replace(path, generate_latest(names))  # another user reads it
    except OSError as error:
        raise OutputError(f"{display(path)}: {error.strerror}") from None


def totals(given: OutputRequest) -> _Totals:
    """How often every healer came to every result; 0 for those that never did, so that rates begin
    there.

    Nothing where the count cannot be read: a counter that falls to 0 would look like as many new
    heals when it is back.
    """
    state = paths.state_folder()
    # what is wrong with it, the run itself has told
    with contextlib.suppress(Exception), open_read_only(state) as journal:
        none = {(healer, result): 0 for healer in given.healers() for result in _RESULTS}
        if journal is not None:
            return {**none, **history.heal_totals(journal)}
        if not (state / paths.JOURNAL).exists() and paths.fallback_in_use(state) is None:
            return none
    return {}


@dataclass(eq=False)  # the registry keeps it in a dictionary
class _RunMetrics(Collector):
    """What one run is in numbers."""

    given: OutputRequest
    totals: _Totals

    def collect(self) -> Iterator[Metric]:
        document = self.given.document
        # no two samples may have the same labels
        found = {_metric_target(row): row for row in document["metrics"]}
        yield _gauge(
            "check_value",
            "What a check measured last.",
            ((key, row["value"]) for key, row in found.items()),
        )
        yield _gauge(
            "check_threshold",
            "What a check allows.",
            ((key, row["threshold"]) for key, row in found.items()),
        )
        yield _gauge(
            "foreseen_seconds",
            "Seconds until a check is foreseen to be over its limit; missing where it is not.",
            {
                _metric_target(row): row["eta_seconds"] for row in document.get("foreseen", ())
            }.items(),
        )
        yield _gauge(
            "check_up",
            "1 healthy or healed, 0 an issue; missing while it is unknown or waived.",
            _ups(document).items(),
        )
        heals = CounterMetricFamily(
            "miyabi_healing_heals", "Runs of healers by result.", labels=("healer", "result")
        )
        for (healer, result), count in sorted(self.totals.items()):
            heals.add_metric((display(healer), result), count)
        yield heals
        issues = sum(not row["healed"] for row in document["issues_detected"])
        yield GaugeMetricFamily("miyabi_healing_issues", "Issues that remain.", value=issues)
        yield GaugeMetricFamily(
            "miyabi_healing_unknown_checks",
            "Checks that could not run.",
            value=len(document["errors"]),
        )
        yield GaugeMetricFamily(
            "miyabi_healing_exit_status", "The exit status of the last run.", value=self.given.code
        )
        yield GaugeMetricFamily(
            "miyabi_healing_last_run_timestamp_seconds",
            "When the last run ended.",
            value=time.time(),
        )
        version = GaugeMetricFamily(
            "miyabi_healing_build_info", "1, with the version of the program.", labels=("version",)
        )
        version.add_metric((__version__,), 1)
        yield version
        seconds = self.given.seconds
        yield GaugeMetricFamily(
            "miyabi_healing_last_run_duration_seconds", "How long the last run took.", value=seconds
        )


def metric_families(given: OutputRequest) -> Iterator[Metric]:
    """What is written for a run, with nothing counted: deploy/ takes their names from it."""
    return _RunMetrics(given, {}).collect()


def _gauge(
    name: str, words: str, samples: Iterable[tuple[tuple[str, str], float]]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"miyabi_healing_{name}", words, labels=_LABELS)
    for labels, value in samples:
        family.add_metric(labels, value)
    return family


def _ups(document: Document) -> dict[tuple[str, str], int]:
    """Whether each check is well, as far as that is known."""
    known = {
        _metric_target(row): 1
        for row in document["metrics"]
        if row["outcome"] in ("passed", "healed")
    }
    return {
        **known,
        **{_metric_target(row): int(row["healed"]) for row in document["issues_detected"]},
    }


def _metric_target(row: MetricRow | IssueRow | ForeseenRow) -> tuple[str, str]:
    return display(row["name"]), display(row["target"])


def clean(path: Path) -> None:
    """Remove what a write that was killed has left."""
    with os.scandir(path.parent) as entries:
        for entry in entries:
            if not (entry.name.startswith(f".{path.name}.") and entry.name.endswith(".tmp")):
                continue
            with contextlib.suppress(OSError):
                status = entry.stat(follow_symlinks=False)
                ours = stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()
                if ours and time.time() - status.st_mtime > _STALE:
                    os.unlink(entry.path)
