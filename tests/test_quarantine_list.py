"""``quarantine list``: what one step took is one thing, and a run is a line."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from miyabi_healing.report import quarantine as words
from miyabi_healing.report.layout import wrapped
from miyabi_healing.state.quarantine import QuarantineEntry
from miyabi_healing.state.quarantine_things import things
from miyabi_healing.state.run_clock import Moment

NOW = Moment(time.time(), time.time())


def entry(folder: Path, name: str, kind: str, size: int = 0, **facts: object) -> QuarantineEntry:
    place = folder / name
    place.mkdir(parents=True)
    (place / "thing").write_bytes(b"x" * size)
    known = {"kind": kind, "step": int(name[:4]), "time": NOW.wall, "original": f"/home/{name}"}
    return QuarantineEntry(place, {**known, **facts})


def held(tmp_path: Path) -> list[QuarantineEntry]:
    run = tmp_path / "20251126T103000-47"
    return [
        entry(run, "0001-worktree", "worktree", 4096),
        entry(run, "0001-worktree-admin", "worktree-admin", 4096),
        entry(run, "0002-worktree", "worktree", 4096),
        entry(run, "0003-log-bundle", "log bundle", 4096, files=300),
        entry(run, "0004-quarantine", "quarantine", 0, original="/r/.git/index.lock"),
        entry(tmp_path / "20251127T103000-48", "0001-quarantine", "quarantine", 4096),
    ]


def test_worktree_and_its_administrative_folder_are_one_thing(tmp_path: Path) -> None:
    found = things(held(tmp_path))
    assert [(each.noun, each.count) for each in found] == [
        ("worktree", 1), ("worktree", 1), ("log", 300), ("lock", 1), ("file", 1)
    ]  # fmt: skip
    assert {name.split("/")[1] for name in found[0].names} == {
        "0001-worktree",
        "0001-worktree-admin",
    }


def test_what_has_no_step_stands_alone(tmp_path: Path) -> None:
    lost = [QuarantineEntry(tmp_path / "run" / name) for name in ("a", "b")]
    assert len(things(lost)) == 2
    assert all(each.damage for each in things(lost))


@pytest.mark.parametrize("width", [40, 60, 100, 200])
def test_every_run_is_a_line_with_what_undoes_it(tmp_path: Path, width: int) -> None:
    document = words.build_quarantine(things(held(tmp_path)), 30, NOW)
    lines = list(words.run_lines(document, width))
    assert all(len(line) <= width for line in lines)
    if width == 200:
        assert len(lines) == 3
        assert lines[0].startswith(
            "20251126T103000-47  2 worktrees 12.3 kB, 300 logs 4.1 kB, 1 lock 0 B · until "
        )
        assert lines[0].endswith("· rollback 20251126T103000-47")
        assert lines[2].startswith("5 things, 20.5 kB; ")


def test_document_keeps_a_row_for_every_entry(tmp_path: Path) -> None:
    document = words.build_quarantine(things(held(tmp_path)), 30, NOW)
    assert len(document["things"]) == 6
    assert {
        "name",
        "kind",
        "original",
        "bytes",
        "step",
        "since",
        "until",
        "until_by",
        "thing",
    } < set(document["things"][0])
    assert [row["things"] for row in document["runs"]] == [4, 1]
    json.dumps(document)


def test_number_and_its_unit_stay_on_one_line() -> None:
    lines = list(wrapped("it takes 319 kB of the disk, 12 % of it", 12))
    assert "319 kB of" in lines
    assert any("12 %" in line for line in lines)
