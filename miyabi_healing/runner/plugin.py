"""The pytest plugin: a failed check is healed on teardown, while its fixtures live, and then run
again.

Only the run after the repair decides; it is the one that is reported, so that the terminal, JUnit
XML, the JSON report and the exit status agree. Nothing is ever repaired unless it was asked for:
see `disarmed`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Generator, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import pytest

# private; pytest-rerunfailures has relied on it from pytest 8.2 on
from _pytest.runner import runtestprotocol

from miyabi_healing.host.readings import Host
from miyabi_healing.model.config import ConfigError
from miyabi_healing.model.results import CheckResult
from miyabi_healing.runner import fixtures, registry
from miyabi_healing.runner.fixtures import HOST, LIMITS, issue_name
from miyabi_healing.runner.resources import Resources
from miyabi_healing.runner.selection import (
    RECORDS,
    REPORTS,
    RESOURCES,
    OnTheWay,
    disarmed,
    is_check,
    launch_of,
    make_room_first,
    prepare,
    put_causes_first,
    runs_in_workers,
    target_of,
    touches,
)
from miyabi_healing.state import run_lock
from miyabi_healing.support import interrupts, paths
from miyabi_healing.support.config_loader import load_config
from miyabi_healing.support.formatting import display, name_stamp

_OF_COORDINATORS = ("test_coordinator_down.py", "test_orphaned_tasks.py")
_REHEARSAL = pytest.StashKey[bool]()

_logger = logging.getLogger(__name__)


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


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(fixtures)
    config.addinivalue_line(
        "markers",
        "heal(*names, after=(), gate=(1, 1)): healers to try in order; "
        "checks whose repair may spare this one; "
        "in how many of how many runs it must fail before watch mode acts",
    )
    config.addinivalue_line(
        "markers",
        "limit(threshold, severity, unit, clear, opt_in, low, medium, high, critical): "
        "what a check allows; with opt_in, it is off until the configuration has its threshold",
    )
    launch = launch_of(config)
    try:
        ours = registry.Folders((registry.builtin("checks"),), (registry.builtin("healers"),))
        if not launch and not config.option.checks and not touches(config, ours.checks):
            return  # somebody else's tests: not even the configuration is read
        settings = launch.config if launch else load_config(config.option.healing_config)
        folders = registry.checks_folders(
            settings, launch.more_checks if launch else tuple(config.option.checks)
        )
        registry.validate_settings(settings, folders)
        targets = fixtures.Targets(settings)
        targets.validate()
    except ConfigError as error:
        raise pytest.UsageError(str(error)) from None
    if config.option.assertmode == "plain":
        raise pytest.UsageError(
            "--assert=plain: checks could not fail under python -O; leave it out"
        )
    config.stash[RECORDS] = launch.records if launch else {}
    config.stash[HOST] = Host(settings)
    config.stash[fixtures.FOUND] = targets
    config.stash[RESOURCES] = Resources(
        settings,
        folders,
        run_id=name_stamp(),
        state=paths.state_folder(),
        dry_run=launch.dry_run if launch else config.option.dry_run,
        blocked=disarmed(config, folders.checks) or "",
        progress=launch.progress if launch else lambda text: None,
        watching=bool(launch and launch.watching),
        targets=targets,
    )
    if note := paths.note_on_home():
        config.stash[RESOURCES].notes.append(note)
    if launch:
        launch.resources = config.stash[RESOURCES]
        if launch.chosen:
            config.stash[RESOURCES].left_out = launch.chosen.left_out
            config.stash[RESOURCES].notes.extend(launch.chosen.notes)
    elif config.pluginmanager.has_plugin("pytest_jsonreport") and not config.option.json_report:
        # what our own report is made of
        config.option.json_report, config.option.json_report_file = True, None


def pytest_sessionstart(session: pytest.Session) -> None:
    resources = session.config.stash.get(RESOURCES, None)
    if resources is None:
        return
    session.config.add_cleanup(resources.close)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    """Begin a run: from here on, what is looked at is looked at afresh."""
    resources = session.config.stash.get(RESOURCES, None)
    if resources is None or session.config.option.collectonly:
        return
    if launch := launch_of(session.config):
        if launch.watching and len(resources.folders.checks) == 1:
            _rehearse(session)
        launch.collected(not session.testsfailed)
    resources.begin(name_stamp())
    if not resources.looks_only:
        _take_lock(session, resources)
    if launch and launch.fleet:
        from miyabi_healing.runner import fleet

        fleet.admit(launch, launch.fleet, resources)
    resources.recover()
    if resources.config.waivers:
        from miyabi_healing.runner import waivers

        for item in session.items:
            if is_check(item, resources):
                waivers.waive(item, resources)
    if make_room_first(resources):
        session.items.sort(key=lambda item: "mount" not in getattr(item, "fixturenames", ()))


def _rehearse(session: pytest.Session) -> None:
    """Run our own checks once and forget what they say: what they need is then at hand in every
    fork, and not made in each.
    """
    session.stash[_REHEARSAL] = True
    for item, following in zip(session.items, [*session.items[1:], None], strict=True):
        item.ihook.pytest_runtest_protocol(item=item, nextitem=following)
    del session.stash[_REHEARSAL]


def _take_lock(session: pytest.Session, resources: Resources) -> None:
    """Keep every other run out until this one has ended; where that cannot be, change nothing."""
    try:
        descriptor = run_lock.acquire(resources.state)
    except run_lock.Busy as busy:
        pytest.exit(str(busy), returncode=75)
    except OSError as error:
        resources.blocked = (
            f"the state folder {display(resources.state)} cannot be written: {error.strerror}"
        )
        return
    session.config.add_cleanup(partial(run_lock.release, descriptor))


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    resources = session.config.stash.get(RESOURCES, None)
    if resources is None:
        return
    records = session.config.stash[RECORDS].values()
    if not launch_of(session.config):  # with -k, or a file's name, it may have been a part of them
        from miyabi_healing.runner import choosing

        resources.left_out = choosing.left_out_of(
            resources.folders, resources.config, {each.name for each in records}
        )
    if exitstatus == pytest.ExitCode.INTERRUPTED and records:
        with interrupts.held_back():
            resources.remember(records, interrupted=True)
    if exitstatus not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        return
    if any(record.issue for record in records):
        # where no process can be seen at all, the checks that need them say so
        with contextlib.suppress(OSError):
            resources.notes += resources.host.witness().limits()
    resources.remember(records)
    if resources.has_quarantine:
        from miyabi_healing.runner import housekeeping

        housekeeping.look_after_quarantine(resources)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Our checks of coordinators are not even loaded on a host that has none."""
    if collection_path.name not in _OF_COORDINATORS:
        return None
    resources = config.stash.get(RESOURCES, None)
    off = resources is not None and not resources.config.coordinators
    return True if off and collection_path.parent == registry.builtin("checks") else None


