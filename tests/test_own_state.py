"""The program's own files are no target, whatever a pattern or a healer says, and under whatever
name.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import program
import pytest
from gatework import carry_out, plan
from program import settings

from miyabi_healing.gate.primitives import quarantine_locations
from miyabi_healing.gate.primitives.context import Context
from miyabi_healing.host import caches, logs
from miyabi_healing.host.readings import Host
from miyabi_healing.model import config as configuration
from miyabi_healing.model.config import Config, SafetySettings
from miyabi_healing.model.steps import (
    ArchiveLog,
    ArchiveLogs,
    BundledLog,
    CutLog,
    Delete,
    Quarantine,
    Step,
    TrimLog,
)
from miyabi_healing.state.own_state import HOLDS_OURS, OURS, OwnState
from miyabi_healing.support import config_loader, mount_table, paths
from miyabi_healing.support.files import identity_at

LINES = b"".join(b"line %06d, and what it says\n" % number for number in range(20_000))


@pytest.fixture
def state(home: Path) -> Path:
    """The state folder of a home, with something in quarantine."""
    folder = paths.state_folder()
    (folder / "quarantine" / "run" / "0001-log").mkdir(parents=True)
    for path in (folder / paths.JOURNAL, folder / "quarantine" / "run" / "0001-log" / "old.log"):
        path.write_bytes(LINES)
    return folder


def context(home: Path, config: Config | None = None) -> Context:
    return Context(
        Host(config or Config(safety=SafetySettings(disposable=(str(home),)))),
        "run",
        paths.state_folder(),
        (home.parent,),
    )


def every_kind(path: Path) -> Iterator[Step]:
    told = {"target": "", "reason": "", "identity": identity_at(path)}
    yield Quarantine(path=path, **told)  # type: ignore[arg-type]
    if path.is_file():
        yield ArchiveLog(path=path, **told)  # type: ignore[arg-type]
        one = BundledLog(name=path.name, identity=identity_at(path), bytes=4096)
        yield ArchiveLogs(target="", reason="", folder=path.parent, files=(one,))
        yield TrimLog(path=path, keep_lines=1, keep_bytes=100, **told)  # type: ignore[arg-type]
        yield CutLog(path=path, keep_lines=1, keep_bytes=100, **told)  # type: ignore[arg-type]
    unit = caches.measure_unit(path, path.lstat().st_dev)
    yield Delete(target="", reason="", root=path.parent, units=(unit,))


@pytest.mark.parametrize(
    "name", ["", paths.JOURNAL, "quarantine", "quarantine/run/0001-log/old.log"]
)
def test_state_folder_is_no_target_of_any_kind_of_step(home: Path, state: Path, name: str) -> None:
    for step in every_kind(state / name):
        (outcome,) = carry_out(plan(step), context(home))
        assert (outcome.status, outcome.message) == ("skipped", OURS), step.kind


def test_what_holds_it_is_no_target_but_what_lies_beside_it_is(home: Path, state: Path) -> None:
    beside = state.parent / "app"
    beside.mkdir()
    (beside / "part").write_text("x")
    for holds in (home / ".local", home):
        for step in every_kind(holds):
            (outcome,) = carry_out(plan(step), context(home))
            assert (outcome.status, outcome.message) == ("skipped", HOLDS_OURS), step.kind
    unit = caches.measure_unit(beside / "part", beside.stat().st_dev)
    (outcome,) = carry_out(
        plan(Delete(target="", reason="", root=state.parent, units=(unit,))), context(home)
    )
    # it holds ours, but only a part beside them goes
    assert outcome.status == "applied", outcome.message
    assert (state / paths.JOURNAL).exists()


@pytest.mark.root
@pytest.mark.parametrize("mounted_part", [".", "quarantine/run", ".."])
def test_another_mount_of_it_is_no_target(
    home: Path, state: Path, mounted_part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = home.parent / "point"
    point.mkdir()
    subprocess.run(
        ["mount", "--bind", str((state / mounted_part).resolve()), str(point)], check=True
    )
    try:
        own = OwnState(state)
        for path in (point, *point.rglob("*")):
            expected = HOLDS_OURS if mounted_part == ".." and path == point else OURS
            assert own.objection(path) == expected, path
        if mounted_part == "..":  # also where the table of mounts tells nothing
            monkeypatch.setattr(mount_table, "mount_table", lambda: ())
            assert OwnState(state).objection(point) == HOLDS_OURS
        if mounted_part != "quarantine/run":  # so deep it is the gate alone that looks, and refuses
            assert logs.read_log_group(f"{point}/*/*").files == ()
    finally:
        subprocess.run(["umount", "-l", str(point)], check=True)


def test_folder_behind_a_link_is_known(home: Path, state: Path) -> None:
    (home / "link").symlink_to(state / "quarantine")
    assert OwnState(state).objection(home / "link" / "run") == OURS
    assert OwnState(state).objection(home / "link") is None  # a link is a name, and may go
    state.parent.rename(home / "moved")
    state.parent.symlink_to(home / "moved")
    # but not one by which ours is reached
    assert OwnState(state).objection(state.parent) == HOLDS_OURS
    assert OwnState(state).objection(home / "moved" / state.name / "quarantine") == OURS
    assert logs.read_log_group(f"{home}/link/*/*/*.log").files == ()


def test_patterns_over_it_count_and_offer_nothing_of_it(home: Path, state: Path) -> None:
    (state.parent / "app").mkdir()
    (state.parent / "app" / "real.log").write_bytes(LINES)
    for pattern in ("*/*", "*/quarantine/*/*/*", "app/*"):
        group = logs.read_log_group(f"{state.parent}/{pattern}")
        assert {file.name for file in group.files} <= {"real.log"}
        assert all(
            str(path).startswith(str(state)) and why == OURS
            for path, why in group.odd
            if path.is_file()
        )
    assert [file.name for file in logs.read_log_group(f"{state.parent}/*/*").files] == ["real.log"]


def test_quarantine_elsewhere_is_known_by_the_list_and_by_its_name(home: Path, state: Path) -> None:
    listed, named = home / "somewhere" / "else", home / "disk" / ".miyabi-healing" / "run"
    for folder in (listed, named):
        folder.mkdir(parents=True)
        (folder / "a.log").write_bytes(LINES)
    assert OwnState(state).objection(listed / "a.log") is None
    quarantine_locations.register(state, listed)
    assert OwnState(state).objection(listed / "a.log") == OURS
    assert OwnState(state).objection(listed.parent) == HOLDS_OURS
    assert OwnState(state).objection(named / "a.log") == OURS
    assert logs.read_log_group(f"{home}/disk/.miyabi-healing/*/*.log").files == ()


def test_state_of_another_user_is_known_by_its_journal(home: Path, state: Path) -> None:
    theirs = home.parent / "other" / ".local" / "state" / "miyabi-healing"
    (theirs / "manifests").mkdir(parents=True)
    (theirs / "manifests" / "a.log").write_bytes(LINES)
    own = OwnState(state)
    # a folder of that name alone is nobody's state
    assert own.objection(theirs / "manifests" / "a.log") is None
    (theirs / paths.JOURNAL).touch()
    assert OwnState(state).objection(theirs / "manifests" / "a.log") == OURS
    assert logs.read_log_group(f"{home.parent}/other/.local/state/*/*/*.log").files == ()


def test_refuge_on_another_disk_is_known(
    home: Path, state: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(paths, "FALLBACK_TOPS", (str(tmp_path),))
    refuge = paths.fallback_folder(str(tmp_path), state)
    refuge.mkdir(mode=0o700)
    (refuge / "a.log").write_bytes(LINES)
    assert OwnState(state).objection(refuge / "a.log") == OURS


def test_configuration_in_use_and_the_program_itself_are_known(home: Path, state: Path) -> None:
    file = Path(settings(home))
    config = config_loader.load_config(str(file))
    assert config.file == str(file)
    own = OwnState(state, config)
    assert own.objection(file) == OURS
    assert own.objection(Path(configuration.__file__)) == OURS
    assert own.objection(Path(configuration.__file__).parent.parent.parent) == HOLDS_OURS
    assert (own.objection(Path(sys.prefix) / "bin") == OURS) == (sys.prefix != sys.base_prefix)
    other = home / "logs" / "app.log"
    other.parent.mkdir()
    other.write_bytes(LINES)
    assert own.objection(other) is None
    assert logs.read_log_group(f"{home}/config.toml", config).files == ()
    assert logs.read_log_group(f"{home}/logs/*", config).files != ()
    os.link(file, home / "logs" / "copy.log")
    assert [each.name for each in logs.read_log_group(f"{home}/logs/*", config).files] == [
        "app.log"
    ]


def test_pattern_over_the_state_folder_leaves_every_later_run_working(home: Path) -> None:
    text = (
        f'[logs]\npatterns = ["{home}/.local/state/*/*"]\n[checks.large_log_files]\nthreshold = '
        "0.5\nclear = 0.01\n"
        "[healers.prune_logs]\narchive_after_days = 0\nkeep_megabytes = 0.001\nkeep_lines = 1\n"
        "[brakes]\ncooldown = 0\nattempts = 99\nflap_on = 100\n"
    )
    (home / ".local" / "state" / "app").mkdir(parents=True)
    for number in range(3):
        (home / ".local" / "state" / "app" / f"{number}.log").write_bytes(LINES * 2)
        code, document = program.report("--config", settings(home, text))
        assert (code, document["summary"]) == (0, "Successfully healed 1 issue(s).")
        assert all(
            "miyabi-healing" not in step["target"]
            for row in document["actions_taken"]
            for step in row["steps"]
        )


def test_healthy_look_at_logs_asks_once_for_each_folder(
    home: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = home / "many"
    folder.mkdir()
    for number in range(50):
        (folder / f"{number}.log").touch()
    asked: list[object] = []
    look: Callable[..., os.stat_result] = os.lstat
    monkeypatch.setattr(
        os, "lstat", lambda path, **named: asked.append(path) or look(path, **named)
    )
    assert len(logs.read_log_group(f"{folder}/*.log").files) == 50
    assert sum(str(each).startswith(str(home)) for each in asked) < 12
