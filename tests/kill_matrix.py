"""Kill the program at every line of the gate and the journal, let the next run recover, and see
that nothing is lost.

``python kill_matrix.py KIND PHASE STRIDE FOLDER`` runs one row of the matrix and prints what it
found as JSON. A forked child carries one step out (PHASE ``apply``) or rolls it back (``undo``) and
ends itself with SIGKILL when it reaches a line for the first, second or third time; each STRIDE-th
such point is a run of its own. A second child is the next run. In the phases ``recover apply`` and
``recover undo`` it is the next run that is killed, after one that was killed half way, at each of
CUTS.
"""

from __future__ import annotations

import gc
import importlib
import itertools
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import FrameType
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
# Where a kill may fall: a folder ends with a slash, a module with .py. Who moves one changes its
# line here.
TRACED = tuple(
    f"{PROJECT}/{path}"
    for path in (
        "miyabi_healing/gate/",
        "miyabi_healing/state/journal.py",
        "miyabi_healing/state/journal_rows.py",
        "miyabi_healing/state/store.py",
    )
)
sys.path[:0] = [str(PROJECT), str(PROJECT / "tests")]

from gatework import plan, work
from gitworld import commit, git, merge, repository, worktree

from miyabi_healing.gate import execute, recover, rollback
from miyabi_healing.gate.handlers import log_files as log_handler
from miyabi_healing.gate.primitives import room
from miyabi_healing.gate.primitives.context import Context
from miyabi_healing.host import caches, memory, process_ending, process_status
from miyabi_healing.host.process_status import read_process
from miyabi_healing.host.readings import Host
from miyabi_healing.model.claim import Claim
from miyabi_healing.model.config import (
    CacheSettings,
    Config,
    PolicySettings,
    ProcessSettings,
    SafetySettings,
)
from miyabi_healing.model.config import QuarantineSettings as Quarantined
from miyabi_healing.model.coordinator import Coordinator
from miyabi_healing.model.steps import (
    ArchiveLog,
    ArchiveLogs,
    BundledLog,
    CutLog,
    Delete,
    GiveBack,
    GiveBackRows,
    Quarantine,
    Reclaim,
    RetireWorktree,
    Run,
    Signal,
    Step,
    TrimLog,
)
from miyabi_healing.state import quarantine, retention
from miyabi_healing.support.files import identity_at

TAKEN = "archive log, name taken"
SEVERAL = ("one.txt", "two.txt", "three.txt")  # more would be killed at the same lines
# of the points of a run that is killed so that there is something to recover
CUTS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
LINES = b"".join(b"line %06d, and what it says\n" % number for number in range(9000))
Point = tuple[str, int, int]  # file, line, and how many times it was reached
Snapshot = dict[str, tuple[object, ...]]
COUNTER = """
import signal, sys, time
signal.signal(15, lambda *_: open(sys.argv[1], "a").write("x"))
open(sys.argv[2], "w").close()
while True:
    time.sleep(60)
"""


# of a boot before this one
LOST = f"{os.uname().nodename}:00000000-0000-0000-0000-000000000000:7:7"
CLAIMS = tuple(Claim(f"t{number}", "in_progress", LOST) for number in range(3))
GIVE_BACK = (
    "update task set status = 'pending', owner = null "
    "where id = :id and status = :status and owner = :owner"
)


def config(top: Path) -> Config:
    place = {"pid_file": str(top / "pid"), "start": ("true",), "owned_by": "host boot pid start"}
    file, table = str(top / "home" / "tasks.json"), str(top / "home" / "tasks.db")
    query = "select id, status, owner from task where status = 'in_progress'"
    return Config(
        coordinators={
            "file": Coordinator(**place, tasks=file, list="/tasks"),  # type: ignore[arg-type]
            "table": Coordinator(**place, sqlite=table, query=query, give_back=GIVE_BACK),  # type: ignore[arg-type]
        },
        caches=CacheSettings(homes=(str(top / "home"),)),
        policy=PolicySettings(cooldown=0, respect_days=0),
        processes=ProcessSettings(),
        safety=SafetySettings(disposable=(str(top / "home" / "cache"),)),
        quarantine=Quarantined(early_days=0),
    )


