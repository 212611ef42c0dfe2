"""A healer that goes wrong, or that somebody wrote to go round the gate: what it says of its steps
is not believed.
"""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from gatework import make_older, work
from gatework import plan as never_met
from gitworld import merge, repository, worktree

from miyabi_healing.gate import execute
from miyabi_healing.gate.handlers.table import apply, recheck
from miyabi_healing.gate.primitives.context import Context
from miyabi_healing.host import caches
from miyabi_healing.host.process_status import read_process
from miyabi_healing.host.readings import Host
from miyabi_healing.model.actions import Outcome
from miyabi_healing.model.config import (
    Budgets,
    CacheSettings,
    Config,
    HealerSettings,
    PolicySettings,
)
from miyabi_healing.model.config import QuarantineSettings as Rules
from miyabi_healing.model.steps import (
    Delete,
    Quarantine,
    Reclaim,
    RetireWorktree,
    Run,
    Signal,
    Step,
    TrimLog,
)
from miyabi_healing.state import quarantine
from miyabi_healing.state.retention import purge
from miyabi_healing.support.files import identity_at


def context(home: Path, **sections: object) -> Context:
    config = Config(
        caches=CacheSettings(homes=(str(home),)), policy=PolicySettings(cooldown=0), **sections
    )  # type: ignore[arg-type]
    return Context(Host(config), "run", home / "state", (home,))


def carry_out(
    where: Context, *steps: Step, limit: float = 300, budgets: Budgets | None = None
) -> list[Outcome]:
    outcomes: list[Outcome] = []
    with work(where, settings=HealerSettings(time_limit=limit), budgets=budgets) as prepared:
        execute.carry_out_plan(never_met(*steps), prepared, outcomes)
    return outcomes


def deletion(home: Path) -> Delete:
    root = home / ".cache" / "thumbnails"
    (root / "part").mkdir(parents=True)
    for name in "abcdef":
        (root / "part" / name).write_bytes(b"x" * 100_000)
    return Delete(
        target="",
        reason="",
        root=root,
        units=(caches.measure_unit(root / "part", root.stat().st_dev),),
    )


@pytest.mark.parametrize("lie", ["few files", "few bytes", "less than none", "no bytes as a whole"])
def test_deletion_that_says_it_is_small_does_not_get_round_the_budgets(
    home: Path, lie: str
) -> None:
    step = deletion(home)
    (unit,) = step.units
    told = {
        "few files": replace(unit, files=1),
        "few bytes": replace(unit, bytes=10),
        "less than none": replace(unit, files=-9),
    }
    limits = Budgets(gigabytes=1e-5) if "bytes" in lie else Budgets(files=5)
    (outcome,) = carry_out(
        context(home), replace(step, units=(told.get(lie, unit),), bytes=0), budgets=limits
    )
    assert outcome.status == ("vetoed" if lie == "no bytes as a whole" else "skipped"), outcome
    assert len(list((home / ".cache" / "thumbnails" / "part").iterdir())) == 6


def test_negative_bytes_do_not_make_room_in_a_budget(home: Path) -> None:
    steps = []
    for name, size in (("a", -100_000), ("b", 60), ("c", 60)):
        (home / name).write_text("x")  # one block: 4096 bytes
        steps.append(
            Quarantine(
                target="",
                reason="",
                path=home / name,
                identity=identity_at(home / name),
                bytes=size,
            )
        )
    outcomes = carry_out(context(home), *steps, budgets=Budgets(gigabytes=9000 / 1e9))
    assert [each.status for each in outcomes] == ["applied", "applied", "vetoed"]


def test_command_does_not_outlast_its_healers_time(home: Path) -> None:
    began = time.monotonic()
    (outcome,) = carry_out(
        context(home), Run(target="", reason="", argv=("sleep", "60"), time_limit=3600), limit=1.5
    )
    assert outcome.status == "failed"
    assert time.monotonic() - began < 10


