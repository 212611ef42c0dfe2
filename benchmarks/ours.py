"""What is measured of ours, a function each, called in an interpreter of its own; what it imports
is part of its cost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from miyabi_healing.support.files import identity_at

if TYPE_CHECKING:
    from collections.abc import Sequence

    from miyabi_healing.model.actions import Outcome
    from miyabi_healing.model.config import Config
    from miyabi_healing.model.steps import Step


def find_logs(pattern: str, megabytes: str, mark: str) -> None:
    """Print the logs that are large, or that nothing has happened to since `mark` was written."""
    import os
    import time

    from miyabi_healing.host import logs

    begun = time.process_time()
    size, since = float(megabytes) * 1e6, os.stat(mark).st_mtime
    found = [
        file
        for file in logs.read_log_group(pattern).files
        if file.size > size or file.last <= since
    ]
    print("\n".join(str(file) for file in found))
    print(f'{{"core": {time.process_time() - begun}}}')


def count_zombies(expected: str) -> None:
    """Count the zombies that last."""
    import time

    from miyabi_healing.host.processes import Processes

    begun = time.process_time()
    found = len(Processes().zombies())
    assert found >= int(expected), found
    print(f'{{"core": {time.process_time() - begun}}}')


def plan_zombies(expected: str) -> None:
    """Plan what is done about zombies that have been there for long: who their parents are, and
    whether they may be ended.
    """
    import time

    from healers.kill_zombies import Options, kill_zombies
    from miyabi_healing.host.context import HealerContext
    from miyabi_healing.host.processes import Processes
    from miyabi_healing.host.readings import Host
    from miyabi_healing.model.config import Config
    from miyabi_healing.model.issue import Issue, Limit

    begun = time.process_time()
    context = HealerContext(Host(Config()), {"processes": Processes()})
    issue = Issue("zombie_processes", "", "", int(expected), Limit(5))
    plan = kill_zombies(context, issue, Options(seen_for=0))
    found = plan.details["zombies_found"]
    assert isinstance(found, int)
    assert found >= int(expected), found
    assert any("living children" in each.reason for each in plan.kept), plan.kept
    print(f'{{"core": {time.process_time() - begun}}}')


def count_worktrees(repository: str, expected: str) -> None:
    """Count a repository's worktrees."""
    import time

    from miyabi_healing.host.git import repositories
    from miyabi_healing.model.config import Config

    begun = time.process_time()
    found = repositories.open_repository(repository, Config()).worktree_count
    assert found == int(expected), found
    print(f'{{"core": {time.process_time() - begun}}}')


def merged_branches(repository: str, expected: str) -> None:
    """Tell which branches are merged, and count the git processes that it takes."""
    import time

    from miyabi_healing.host.git import repositories
    from miyabi_healing.host.git.branches import Branches
    from miyabi_healing.model.config import Config
    from miyabi_healing.support import commands

    runs = []
    ask = commands.run_program

    def counted(*arguments: Any, **options: Any) -> commands.Result:
        runs.append(arguments)
        return ask(*arguments, **options)

    commands.run_program = counted
    begun = time.perf_counter()
    branches = Branches(repositories.open_repository(repository, Config()))
    found = branches.merged_among(
        name for name in branches.refs if name.startswith("refs/heads/topic")
    )
    assert len(found) == int(expected), len(found)
    print(f'{{"processes": {len(runs)}, "core": {time.perf_counter() - begun}}}')


def dirty_worktrees(repository: str) -> None:
    """Tell which worktrees are not clean."""
    import time

    from miyabi_healing.host.git import repositories
    from miyabi_healing.host.git.verdict import Reason
    from miyabi_healing.host.git.worktrees import WorktreeInspector, side_by_side
    from miyabi_healing.model.config import Config

    begun = time.perf_counter()
    place = repositories.open_repository(repository, Config())
    trees = place.worktrees()
    for tree, reason in zip(
        trees, side_by_side(WorktreeInspector(place).by_the_content, trees), strict=True
    ):
        if isinstance(reason, Reason):
            print(tree, reason)
    print(f'{{"core": {time.perf_counter() - begun}}}')


