"""The pytest plugin: a failed check is healed on teardown, while its fixtures live, and then run
again.

Only the run after the repair decides; it is the one that is reported, so that the terminal, JUnit
XML, the JSON report and the exit status agree. Nothing is ever repaired unless it was asked for:
see `disarmed`.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import pytest

# private; pytest-rerunfailures has relied on it from pytest 8.2 on
from _pytest.runner import runtestprotocol

from miyabi_healing.host.git.repositories import NoRepository
from miyabi_healing.host.readings import Host
from miyabi_healing.model.config import Config, ConfigError
from miyabi_healing.model.issue import Issue
from miyabi_healing.model.results import ActionResult, CheckResult
from miyabi_healing.runner import fixtures, registry
from miyabi_healing.runner.fixtures import HOST, LIMITS, issue_name, limit_of
from miyabi_healing.runner.healing import Healing
from miyabi_healing.state import run_lock
from miyabi_healing.state.run_clock import Moment
from miyabi_healing.support import paths
from miyabi_healing.support.config_loader import load, nearest
from miyabi_healing.support.formatting import display
from miyabi_healing.support.mount_answers import NoAnswer
from miyabi_healing.support.paths import new_run_id

host = fixtures.host
mount = fixtures.mount
repository = fixtures.repository
log_group = fixtures.log_group
processes = fixtures.processes
memory = fixtures.memory
limit = fixtures.limit
measure = fixtures.measure


@dataclass(eq=False)  # pytest keeps plugins in a set
class Launch:
    """How a pass is started from our own command line, handed over as a plugin object.

    `collected` is called when the checks are collected, with whether all could be, and may return
    more than once, in a fork each time (watch mode).
    """

    config: Config
    progress: Callable[[str], None]
    dry_run: bool
    more_checks: tuple[str, ...] = ()
    watching: bool = False
    collected: Callable[[bool], None] = lambda whole: None
    records: dict[str, CheckResult] = field(default_factory=dict)
    healing: Healing | None = None


ROOM = 1 << 20  # bytes
RECORDS = pytest.StashKey[dict[str, CheckResult]]()
REPORTS = pytest.StashKey[list[pytest.TestReport]]()
HEALING = pytest.StashKey[Healing]()
REHEARSAL = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("healing", "Miyabi Healing")
    group.addoption(
        "--dry-run",
        action="store_true",
        help="show what would be done about failing checks; change nothing",
    )
    group.addoption("--healing-config", metavar="FILE", help="configuration file (TOML)")
    group.addoption(
        "--checks", metavar="DIR", action="append", default=[], help="a further folder with checks"
    )


def disarmed(config: pytest.Config, folders: Iterable[Path]) -> str | None:
    """Why this session repairs nothing; None where it may.

    A repair has to be asked for: every path on the command line lies in a folder with checks, and
    neither a debugger nor an outer test run is at work. A bare ``pytest``, ``pytest .`` or an IDE's
    test run never repairs.
    """
    if config.args_source is not pytest.Config.ArgsSource.ARGS:
        return "no checks folder was named"
    tops = tuple(folders)
    for path in named(config):
        if not any(path.is_relative_to(top) for top in tops):
            return f"{display(path)} is not in a checks folder"
    if getattr(config.option, "usepdb", False):  # a pass of our own leaves the debugger out
        return "a debugger was asked for (--pdb)"
    if "PYTEST_CURRENT_TEST" in os.environ:
        return "it runs inside another test (PYTEST_CURRENT_TEST is set)"
    if hasattr(config, "workerinput") or getattr(config.option, "numprocesses", None):
        return "parallel workers would repair at the same time (-n)"
    return None


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "heal(*names, after=(), gate=(1, 1)): healers to try in order; checks whose repair may spare this one; "
        "in how many of how many passes it must fail before watch mode acts",
    )
    config.addinivalue_line(
        "markers",
        "limit(threshold, severity, unit, clear, low, medium, high, critical): what a check allows",
    )
    launch = launch_of(config)
    try:
        ours = registry.Folders((registry.builtin("checks"),), (registry.builtin("healers"),))
        if not launch and not config.option.checks and not touches(config, ours.checks):
            return  # somebody else's tests: not even the configuration is read
        settings = launch.config if launch else load(config.option.healing_config)
        folders = registry.folders(
            settings, launch.more_checks if launch else tuple(config.option.checks)
        )
        registry.validate(settings, folders)
        fixtures.validate(settings)
    except ConfigError as error:
        raise pytest.UsageError(str(error)) from None
    if config.option.assertmode == "plain":
        raise pytest.UsageError(
            "--assert=plain: checks could not fail under python -O; leave it out"
        )
    config.stash[RECORDS] = launch.records if launch else {}
    config.stash[HOST] = Host(settings)
    config.stash[HEALING] = Healing(
        settings,
        folders,
        run_id=new_run_id(),
        state=paths.state_folder(),
        dry_run=launch.dry_run if launch else config.option.dry_run,
        blocked=disarmed(config, folders.checks) or "",
        progress=launch.progress if launch else lambda text: None,
        watching=bool(launch and launch.watching),
    )
    if note := paths.note_on_home():
        config.stash[HEALING].notes.append(note)
    if launch:
        launch.healing = config.stash[HEALING]
    elif config.pluginmanager.has_plugin("pytest_jsonreport") and not config.option.json_report:
        # what our own report is made of
        config.option.json_report, config.option.json_report_file = True, None


def launch_of(config: pytest.Config) -> Launch | None:
    """How our own command line started this session; None for plain pytest."""
    return next(
        (each for each in config.pluginmanager.get_plugins() if isinstance(each, Launch)), None
    )


def named(config: pytest.Config) -> list[Path]:
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
        for path in named(config)
        for top in folders
    )


def pytest_sessionstart(session: pytest.Session) -> None:
    healing = session.config.stash.get(HEALING, None)
    if healing is None:
        return
    session.config.add_cleanup(healing.close)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    """Begin a pass: from here on, what is looked at is looked at afresh."""
    healing = session.config.stash.get(HEALING, None)
    if healing is None or session.config.option.collectonly:
        return
    if launch := launch_of(session.config):
        if launch.watching and len(healing.folders.checks) == 1:
            rehearse(session)
        launch.collected(not session.testsfailed)
    healing.begin(new_run_id())
    if not healing.looks_only:
        take_lock(session, healing)
    healing.recover()
    for item in session.items:
        if is_check(item, healing):
            waive(item, healing)
    if make_room_first(healing):
        session.items.sort(key=lambda item: "mount" not in getattr(item, "fixturenames", ()))


def rehearse(session: pytest.Session) -> None:
    """Run our own checks once and forget what they say: what they need is then at hand in every
    fork, and not made in each.
    """
    session.stash[REHEARSAL] = True
    for item, following in zip(session.items, [*session.items[1:], None], strict=True):
        item.ihook.pytest_runtest_protocol(item=item, nextitem=following)
    del session.stash[REHEARSAL]


def take_lock(session: pytest.Session, healing: Healing) -> None:
    """Keep every other pass out until this one has ended; where that cannot be, change nothing."""
    try:
        descriptor = run_lock.acquire(healing.state)
    except run_lock.Busy as busy:
        pytest.exit(str(busy), returncode=75)
    except OSError as error:
        healing.blocked = (
            f"the state folder {display(healing.state)} cannot be written: {error.strerror}"
        )
        return
    session.config.add_cleanup(partial(run_lock.release, descriptor))


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    healing = session.config.stash.get(HEALING, None)
    if healing is not None and exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        healing.finish(session.config.stash[RECORDS].values())


class OnTheWay(pytest.Directory):
    """A folder above one with checks. Nothing else in it is looked at, as pytest would at every
    entry: it may not answer.
    """

    def collect(self) -> Iterator[pytest.Collector]:
        tops = self.config.stash[HEALING].folders.checks
        names = {top.relative_to(self.path).parts[0] for top in tops if self.path in top.parents}
        for name in sorted(names):
            found = self.ihook.pytest_collect_directory(path=self.path / name, parent=self)
            if found is not None:
                yield found


@pytest.hookimpl(tryfirst=True)
def pytest_collect_directory(path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    healing = parent.config.stash.get(HEALING, None)
    if healing is None or not launch_of(parent.config):
        return None
    if any(path.is_relative_to(top) for top in healing.folders.checks):
        return None
    found: pytest.Collector = OnTheWay.from_parent(parent, path=path)
    return found


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    healing = metafunc.config.stash.get(HEALING, None)
    if healing is not None and is_check(metafunc.definition, healing):
        fixtures.parametrize(metafunc, healing.config, healing.notes)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give every check its limit, leave out the disabled ones, and put causes before consequences."""
    healing = config.stash.get(HEALING, None)
    if healing is None:
        return
    for item in items:
        if not is_check(item, healing):
            continue
        item.stash[LIMITS] = limit_of(item, healing.config)
        for healer in healers_of(item):
            if healer not in healing.files:
                hint = nearest(healer, healing.files)
                raise pytest.UsageError(
                    f"{item.nodeid}: no healer {healer!r} in the healers folders; {hint}"
                )
        if not healing.config.check(issue_name(item)).enabled:
            item.add_marker(pytest.mark.skip(reason=f"switched off in {healing.config.source}"))
    after = {issue_name(item): causes_of(item) for item in items if is_check(item, healing)}
    items.sort(key=lambda item: depth(issue_name(item), after, ()))


