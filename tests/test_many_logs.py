"""Many small closed logs go into one archive: none that somebody writes, none that changed, none
for good; and each can be had back alone.
"""

from __future__ import annotations

import contextlib
import grp
import json
import os
import pwd
import random
import resource
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import pytest
from gatework import ISSUE, carry_out, work
from gatework import plan as plan_of
from program import report, run, settings
from test_log_safety import context, plan

from miyabi_healing.gate import restore_file, rollback
from miyabi_healing.gate.handlers import archive_logs, bundle_restore
from miyabi_healing.gate.primitives import compression
from miyabi_healing.host import log_places, users
from miyabi_healing.host.planning import archive_logs as together
from miyabi_healing.model.actions import ActionResult, Outcome
from miyabi_healing.model.config import Budgets, Config, LogSettings
from miyabi_healing.model.plan import Plan
from miyabi_healing.model.steps import ArchiveLogs, BundledLog
from miyabi_healing.report.wording import message
from miyabi_healing.state import quarantine
from miyabi_healing.state.quarantine import QuarantineEntry
from miyabi_healing.support import ownership
from miyabi_healing.support.files import identity_at, used

OPEN = "import sys, time; f = open(sys.argv[1], 'a'); print(flush=True); time.sleep(99)"


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """A folder with forty small logs."""
    return fill(tmp_path / "logs", 40)