def carry_out(steps: Sequence[Step], config: Config, state: str, journal: bool = True) -> float:
    """Carry steps out through the gate, on record unless told, with a goal that is never met; how
    long the gate took.
    """
    import time
    from pathlib import Path

    from miyabi_healing.gate import batch, execute
    from miyabi_healing.gate.policy import Policy, Spent
    from miyabi_healing.gate.primitives.context import Context
    from miyabi_healing.gate.primitives.roots import allowed
    from miyabi_healing.host.readings import Host
    from miyabi_healing.model.config import HealerSettings
    from miyabi_healing.model.issue import Issue, Limit
    from miyabi_healing.model.plan import Goal, Plan
    from miyabi_healing.state import run_clock
    from miyabi_healing.state.store import JournalKeeper

    class NoJournal:
        """What the gate asks of a journal, and nothing on record."""

        number = 0

        def intend(self, *_: object) -> int:
            self.number += 1
            return self.number

        def finish(self, *_: object) -> None:
            pass

        def now(self) -> run_clock.Moment:
            return run_clock.unknown_moment()

    outcomes: list[Outcome] = []
    keeper = JournalKeeper(Path(state), print) if journal else None
    record: Any = keeper.journal if keeper else NoJournal()
    issue = Issue("some_issue", "", "", 2, Limit(1))
    policy = Policy(config, record if keeper else None, Spent(config.budgets), state=Path(state))
    context = Context(Host(config), "bench", Path(state), allowed(config))
    work = batch.Work("some_healer", issue, HealerSettings(), context, record, policy)
    begun = time.perf_counter()
    plan = Plan(tuple(steps), Goal("never", lambda: False), in_batches=True)
    execute.carry_out_plan(plan, work, outcomes)
    spent = time.perf_counter() - begun
    if keeper:
        keeper.close()
    left = [f"{each.status}: {each.message}" for each in outcomes if each.status != "applied"]
    assert not left, left[:3]
    return spent


def retire_worktrees(repository: str, state: str, expected: str) -> None:
    """Find the merged worktrees and take them away, through the gate."""

    from healers.cleanup_worktrees import Options, cleanup_worktrees
    from miyabi_healing.host.context import HealerContext
    from miyabi_healing.host.readings import Host
    from miyabi_healing.model.config import Budgets, Config, GitSettings
    from miyabi_healing.model.issue import Issue, Limit

    config = Config(git=GitSettings(repos=(repository,)), budgets=Budgets(worktrees=100_000))
    host = Host(config)
    issue = Issue("excessive_worktrees", repository, "", 200, Limit(0))
    plan = cleanup_worktrees(
        HealerContext(host, {"repository": host.repository(repository)}),
        issue,
        Options(idle_days=0),
    )
    assert len(plan.steps) == int(expected), (len(plan.steps), plan.kept[:3])
    print(f'{{"gate": {carry_out(plan.steps, config, state)}}}')


def delete_cache(home: str, cache: str) -> None:
    """Weigh a cache and delete all of it, a thousand files a step as the healer does, through the
    gate.
    """
    import os
    import time

    from miyabi_healing.gate.handlers import delete
    from miyabi_healing.host import caches
    from miyabi_healing.host.cache_steps import chunks
    from miyabi_healing.model import config
    from miyabi_healing.model.steps import Delete

    settings = config.Config(
        caches=config.CacheSettings(homes=(home,)),
        logs=config.LogSettings(patterns=(f"{home}/*.log",)),
        budgets=config.Budgets(files=10**9),
    )
    from miyabi_healing.host.open_files import scan_open_files

    (found,) = caches.find_caches(settings.caches)
    units = [unit for unit, _holder in caches.units(found, scan_open_files())]
    steps = [
        Delete(target=cache, reason="", root=found.path, units=chunk)
        for chunk in chunks(units, 10**15)
    ]
    spent = 0.0
    remove = delete.remove_all

    def timed(*arguments: Any) -> None:
        nonlocal spent
        begun = time.perf_counter()
        remove(*arguments)
        spent += time.perf_counter() - begun

    delete.remove_all = timed  # type: ignore[assignment]
    gate = carry_out(steps, settings, os.path.join(home, "state"))
    assert not os.listdir(cache)
    print(f'{{"gate": {gate}, "core": {spent}}}')


def quarantine_tree(home: str, state: str) -> None:
    """Set one folder aside."""
    from pathlib import Path

    from miyabi_healing.model.config import CacheSettings, Config, LogSettings
    from miyabi_healing.model.steps import Quarantine

    thing = Path(home, "thing")
    step = Quarantine(target="", reason="", path=thing, identity=identity_at(thing))
    spent = carry_out(
        [step],
        Config(caches=CacheSettings(homes=(home,)), logs=LogSettings(patterns=(f"{home}/*.log",))),
        state,
    )
    print(f'{{"gate": {spent}}}')