@pytest.hookimpl(tryfirst=True)
def pytest_collect_directory(path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    resources = parent.config.stash.get(RESOURCES, None)
    if resources is None or not launch_of(parent.config):
        return None
    if any(path.is_relative_to(top) for top in resources.folders.checks):
        return None
    found: pytest.Collector = OnTheWay.from_parent(parent, path=path)
    return found


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    resources = metafunc.config.stash.get(RESOURCES, None)
    if resources is not None and is_check(metafunc.definition, resources):
        assert resources.targets is not None  # of a session there always are some
        fixtures.parametrize(metafunc, resources.targets, resources.notes)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give every check its limit, leave out the disabled ones, and put causes first."""
    resources = config.stash.get(RESOURCES, None)
    if resources is None:
        return
    launch = launch_of(config)
    left_out = [
        item
        for item in items
        if is_check(item, resources)
        and (fixtures.is_off(item, resources.config) or (launch and launch.leaves_out(item)))
    ]
    items[:] = [item for item in items if item not in left_out]
    for item in items:
        if is_check(item, resources):
            prepare(item, resources)
    put_causes_first(items, resources)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Run a check, its healers in order while it fails, and the check again after each."""
    resources = item.config.stash.get(RESOURCES, None)
    if resources is None or not is_check(item, resources):
        return None
    if _REHEARSAL in item.session.stash:
        runtestprotocol(item, log=False, nextitem=nextitem)
        return True
    record = CheckResult(issue_name(item), target_of(item), item.stash[LIMITS])
    item.config.stash[RECORDS][item.nodeid] = record
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    reports: list[pytest.TestReport] = []
    try:
        while True:
            tried = len(record.deeds)
            item.stash[REPORTS] = []
            item.user_properties.clear()
            with _no_exit():
                runtestprotocol(item, log=False, nextitem=nextitem)
            # nothing was changed in this teardown
            if len(record.deeds) == tried or resources.dry_run or resources.blocked:
                break
            reports = item.stash[REPORTS]
    finally:  # also on Ctrl-C: what was seen so far must reach the reports
        last = item.stash[REPORTS]
        del item.stash[REPORTS]
        # it could not be verified: the detection stands
        if not any(report.when == "call" for report in last):
            last, reports = reports, last
        shown = [each for each in reports if each.failed and each.when != "call"] + last
        if getattr(item.config.option, "xmlpath", None) and not hasattr(item.config, "workerinput"):
            from miyabi_healing.runner import junit

            junit.describe(record, shown)
        for report in shown:
            item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


class EndedItself(Exception):
    """A check or healer tried to end the whole program (os._exit); it is an error of its own, and
    the others run.
    """


@contextlib.contextmanager
def _no_exit() -> Iterator[None]:
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
        healers = [action.healer for action in record.actions]
        report.healed_by = healers  # type: ignore[attr-defined]
    if _logger.isEnabledFor(logging.DEBUG):
        from miyabi_healing.runner import judging

        judging.trace(item, call, report)
    if call.when == "call":
        record.measured = fixtures.measured(item)
        if call.excinfo or record.deeds:
            from miyabi_healing.runner import judging  # a healthy host needs none

            judging.judge_result(item, call, record)
        elif not item.get_closest_marker("xfail") and (  # not healed, and so not early either
            found := item.config.stash[RESOURCES].foresee(record)
        ):
            from miyabi_healing.runner import early

            early.order(item, item.config.stash[RESOURCES], record, found)
    elif report.failed and call.excinfo:
        from miyabi_healing.runner import judging

        record.error = judging.around_it(call, call.excinfo)
    record.skipped |= report.skipped and not (record.waived or record.measured)
    return report


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.failed:
        _logger.debug("%s cannot be loaded\n%s", report.nodeid, report.longreprtext)


def pytest_report_teststatus(
    report: pytest.TestReport,
) -> tuple[str, str, tuple[str, dict[str, bool]]] | None:
    if report.when == "call" and report.passed and getattr(report, "healed_by", None):
        return "healed", "H", ("HEALED", {"green": True})
    return None


def pytest_report_header(config: pytest.Config) -> str | None:
    resources = config.stash.get(RESOURCES, None)
    if resources is None:
        return None
    mode = (
        "dry run"
        if resources.dry_run
        else f"repairs nothing: {resources.blocked}"
        if resources.blocked
        else "armed"
    )
    return f"miyabi healing: {mode}"


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """With plain ``pytest checks/``, print the same report as the command does."""
    plugin = getattr(config, "_json_report", None)
    if (
        launch_of(config)
        or plugin is None
        or plugin.report is None
        or RESOURCES not in config.stash
    ):
        return
    if runs_in_workers(config):  # what they have measured and found, this process does not know
        terminalreporter.write_line("miyabi healing: no report, as workers ran the checks")
        return
    from miyabi_healing.report import documents, text

    records = config.stash[RECORDS]
    resources = config.stash[RESOURCES]
    document = documents.build_report(plugin.report, resources.result(records))
    terminalreporter.write_line("")
    if problem := resources.keep_report(document):
        terminalreporter.write_line(problem)
    terminalreporter.write(text.render_report(document, sys.stdout.isatty()))