def fill(folder: Path, count: int, size: int = 5000) -> Path:
    folder.mkdir(parents=True)
    for number in range(count):
        line = f"2026-01-02 03:04:05 request {number} of an ordinary log\n"
        path = folder / f"{number:04}.txt"
        path.write_text(line * (size // len(line)))
        path.chmod(0o640)
        os.utime(path, ns=(10**18 + number, 10**18 + 2 * number))
    return folder


def step_of(folder: Path) -> ArchiveLogs:
    files = (
        BundledLog(name=path.name, identity=identity_at(path), bytes=used(path.stat()))
        for path in sorted(folder.iterdir())
    )
    return together(folder, files, "closed")


def archived(folder: Path) -> Outcome:
    (outcome,) = carry_out(plan_of(step_of(folder)), context(folder.parent))
    return outcome


def planned(folder: Path, **options: float) -> Plan:
    return plan(f"{folder}/*", **{"archive_after_days": 0, **options})


def seen(folder: Path) -> dict[str, tuple[object, ...]]:
    return {
        path.name: (
            path.read_bytes(),
            *((s := path.stat()).st_mode, s.st_uid, s.st_gid, s.st_mtime_ns),
            *(os.listxattr(path) if hasattr(os, "listxattr") else ()),
        )
        for path in sorted(folder.iterdir())
    }


def held(folder: Path) -> list[QuarantineEntry]:
    return quarantine.find_entries(folder.parent / "state")


def roll_back(folder: Path) -> list[rollback.Undone]:
    with work(context(folder.parent)) as prepared:
        rows = rollback.choose(folder.parent / "state", prepared.journal, "run")
        return rollback.carry_out_rollback(rows, prepared.context, prepared.journal)


@pytest.fixture
def opener() -> Iterator[Callable[[Path], None]]:
    """Have a process open a file, and keep it so."""
    started = []

    def begin(path: Path) -> None:
        process = subprocess.Popen(
            [sys.executable, "-S", "-c", OPEN, str(path)], stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        started.append(process)
        process.stdout.readline()

    yield begin
    for each in started:
        each.kill()
        each.communicate()


# Archived, and restored


@pytest.mark.parametrize("kind", ["here", "ext4", "tmpfs"])
def test_all_go_into_one_archive_and_come_back_as_they_were(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if kind != "here":
        if os.geteuid():
            pytest.skip("only root can mount")
        tmp_path = request.getfixturevalue("mounted")(kind, "16M")
    folder = fill(tmp_path / "logs", 36)
    for name in ("line\nbreak", "-rf", os.fsdecode(b"\xff\xfe"), "x" * 240):
        (folder / name).write_text("an ordinary line\n" * 99)
    with contextlib.suppress(OSError):  # a filesystem without
        os.setxattr(folder / "-rf", "user.note", b"what\0ever")
    before = seen(folder)
    outcome = archived(folder)
    assert (outcome.status, outcome.message, seen(folder)) == ("applied", "", {})
    assert outcome.details["logs_archived"] == 40
    (entry,) = held(folder)
    assert entry.bytes < outcome.freed
    assert [each.status for each in roll_back(folder)] == ["undone"]
    assert (seen(folder), held(folder)) == (before, [])


def test_what_is_free_later_is_what_the_archive_takes(logs: Path) -> None:
    """And no more the estimate that the plan had."""
    outcome = archived(logs)
    (entry,) = held(logs)
    assert outcome.later == outcome.freed_later == entry.payload.stat().st_size


def test_archive_is_an_ordinary_tar_file(logs: Path) -> None:
    before = seen(logs)
    archived(logs)
    (entry,) = held(logs)
    data = compression.library().decompress(entry.payload.read_bytes())
    with tarfile.open(fileobj=BytesIO(data)) as tar:
        found = {each.name: tar.extractfile(each).read() for each in tar}  # type: ignore[union-attr]
    assert found == {name: facts[0] for name, facts in before.items()}


def test_one_look_at_all_processes_for_the_plan_and_one_late_for_the_batch(
    logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scans: list[int] = []
    scan = users.scan_open_files
    monkeypatch.setattr(users, "scan_open_files", lambda: scans.append(1) or scan())  # type: ignore[func-returns-value]
    found = planned(logs)
    assert ([step.kind for step in found.steps], len(scans)) == (["archive logs"], 1)
    carry_out(Plan(found.steps, plan_of().goal), context(logs.parent))
    # the gate's own look before any step, and the late one
    assert (len(scans), seen(logs)) == (3, {})


def test_more_are_held_open_than_the_soft_limit_allows(tmp_path: Path) -> None:
    folder = fill(tmp_path / "logs", 300, 100)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        assert archived(folder).details["logs_archived"] == 300
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (256, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# What stays


def test_one_that_is_written_stays_and_the_others_go(
    logs: Path, opener: Callable[[Path], None]
) -> None:
    opener(logs / "0007.txt")
    before = seen(logs)
    outcome = archived(logs)
    assert outcome.status == "applied"
    assert "1 left alone: 0007.txt: python" in outcome.message
    assert "has it open" in outcome.message
    assert seen(logs) == {"0007.txt": before["0007.txt"]}
    (logs / "0007.txt").rename(logs.parent / "rotated")
    (logs / "0007.txt").write_text("it goes on\n")
    roll_back(logs)
    before["0007.txt"] = seen(logs)["0007.txt"]
    assert seen(logs) == before


def test_one_that_is_opened_or_written_at_the_last_moment_gets_its_name_again(
    logs: Path, opener: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    look, (first, second) = archive_logs._look_once_more, (logs / "0001.txt", logs / "0002.txt")

    def late(step: ArchiveLogs, context: object, away: list, *rest: object) -> object:
        gone = {each.log.name: logs / each.gone for each in away}
        assert not first.exists()
        opener(gone["0001.txt"])
        with gone["0002.txt"].open("a") as file:
            file.write("one line more\n")
        return look(step, context, away, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(archive_logs, "_look_once_more", late)
    outcome = archived(logs)
    assert sorted(seen(logs)) == ["0001.txt", "0002.txt"]
    assert second.read_text().endswith("one line more\n")
    assert "0002.txt: it was written or replaced at the last moment" in outcome.message
    assert held(logs)[0].manifest["stayed"] == ["0001.txt", "0002.txt"]


@pytest.mark.parametrize("change", ["written", "replaced", "link", "named twice", "gone", "binary"])
def test_one_that_changed_since_the_plan_stays_and_the_others_go(logs: Path, change: str) -> None:
    step, path = step_of(logs), logs / "0003.txt"
    if change == "written":
        path.write_text(path.read_text() + "more\n")
    elif change == "named twice":
        os.link(path, logs.parent / "second")
    else:
        path.unlink()
    if change == "replaced":
        path.write_text("another one\n")
    elif change == "link":
        path.symlink_to(logs / "0004.txt")
    elif change == "binary":
        path.write_bytes(bytes(range(256)) * 20)
        (same,) = (each for each in step_of(logs).files if each.name == path.name)
        files = [same if each.name == same.name else each for each in step.files]
        step = together(logs, files, "")
    (outcome,) = carry_out(plan_of(step), context(logs.parent))
    assert (outcome.status, "1 left alone: 0003.txt: " in outcome.message) == ("applied", True)
    assert outcome.details["logs_archived"] == 39
    assert [path.name for path in logs.iterdir()] == ([] if change == "gone" else ["0003.txt"])


@pytest.mark.root
def test_one_that_something_is_mounted_on_stays_and_the_others_go(logs: Path) -> None:
    path = logs / "0004.txt"
    done = subprocess.run(["mount", "--bind", path, path], capture_output=True)
    if done.returncode:
        pytest.skip("cannot mount here")
    try:
        outcome = archived(logs)
        assert (outcome.status, [each.name for each in logs.iterdir()]) == ("applied", [path.name])
        assert "0004.txt: it cannot be renamed" in outcome.message
    finally:
        subprocess.run(["umount", path], check=True)


def test_one_that_cannot_be_deleted_gets_its_name_again(
    logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, unlink = seen(logs), os.unlink

    def refuse(path: str, **options: int) -> None:
        if str(path).endswith("-gone.3"):
            raise PermissionError(1, "no")
        unlink(path, **options)

    monkeypatch.setattr(os, "unlink", refuse)
    outcome = archived(logs)
    assert (outcome.status, seen(logs)) == ("applied", {"0003.txt": before["0003.txt"]})
    assert held(logs)[0].manifest["stayed"] == ["0003.txt"]


def test_where_all_stay_nothing_is_left_in_quarantine(
    logs: Path, opener: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = seen(logs)
    look = archive_logs._look_once_more

    def late(step: ArchiveLogs, context: object, away: list, *rest: object) -> object:
        for each in away:
            os.utime(logs / each.gone, ns=(0, 0))
        return look(step, context, away, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(archive_logs, "_look_once_more", late)
    assert archived(logs).status == "skipped"
    assert ([*seen(logs)], held(logs)) == ([*before], [])


def test_what_compresses_badly_stays(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    letters = bytes({*range(0x20, 0x7F), *range(0x80, 0x100)})
    for number in range(9):
        text = bytes(random.Random(number).choices(letters, k=8100))
        (folder / f"{number}.txt").write_bytes(text + b"\n")
    outcome = archived(folder)
    assert (outcome.status, outcome.message) == ("skipped", "compressing them frees nothing")
    assert (len(seen(folder)), held(folder)) == (9, [])


def test_where_one_cannot_be_put_back_all_come_back_and_the_step_has_failed(
    logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = seen(logs)
    look = archive_logs._look_once_more

    def late(step: ArchiveLogs, context: object, away: list, *rest: object) -> object:
        (logs / away[5].gone).open("a").close()
        os.utime(logs / away[5].gone, ns=(0, 0))
        (logs / away[5].log.name).write_text("somebody else's\n")
        return look(step, context, away, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(archive_logs, "_look_once_more", late)
    outcome = archived(logs)
    assert (outcome.status, "0005.txt as 0005.txt.restored-run" in outcome.message) == (
        "failed",
        True,
    )
    after = seen(logs)
    assert after.pop("0005.txt")[0] == b"somebody else's\n"
    assert after.pop("0005.txt.restored-run")[0] == before.pop("0005.txt")[0]
    assert (after, held(logs)) == (before, [])


# Undone one at a time


def test_one_that_was_made_anew_meanwhile_stays_and_its_old_content_comes_beside(
    logs: Path,
) -> None:
    before = seen(logs)
    archived(logs)
    (logs / "0009.txt").write_text("a new log\n")
    (undone,) = roll_back(logs)
    assert "0009.txt as 0009.txt.restored-run" in undone.message
    after = seen(logs)
    assert after.pop("0009.txt")[0] == b"a new log\n"
    assert after.pop("0009.txt.restored-run") == before.pop("0009.txt")
    assert after == before


def test_one_alone_is_restored_by_its_path_and_left_alone_then(
    logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, state = seen(logs), logs.parent / "state"
    archived(logs)
    path = str(logs / "0012.txt")
    with work(context(logs.parent)) as prepared:
        for only_look, there in ((True, []), (False, ["0012.txt"]), (False, ["0012.txt"])):
            done = restore_file.restore_all(
                [path], prepared.context, prepared.journal, only_look=only_look
            )
            assert done[0].status == ("planned" if only_look else "undone")
            assert [*seen(logs)] == there
        with pytest.raises(rollback.Unknown, match="no archive in quarantine has"):
            restore_file.restore_all(
                [path, str(logs / "x")], prepared.context, prepared.journal, only_look=False
            )
    monkeypatch.setattr("miyabi_healing.support.paths.state_folder", lambda: state)
    found = plan(f"{logs}/*", archive_after_days=0)
    assert (found.steps, [each.reason for each in found.kept]) == ((), ["restored by hand"])
    roll_back(logs)
    assert (seen(logs), held(logs)) == (before, [])


def test_damaged_archive_restores_nothing_and_stays(logs: Path) -> None:
    archived(logs)
    (entry,) = held(logs)
    data = bytearray(entry.payload.read_bytes())
    data[len(data) // 2] ^= 1
    entry.payload.write_bytes(data)
    (undone,) = roll_back(logs)
    assert (undone.status, "the archive is damaged" in undone.message) == ("refused", True)
    assert (seen(logs), len(held(logs))) == ({}, 1)


def test_restore_that_was_cut_short_is_begun_again(
    logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = seen(logs)
    archived(logs)
    rename, done = bundle_restore.rename_new, []

    def short(*names: object) -> None:
        if len(done) == 11:
            raise OSError("cut short")
        done.append(names)
        rename(*names)  # type: ignore[arg-type]

    monkeypatch.setattr(bundle_restore, "rename_new", short)
    assert [each.status for each in roll_back(logs)] == ["refused"]
    monkeypatch.undo()
    assert [each.status for each in roll_back(logs)] == ["undone"]
    assert (seen(logs), held(logs)) == (before, [])


# What is planned


def test_small_ones_are_worth_it_together_and_not_alone(tmp_path: Path) -> None:
    fill(tmp_path / "few", 2, 100)
    fill(tmp_path / "many", 30, 100)
    fill(tmp_path / "large", 1, 3_000_000)
    fill(tmp_path / "empty", 0)
    (tmp_path / "empty" / "empty.txt").touch()
    found = plan(f"{tmp_path}/*/*", archive_after_days=0)
    assert sorted((step.kind, Path(step.target).name) for step in found.steps) == [
        ("archive log", "0000.txt"),
        ("archive logs", "many"),
    ]
    assert [each.reason for each in found.kept] == ["nothing to trim"] * 3


def test_more_than_a_thousand_make_several_steps_and_the_budget_says_what_it_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fill(tmp_path / "logs", 130, 100)
    monkeypatch.setattr("miyabi_healing.host.log_batches._MOST_FILES", 50)
    found = planned(folder)
    assert [len(step.files) for step in found.steps] == [50, 50, 30]  # type: ignore[attr-defined]
    outcomes = carry_out(
        Plan(found.steps, plan_of().goal), context(tmp_path), budgets=Budgets(files=100)
    )
    assert [(each.status, each.message) for each in outcomes] == [
        ("applied", ""),
        ("applied", ""),
        ("vetoed", "budget: 100 files a run"),
    ]
    assert len(seen(folder)) == 30
    action = ActionResult("prune_logs", ISSUE, found, outcomes)
    told = message(action, dry_run=False)
    assert told.startswith("Archived 100 log file(s), freed ")
    assert "(1 blocked: budget: 100 files a run)" in told
    few = plan(f"{folder}/*", config=Config(budgets=Budgets(files=9)), archive_after_days=0)
    assert [len(step.files) for step in few.steps] == [9, 9, 9]  # type: ignore[attr-defined]


def test_many_that_are_kept_are_one_line_with_their_number(tmp_path: Path) -> None:
    folder = fill(tmp_path / "logs", 30)
    for number in range(25):
        (folder / f"link {number}").symlink_to("0001.txt")
    found = plan(f"{folder}/*", archive_after_days=9)
    assert found.steps == ()
    assert sorted((each.target, each.reason, each.count) for each in found.kept) == [
        (f"{folder}: 25 files", "no log", 25),
        (f"{folder}: 30 files", "nothing to trim", 30),
    ]
    young = next(each for each in found.kept if each.count == 30)
    assert young.detail.endswith("; closed, but touched in the last 9 days")


def test_what_was_compressed_already_stays_unless_it_may_expire(tmp_path: Path) -> None:
    folder = fill(tmp_path / "logs", 1, 100)
    packed = folder / "app.log.1.zst"
    packed.write_bytes(compression.library().compress(os.urandom(99_000)))
    found = planned(folder)
    assert found.steps == ()
    assert {each.reason for each in found.kept} == {"nothing to trim", "compressed already"}
    assert planned(folder, expire_compressed_days=2).steps == ()
    (step,) = planned(folder, expire_compressed_days=1e-9).steps
    (outcome,) = carry_out(plan_of(step), context(tmp_path))
    assert (step.kind, outcome.status, packed.exists()) == ("quarantine", "applied", False)
    roll_back(folder)
    assert packed.exists()


# Whose folder it is


@pytest.mark.parametrize("others", ["nobody", "a member", "an account", "a list"])
def test_folder_of_the_owners_own_group_is_his_alone(
    logs: Path, others: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs.chmod(0o775)
    me, group = os.geteuid(), logs.stat().st_gid
    them = SimpleNamespace(pw_name="them", pw_uid=me + 4711, pw_gid=group)
    members = ["them"] if others == "a member" else []
    monkeypatch.setattr(grp, "getgrgid", lambda _: SimpleNamespace(gr_name="us", gr_mem=members))
    monkeypatch.setattr(pwd, "getpwnam", lambda _: them)
    monkeypatch.setattr(pwd, "getpwall", lambda: [them] if others == "an account" else [])
    ownership.is_private_group.cache_clear()
    if others == "a list":
        entry = f"g:{group + 4711}:rwx"
        if subprocess.run(["setfacl", "-m", entry, logs], capture_output=True).returncode:
            pytest.skip("no setfacl here")
    try:
        path = logs / "0001.txt"
        reason = log_places.unsafe_log(path, logs, LogSettings())
    finally:
        ownership.is_private_group.cache_clear()
    assert reason == (None if others == "nobody" else "others can write to its folder")


# The whole program


def test_program_archives_them_lists_them_and_restores_one(home: Path) -> None:
    folder = fill(home / ".claude" / "debug", 300)
    file = settings(
        home,
        f'[logs]\npatterns = ["{folder}/*.txt"]\n[checks.large_log_files]\nthreshold = 0.5\n'
        "[healers.prune_logs]\narchive_after_days = 0\n",
    )
    code, document = report("--config", file)
    (action,) = document["actions_taken"]
    assert (code, [step["kind"] for step in action["steps"]]) == (0, ["archive logs"])
    assert action["details"]["logs_archived"] == 300
    assert len(json.dumps(document)) < 20_000
    assert f"{folder}; 300 logs of it" in run("--config", file, "quarantine", "list", "-v").stdout
    done = run("--config", file, "rollback", "--file", str(folder / "0042.txt"))
    assert (done.returncode, [path.name for path in folder.iterdir()]) == (0, ["0042.txt"])
    assert run("--config", file, "rollback", "--file", "/nowhere/x.txt").returncode == 2