def quarantine_many(home: str, state: str, journal: str) -> None:
    """Set many files aside, each a step of its own."""
    from pathlib import Path

    from miyabi_healing.model.config import CacheSettings, Config, LogSettings
    from miyabi_healing.model.steps import Quarantine

    things = sorted(Path(home).iterdir())
    steps = [
        Quarantine(target=str(each), reason="many", path=each, identity=identity_at(each))
        for each in things
    ]
    carry_out(
        steps,
        Config(caches=CacheSettings(homes=(home,)), logs=LogSettings(patterns=(f"{home}/*.log",))),
        state,
        journal == "journal",
    )


def roll_back(repository: str, state: str) -> None:
    """Give back what was taken."""
    from pathlib import Path

    from miyabi_healing.gate import rollback
    from miyabi_healing.gate.primitives.context import Context
    from miyabi_healing.gate.primitives.roots import allowed
    from miyabi_healing.host.readings import Host
    from miyabi_healing.model.config import Config, GitSettings
    from miyabi_healing.state.store import JournalKeeper

    config = Config(git=GitSettings(repos=(repository,)))
    keeper = JournalKeeper(Path(state), print)
    context = Context(Host(config), "later", Path(state), allowed(config))
    rows = rollback.choose(Path(state), keeper.journal, "bench")
    rollback.carry_out_rollback(rows, context, keeper.journal)
    keeper.close()


def watch(program: str, count: str) -> None:
    """Let watch mode make so many runs; what each costs, what grows with them, and what they
    leave.
    """
    import json
    import os
    import signal
    import subprocess
    import tempfile
    from pathlib import Path

    import psutil

    def state() -> tuple[float, int, int, int, int, int]:
        """CPU seconds of the watch and all below it; memory of the watch and of what keeps its
        checks; what it has.
        """
        (keeper,) = parent.children()
        cost = sum(sum(each.cpu_times()[:4]) for each in (parent, keeper))
        left = len(list(Path(folder).iterdir()))
        return (
            cost,
            parent.memory_info().rss,
            keeper.memory_info().rss,
            parent.num_fds(),
            parent.num_threads(),
            left,
        )

    first = 20  # runs that only warm things up
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "TMPDIR": folder}
        command = [program, "--watch", "--interval", "0", "--json"]
        started = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
        assert started.stdout is not None
        for number in range(first + int(count) + 1):
            report = json.loads(started.stdout.readline())
            assert not report["errors"], report
            assert len(report["metrics"]) >= 7, report
            if number == first:
                parent = psutil.Process(started.pid)
                before = state()
        after = state()
        zombies = sum(
            each.status() == psutil.STATUS_ZOMBIE for each in parent.children(recursive=True)
        )
        started.send_signal(signal.SIGTERM)
        started.communicate()
    spent, grown, keeper, descriptors, threads, temporary = (
        late - early for late, early in zip(after, before, strict=True)
    )
    journal = (
        (Path(os.environ["HOME"]) / ".local/state/miyabi-healing/journal.sqlite3").stat().st_size
    )
    print(
        json.dumps(
            {
                "each": spent / int(count),
                "grown": grown,
                "keeper": keeper,
                "descriptors": descriptors,
                "threads": threads,
                "zombies": zombies,
                "temporary": temporary,
                "journal": journal,
            }
        )
    )


def repeat(script: str, count: str) -> None:
    """Run a script so many times; what each run costs."""
    import json
    import resource
    import subprocess

    for _ in range(int(count)):
        subprocess.run(["/bin/sh", script], stdout=subprocess.DEVNULL, check=True)
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(json.dumps({"each": (usage.ru_utime + usage.ru_stime) / int(count)}))


