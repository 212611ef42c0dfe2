"""For any tree and any plan: undoing gives back what was, and nothing outside the allowed roots
ever changes.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from gatework import ISSUE, plan, work
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from miyabi_healing.gate import execute, rollback
from miyabi_healing.gate.handlers.table import HANDLERS
from miyabi_healing.gate.primitives.context import Context
from miyabi_healing.host.readings import Host
from miyabi_healing.model.actions import ActionResult, Outcome
from miyabi_healing.model.config import Budgets, Config, PolicySettings
from miyabi_healing.model.steps import ArchiveLog, Quarantine, Step, TrimLog
from miyabi_healing.runner import housekeeping, registry
from miyabi_healing.runner.healing import describe
from miyabi_healing.runner.resources import Resources
from miyabi_healing.state import quarantine
from miyabi_healing.support.files import identity_at

EXAMPLES = settings(
    max_examples=int(os.environ.get("PROPERTY_EXAMPLES", "40")), deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip
names = st.binary(min_size=1, max_size=6).map(
    lambda raw: os.fsdecode(raw.replace(b"/", b"_").replace(b"\0", b"\n"))
)
names = names.filter(lambda name: name not in (".", ".."))
moments = st.integers(10**18, 17 * 10**17)


@dataclass(frozen=True)
class Node:
    """Something to make: a file of so many lines after two holes, a link, a FIFO, or a folder."""

    name: str
    kind: str
    mode: int
    lines: int
    hole: int
    moment: int
    owner: int
    attribute: bytes
    children: tuple[Node, ...] = ()


def node(
    children: st.SearchStrategy[tuple[Node, ...]], kinds: list[str]
) -> st.SearchStrategy[Node]:
    return st.builds(
        Node,
        names,
        st.sampled_from(kinds),
        st.sampled_from([0o600, 0o644, 0o755, 0o700, 0o2750, 0o4711]),
        st.sampled_from([0, 1, 3000, 6000]),
        st.sampled_from([0, 9000, 1 << 20, 1 << 20]),
        moments,
        st.sampled_from([0, 0, 12345]),
        st.binary(max_size=8),
        children,
    )


leaves = st.lists(
    node(st.just(()), ["file", "file", "log", "link", "fifo", "hard"]), max_size=4
).map(tuple)
trees = st.recursive(
    leaves,
    lambda deeper: st.lists(node(deeper, ["folder", "folder", "log", "file"]), max_size=3).map(
        tuple
    ),
    max_leaves=8,
)


def make(folder: Path, nodes: tuple[Node, ...]) -> None:
    for each in nodes:
        path = folder / each.name
        if os.path.lexists(path):
            continue
        if each.kind == "folder":
            path.mkdir()
            make(path, each.children)
        elif each.kind == "link":
            path.symlink_to(f"../{each.name}")
        elif each.kind == "fifo":
            os.mkfifo(path)
        elif each.kind == "hard" and (
            files := [other for other in folder.iterdir() if other.is_file()]
        ):
            os.link(files[0], path, follow_symlinks=False)
            continue
        else:
            with path.open("wb") as file:
                for start in (0, each.lines // 2):
                    file.seek(each.hole, os.SEEK_CUR)
                    file.write(
                        b"".join(
                            b"%06d some line of a log\n" % (start + number)
                            for number in range(each.lines // 2)
                        )
                    )
        dress(path, each)


def dress(path: Path, each: Node) -> None:
    if os.geteuid() == 0:
        os.chown(path, each.owner, each.owner, follow_symlinks=False)
    if each.kind != "link":
        path.chmod(each.mode)
    if each.attribute and each.kind in ("file", "log", "folder"):
        os.setxattr(path, "user.test", each.attribute)
    os.utime(path, ns=(each.moment, each.moment), follow_symlinks=False)


def snapshot(top: Path) -> dict[str, tuple[object, ...]]:
    """Everything a person could miss: kind, mode, owner, time of change, attributes, content,
    links, names and holes.
    """
    found: dict[str, tuple[object, ...]] = {}
    for path in [top, *sorted(top.rglob("*"))]:
        status = path.lstat()
        regular = stat.S_ISREG(status.st_mode)
        content: object = (
            os.readlink(path) if path.is_symlink() else path.read_bytes() if regular else None
        )
        attributes = {
            name: os.getxattr(path, name, follow_symlinks=False)
            for name in os.listxattr(path, follow_symlinks=False)
        }
        blocks = status.st_blocks if regular else 0  # a hole that was filled takes more
        found[str(path.relative_to(top))] = (
            status.st_mode,
            status.st_uid,
            status.st_gid,
            status.st_mtime_ns,
            attributes,
            content,
            status.st_nlink,
            blocks,
        )
    return found


def steps_for(data: st.DataObject, top: Path) -> list[Step]:
    """Any steps about what is there; several may be about the same thing, or about what lies inside
    of it.
    """
    steps: list[Step] = []
    for path in sorted(top.rglob("*")):
        identity, what = (
            identity_at(path),
            data.draw(st.sampled_from(["", "", "quarantine", "archive", "trim"])),
        )
        if what == "quarantine":
            steps.append(Quarantine(target=str(path), reason="", path=path, identity=identity))
        elif what == "archive":
            steps.append(ArchiveLog(target=str(path), reason="", path=path, identity=identity))
        elif what == "trim":
            steps.append(
                TrimLog(
                    target=str(path),
                    reason="",
                    path=path,
                    identity=identity,
                    keep_lines=3,
                    keep_bytes=1 << 16,
                )
            )
    return data.draw(st.permutations(steps))


@contextmanager
def world(nodes: tuple[Node, ...]) -> Iterator[tuple[Path, Context]]:
    top = Path(tempfile.mkdtemp()).resolve()
    try:
        (top / "home").mkdir()
        make(top / "home", nodes)
        (top / "outside").mkdir()
        make(top / "outside", nodes)
        settings = Config(policy=PolicySettings(respect_days=0), budgets=Budgets(gigabytes=1000))
        yield top, Context(Host(settings), "run", top / "state", (top / "home",))
    finally:
        shutil.rmtree(top)


def carry_out(steps: list[Step], context: Context) -> list[Outcome]:
    outcomes: list[Outcome] = []
    with work(context) as prepared:
        execute.carry_out_plan(plan(*steps), prepared, outcomes)
    return outcomes


@EXAMPLES
@given(nodes=trees, data=st.data())
def test_carrying_out_and_rolling_back_is_as_if_nothing_had_been(
    nodes: tuple[Node, ...], data: st.DataObject
) -> None:
    with world(nodes) as (top, context):
        before = snapshot(top / "home")
        outcomes = carry_out(steps_for(data, top / "home"), context)
        for outcome in outcomes:
            event(f"{outcome.step.kind}: {outcome.status}")
        if any(outcome.status == "applied" for outcome in outcomes):
            with work(context) as prepared:
                rows = rollback.choose(context.state, prepared.journal, None)
                results = rollback.carry_out_rollback(rows, context, prepared.journal)
            assert {each.status for each in results} == {"undone"}
        assert snapshot(top / "home") == before
        assert quarantine.find_entries(context.state) == []


@EXAMPLES
@given(nodes=trees, data=st.data())
def test_plan_that_fails_half_way_is_as_if_nothing_had_been(
    nodes: tuple[Node, ...], data: st.DataObject
) -> None:
    with world(nodes) as (top, context), pytest.MonkeyPatch.context() as patch:
        before = snapshot(top / "home")
        steps = steps_for(data, top / "home")
        place = data.draw(st.integers(0, len(steps)))
        # beside the state folder, not above it: that would be refused before anything else
        (top / "broken").touch()
        broken = Quarantine(
            target="broken", reason="", path=top / "broken", identity=identity_at(top / "broken")
        )

        handler = type(HANDLERS["quarantine"])
        recheck, apply = handler.recheck, handler.apply

        def fail(self: object, step: Quarantine, where: Context) -> object:
            if step is broken:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return apply(HANDLERS["quarantine"], step, where)

        def pass_by(self: object, step: Quarantine, where: Context) -> str | None:
            return None if step is broken else recheck(HANDLERS["quarantine"], step, where)

        patch.setattr(handler, "recheck", pass_by)
        patch.setattr(handler, "apply", fail)
        outcomes = carry_out([*steps[:place], broken, *steps[place:]], context)
        assert outcomes[place].status == "failed"
        assert {outcome.status for outcome in outcomes} <= {"undone", "skipped", "failed", "vetoed"}
        assert snapshot(top / "home") == before


@EXAMPLES
@given(nodes=trees, data=st.data())
def test_nothing_outside_the_roots_ever_changes(
    nodes: tuple[Node, ...], data: st.DataObject
) -> None:
    """Steps about things outside, by their own path, by a way round through the root, and by links
    out of it.
    """
    with world(nodes) as (top, context):
        (top / "home" / "link out").symlink_to(top / "outside")
        before = snapshot(top / "outside")
        outside = steps_for(data, top / "outside")
        ways = (
            lambda path: path,
            lambda path: top / "home" / ".." / path.relative_to(top),
            lambda path: top / "home" / "link out" / path.relative_to(top / "outside"),
        )
        for step in outside:
            object.__setattr__(step, "path", data.draw(st.sampled_from(ways))(step.path))  # type: ignore[attr-defined]
        outcomes = carry_out([*steps_for(data, top / "home"), *outside], context)
        assert snapshot(top / "outside") == before
        assert all(
            outcome.status != "applied" for outcome in outcomes[len(outcomes) - len(outside) :]
        )


@EXAMPLES
@given(nodes=trees, data=st.data())
def test_dry_run_changes_nothing_and_lists_the_steps_of_the_real_run(
    nodes: tuple[Node, ...], data: st.DataObject
) -> None:
    """In the same order, with the same vetoes of the brakes: here, of a budget that some steps are
    too much for.
    """
    with world(nodes) as (top, context):
        steps = [
            replace(step, bytes=data.draw(st.integers(0, 10)))
            for step in steps_for(data, top / "home")
        ]
        limits = Budgets(gigabytes=data.draw(st.integers(0, 20)) / 1e9)
        config = replace(context.host.config, budgets=limits)
        before = snapshot(top)
        healing = Resources(config, registry.Folders((), ()), "run", context.state, dry_run=True)
        action = ActionResult("some_healer", ISSUE)
        describe(healing, action, plan(*steps))
        healing.remember([])
        housekeeping.look_after_quarantine(healing)
        healing.close()
        assert snapshot(top) == before
        assert [outcome.step for outcome in action.outcomes] == steps
        with work(replace(context, host=Host(config))) as prepared:
            outcomes: list[Outcome] = []
            execute.carry_out_plan(plan(*steps), prepared, outcomes)
        assert [outcome.step for outcome in outcomes] == steps
        if {outcome.status for outcome in outcomes} <= {"applied", "vetoed"}:
            told = [(outcome.status == "vetoed", outcome.message) for outcome in action.outcomes]
            assert [(outcome.status == "vetoed", outcome.message) for outcome in outcomes] == told
