"""What a session has to do with: whether it may repair, which of its tests are checks, what their
marks say, and in which order they go.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from miyabi_healing.model.config import Config
from miyabi_healing.model.results import CheckResult
from miyabi_healing.runner.fixtures import LIMITS, issue_name, limit_of
from miyabi_healing.runner.resources import Resources
from miyabi_healing.support import paths
from miyabi_healing.support.config_loader import nearest
from miyabi_healing.support.formatting import display

if TYPE_CHECKING:
    from miyabi_healing.model.fleet import FleetOrder
    from miyabi_healing.report.document_types import Document
    from miyabi_healing.runner.choosing import Chosen

_JOURNAL_NEEDS = 1 << 20  # bytes that the journal and what is set aside need

# What a session keeps with pytest, and a check while it runs.
RECORDS = pytest.StashKey[dict[str, CheckResult]]()
REPORTS = pytest.StashKey[list[pytest.TestReport]]()
RESOURCES = pytest.StashKey[Resources]()


@dataclass(eq=False)  # pytest keeps plugins in a set
class Launch:
    """How a run is started from our own command line, handed over as a plugin object.

    `chosen` are the checks to run where not all are. `collected` is called when the checks are
    collected, with whether all could be, and may return more than once, in a fork each time (watch
    mode).
    """

    config: Config
    progress: Callable[[str], None]
    dry_run: bool
    more_checks: tuple[str, ...] = ()
    watching: bool = False
    collected: Callable[[bool], None] = lambda whole: None
    chosen: Chosen | None = None
    fleet: FleetOrder | None = None
    records: dict[str, CheckResult] = field(default_factory=dict)
    resources: Resources | None = None
    again: Document | None = None  # the report of a run that a fleet asked for before
    superseded_by: int | None = None  # the higher token that this host was asked with before

    def leaves_out(self, item: pytest.Item) -> bool:
        """Whether a check was not asked for."""
        return self.chosen is not None and issue_name(item) not in self.chosen.names


def disarmed(config: pytest.Config, folders: Iterable[Path]) -> str | None:
    """Why this session repairs nothing; None where it may.

    A repair has to be asked for: every path on the command line lies in a folder with checks, and
    neither a debugger nor an outer test run is at work. A bare ``pytest``, ``pytest .`` or an IDE's
    test run never repairs.
    """
    if config.args_source is not pytest.Config.ArgsSource.ARGS:
        return "no checks folder was named"
    tops = tuple(folders)
    for path in _named(config):
        if not any(path.is_relative_to(top) for top in tops):
            return f"{display(path)} is not in a checks folder"
    if getattr(config.option, "usepdb", False):  # a run of our own leaves the debugger out
        return "a debugger was asked for (--pdb)"
    if "PYTEST_CURRENT_TEST" in os.environ:
        return "it runs inside another test (PYTEST_CURRENT_TEST is set)"
    if runs_in_workers(config):
        return "parallel workers would repair at the same time (-n)"
    return None


def runs_in_workers(config: pytest.Config) -> bool:
    """Whether other processes run the tests for this session, or this one for another."""
    option = config.option  # -n, or --dist with --tx, of pytest-xdist
    many = getattr(option, "numprocesses", None) or getattr(option, "dist", "no") != "no"
    return bool(many) or hasattr(config, "workerinput")


def launch_of(config: pytest.Config) -> Launch | None:
    """How our own command line started this session; None for plain pytest."""
    return next(
        (each for each in config.pluginmanager.get_plugins() if isinstance(each, Launch)), None
    )


def _named(config: pytest.Config) -> list[Path]:
    """The files and folders that were named on the command line."""
    return [
        (config.invocation_params.dir / str(argument).split("::")[0]).resolve()
        for argument in config.args
    ]


def touches(config: pytest.Config, folders: Iterable[Path]) -> bool:
    """Whether a session has to do with checks at all: a path lies in a checks folder, or around
    one.
    """
    return any(
        path.is_relative_to(top) or top.is_relative_to(path)
        for path in _named(config)
        for top in folders
    )


class OnTheWay(pytest.Directory):
    """A folder above one with checks. Nothing else in it is looked at, as pytest would at every
    entry: it may not answer.
    """

    def collect(self) -> Iterator[pytest.Collector]:
        tops = self.config.stash[RESOURCES].folders.checks
        names = {top.relative_to(self.path).parts[0] for top in tops if self.path in top.parents}
        for name in sorted(names):
            found = self.ihook.pytest_collect_directory(path=self.path / name, parent=self)
            if found is not None:
                yield found


def make_room_first(resources: Resources) -> bool:
    """Whether disks come before everything else: without space to write in, nothing else can be
    repaired.
    """
    try:
        space = os.statvfs(paths.existing(resources.state))
    except OSError:
        return False
    return space.f_bavail * space.f_frsize < _JOURNAL_NEEDS


def is_check(item: pytest.Item, resources: Resources) -> bool:
    """Whether a test lies in a folder of checks."""
    return any(item.path.is_relative_to(folder) for folder in resources.folders.checks)


def healers_of(item: pytest.Item) -> list[str]:
    """The healers of a check, in the order in which they are tried."""
    return [name for mark in item.iter_markers("heal") for name in mark.args]


def gate_of(item: pytest.Item) -> tuple[int, int]:
    """In how many of how many runs an issue must be found before watch mode acts."""
    return next(
        (mark.kwargs["gate"] for mark in item.iter_markers("heal") if "gate" in mark.kwargs), (1, 1)
    )


def _causes_of(item: pytest.Item) -> set[str]:
    """The checks that come before a check, by name."""
    return {name for mark in item.iter_markers("heal") for name in mark.kwargs.get("after", ())}


def prepare(item: pytest.Item, resources: Resources) -> None:
    """Give a check its limit, and leave it out where it is switched off. Raises UsageError for a
    bad mark.
    """
    item.stash[LIMITS] = limit_of(item, resources.config)
    for healer in healers_of(item):
        if healer not in resources.files:
            hint = nearest(healer, resources.files)
            raise pytest.UsageError(
                f"{item.nodeid}: no healer {healer!r} in the healers folders; {hint}"
            )
    if not resources.config.check(issue_name(item)).enabled:
        item.add_marker(pytest.mark.skip(reason=f"switched off in {resources.config.source}"))


def put_causes_first(items: list[pytest.Item], resources: Resources) -> None:
    """Sort checks, so that each comes after those whose repair may spare it. Raises UsageError
    where checks wait for each other.
    """
    after = {issue_name(item): _causes_of(item) for item in items if is_check(item, resources)}
    waiting, depth = TopologicalSorter(after), dict[str, int]()
    try:
        waiting.prepare()
    except CycleError as error:
        names = ", ".join(reversed(error.args[1]))
        raise pytest.UsageError(
            f"these checks each want to come after the other: {names}"
        ) from None
    while ready := waiting.get_ready():
        depth |= dict.fromkeys(ready, len(depth))
        waiting.done(*ready)
    items.sort(key=lambda item: depth.get(issue_name(item), 0))


def target_of(item: pytest.Item) -> str:
    """What a parametrised check looked at; empty for the host as a whole."""
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    return next((display(value) for value in parameters.values()), "")