def monit(program: str, settings: str, counter: str, count: str) -> None:
    """Let monit go round so many times, one of its scripts adding a byte to `counter` each time;
    what each round costs.
    """
    import json
    import subprocess
    import time
    from pathlib import Path

    import psutil

    def rounds() -> int:
        return Path(counter).stat().st_size

    def cost() -> float:
        return sum(daemon.cpu_times()[:4])

    Path(counter).write_bytes(b"")
    started = subprocess.Popen(
        [program, "-I", "-c", settings], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    daemon = psutil.Process(started.pid)
    try:
        while rounds() < 3:
            time.sleep(0.1)
        first, before = rounds(), cost()
        while rounds() < first + int(count):
            time.sleep(0.1)
        spent, done = cost() - before, rounds() - first
    finally:
        started.terminate()
        started.wait()
    print(json.dumps({"each": spent / done}))


def shorten(log: str, state: str, archive: bool) -> None:
    """Trim a log to its last thousand lines, through the gate; how long it takes to find the cut,
    punch and collapse.

    `more` is by how much that raised the peak of memory, in bytes.
    """
    import resource
    import sys
    import time
    from pathlib import Path

    from miyabi_healing.gate.handlers import log_files
    from miyabi_healing.model.config import Config, LogSettings
    from miyabi_healing.model.steps import CutLog, TrimLog

    path = Path(log)
    spent, more = 0.0, 0

    def peak() -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
            1 if sys.platform == "darwin" else 1024
        )

    def timed(work: Any) -> Any:
        def measured(*arguments: Any) -> Any:
            nonlocal spent, more
            begun, before = time.perf_counter(), peak()
            try:
                return work(*arguments)
            finally:
                spent, more = spent + time.perf_counter() - begun, more + peak() - before

        return measured

    gate_logs: Any = log_files
    for name in ("punch_all", "collapse_to"):
        setattr(gate_logs, name, timed(getattr(gate_logs, name)))
    gate_logs.logs.find_cut = timed(gate_logs.logs.find_cut)
    kind = TrimLog if archive else CutLog
    step = kind(
        target=log,
        reason="",
        path=path,
        identity=identity_at(path),
        keep_lines=1000,
        keep_bytes=10_000_000,
    )
    carry_out([step], Config(logs=LogSettings(patterns=(log,))), state)
    print(f'{{"core": {spent}, "more": {more}}}')


def archive_many(folder: str, state: str, files: str) -> None:
    """Find the small logs of a folder, plan what to do about them, and archive them all."""
    import os
    from types import SimpleNamespace

    from healers.prune_logs import Options, prune_logs
    from miyabi_healing.host.context import HealerContext
    from miyabi_healing.host.readings import Host
    from miyabi_healing.model.config import Budgets, Config, LogSettings

    pattern = f"{folder}/*.txt"
    settings = Config(logs=LogSettings(patterns=(pattern,)), budgets=Budgets(files=10**9))
    host = Host(settings)
    context = HealerContext(host, {"group": host.log_group(pattern)})
    issue: Any = SimpleNamespace(limit=SimpleNamespace(clear=0))
    plan = prune_logs(context, issue, Options(archive_after_days=0))
    lots: Any = plan.steps
    assert sum(len(step.files) for step in lots) == int(files)
    gate = carry_out(plan.steps, settings, state)
    assert not os.listdir(folder)
    print(f'{{"gate": {gate}}}')


def cut_log(log: str, state: str) -> None:
    """The same without an archive."""
    shorten(log, state, False)


def trim_log(log: str, state: str) -> None:
    """The same with one."""
    shorten(log, state, True)


def look_at_space(path: str) -> None:
    """Look at all that is in a folder, as the ``space`` command does."""
    import time

    from miyabi_healing.host.space.look import look_at
    from miyabi_healing.host.space.places import Places
    from miyabi_healing.model.config import CacheSettings

    begun = time.perf_counter()
    found = look_at(path, Places(CacheSettings()), lambda told: None)
    assert not found.tree.at_least, found
    print(f'{{"core": {time.perf_counter() - begun}, "bytes": {found.tree.bytes}}}')


def glance_at_space(path: str) -> None:
    """Glance at a folder, as a healing run does; how many of the five largest folders that a whole
    look names it misses.
    """
    import time

    from miyabi_healing.host.space.folder_tree import by_bytes
    from miyabi_healing.host.space.glance import Glance
    from miyabi_healing.host.space.largest import largest_rows
    from miyabi_healing.host.space.look import look_at
    from miyabi_healing.host.space.places import Places
    from miyabi_healing.model.config import CacheSettings

    begun = time.process_time()
    places = Places(CacheSettings())
    seen = largest_rows(Glance(path, places, weigh=True).tree, places, (), by_bytes)
    taken = time.process_time() - begun
    true = largest_rows(look_at(path, places, lambda told: None).tree, places, (), by_bytes)
    missed = {row.path for row in true[:5]} - {row.path for row in seen}
    print(f'{{"glance": {taken}, "missed": {len(missed)}}}')


