"""One damaged record is named and left alone, and nothing else suffers by it: not a rollback, not a
run, not a report.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from gatework import work
from program import report, run, settings
from test_rollback import LINES, archive, context, do, set_aside, state_of, trim, undo_all

from miyabi_healing.gate import recover, undo
from miyabi_healing.gate.handlers import handler
from miyabi_healing.gate.primitives import quarantine_locations, quarantine_writer
from miyabi_healing.state import manifest, quarantine

Spoil = Callable[[bytes], bytes]


def change(**changes: object) -> Spoil:
    """The manifest with some keys changed; None leaves one out."""

    def spoil(content: bytes) -> bytes:
        facts = {**json.loads(content), **changes}
        return json.dumps(
            {key: value for key, value in facts.items() if value is not None}
        ).encode()

    return spoil


DAMAGE: Mapping[str, Spoil] = {
    "empty": lambda _: b"",
    "cut short": lambda content: content[: len(content) // 2],
    "no UTF-8": lambda content: b"\xff\xfe" + content,
    "zeros": lambda content: b"\0" * len(content),
    "a list": lambda _: b"[1, 2]",
    "null": lambda _: b"null",
    "nested": lambda _: b"[" * 100_000,
    "step is text": change(step="one"),
    "step is a list": change(step=[1]),
    "time is text": change(time="yesterday"),
    "time is no number": lambda content: content.replace(b'"time": ', b'"time": NaN, "was": '),
    "time is far away": change(time=1e300),
    "time is missing": change(time=None),
    "original is a number": change(original=7),
    "original is relative": change(original="thing"),
    "original has a NUL": change(original="/a\0b"),
    "original is no name": change(original="/\ud800"),
    "original is missing": change(original=None),
    "kind is a list": change(kind=[1]),
    "kind is missing": change(kind=None),
    "root is a number": change(root=1),
    "root is missing": change(root=None),
    "bytes is text": change(bytes="many"),
    "parent_times": change(parent_times="now"),
    "parent is short": change(parent=[0o755]),
    "parent is text": change(parent=["a", "b", "c"]),
    "seen is text": change(seen="long ago"),
    "seen is no number": lambda content: content.replace(b'"seen": ', b'"seen": NaN, "was": '),
    "clock is a list": change(clock=[1]),
}


def of(home: Path, name: str) -> quarantine.QuarantineEntry:
    return next(
        held
        for held in quarantine.find_entries(state_of(home))
        if held.original.endswith(f"/{name}")
    )


def spoil(held: quarantine.QuarantineEntry, how: Spoil) -> bytes:
    file = held.folder / "manifest.json"
    content = file.read_bytes()
    file.write_bytes(how(content))
    return content


@pytest.mark.parametrize("how", DAMAGE)
def test_damaged_manifest_blocks_its_own_step_only_and_says_where_the_thing_lies(
    home: Path, how: str
) -> None:
    do(home, *(set_aside(home / name) for name in "abc"))
    held = of(home, "b")
    good = spoil(held, DAMAGE[how])
    results = undo_all(home)
    assert [(each.row.id, each.status) for each in results] == [
        (3, "undone"),
        (2, "refused"),
        (1, "undone"),
    ]
    assert str(held.folder) in results[1].message
    assert [(home / name).exists() for name in "abc"] == [True, False, True]
    assert held.payload.read_text() == "precious"
    (held.folder / "manifest.json").write_bytes(good)
    assert [each.status for each in undo_all(home)] == ["nothing", "undone", "nothing"]


def test_damaged_manifest_is_named_by_every_run_and_command_and_ends_none(home: Path) -> None:
    do(home, *(set_aside(home / name) for name in "abc"))
    held = of(home, "b")
    spoil(held, DAMAGE["time is text"])
    said = f"{held.folder} in quarantine: its manifest is damaged: time is not as it should be"
    code, document = report("--config", settings(home, "[quarantine]\ndays = 0\n"))
    assert (code, document["quarantine"]["things"]) == (0, 0)
    assert [note for note in document["notes"] if note == said]
    assert len(document["quarantine"]["purged"]) == 2
    assert held.payload.read_text() == "precious"  # nobody knows what it is, so it is not purged
    for command in (("quarantine", "list"), ("quarantine", "list", "--json")):
        done = run(*command)
        assert (done.returncode, said in done.stderr) == (0, True)
    assert "its manifest is damaged" in run("quarantine", "list", "-v").stdout
    assert run("quarantine", "purge", held.name).returncode == 2
    done = run("rollback", "some-run")
    assert said in done.stderr
    assert f"it lies in {held.folder}" in done.stdout


LOG = (
    "root size mode uid gid atime_ns mtime_ns xattrs holes start raw taken packed_bytes "
    "packed_sha256".split()
)
TRIM = "floor cut witness witness_sha256 archived left_size".split()


@pytest.mark.parametrize(
    ("make", "key"), [*((archive, key) for key in LOG), *((trim, key) for key in LOG + TRIM)]
)
def test_log_never_loses_its_archive_to_a_damaged_manifest(home: Path, make: Any, key: str) -> None:
    log = home / "app.log"
    log.write_bytes(LINES)
    do(home, make(log), set_aside(home / "other"))
    held = of(home, "app.log")
    left = log.read_bytes() if log.exists() else None
    good = (held.folder / "manifest.json").read_bytes()
    others = "undone"
    for value in (None, "text", [1], 0.5, {"a": 1}):
        (held.folder / "manifest.json").write_bytes(change(**{key: value})(good))
        assert [each.status for each in undo_all(home)] == [others, "refused"], value
        assert held.payload.exists()
        assert (log.read_bytes() if log.exists() else None) == left
        others = "nothing"
    (held.folder / "manifest.json").write_bytes(good)
    assert [each.status for each in undo_all(home)] == ["nothing", "undone"]
    assert log.read_bytes() == LINES


def test_manifests_that_this_and_earlier_versions_write_are_whole(home: Path) -> None:
    log = home / "app.log"
    log.write_bytes(LINES)
    do(home, trim(log), set_aside(home / "thing"))
    old = {
        key: value
        for key, value in of(home, "app.log").manifest.items()
        if key not in ("identity", "packed_sha256")
    }
    old = {key: value for key, value in old.items() if key != "packed_bytes"} | {
        "sha256": "0" * 64,
        "device": 1,
        "inode": 2,
    }
    for facts in (
        of(home, "app.log").manifest,
        of(home, "thing").manifest,
        old,
        {**old, "unheard-of": [None]},
    ):
        assert manifest.parse_manifest(json.dumps(facts).encode()) == facts


def test_recovery_goes_on_past_a_damaged_manifest(home: Path) -> None:
    """Of two steps that a crash left in hand one cannot be read: the other is taken back, and the
    next run has nothing to do.
    """
    do(home, set_aside(home / "a"), set_aside(home / "b"))
    held = of(home, "b")
    spoil(held, DAMAGE["root is a number"])
    with sqlite3.connect(state_of(home) / "journal.sqlite3") as journal:
        journal.execute("update step set finished=null, status=null, undo=null")
    journal.close()
    code, document = report("--config", settings(home))
    results = {row["step"]: row["result"] for row in document["recovered"]}
    assert results[1] == "taken back"
    assert (
        "it stays as it is: its manifest is damaged: root is not as it should be; it lies in "
        f"{held.folder}" in results[2]
    )
    assert (code, (home / "a").exists(), held.payload.exists()) == (0, True, True)
    assert report("--config", settings(home))[1]["recovered"] == []


def test_entry_whose_way_back_fails_in_an_unforeseen_way_is_refused_alone(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    do(home, *(set_aside(home / name) for name in "abc"))
    way = undo.UNDO["quarantine"]

    def objection(entry: quarantine_writer.WrittenEntry, where: Any) -> str | None:
        if entry.original.endswith("/b"):
            raise RuntimeError("nobody thought of this")
        return way.objection(entry, where)

    monkeypatch.setitem(undo.UNDO, "quarantine", handler.Undo(objection, way.restore))
    results = undo_all(home)
    assert [each.status for each in results] == ["undone", "refused", "undone"]
    assert "nobody thought of this; it lies in " in results[1].message


# The journal


NOTES = {
    "no JSON": "[1,2",
    "a list": "[1, 2]",
    "a number": "7",
    "entries is a number": '{"entries": 5}',
    "entries are numbers": '{"entries": [1, 2]}',
    "refs is text": '{"refs": "x"}',
    "nested": "[" * 100_000,
}


@pytest.mark.parametrize("how", NOTES)
def test_damaged_undo_note_blocks_its_own_step_only(home: Path, how: str) -> None:
    do(home, *(set_aside(home / name) for name in "abc"))
    held = of(home, "b")
    mark(home, "undo=?", NOTES[how], 2)
    done = run("rollback")
    assert (done.returncode, "2 of 3 step(s) were undone." in done.stdout) == (1, True), (
        done.stdout + done.stderr
    )
    assert f"what it set aside lies in {held.folder}" in done.stdout
    assert [(home / name).exists() for name in "abc"] == [True, False, True]
    code, document = report("--config", settings(home))
    assert (code, document["recovered"]) == (0, [])


def mark(home: Path, sets: str, *values: object) -> None:
    journal = sqlite3.connect(state_of(home) / "journal.sqlite3")
    with journal:
        journal.execute(f"update step set {sets} where id=?", values)
    journal.close()


def test_text_of_the_journal_that_is_no_utf_8_stops_nothing(home: Path) -> None:
    do(home, *(set_aside(home / name) for name in "abc"))
    mark(
        home,
        "message=cast(x'fffe' as text), target=cast(x'2fff' as text), undo=cast(x'ff' as text)",
        2,
    )
    assert [each.status for each in undo_all(home)] == ["undone", "refused", "undone"]
    assert run("history").returncode == 0


def test_step_in_hand_with_a_damaged_note_is_taken_back_by_its_manifest(home: Path) -> None:
    do(home, set_aside(home / "a"))
    mark(home, "undo=?, finished=null, status=null", "[1,2", 1)
    with work(context(home, "next")) as prepared:
        assert [result for _row, result in recover.recover(prepared.context, prepared.journal)] == [
            "taken back"
        ]
    assert (home / "a").read_text() == "precious"


# The list of folders


@pytest.mark.parametrize(
    "line",
    [
        b"\xff\xfe",
        b"[1]",
        b"null",
        b'"relative/path"',
        b'"',
        b'"/a\\u0000b"',
        b'"/\\ud800"',
        b"7",
        b"[" * 100_000,
        b"\0",
    ],
)
def test_damaged_line_of_the_list_is_named_and_the_other_folders_are_found(
    home: Path, tmp_path: Path, line: bytes
) -> None:
    state, other = state_of(home), tmp_path / "other" / ".miyabi-healing"
    do(home, set_aside(home / "a"))
    quarantine_locations.register(state, other)
    bases = state / "bases"
    content = bases.read_bytes()
    bases.write_bytes(line + b"\n" + content + b"\n" + line + b"\n")
    assert quarantine.locations(state) == [state / "quarantine", other]
    quarantine_locations.register(state, other)
    quarantine_locations.register(state, tmp_path / "new")
    assert quarantine.locations(state) == [state / "quarantine", other, tmp_path / "new"]
    assert len(quarantine.damage(state, [])) == 2
    done = run("rollback")
    assert (
        done.returncode,
        f"line 1 of {bases}, the list of quarantine folders: " in done.stderr,
    ) == (0, True)
    _, document = report("--config", settings(home))
    assert any(f"line 1 of {bases}" in note for note in document["notes"])


@pytest.mark.parametrize("kind", ["folder", "fifo", "link"])
def test_list_that_is_no_file_is_named(home: Path, kind: str) -> None:
    do(home, set_aside(home / "a"))
    bases = state_of(home) / "bases"
    bases.unlink(missing_ok=True)
    {
        "folder": bases.mkdir,
        "fifo": lambda: os.mkfifo(bases),
        "link": lambda: bases.symlink_to("bases"),
    }[kind]()
    assert quarantine.locations(state_of(home)) == [state_of(home) / "quarantine"]
    assert "cannot be read" in quarantine.damage(state_of(home), [])[0]
    assert [each.status for each in undo_all(home)] == ["undone"]
