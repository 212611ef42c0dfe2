"""Budgets count what the gate measures, of every kind of step; a full quarantine takes nothing
more.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from gatework import ISSUE, make_older, plan, work
from gitworld import merge, repository, worktree
from program import report, run, settings

from miyabi_healing.gate import batch, execute
from miyabi_healing.gate.handlers.table import HANDLERS, cost, recheck, target_use
from miyabi_healing.gate.primitives.context import Context
from miyabi_healing.gate.primitives.weigh import Cost
from miyabi_healing.host import caches
from miyabi_healing.host.readings import Host
from miyabi_healing.model.actions import ActionResult, Outcome
from miyabi_healing.model.config import Budgets, Config, PolicySettings, SafetySettings
from miyabi_healing.model.config import QuarantineSettings as Rules
from miyabi_healing.model.steps import (
    ArchiveLog,
    ArchiveLogs,
    BundledLog,
    CutLog,
    Delete,
    GiveBack,
    GiveBackRows,
    Purge,
    Quarantine,
    Reclaim,
    RetireWorktree,
    Run,
    Signal,
    Step,
    TrimLog,
    Unit,
)
from miyabi_healing.runner import housekeeping, registry
from miyabi_healing.runner.healing import describe
from miyabi_healing.runner.resources import Resources
from miyabi_healing.state import quarantine, retention
from miyabi_healing.support import tree_size
from miyabi_healing.support.files import identity_at
from miyabi_healing.support.tree_size import weigh_tree

NOTHING = Budgets(worktrees=0, processes=0, gigabytes=0, files=0)
LINES = b"".join(b"line %06d, and what it says\n" % number for number in range(9000))
INF = float("inf")


def kinds(of: type[Step] = Step) -> Iterator[type[Step]]:
    """Every kind of step there is; tests make some up, too."""
    for kind in of.__subclasses__():
        if kind.__module__ == Step.__module__:
            yield kind
            yield from kinds(kind)


def context(home: Path, run_id: str = "some-run", **sections: Any) -> Context:
    chosen = Config(
        **{
            "policy": PolicySettings(cooldown=0),
            "safety": SafetySettings(disposable=(str(home),)),
            **sections,
        }
    )
    return Context(Host(chosen), run_id, home.parent / "state", (home,))


def carry_out(where: Context, *steps: Step, budgets: Budgets | None = None) -> list[Outcome]:
    outcomes: list[Outcome] = []
    with work(where, budgets=budgets) as prepared:
        execute.carry_out_plan(plan(*steps), prepared, outcomes)
    return outcomes


def log(home: Path, name: str = "app.log") -> Path:
    (home / name).write_bytes(LINES)
    return home / name


def set_aside(path: Path, content: str = "x", **more: Any) -> Quarantine:
    path.write_text(content)
    return Quarantine(target=str(path), reason="", path=path, identity=identity_at(path), **more)


def retired(home: Path) -> RetireWorktree:
    repo = repository(home / "repo")
    tree = worktree(repo, "done")
    merge(repo, "done", "merge")
    admin = repo / ".git" / "worktrees" / "done"
    return RetireWorktree(
        target="done",
        reason="",
        path=tree,
        admin=admin,
        common=repo / ".git",
        admin_identity=identity_at(admin),
        identity=identity_at(tree),
    )


def purged(home: Path) -> Purge:
    carry_out(context(home, "before"), set_aside(home / "old"))
    (held,) = quarantine.find_entries(home.parent / "state")
    make_older(held, 40)
    return retention.purge(held, "")


def deletion(home: Path) -> Delete:
    (home / "cache" / "part").mkdir(parents=True)
    (home / "cache" / "part" / "file").write_text("x")
    part = caches.measure_unit(home / "cache" / "part", home.stat().st_dev)
    return Delete(target="cache", reason="", root=home / "cache", units=(part,))


def about_log(kind: type[Step]) -> Callable[[Path], Step]:
    def make(home: Path) -> Step:
        path = log(home)
        facts: dict[str, Any] = {
            "target": "log",
            "reason": "",
            "path": path,
            "identity": identity_at(path),
        }
        return (
            kind(**facts) if kind is ArchiveLog else kind(**facts, keep_lines=5, keep_bytes=1 << 20)
        )

    return make


def about_logs(home: Path) -> ArchiveLogs:
    path = log(home)
    one = BundledLog(name=path.name, identity=identity_at(path), bytes=path.stat().st_size)
    return ArchiveLogs(target="logs", reason="", folder=path.parent, files=(one,))


EXAMPLES: dict[type[Step], Callable[[Path], Step]] = {
    Quarantine: lambda home: set_aside(home / "thing"),
    RetireWorktree: retired,
    ArchiveLog: about_log(ArchiveLog),
    ArchiveLogs: about_logs,
    TrimLog: about_log(TrimLog),
    CutLog: about_log(CutLog),
    Delete: deletion,
    Purge: purged,
    GiveBack: lambda home: GiveBack(
        target="", reason="", coordinator="one", path=log(home), claims=()
    ),
    GiveBackRows: lambda _: GiveBackRows(target="", reason="", coordinator="one", claims=()),
    Run: lambda home: Run(target="true", reason="", argv=("true",), time_limit=5),
    Signal: lambda home: Signal(target="", reason="", pid=1, start=1, signal=signal.SIGTERM),
    Reclaim: lambda home: Reclaim(target="", reason="", control=home / "memory.reclaim", value="1"),
}


@pytest.mark.parametrize("kind", sorted(kinds(), key=lambda kind: kind.__name__))
def test_every_kind_of_step_has_a_cost_an_ending_and_a_budget_that_can_hold_it(
    home: Path, kind: type[Step]
) -> None:
    step = EXAMPLES[kind](home)
    assert step.kind in HANDLERS, f"{kind.__name__} has no handler in gate/handlers/table.py"
    (outcome,) = carry_out(context(home), step, budgets=NOTHING)
    assert (outcome.status, outcome.message.split(":")[0]) == ("vetoed", "budget")


def test_table_of_endings_has_no_kind_that_is_none() -> None:
    assert set(HANDLERS) == {each.kind for each in kinds()}


def test_kind_that_nobody_entered_in_the_table_raises() -> None:
    class Unheard(Step):
        kind = "unheard"

    with pytest.raises(TypeError, match="does not know steps of type Unheard"):
        cost(Unheard(target="", reason=""), INF)


def test_class_that_calls_itself_by_another_kind_reaches_no_handler(home: Path) -> None:
    @dataclass(frozen=True, kw_only=True)
    class Disguised(Step):
        kind = "delete"
        root: Path
        units: tuple[Unit, ...] = ()
        locks: tuple[Path, ...] = ()
        files: int = 0

    step = Disguised(target="", reason="", root=home)
    for ask in (
        target_use,
        lambda step: recheck(step, context(home)),
        lambda step: cost(step, INF),
    ):
        with pytest.raises(TypeError, match="does not know steps of type Disguised"):
            ask(step)
    (outcome,) = carry_out(context(home), step)
    assert outcome.status in ("skipped", "vetoed")


def test_sigchld_ends_nobody_and_costs_nothing() -> None:
    asked = Signal(target="", reason="", pid=1, start=1, signal=signal.SIGCHLD)
    assert cost(asked, INF) == Cost()
    assert cost(replace(asked, signal=signal.SIGKILL), INF).processes == {(1, 1)}


@pytest.mark.parametrize(("files", "applied"), [(0, 0), (3, 3), (5, 5)])
def test_each_thing_set_aside_is_an_entry(home: Path, files: int, applied: int) -> None:
    steps = [set_aside(home / f"thing {number}") for number in range(6)]
    outcomes = carry_out(context(home), *steps, budgets=Budgets(files=files))
    assert [each.status for each in outcomes].count("applied") == applied
    assert {each.message for each in outcomes[applied:]} == {f"budget: {files} files a run"}


@pytest.mark.parametrize(("limit", "applied"), [(0.0029, 2), (0.0031, 3)])
def test_bytes_are_those_measured_whatever_the_healer_says(
    home: Path, limit: float, applied: int
) -> None:
    steps = []
    for number in range(4):
        folder = home / f"folder {number}"
        folder.mkdir()
        (folder / "file").write_bytes(b"x" * 1_000_000)
        steps.append(
            Quarantine(
                target="", reason="", path=folder, identity=identity_at(folder), bytes=-5, later=1
            )
        )
    outcomes = carry_out(context(home), *steps, budgets=Budgets(gigabytes=limit))
    assert [each.status for each in outcomes].count("applied") == applied
    assert "this takes 1.0 MB" in outcomes[-1].message
    held = quarantine.find_entries(home.parent / "state")
    assert (
        [each.bytes for each in held]
        == [each.freed_later for each in outcomes[:applied]]
        == [1_003_520] * applied
    )


def test_failed_step_has_been_at_work_and_counts(home: Path) -> None:
    failing = Run(target="false", reason="", argv=("false",), time_limit=5, optional=True)
    outcomes = carry_out(
        context(home), failing, replace(failing), replace(failing), budgets=Budgets(files=2)
    )
    assert [each.status for each in outcomes] == ["failed", "failed", "vetoed"]


def test_dry_run_charges_the_same(home: Path) -> None:
    steps = [set_aside(home / f"thing {number}", "x" * 10_000) for number in range(6)]
    limits = Budgets(gigabytes=0.00004)
    where = context(home, budgets=limits)
    healing = Resources(
        where.host.config, registry.Folders((), ()), "run", where.state, dry_run=True
    )
    action = ActionResult("some_healer", ISSUE)
    describe(healing, action, plan(*steps))
    healing.close()
    planned = [each.status for each in action.outcomes]
    assert planned == ["planned"] * 3 + ["vetoed"] * 3
    assert [each.freed_later for each in action.outcomes[:3]] == [12_288] * 3
    outcomes = carry_out(where, *steps)
    assert [each.status for each in outcomes] == ["applied"] * 3 + ["vetoed"] * 3
    assert [each.message for each in outcomes[3:]] == [each.message for each in action.outcomes[3:]]


# Weighing


def test_folder_is_weighed_without_following_links_and_once_for_each_file(home: Path) -> None:
    folder = home / "folder"
    (folder / "deep" / "deeper").mkdir(parents=True)
    (folder / "deep" / "deeper" / "file").write_bytes(b"x" * 10_000)
    os.link(folder / "deep" / "deeper" / "file", folder / "second name")
    (home / "elsewhere").write_bytes(b"x" * 1_000_000)
    (folder / "link").symlink_to("../elsewhere")
    (folder / "deep" / "folder link").symlink_to("../..")
    (folder / "sparse").touch()
    os.truncate(folder / "sparse", 1 << 30)
    assert weigh_tree(folder) == 12_288
    assert (
        weigh_tree(folder / "link"),
        weigh_tree(folder / "sparse"),
        weigh_tree(folder / "gone"),
    ) == (0, 0, 0)


@pytest.mark.root
def test_other_filesystem_in_a_folder_is_not_weighed(
    home: Path, mounted: Callable[..., Path]
) -> None:
    point = mounted("tmpfs", "8M")
    (point / "file").write_bytes(b"x" * 1_000_000)
    assert weigh_tree(point) >= 1_000_000
    assert weigh_tree(point.parent) < weigh_tree(point)


@pytest.mark.parametrize("trouble", ["nested too deep", "no time left"])
def test_what_cannot_be_weighed_is_left_alone(
    home: Path, trouble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = home / "folder"
    (folder / "in" / "in").mkdir(parents=True)
    if trouble == "nested too deep":
        monkeypatch.setattr(tree_size, "DEEPEST", 1)
    else:
        monkeypatch.setattr(
            tree_size.Scales,
            "_inside",
            lambda *_: (_ for _ in ()).throw(TimeoutError("the time is over")),
        )
    (outcome,) = carry_out(
        context(home), Quarantine(target="", reason="", path=folder, identity=identity_at(folder))
    )
    assert outcome.status == "vetoed"
    assert outcome.message.startswith("what it costs cannot be told: ")
    assert folder.exists()


def test_worktree_and_its_administrative_folder_are_weighed_each(home: Path) -> None:
    step = retired(home)
    assert step.path
    (step.path / "node_modules").mkdir()
    (step.path / "node_modules" / "bundle").write_bytes(b"x" * 100_000)
    sizes = {"worktree": weigh_tree(step.path), "worktree-admin": weigh_tree(step.admin)}
    (outcome,) = carry_out(context(home), step)
    assert outcome.status == "applied", outcome
    assert {
        each.kind: each.bytes for each in quarantine.find_entries(home.parent / "state")
    } == sizes
    assert outcome.freed_later == sum(sizes.values()) > 100_000


# A full quarantine


@pytest.mark.parametrize("kind", [Quarantine, RetireWorktree, ArchiveLog, ArchiveLogs, TrimLog])
def test_full_quarantine_takes_nothing_more(home: Path, kind: type[Step]) -> None:
    carry_out(context(home, "before"), set_aside(home / "big", "x" * 100_000))
    step = EXAMPLES[kind](home)
    (outcome,) = carry_out(context(home, quarantine=Rules(gigabytes=0.00009)), step)
    assert outcome.status == "vetoed"
    assert outcome.message.startswith("quarantine limit: it holds 102 kB, this takes ")
    assert outcome.message.endswith("; its limit is 90.0 kB")
    (outcome,) = carry_out(context(home), step)
    assert outcome.status == "applied"


@pytest.mark.parametrize("kind", [CutLog, Delete])
def test_full_quarantine_is_no_matter_for_what_sets_nothing_aside(
    home: Path, kind: type[Step]
) -> None:
    carry_out(context(home, "before"), set_aside(home / "big", "x" * 100_000))
    (outcome,) = carry_out(context(home, quarantine=Rules(gigabytes=0.00009)), EXAMPLES[kind](home))
    assert outcome.status == "applied"


def test_what_would_not_fit_is_refused_and_what_fits_is_taken(home: Path) -> None:
    steps = [set_aside(home / name, "x" * 40_000) for name in "abc"]
    outcomes = carry_out(context(home, quarantine=Rules(gigabytes=0.0001)), *steps)
    assert [each.status for each in outcomes] == ["applied", "applied", "vetoed"]


def state_of(home: Path) -> Path:
    return home / ".local" / "state" / "miyabi-healing"


def put_aside(home: Path, *names: str, size: int = 100_000) -> None:
    steps = [set_aside(home / name, "x" * size) for name in names]
    outcomes = carry_out(replace(context(home), state=state_of(home)), *steps)
    assert {each.status for each in outcomes} == {"applied"}


def test_full_quarantine_is_told_and_nothing_goes_before_its_time(home: Path) -> None:
    put_aside(home, "a", "b")
    file = settings(home, "[quarantine]\ngigabytes = 0.0001\n")
    for options in (("--dry-run",), ()):
        code, document = report("--config", file, *options)
        assert (code, document["quarantine"]["purged"], document["quarantine"]["things"]) == (
            0,
            [],
            2,
        )
        assert document["quarantine"]["limit_bytes"] == 100_000
        (note,) = (each for each in document["notes"] if "no repository" not in each)
        assert note.startswith(
            "the quarantine is full: nothing more is set aside; it holds 205 kB, its limit is 100 "
            "kB; "
        )
        assert "quarantine purge makes room, or raise [quarantine] gigabytes" in note
    assert (
        "⛔ The quarantine is full: its limit is 100 kB" in run("--config", file, "status").stdout
    )
    assert run("quarantine", "purge", "--all").returncode == 0
    notes = report("--config", file)[1]["notes"]
    assert [each for each in notes if "no repository" not in each] == []


# Purging is a step of the gate


def test_nothing_is_purged_in_the_run_that_set_it_aside(home: Path) -> None:
    rules = Rules(days=0, early_days=0)
    carry_out(context(home), set_aside(home / "thing"))
    (held,) = quarantine.find_entries(home.parent / "state")
    make_older(held, 99)
    (outcome,) = carry_out(context(home, quarantine=rules), retention.purge(held, ""))
    assert (outcome.status, outcome.message) == ("skipped", "it was set aside in this run")
    (outcome,) = carry_out(context(home, "later", quarantine=rules), retention.purge(held, ""))
    assert outcome.status == "applied"


@pytest.mark.parametrize(
    ("wall", "runs", "may"), [(True, True, True), (True, False, False), (False, True, False)]
)
def test_early_purge_needs_both_clocks(home: Path, wall: bool, runs: bool, may: bool) -> None:
    carry_out(context(home, "before"), set_aside(home / "thing"))
    (held,) = quarantine.find_entries(home.parent / "state")
    make_older(held, 8, wall=wall, runs=runs)
    (outcome,) = carry_out(context(home, quarantine=Rules(early_days=7)), retention.purge(held, ""))
    assert outcome.status == ("applied" if may else "vetoed")
    assert may or outcome.message == "quarantine: kept for 0 days; it may go after 7"


def test_purge_is_on_record_with_the_run(home: Path) -> None:
    put_aside(home, "a")
    (held,) = quarantine.find_entries(state_of(home))
    make_older(held, 31)
    _, document = report("--config", settings(home))
    (step,) = document["quarantine"]["purged"]
    assert (step["status"], step["number"] > 0) == ("applied", True)


def test_budget_takes_a_worktree_whole_or_not_at_all(home: Path) -> None:
    where = replace(context(home), state=state_of(home))
    (outcome,) = carry_out(where, retired(home))
    assert outcome.status == "applied"
    for held in quarantine.find_entries(state_of(home)):
        make_older(held, 31)
    _, document = report("--config", settings(home, "[budgets]\nfiles = 1\n"))
    assert [step["status"] for step in document["quarantine"]["purged"]] == ["vetoed", "vetoed"]
    _, document = report("--config", settings(home, "[budgets]\nfiles = 2\n"))
    assert [step["status"] for step in document["quarantine"]["purged"]] == ["applied", "applied"]


def test_purge_that_takes_too_long_is_finished_by_a_later_run(home: Path) -> None:
    folder = home / "folder"
    folder.mkdir()
    for number in range(50):
        (folder / str(number)).write_text("x")
    carry_out(
        context(home, "before"),
        Quarantine(target="", reason="", path=folder, identity=identity_at(folder)),
    )
    (held,) = quarantine.find_entries(home.parent / "state")
    make_older(held, 31)
    step = retention.purge(held, "")
    with work(context(home)) as prepared:
        late = replace(prepared, context=replace(prepared.context, deadline=time.monotonic() - 1))
        outcome = batch.one(step, late)
        assert (
            outcome.status,
            "the time is over; 0 file(s) of it are gone" in outcome.message,
        ) == ("failed", True)
        assert held.payload.exists()
        assert batch.one(step, prepared).status == "applied"


def test_housekeeping_that_fails_does_not_take_the_report_along(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = context(home)
    carry_out(where, set_aside(home / "thing"))
    healing = Resources(
        where.host.config, registry.Folders((), ()), "run", where.state, dry_run=True
    )
    monkeypatch.setattr(retention, "due", lambda *_: 1 / 0)
    healing.remember([])
    housekeeping.look_after_quarantine(healing)
    healing.close()
    assert healing.notes == [
        "the quarantine could not be looked after: ZeroDivisionError: division by zero"
    ]