def make_room_first(healing: Healing) -> bool:
    """Whether disks come before everything else: without space to write in, nothing else can be
    repaired.
    """
    try:
        space = os.statvfs(paths.existing(healing.state))
    except OSError:
        return False
    return space.f_bavail * space.f_frsize < ROOM


def waive(item: pytest.Item, healing: Healing) -> None:
    """Let a check fail that is put up with for the time being: it is measured and reported, but no
    issue and not healed.
    """
    waiver = healing.config.waivers.get(issue_name(item))
    if waiver is None or waiver.target not in ("", target_of(item)):
        return
    now = healing.moment()
    if min(now.wall, now.believed) > waiver.end:
        healing.notes.append(
            f"the waiver of {issue_name(item)} has expired ({waiver.until}): {waiver.reason}"
        )
        return
    if (now.wall > waiver.end) != (now.believed > waiver.end):
        healing.notes.append(in_doubt(now, issue_name(item)))
    reason = f"waived until {waiver.until}: {waiver.reason}"
    item.add_marker(pytest.mark.xfail(raises=AssertionError, reason=reason, strict=False))


def in_doubt(now: Moment, name: str) -> str:
    """That a waiver lasts longer because the wall clock cannot be believed, where that is so."""
    days = f"{abs(now.doubt) / 86_400:.0f} days"
    if now.doubt > 0:
        return f"the wall clock is {days} ahead of what runs have seen: it ends the waiver of {name} once that has lasted a day"
    return f"the wall clock is {days} behind what runs have seen: the waiver of {name} lasts until it is right"