def context(top: Path, run: str = "run") -> Context:
    return Context(Host(config(top)), run, top / "state", (top / "home",))


# Worlds


def fill(folder: Path) -> None:
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "note").write_text("precious")
    (folder / "link").symlink_to("deep/note")
    (folder / "other").write_bytes(b"x" * 5000)


def build(kind: str, home: Path) -> None:
    home.mkdir(parents=True)
    if kind in ("quarantine", "purge", "delete"):
        fill(home / "cache")
        fill(home / "thing")
    elif kind == "reclaim":
        (home / "memory.reclaim").touch()
    elif kind == "give back":
        rows = [
            {"id": each.id, "status": each.status, "assigned_to": each.owner} for each in CLAIMS
        ]
        (home / "tasks.json").write_text(json.dumps({"tasks": rows, "about": 1.10}, indent=2))
        (home / "tasks.json").chmod(0o640)
    elif kind == "give back rows":
        with closing(sqlite3.connect(home / "tasks.db")) as database, database:
            database.execute("create table task (id text, status text, owner text)")
            values = [(each.id, each.status, each.owner) for each in CLAIMS]
            database.executemany("insert into task values (?, ?, ?)", values)
    elif kind in ("archive log", TAKEN, "trim log", "cut log"):
        (home / "app.log").write_bytes(LINES)
        (home / "app.log").chmod(0o640)
    elif kind == "archive logs":
        (home / "logs").mkdir()
        for number, name in enumerate(SEVERAL):
            (home / "logs" / name).write_bytes(LINES[number * 30 :])
            (home / "logs" / name).chmod(0o640)
    elif kind == "retire worktree":
        os.environ.update(HOME=str(home), GIT_CONFIG_GLOBAL=str(home / ".gitconfig"))
        (home / ".gitconfig").write_text(
            "[user]\nname = Test\nemail = test@example.invalid\n[init]\ndefaultBranch = main\n"
        )
        repo = repository(home / "repo")
        tree = worktree(repo, "done")
        merge(repo, "done", "merge")
        (tree / "node_modules").mkdir()
        (tree / "node_modules" / "x").write_text("regenerable")
        git(tree, "checkout", "-q", "--detach")  # a commit that only its reflog knows
        commit(tree, "lost", "only in the reflog")
        git(tree, "checkout", "-q", "done")


def make_step(kind: str, top: Path) -> Step:
    home = top / "home"
    if kind == "quarantine":
        return Quarantine(
            target="", reason="", path=home / "thing", identity=identity_at(home / "thing")
        )
    if kind in ("archive log", TAKEN):
        return ArchiveLog(
            target="", reason="", path=home / "app.log", identity=identity_at(home / "app.log")
        )
    if kind == "archive logs":
        folder = home / "logs"
        files = (
            BundledLog(name=name, identity=identity_at(folder / name), bytes=1 << 18)
            for name in SEVERAL
        )
        return ArchiveLogs(target="", reason="", folder=folder, files=tuple(files))
    if kind in ("trim log", "cut log"):
        identity, make = identity_at(home / "app.log"), TrimLog if kind == "trim log" else CutLog
        return make(
            target="",
            reason="",
            path=home / "app.log",
            identity=identity,
            keep_lines=5,
            keep_bytes=1 << 20,
        )
    if kind == "retire worktree":
        common, tree = home / "repo" / ".git", home / "trees" / "done"
        admin = common / "worktrees" / "done"
        return RetireWorktree(
            target="",
            reason="",
            path=tree,
            admin=admin,
            common=common,
            admin_identity=identity_at(admin),
            identity=identity_at(tree),
        )
    if kind == "delete":
        root = home / "cache"
        units = tuple(
            caches.measure_unit(path, root.stat().st_dev) for path in sorted(root.iterdir())
        )
        return Delete(target="", reason="", root=root, units=units)
    if kind == "give back":
        path = home / "tasks.json"
        return GiveBack(target="", reason="", coordinator="file", path=path, claims=CLAIMS)
    if kind == "give back rows":
        return GiveBackRows(target="", reason="", coordinator="table", claims=CLAIMS)
    if kind == "purge":
        return retention.purge(quarantine.find_entries(top / "state")[0], "")
    if kind == "run":
        return Run(
            target="", reason="", argv=("sh", "-c", f"echo x >> {home}/count"), time_limit=10
        )
    if kind == "reclaim":
        memory.CGROUPS = home
        return Reclaim(target="", reason="", control=home / "memory.reclaim", value="1")
    process = read_process(int((home / "pid").read_text()))
    assert process is not None
    return Signal(target="", reason="", pid=process.pid, start=process.start, signal=signal.SIGTERM)


