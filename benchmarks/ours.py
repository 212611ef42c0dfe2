"""What is measured of ours, a function each, called in an interpreter of its own; what it imports is part of its cost."""

from __future__ import annotations

from typing import Any


def find_logs(pattern: str, megabytes: str, mark: str) -> None:
    """Print the logs that are large, or that nothing has happened to since `mark` was written."""
    import os
    import time

    from miyabi_healing.host import logs

    begun = time.process_time()
    size, since = float(megabytes) * 1e6, os.stat(mark).st_mtime
    found = [file for file in logs.read(pattern).files if file.size > size or file.last <= since]
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


def count_worktrees(repository: str, expected: str) -> None:
    """Count a repository's worktrees."""
    import time

    from miyabi_healing.config import Config
    from miyabi_healing.host import git

    begun = time.process_time()
    found = git.repository(repository, Config()).worktree_count
    assert found == int(expected), found
    print(f'{{"core": {time.process_time() - begun}}}')


def merged_branches(repository: str, expected: str) -> None:
    """Tell which branches are merged, and count the git processes that it takes."""
    from miyabi_healing import tools
    from miyabi_healing.config import Config
    from miyabi_healing.host import git
    from miyabi_healing.host.worktrees import Survey

    runs = []
    ask = tools.ask

    def counted(*arguments: Any, **options: Any) -> tools.Result:
        runs.append(arguments)
        return ask(*arguments, **options)

    tools.ask = counted
    survey = Survey(git.repository(repository, Config()))
    found = survey.merged_among(name for name in survey.refs if name.startswith("refs/heads/topic"))
    assert len(found) == int(expected), len(found)
    print(f'{{"processes": {len(runs)}}}')


def dirty_worktrees(repository: str) -> None:
    """Tell which worktrees are not clean."""
    from miyabi_healing.config import Config
    from miyabi_healing.host import git
    from miyabi_healing.host.worktrees import Survey, side_by_side

    place = git.repository(repository, Config())
    trees = place.worktrees()
    for tree, reason in zip(trees, side_by_side(Survey(place).by_the_content, trees), strict=True):
        if reason:
            print(tree, reason)


def retire_worktrees(repository: str, state: str, expected: str) -> None:
    """Find the merged worktrees and take them away, through the gate."""
    import time
    from pathlib import Path

    from healers.cleanup_worktrees import Options, cleanup_worktrees
    from miyabi_healing import gate
    from miyabi_healing.config import Budgets, Config, Git, HealerSettings
    from miyabi_healing.gate.brakes import Brakes, Spent
    from miyabi_healing.gate.roots import allowed
    from miyabi_healing.gate.verbs import Context
    from miyabi_healing.host import Host
    from miyabi_healing.issue import Issue, Limit
    from miyabi_healing.plan import Outcome
    from miyabi_healing.safekeeping import Keeper
    from miyabi_healing.view import View

    config = Config(git=Git(repos=(repository,)), budgets=Budgets(worktrees=100_000))
    host = Host(config)
    issue = Issue("excessive_worktrees", repository, "", 200, Limit(0))
    plan = cleanup_worktrees(View(host, {"repository": host.repository(repository)}), issue, Options(idle_days=0))
    begun = time.perf_counter()
    outcomes: list[Outcome] = []
    keeper = Keeper(Path(state), print)
    context = Context(host, "bench", Path(state), allowed(config))
    brakes = Brakes(config, keeper.journal, Spent(config.budgets))
    work = gate.Work("cleanup_worktrees", issue, HealerSettings(), context, keeper.journal, brakes)
    gate.carry_out(plan, work, outcomes)
    keeper.close()
    done = [each for each in outcomes if each.status == "applied"]
    assert len(done) == int(expected), (len(done), [each.message for each in outcomes if each.message][:3], plan.kept[:3])
    print(f'{{"gate": {time.perf_counter() - begun}}}')


def roll_back(repository: str, state: str) -> None:
    """Give back what was taken."""
    from pathlib import Path

    from miyabi_healing import rollback
    from miyabi_healing.config import Config, Git
    from miyabi_healing.gate.roots import allowed
    from miyabi_healing.gate.verbs import Context
    from miyabi_healing.host import Host
    from miyabi_healing.safekeeping import Keeper

    config = Config(git=Git(repos=(repository,)))
    keeper = Keeper(Path(state), print)
    context = Context(Host(config), "later", Path(state), allowed(config))
    rows = rollback.choose(Path(state), keeper.journal, "bench", None)
    rollback.carry_out(rows, context, keeper.journal)
    keeper.close()