def make_page(state: str) -> None:
    """Make the page of a state folder; how large it is."""
    from pathlib import Path

    from miyabi_healing.model.config import Config
    from miyabi_healing.report.page.making import make_page

    words = make_page(Path(state), Config())
    print(f'{{"kilobytes": {len(words.encode()) / 1e3}}}')


# Where it writes, and how much: new files, a file without a name, one in place.
_GROWTH = (
    ("cache", "home/.cache/huggingface/hub", 75_000_000),
    ("deleted", "deleted", 50_000_000),
    ("log", "logs/app.log", 33_000_000),
)
_GROWING = """
import os, sys
kind, where, size = sys.argv[1], sys.argv[2], int(sys.argv[3]) // 40
if kind == "deleted":
    file = open(where, "wb", buffering=0)
    os.unlink(where)
elif kind == "log":
    file = open(where, "ab", buffering=0)
print(flush=True)
sys.stdin.readline()
for number in range(40):
    if kind == "cache":
        os.makedirs(f"{where}/{os.getpid()}", exist_ok=True)
        open(f"{where}/{os.getpid()}/{number}", "wb").write(os.urandom(size))
    else:
        file.write(os.urandom(size))
print(flush=True)
sys.stdin.readline()
"""


def look_at_growth(disk: str) -> None:
    """Look at a filesystem before and after three processes have written to it: what the looks
    cost, and how far their shares are from the truth, in points.
    """
    import subprocess
    import sys
    import time

    from miyabi_healing.host.look import mount_look
    from miyabi_healing.host.look.bound import Bound
    from miyabi_healing.model.config import CacheSettings, Config
    from miyabi_healing.report.shares import mount_growth

    config = Config(caches=CacheSettings(homes=(f"{disk}/home",)))
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", _GROWING, kind, f"{disk}/{where}", str(size)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for kind, where, size in _GROWTH
    ]

    def each(word: bytes) -> None:
        for writer in writers:
            assert writer.stdin
            assert writer.stdout
            if word:
                writer.stdin.write(word)
                writer.stdin.flush()
            writer.stdout.readline()

    each(b"")
    begun = time.process_time()
    before = mount_look.look_at_mount(disk, config, None, Bound())
    before = mount_look.for_the_record(before, None)
    first = time.process_time() - begun
    each(b"go\n")
    begun = time.process_time()
    found = mount_growth(before, mount_look.look_at_mount(disk, config, before, Bound()))
    second = time.process_time() - begun
    for writer in writers:
        writer.communicate(b"end\n")
    whole = sum(size for _, _, size in _GROWTH)
    error = max(
        abs(
            sum(part.bytes for part in found.parts if part.path.startswith(f"{disk}/{where}"))
            / found.total
            - size / whole
        )
        for _, where, size in _GROWTH
    )
    rest = abs(found.unexplained)
    figures = f'"error": {100 * error}, "rest": {100 * rest}'
    print(f'{{"first": {first}, "second": {second}, {figures}}}')


def explain_lock(repository: str, group: str) -> None:
    """Have the kernel end a git for want of memory, and explain the lock that it leaves."""
    import subprocess
    import time
    from pathlib import Path

    from miyabi_healing.host.git.repositories import open_repository
    from miyabi_healing.host.look.kills import read_kills
    from miyabi_healing.model.config import Config
    from miyabi_healing.runner.simple_reasons import of_locks

    subprocess.run(["git", "init", "-q", repository], check=True)
    # to change the ends of lines, git has to have all of it in memory
    Path(repository, "big").write_bytes(b"words, and more of them\r\n" * 3_000_000)
    git = ["git", "-C", repository, "-c", "core.autocrlf=input", "add", "big"]
    script = 'echo $$ > "$1"/cgroup.procs; shift; exec "$@"'
    done = subprocess.Popen(["sh", "-c", script, "sh", group, *git], stderr=subprocess.DEVNULL)
    assert done.wait() == -9, "the kernel has not ended it"
    begun = time.process_time()
    locks = open_repository(repository, Config()).folders.locks()
    found = [each for each in of_locks(locks, read_kills()) if each.pid == done.pid]
    taken = time.process_time() - begun
    print(f'{{"explain": {taken}, "unsaid": {len(locks) - len(found)}}}')