def snapshot(home: Path) -> Snapshot:
    """What is there: kind, mode, owner, content. Not the times, a crash may touch them; nor the
    empty folders git leaves.
    """
    found: Snapshot = {}
    for path in sorted(home.rglob("*")):
        if (
            path.is_dir()
            and "refs" in path.parts
            and all(each.is_dir() for each in path.rglob("*"))
        ):
            continue
        status = path.lstat()
        content: object = (
            os.readlink(path)
            if path.is_symlink()
            else path.read_bytes()
            if path.is_file()
            else None
        )
        found[str(path.relative_to(home))] = (status.st_mode, status.st_uid, content)
    return found


# Runs


def perform(top: Path, kind: str, run: str = "run") -> None:
    with work(context(top, run)) as prepared:
        execute.carry_out_plan(plan(make_step(kind, top)), prepared, [])


def roll_back(top: Path, run: str = "run") -> list[str]:
    """What a rollback of a run came to, step by step."""
    with work(context(top, "later")) as prepared:
        try:
            rows = rollback.choose(top / "state", prepared.journal, run)
        except rollback.Unknown:
            return []
        return [
            each.status
            for each in rollback.carry_out_rollback(rows, prepared.context, prepared.journal)
        ]


def next_run(top: Path) -> dict[str, Any]:
    """Recover, and tell what the journal says then; a second recovery has nothing to do."""
    with work(context(top, "next")) as prepared:
        results = [result for _row, result in recover.recover(prepared.context, prepared.journal)]
        again = recover.recover(prepared.context, prepared.journal)
        check = prepared.journal.database.execute("pragma integrity_check").fetchone()[0]
        rows = [(row.kind, row.status) for row in prepared.journal.steps("run")]
    return {
        "results": results,
        "again": len(again),
        "check": check,
        "rows": rows,
        "open": None in [each[1] for each in rows],
    }


