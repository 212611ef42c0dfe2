"""The report of each run, so that any past run can be shown as it was.

A plain healthy run stores nothing here: its report is made again from `pass`, which has its notes,
and `measurement`. A run that found, did or could not check something has its whole document stored,
in zstd, as the difference to a text that it shares with runs before it: a state that stays as it is
costs a hundred bytes a run. They are pruned with history, and the oldest go first where all
together would take more than `MOST_BYTES`.

A document is a plain dict here, as ``report.schema.json`` has it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from miyabi_healing.state import history
from miyabi_healing.state.history import HistoryRow
from miyabi_healing.state.journal import Journal
from miyabi_healing.support.formatting import plain_number, timestamp
from miyabi_healing.support.zstd import library

MOST_BYTES = 16 << 20
_FIRST = 8  # the version of the journal that has them
_BASES = 2  # how many shared texts are tried: two configurations may take turns
_LEVEL = 3


def store(journal: Journal, number: int, document: Mapping[str, Any]) -> None:
    """Keep the report of a run, whose `number` is its id in `pass`; once more replaces it. Where
    history remembers no run, none is kept. Raises sqlite3.Error.
    """
    text = json.dumps(document, separators=(",", ":")).encode()
    parameter = library().CompressionParameter
    options = {parameter.compression_level: _LEVEL, parameter.checksum_flag: 1}
    whole = library().compress(text, options=options)
    query = f"select id, text from report_base order by id desc limit {_BASES}"
    with journal.at_once():
        if not journal.one("select 1 from pass where id = ?", number):
            return
        found = [
            (_difference(text, shared), base)
            for base, packed in journal.all(query)
            if (shared := _opened(packed))
        ]
        difference, base = min(found, key=lambda each: len(each[0]), default=(b"", 0))
        if not found or 2 * len(difference) > len(whole):  # it has little in common with them
            difference = _difference(text, text)
            base = journal.write("insert into report_base (text) values (?)", (whole,)).lastrowid
        row = (number, base, difference)
        columns = "pass, base, difference"
        journal.write(f"insert or replace into report ({columns}) values (?, ?, ?)", row)
        journal.write(
            "update pass set unknown = max(unknown, ?), killed = ? where id = ?",
            (len(document["errors"]), document.get("out_of_memory_kills", 0), number),
        )
        _bound(journal)


def store_again(journal: Journal, document: Mapping[str, Any]) -> None:
    """Keep what was added to the report of a run after it was recorded. Raises sqlite3.Error."""
    row = journal.one("select max(id) from pass where run = ?", document["run_id"])
    if row and row[0] is not None:
        store(journal, row[0], document)


def _bound(journal: Journal) -> None:
    """Let go of the oldest while all together are too large."""
    while True:
        query = "select count(*), sum(length(difference)) from report"
        count, size = journal.one(query)
        bases = journal.one("select coalesce(sum(length(text)), 0) from report_base")[0]
        if count <= 1 or size + bases <= MOST_BYTES:
            return
        journal.write(
            "delete from report where pass in (select pass from report order by pass limit ?)",
            (count // 10 or 1,),
        )
        journal.write(f"delete from report_base where {history.UNUSED}", ())


def _difference(text: bytes, base: bytes) -> bytes:
    parameter = library().CompressionParameter
    options = {
        parameter.compression_level: _LEVEL,
        parameter.window_log: _window(text, base),
        parameter.checksum_flag: 1,
    }
    return bytes(library().compress(text, options=options, zstd_dict=_prefix(base)))


def _prefix(base: bytes) -> Any:
    return library().ZstdDict(base, is_raw=True).as_prefix


def _window(text: bytes, base: bytes) -> int:
    """So large that all of the base is within reach (zstd's --patch-from does the same)."""
    return min(max((len(text) + len(base)).bit_length(), 17), 27)


def of_run(journal: Journal, run: str) -> dict[str, Any] | None:
    """The report of a run by its name; None where it is not on record. Raises sqlite3.Error.

    Of a run that an earlier version made, or whose document had to make room, only the numbers are
    there: `incomplete` is true, and a note says so.
    """
    where = "run = ? order by id desc limit 1"
    return _report(journal, history.find(journal, where, run))


def latest(journal: Journal) -> dict[str, Any] | None:
    """The report of the last run on record; None without one. Raises sqlite3.Error."""
    return _report(journal, history.find(journal, "true order by id desc limit 1"))


def before(journal: Journal, number: int) -> dict[str, Any] | None:
    """The report of the run before the one with that number in `pass`. Raises sqlite3.Error."""
    return _report(journal, history.find(journal, "id < ? order by id desc limit 1", number))


def containing(journal: Journal, words: Collection[str], most: int) -> Iterator[dict[str, Any]]:
    """Stored reports that hold one of these texts, the newest first, of the newest `most`. Raises
    sqlite3.Error.
    """
    if journal.version < _FIRST:
        return
    wanted = [json.dumps(each)[1:-1].encode() for each in words]
    bases: dict[int, bytes] = {}
    query = "select base, difference from report order by pass desc limit ?"
    for base, difference in journal.all(query, most):
        if base not in bases:
            found = journal.one("select text from report_base where id = ?", base)
            bases[base] = _opened(found[0]) if found else b""
        text = _opened(difference, bases[base])
        if any(each in text for each in wanted):
            yield json.loads(text)


def _report(journal: Journal, found: list[HistoryRow]) -> dict[str, Any] | None:
    if not found:
        return None
    (row,) = found
    query = (
        "select text, difference from report join report_base on report_base.id = base "
        "where pass = ?"
    )
    stored = journal.one(query, row["id"]) if journal.version >= _FIRST else None
    if stored and (document := _unpack(*stored)) is not None:
        return document
    return _from_numbers(row, history.measured(journal, row["id"]))


def _unpack(base: bytes, difference: bytes) -> dict[str, Any] | None:
    """None where it is damaged."""
    text = _opened(difference, _opened(base))
    document = json.loads(text) if text else None
    return document if isinstance(document, dict) else None


def _opened(packed: bytes, base: bytes = b"") -> bytes:
    """Empty where it is damaged: zstd's checksum says so."""
    zstd = library()
    try:
        given = {"zstd_dict": _prefix(base)} if base else {}
        return bytes(zstd.decompress(packed, **given))
    except zstd.ZstdError:
        return b""


def _from_numbers(row: HistoryRow, measured: list[HistoryRow]) -> dict[str, Any]:
    """The report of a run as far as `pass` and `measurement` have it: all of it where the run was
    healthy and had nothing to say.
    """
    healthy = not (row["found"] or row["unknown"] or row["killed"]) and bool(measured)
    document: dict[str, Any] = {
        "schema_version": 1,
        "ended": round(row["ended"], 3),
        "timestamp": timestamp(row["ended"]),
        "host": os.uname().nodename,
        "run_id": row["run"],
        "dry_run": False,
        "overall_success": healthy or (row["found"] == row["healed"] > 0 and not _wrong(row)),
        "summary": "No issues detected. System is healthy." if healthy else _summary(row),
        "issues_detected": [_issue(each) for each in measured if each["severity"]],
        "actions_taken": [],
        "metrics": [_metric(each) for each in measured if each["value"] is not None],
        "errors": [_error(each) for each in measured if each["outcome"] == "unknown"],
        "notes": _notes(row["notes"]),
        "recovered": [],
    }
    if row["killed"]:
        document["out_of_memory_kills"] = row["killed"]
    if not healthy:
        document["incomplete"] = True
        document["notes"] += [
            "only the numbers of this run are on record, not what was planned, done and kept",
            *(f"{each['name']}: {each['actions']}" for each in measured if each["actions"]),
        ]
    return document


def _notes(text: str) -> list[str]:
    try:
        return [str(each) for each in json.loads(text)]
    except (ValueError, TypeError):  # this much was damaged
        return ["the notes of this run cannot be read"]


def _wrong(row: HistoryRow) -> bool:
    return bool(row["unknown"] or row["killed"])


def _summary(row: HistoryRow) -> str:
    unknown = f" {row['unknown']} check(s) could not run." if row["unknown"] else ""
    gone = f", {row['gone']} went away without help" if row["gone"] else ""
    healed = row["healed"] - row["gone"]
    if row["killed"]:
        ended = f"Failed: the kernel ended {row['killed']} process(es) for want of memory"
        return f"{ended}; {healed}/{row['found']} issue(s) healed{gone}.{unknown}"
    if not row["found"]:
        return f"No issues detected, but{unknown}" if unknown else "No check ran."
    return f"{row['found']} issue(s) detected, {healed} healed{gone}.{unknown}"


def _number(value: float | None) -> float | int | None:
    return value if value is None or value != int(value) else int(value)


def _issue(each: HistoryRow) -> dict[str, Any]:
    return {
        "name": each["name"],
        "description": each["description"],
        "severity": each["severity"],
        "metric_value": each["value"],
        "threshold": _number(each["threshold"]),
        "unit": each["unit"],
        "target": each["target"],
        "healed": each["outcome"] == "healed",
    }


def _metric(each: HistoryRow) -> dict[str, Any]:
    after = each["after"]
    passed = each["outcome"] in ("healthy", "healed")
    return {
        "name": each["name"],
        "target": each["target"],
        "value": each["value"] if after is None else after,
        "description": each["description"]
        if after is None
        else f"{plain_number(after)} {each['unit']}".rstrip(),
        "threshold": _number(each["threshold"]),
        "critical": _number(each["critical"]),
        "unit": each["unit"],
        "outcome": "waived" if each["outcome"] == "waived" else "passed" if passed else "failed",
    }


def _error(each: HistoryRow) -> dict[str, Any]:
    return {"check": each["name"], "target": each["target"], "message": each["description"]}
