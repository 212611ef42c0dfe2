"""One line for Nagios, Icinga and their like
(https://www.monitoring-plugins.org/doc/guidelines.html).

``MIYABI WARNING - summary; what is wrong | 'check target'=value[UOM];warn;crit``
"""

from __future__ import annotations

import math
import re
import sys
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import click

from miyabi_healing.model.exit_codes import ExitCode
from miyabi_healing.report.outputs.output import OutputRequest

if TYPE_CHECKING:
    from miyabi_healing.report.document_types import Document, MetricRow

STATES = ("OK", "WARNING", "CRITICAL", "UNKNOWN")
_NAGIOS_UNITS = ("%", "s", "B", "KB", "MB", "GB", "TB")  # those that the guidelines know
_LONGEST_LABEL = 200  # characters
_LONGEST_LINE = 1500  # characters of text, and as many of data: some carriers cut at 4 kB in all


def send(given: OutputRequest) -> None:
    """Print the line."""
    words = line(given.document, given.code)
    click.echo(words.encode(sys.stdout.encoding or "utf-8", "replace"))


def exit_status(document: Document, code: int) -> int:
    """What the plugin's exit status says; a critical issue weighs more than what is unknown
    besides.
    """
    if any(
        row["severity"] == "critical" and not row["healed"] for row in document["issues_detected"]
    ):
        return STATES.index("CRITICAL")
    if code in (ExitCode.HEALTHY, ExitCode.ISSUES):
        return code
    return STATES.index("UNKNOWN")


def line(document: Document, code: int) -> str:
    words = [document["summary"]]
    remaining = [row for row in document["issues_detected"] if not row["healed"]]
    words += [f"{row['name']} ({row['severity']}): {row['description']}" for row in remaining]
    words += [
        f"{row['check'] or 'checks'} could not run: {row['message']}"
        for row in document["errors"]
        if row["check"]
    ]
    if document.get("foreseen"):
        from miyabi_healing.report.foreseen_text import sentences

        words += [f"foreseen: {each}" for each in sentences(document, "words")]
    text = _one_line("; ".join(words))
    data: list[str] = []
    for each in _performance(document):
        if len(" ".join([*data, each])) <= _LONGEST_LINE:
            data.append(each)
    return f"MIYABI {STATES[exit_status(document, code)]} - {text}" + (
        f" | {' '.join(data)}" if data else ""
    )


def _one_line(text: str) -> str:
    """What stands before the data: it must hold neither a line break nor the bar that the data
    begin with.
    """
    clean = " ".join(
        "".join(each if each.isprintable() else " " for each in text.replace("|", "/")).split()
    )
    return clean if len(clean) <= _LONGEST_LINE else f"{clean[:_LONGEST_LINE]}…"


def _performance(document: Document) -> Iterator[str]:
    found: dict[str, MetricRow] = {}
    for row in document["metrics"]:
        found.setdefault(f"{row['name']} {row['target']}".strip(), row)
    for label, row in zip(_labels(found), found.values(), strict=True):
        limits = f"{_number_text(row['threshold'])};{_number_text(row['critical'])}"
        yield f"'{label}'={_measured(row['value'], row['unit'])};{limits}"


def _labels(names: Iterable[str]) -> Iterator[str]:
    """A label for each name, unlike all others: one that is too long, or was changed and is like
    another one now, ends in a checksum of the name.
    """
    plain = {name: _plain_label(name) for name in names}
    uses = Counter(plain.values())
    for name, label in plain.items():
        if len(label) > _LONGEST_LABEL or (label != name and uses[label] > 1):
            checksum = zlib.crc32(name.encode("utf-8", "surrogatepass"))
            label = f"{label[: _LONGEST_LABEL - 9]}~{checksum:08x}"
        yield label


def _plain_label(name: str) -> str:
    """A name without what ends a label (``'``, ``=``, ``|``). A database of courses is ASCII. Two
    colons would be a command of check_multi, whose name Icinga puts before all labels after it.
    """
    return re.sub(r"['=|]|[^\x20-\x7e]|:(?=:)|(?<=:):", "_", name)


def _measured(value: float, unit: str) -> str:
    """``U`` is a value that could not be determined."""
    return (
        f"{_number_text(value)}{unit if unit in _NAGIOS_UNITS else ''}"
        if math.isfinite(value)
        else "U"
    )


def _number_text(value: float | None) -> str:
    """Without an exponent, which the guidelines do not know."""
    return (
        "" if value is None or not math.isfinite(value) else f"{value:.6f}".rstrip("0").rstrip(".")
    )