def in_child(action: Callable[[], object]) -> tuple[int, Any]:
    """Run something in a fork; returns its wait status and what it returned."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            answer = json.dumps(action())
            os.write(theirs, answer.encode())
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(theirs)
    with os.fdopen(ours) as pipe:
        text = pipe.read()
    return os.waitpid(pid, 0)[1], json.loads(text) if text else None


def traced(action: Callable[[], object], until: Point | None) -> list[Point]:
    """Run something and note each point of the gate and the journal it reaches; or end it for good
    at the point `until`, and note nothing.
    """
    points: list[Point] = []
    times: Counter[tuple[str, int]] = Counter()
    left = until[2] if until else 0

    def note(frame: FrameType, event: str, _argument: object) -> Any:
        if event == "line":
            line = (frame.f_code.co_filename, frame.f_lineno)
            times[line] += 1
            if times[line] <= 3:
                points.append((*line, times[line]))
        return note

    def end(frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal left
        if event == "line" and until and frame.f_lineno == until[1]:
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)
        return end

    def every(frame: FrameType, _event: str, _argument: object) -> Any:
        file = frame.f_code.co_filename
        if until:  # tracing is slow: only where that point is
            return end if file == until[0] else None
        return note if file.startswith(TRACED) else None

    sys.settrace(every)
    try:
        action()
    finally:
        sys.settrace(None)
    return points


class Row:
    """One step kind in one phase."""

    def __init__(self, kind: str, phase: str, top: Path) -> None:
        self.kind, self.phase, self.top = kind, phase, top
        self.cut: Point | None = None  # where the run before this one was killed
        self.process: subprocess.Popen[bytes] | None = None
        build(kind, top / "home")
        self.before = snapshot(top / "home")
        if kind == "purge":
            # a run purges nothing that it set aside itself
            in_child(lambda: perform(top, "quarantine", "before"))
        shutil.copytree(top, top.with_name("template"), symlinks=True)

    def fresh(self) -> None:
        """The world as it was, at the same place; with the step applied already where its undoing
        is looked at, and a run before this one killed where there is to be something to recover.
        """
        for _attempt in range(6):  # a line that depends on the clock is not reached every time
            self.world()
            if self.cut is None:
                return
            status, _ = in_child(lambda: traced(self.first, self.cut) and None)
            if os.WIFSIGNALED(status):
                return
            self.end()
        raise AssertionError(f"the run before was not killed at {self.cut}")

    def world(self) -> None:
        shutil.rmtree(self.top)
        shutil.copytree(self.top.with_name("template"), self.top, symlinks=True)
        if self.kind == "signal":
            ready = self.top / "home" / "ready"
            count = str(self.top / "home" / "count")
            self.process = subprocess.Popen([sys.executable, "-c", COUNTER, count, str(ready)])
            while not ready.exists():
                time.sleep(0.01)
            (self.top / "home" / "pid").write_text(str(self.process.pid))
        if self.phase.endswith("undo"):
            in_child(lambda: perform(self.top, self.kind))
        if self.kind == TAKEN:
            (self.top / "home" / "app.log").write_text("other\n")

    def first(self) -> object:
        return roll_back(self.top) if self.phase.endswith("undo") else perform(self.top, self.kind)

    def action(self) -> object:
        return next_run(self.top) if self.cut else self.first()

    def cut_near(self, points: list[Point], index: int) -> None:
        """Have the run before killed at the first point from `index` on that it comes to again.

        Some lines hang on the clock, or on whether a new file got the number of one that is gone.
        """
        for self.cut in points[index : index + 20]:
            try:
                return self.fresh()
            except AssertionError:
                continue
        raise AssertionError(f"the run before was not killed anywhere near {points[index]}")

    def load_what_it_loads(self) -> None:
        """Else every fork would load it anew."""
        self.fresh()
        loaded = in_child(lambda: [self.action(), next_run(self.top)] and list(sys.modules))[1]
        for name in {*loaded} - {*sys.modules}:
            importlib.import_module(name)
        gc.collect()
        gc.freeze()  # a collection in a fork would write to, and so copy, all that is shared

    def points(self) -> list[Point]:
        self.fresh()
        return [
            (file, line, time)
            for file, line, time in in_child(lambda: traced(self.action, None))[1]
        ]

    def problem(self, point: Point) -> str | None:
        """Kill at one point, recover, and say what is wrong then."""
        for _attempt in range(3):  # a line that depends on the clock is not reached every time
            self.end()
            self.fresh()
            status, _ = in_child(lambda: traced(self.action, point) and None)
            if os.WIFSIGNALED(status):
                break
        else:
            return "it was not killed"
        _, seen = in_child(lambda: next_run(self.top))
        if seen is None:
            return "the next run failed"
        if seen["again"] or seen["check"] != "ok" or seen["open"] or len(seen["rows"]) > 1:
            return f"the journal is not consistent: {seen}"
        return self.unfit(seen)

    def unfit(self, seen: dict[str, Any]) -> str | None:
        home = self.top / "home"
        if self.kind in ("signal", "run"):
            count = (
                len((home / "count").read_bytes().split())
                if self.kind == "run" and (home / "count").exists()
                else 0
            )
            count = (
                (home / "count").stat().st_size
                if self.kind == "signal" and (home / "count").exists()
                else count
            )
            return f"done {count} times" if count > 1 else None
        if self.kind == "delete":
            after = snapshot(home)
            lost = [
                name for name in self.before if name not in after and not name.startswith("cache/")
            ]
            return f"deleted {lost}" if lost else None
        if self.kind == "purge":
            return self.unfit_purge(seen)
        if self.kind == "cut log":
            return unfit_log((home / "app.log").read_bytes())
        if self.kind == "reclaim":
            return None
        if self.kind == "give back rows":
            with closing(sqlite3.connect(home / "tasks.db")) as database:
                states = set(database.execute("select status, owner from task"))
            whole = ({("in_progress", LOST)}, {("pending", None)})
            return None if states in whole else f"half given back: {states}"
        in_child(lambda: roll_back(self.top))
        after, held = snapshot(home), quarantine.find_entries(self.top / "state")
        if self.kind == TAKEN:
            after = self.without_the_other(after)
        refs = (
            git(home / "repo", "for-each-ref", "refs/miyabi-healing")
            if (home / "repo").exists()
            else ""
        )
        if after != self.before:
            names = [
                name
                for name in self.before.keys() | after.keys()
                if self.before.get(name) != after.get(name)
            ]
            return f"not as before: {sorted(names)[:5]} {seen}"
        return f"left behind: {held} {refs}" if held or refs else None

    def without_the_other(self, after: Snapshot) -> Snapshot:
        """The log is beside the file that has its name now; as if it were alone, under its name."""
        other = after.pop("app.log", None)
        if other is None or other[2] != b"other\n":
            return {"the other file is not what it was": (other,)}
        return {name.removesuffix(".restored-run"): what for name, what in after.items()}

    def unfit_purge(self, seen: dict[str, Any]) -> str | None:
        """A purge is either not begun, and the thing can be had back, or finished; nothing half
        deleted is ever given back.
        """
        if not quarantine.find_entries(self.top / "state"):
            return None
        in_child(lambda: roll_back(self.top, "before"))
        return None if snapshot(self.top / "home") == self.before else f"half purged: {seen}"

    def end(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()


def unfit_log(content: bytes) -> str | None:
    """A log that was being cut has kept its end; where the cut was going on, a part of a line may
    be left.
    """
    first, *lines = (line for line in content.replace(b"\0", b"").split(b"\n") if line.strip())
    whole = LINES.splitlines()
    if (
        len(lines) < 4
        or lines != whole[-len(lines) :]
        or not whole[-len(lines) - 1].endswith(first)
    ):
        return f"not the end of what was there: {len(lines)} lines after {first!r}"
    return None


log_handler.CHUNK = 64 << 10  # so that a log goes in several parts


def main(kind: str, phase: str, stride: int, folder: Path) -> None:
    row = Row(kind, phase, folder / "world")
    row.load_what_it_loads()
    row.end()
    points = row.points()
    row.end()
    problems, runs = [], 0
    reached = dict.fromkeys(TRACED, 0)
    first = points
    for cut in CUTS if phase.startswith("recover") else [None]:
        if cut is not None:
            row.cut = None
            row.cut_near(first, int(len(first) * cut))
            row.end()
            points = row.points()
        row.end()
        for file, _line, _time in points:
            reached[next(path for path in TRACED if file.startswith(path))] += 1
        for point in points[::stride]:
            runs += 1
            if problem := row.problem(point):
                problems.append(
                    f"{os.path.basename(point[0])}:{point[1]} ({point[2]}): {problem} "
                    f"{row.cut or ''}"
                )
            row.end()
    found = {
        "kind": kind,
        "phase": phase,
        "points": sum(reached.values()),
        "reached": reached,
        "runs": runs,
    }
    print(json.dumps({**found, "problems": problems}))


if __name__ == "__main__":
    # below a coding agent or a CI runner, which may have started this, nothing is ever ended
    process_ending.above = lambda process: iter(())
    # who uses the files is not what this is about, and asking a whole host takes most of the time
    process_status._pids = lambda: [1, os.getppid(), os.getpid()]
    # all that was deleted came back: else what others write decides which lines are reached
    free = itertools.count(0, 1 << 40)
    room._free = lambda path: next(free)
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]))