def is_check(item: pytest.Item, healing: Healing) -> bool:
    return any(item.path.is_relative_to(folder) for folder in healing.folders.checks)


def healers_of(item: pytest.Item) -> list[str]:
    return [name for mark in item.iter_markers("heal") for name in mark.args]


def gate_of(item: pytest.Item) -> tuple[int, int]:
    """In how many of how many passes an issue must be found before watch mode acts."""
    return next(
        (mark.kwargs["gate"] for mark in item.iter_markers("heal") if "gate" in mark.kwargs), (1, 1)
    )


def causes_of(item: pytest.Item) -> set[str]:
    return {name for mark in item.iter_markers("heal") for name in mark.kwargs.get("after", ())}


def depth(name: str, after: dict[str, set[str]], above: tuple[str, ...]) -> int:
    """How many checks have to come before this one. Raises UsageError where checks wait for each
    other.
    """
    if name in above:
        raise pytest.UsageError(
            f"these checks each want to come after the other: {', '.join((*above, name))}"
        )
    return 1 + max(
        (depth(cause, after, (*above, name)) for cause in after.get(name, ())), default=-1
    )


def pending(item: pytest.Item) -> str | None:
    """The next healer this check may call; None when it may call none."""
    record = item.config.stash[RECORDS][item.nodeid]
    names = healers_of(item)
    tried = len(record.actions)
    healing = item.config.stash[HEALING]
    if tried and (healing.dry_run or healing.blocked):
        return None
    return names[tried] if tried < len(names) else None


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Run a check, its healers one after the other while it fails, and the check again after each."""
    healing = item.config.stash.get(HEALING, None)
    if healing is None or not is_check(item, healing):
        return None
    if REHEARSAL in item.session.stash:
        runtestprotocol(item, log=False, nextitem=nextitem)
        return True
    record = CheckResult(issue_name(item), target_of(item), item.stash[LIMITS])
    item.config.stash[RECORDS][item.nodeid] = record
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    reports: list[pytest.TestReport] = []
    try:
        while True:
            tried = len(record.actions)
            item.stash[REPORTS] = []
            item.user_properties.clear()
            with no_exit():
                runtestprotocol(item, log=False, nextitem=nextitem)
            # nothing was changed in this teardown
            if len(record.actions) == tried or healing.dry_run or healing.blocked:
                break
            reports = item.stash[REPORTS]
    finally:  # also on Ctrl-C: what was seen so far must reach the reports
        last = item.stash[REPORTS]
        del item.stash[REPORTS]
        # it could not be verified: the detection stands
        if not any(report.when == "call" for report in last):
            last, reports = reports, last
        for report in [each for each in reports if each.failed and each.when != "call"] + last:
            item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


class EndedItself(Exception):
    """A check or healer tried to end the whole program (os._exit); it is an error of its own, and
    the others run.
    """


@contextlib.contextmanager
def no_exit() -> Iterator[None]:
    """Let a check or healer end a child that it has made, but not the run."""
    real, ours = os._exit, os.getpid()

    def end(status: int) -> NoReturn:
        if os.getpid() != ours:
            real(status)
        raise EndedItself(f"it called os._exit({status})")

    os._exit = end
    try:
        yield
    finally:
        os._exit = real


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if REPORTS not in item.stash:
        return report
    item.stash[REPORTS].append(report)
    record = item.config.stash[RECORDS][item.nodeid]
    if record.actions and report.passed:
        report.healed_by = [action.healer for action in record.actions]  # type: ignore[attr-defined]
    if call.when == "call":
        judge(item, call, record)
    elif report.failed and call.excinfo:
        known = isinstance(call.excinfo.value, (NoRepository, NoAnswer, ConfigError))
        record.error = (
            str(call.excinfo.value)
            if known
            else f"{call.excinfo.typename} in {call.when}: {call.excinfo.value}"
        )
    return report


def judge(item: pytest.Item, call: pytest.CallInfo[None], record: CheckResult) -> None:
    """Note what a run of the check says, and order a repair where it found something."""
    measured = [
        value
        for name, value in item.user_properties
        if name == "measured" and isinstance(value, dict)
    ]
    record.measured = measured[-1] if measured else None
    value = measured[-1]["value"] if measured else 0.0
    action = record.actions[-1] if record.actions else None
    if action and not item.config.stash[HEALING].dry_run:
        action.passed, action.value_after = call.excinfo is None, value
    if call.excinfo is None or call.excinfo.errisinstance(pytest.skip.Exception):
        return
    if not call.excinfo.errisinstance(AssertionError):
        record.error = f"{call.excinfo.typename}: {call.excinfo.value}"
        return
    if waived := item.get_closest_marker("xfail"):
        record.waived = str(waived.kwargs["reason"])
        return
    if record.issue is None:
        description = (
            measured[-1]["description"] if measured else str(call.excinfo.value).splitlines()[0]
        )
        record.issue = Issue(
            record.name, record.target, description, value, record.limit, gate_of(item)
        )
    if name := pending(item):
        # Finalizers run last in, first out: this is the first thing teardown does, while the
        # check's fixtures live.
        item.addfinalizer(partial(heal, item, name, record))


def heal(item: pytest.Item, name: str, record: CheckResult) -> None:
    if REPORTS not in item.stash or record.issue is None:
        return  # pytest.exit or Ctrl-C came first; this is only the session's cleanup
    values: dict[str, object] = dict(getattr(item, "funcargs", {}))
    record.actions.append(ActionResult(name, record.issue))
    item.config.stash[HEALING].run(record.actions[-1], values)


def target_of(item: pytest.Item) -> str:
    """What a parametrised check looked at; empty for the host as a whole."""
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    return next((display(value) for value in parameters.values()), "")


def pytest_report_teststatus(
    report: pytest.TestReport,
) -> tuple[str, str, tuple[str, dict[str, bool]]] | None:
    if report.when == "call" and report.passed and getattr(report, "healed_by", None):
        return "healed", "H", ("HEALED", {"green": True})
    return None


def pytest_report_header(config: pytest.Config) -> str | None:
    healing = config.stash.get(HEALING, None)
    if healing is None:
        return None
    mode = (
        "dry run"
        if healing.dry_run
        else f"repairs nothing: {healing.blocked}"
        if healing.blocked
        else "armed"
    )
    return f"miyabi healing: {mode}"


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """With plain ``pytest checks/``, print the same report as the command does."""
    plugin = getattr(config, "_json_report", None)
    if launch_of(config) or plugin is None or plugin.report is None or HEALING not in config.stash:
        return
    from miyabi_healing.report import documents, text

    records = config.stash[RECORDS]
    document = documents.build(plugin.report, records, config.stash[HEALING])
    terminalreporter.write_line("")
    terminalreporter.write(text.render(document, sys.stdout.isatty()))