def test_waiting_for_a_step_does_not_outlast_its_healers_time(home: Path) -> None:
    (home / "a").write_text("x")
    step = Quarantine(
        target="", reason="", path=home / "a", identity=identity_at(home / "a"), settle=3600
    )
    began = time.monotonic()
    assert carry_out(context(home), step, limit=1)[0].status == "applied"
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("early", "age", "may"), [(None, 29, False), (None, 31, True), (7, 6, False), (7, 8, True)]
)
def test_healer_cannot_purge_what_was_promised_to_be_kept(
    home: Path, early: float | None, age: float, may: bool
) -> None:
    where = context(home, quarantine=Rules(early_days=early))
    (home / "a").write_text("precious")
    assert (
        carry_out(
            where,
            Quarantine(target="", reason="", path=home / "a", identity=identity_at(home / "a")),
        )[0].status
        == "applied"
    )
    (held,) = quarantine.find_entries(where.state)
    make_older(held, age)
    (outcome,) = carry_out(replace(where, run_id="later"), purge(held, ""))
    assert (outcome.status, held.payload.exists()) == ("applied" if may else "vetoed", not may), (
        outcome
    )


def test_worktree_of_a_repository_outside_the_roots_stays(home: Path, tmp_path: Path) -> None:
    repo = repository(tmp_path / "other" / "repo")
    tree = worktree(repo, "work")
    merge(repo, "work", "merge")
    common, admin = repo / ".git", repo / ".git" / "worktrees" / "work"
    step = RetireWorktree(
        target="",
        reason="",
        path=tree,
        admin=admin,
        common=common,
        admin_identity=identity_at(admin),
        identity=identity_at(tree),
    )
    assert recheck(step, context(home)) == "its repository is outside the allowed roots"
    assert recheck(step, replace(context(home), roots=(common,))) is None


@pytest.mark.parametrize(
    ("control", "value"),
    [
        ("/etc/passwd", "1"),
        ("/proc/sys/vm/drop_caches", "3"),
        ("/proc/sysrq-trigger", "b"),
        ("/tmp/memory.reclaim", "1"),
        ("/sys/fs/cgroup/../../kernel/memory.reclaim", "1"),
        ("/sys/fs/cgroup/cgroup.kill", "1"),
    ],
)
def test_only_known_control_files_are_written(home: Path, control: str, value: str) -> None:
    step = Reclaim(target="", reason="", control=Path(control), value=value)
    assert "is not a known control file" in str(recheck(step, context(home)))


@pytest.mark.parametrize("pid", [1, 0, -1, 2, "our own", "our parent's"])
@pytest.mark.parametrize("start", [0, None])
def test_no_number_for_a_pid_reaches_what_must_live(
    home: Path, pid: int | str, start: int | None
) -> None:
    pid = {"our own": os.getpid(), "our parent's": os.getppid()}.get(str(pid), pid)
    assert isinstance(pid, int)
    found = read_process(pid)
    began = found.start if start is None and found else 0
    step = Signal(target="", reason="", pid=pid, start=began, signal=signal.SIGTERM)
    assert recheck(step, context(home)) is not None


@pytest.mark.parametrize("number", [0, signal.SIGSTOP, signal.SIGHUP, 64, -9])
def test_only_three_signals_can_be_sent(home: Path, number: int) -> None:
    step = Signal(target="", reason="", pid=os.getpid(), start=0, signal=number)
    assert "is not one a healer may send" in str(recheck(step, context(home)))


@dataclass(frozen=True, kw_only=True)
class Unheard(Step):
    kind = "unheard"
    path: Path


def test_kind_of_step_that_a_healer_makes_up_is_refused(home: Path) -> None:
    (outcome,) = carry_out(context(home), Unheard(target="", reason="", path=home))
    assert (outcome.status, "does not know steps of type Unheard" in outcome.message) == (
        "vetoed",
        True,
    )


@pytest.mark.parametrize("name", ["../outside/a", "link/a"])
def test_no_way_round_leads_out_of_the_roots(home: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "outside").mkdir()
    precious = tmp_path / "outside" / "a"
    precious.write_bytes(b"line\n" * 100_000)
    (home / "link").symlink_to(tmp_path / "outside")
    path = Path(f"{home}/{name}")
    common = {"target": "", "reason": "", "path": path, "identity": identity_at(path)}
    steps = [Quarantine(**common), TrimLog(**common, keep_lines=1, keep_bytes=1)]  # type: ignore[arg-type]
    for step in steps:
        assert carry_out(context(home), step)[0].status in ("skipped", "failed")
        with pytest.raises(Exception, match=r".*"):
            apply(step, context(home))
    assert precious.stat().st_size == 500_000
