"""One run: pytest over the checks, in this process, its own output kept aside, and the document it
adds up to.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from miyabi_healing.model.config import Config, ConfigError
from miyabi_healing.model.exit_codes import ExitCode
from miyabi_healing.runner import registry
from miyabi_healing.support import console, interrupts, mount_answers, paths, startup
from miyabi_healing.support.formatting import display

if TYPE_CHECKING:
    from miyabi_healing.model.fleet import FleetOrder
    from miyabi_healing.report.document_types import Document
    from miyabi_healing.runner.choosing import Choice
    from miyabi_healing.runner.selection import Launch

# What pytest brings and a run has no use for: each costs time, and the last two collect the whole
# heap's garbage five times.
_NEVER_USED = """
    cacheprovider pastebin reports setuponly setupplan stepwise threadexception unraisableexception
""".split()
# Our own checks need none of these, nor their fixtures; somebody else's may.
_NOT_OURS = """
    capture debugging doctest junitxml logging monkeypatch recwarn subtests tmpdir unittest warnings
""".split()

_INTERRUPTED = 2  # pytest.ExitCode's, which is not loaded where this is


class Stopped(Exception):
    """A run that made no report; `code` is the exit status, `superseded_by` the higher token that
    a fleet's request was refused for, None where it was not.
    """

    def __init__(self, message: str, code: int, superseded_by: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.superseded_by = superseded_by


def run_checks(
    config: Config,
    *,
    dry_run: bool,
    more_checks: tuple[str, ...] = (),
    watching: bool = False,
    junitxml: Path | None = None,
    choice: Choice | None = None,
    fleet: FleetOrder | None = None,
    collected: Callable[[bool], None] = lambda whole: None,
    progress: Callable[[str], None] = lambda text: None,
) -> tuple[Document, int]:
    """Run one run, of all checks or of a `choice`, and return the report with the exit status.
    Raises Stopped, ConfigError.

    `collected` is called between collecting the checks and running them, with whether all could be
    collected. In watch mode it returns in a fork for each run, and never in the process that
    called it: whatever is open then is closed once for each fork, and must be nobody else's.
    """
    try:
        mount_answers.check(paths.state_folder())
    except mount_answers.NoAnswer as error:
        raise Stopped(f"the state folder: {error}", ExitCode.UNKNOWN) from None
    where = registry.checks_folders(config, more_checks)
    startup.spare_full_disks((*where.checks, *where.healers))
    registry.validate_settings(config, where)
    chosen = None
    if choice:
        from miyabi_healing.runner import choosing

        chosen = choosing.choose(choice, where, config)
    if junitxml and (why := _unwritable(junitxml)):
        raise ConfigError(f"--junitxml: {display(junitxml)}: {why}")
    with _sheltered():
        with startup.postponing():
            import pytest
            import pytest_jsonreport.plugin

        from miyabi_healing.runner import plugin, selection

        class Catch:
            """Takes the JSON report out of the session before pytest forgets it, also where the
            JUnit file cannot be written; and has the report made of it kept while the journal is
            open.
            """

            json_report: dict[str, Any] | None = None
            document: Document | None = None
            problem = ""
            unkept = ""

            @pytest.hookimpl(wrapper=True, tryfirst=True)
            def pytest_sessionfinish(
                self, session: pytest.Session, exitstatus: int
            ) -> Generator[None, object, object]:
                answer: object = None
                try:
                    answer = yield
                except OSError as error:
                    if not junitxml:
                        raise
                    self.problem = f"{display(junitxml)} could not be written: {error.strerror}"
                finally:
                    found = getattr(session.config, "_json_report", None)
                    self.json_report = found.report if found else None
                resources = launch.resources
                if self.json_report and resources and resources.number is not None:
                    with interrupts.held_back():
                        self.document = _document(self.json_report, launch, exitstatus)
                        self.unkept = resources.keep_report(self.document)
                return answer

        catch, launch, output = (
            Catch(),
            selection.Launch(
                config, progress, dry_run, more_checks, watching, collected, chosen, fleet
            ),
            io.StringIO(),
        )
        with _silenced(), contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            try:
                code = int(
                    pytest.main(
                        arguments(where, junitxml, chosen.ignored if chosen else ()),
                        plugins=[plugin, pytest_jsonreport.plugin, launch, catch],
                    )
                )
            except TypeError:
                # where a signal comes between two lines, CPython 3.11 names none, and pytest cannot
                # show that
                if not interrupts.received:
                    raise
                code = int(pytest.ExitCode.INTERRUPTED)
    for problem in filter(None, (catch.problem, catch.unkept)):
        console.complain(problem)
    said = output.getvalue().strip()
    if launch.again:
        return launch.again, _verdict(launch.again)
    if code == ExitCode.BUSY:
        raise Stopped(
            _last_line(said).removeprefix("! _pytest.outcomes.Exit: ").strip("! "),
            ExitCode.BUSY,
            launch.superseded_by,
        )
    if code == pytest.ExitCode.USAGE_ERROR:
        raise Stopped(_last_line(said).removeprefix("ERROR: "), ExitCode.USAGE)
    if interrupts.received and (launch.resources is None or catch.json_report is None):
        raise Stopped("stopped before the checks had run", 128 + interrupts.received)
    if launch.resources is None or catch.json_report is None:
        raise Stopped(f"pytest ended with status {code}: {_last_line(said)}", ExitCode.UNKNOWN)
    document = catch.document or _document(catch.json_report, launch, code)
    if interrupts.received:
        return document, 128 + interrupts.received
    return document, _verdict(document)


def _document(json_report: Mapping[str, Any], launch: Launch, code: int) -> Document:
    """The report of the run that ended with pytest's status `code`."""
    from miyabi_healing.report import documents

    assert launch.resources is not None  # a run that pytest reports on has some
    interrupted = code == _INTERRUPTED
    return documents.build_report(json_report, launch.resources.result(launch.records, interrupted))


def _verdict(document: Document) -> int:
    """The exit status a report stands for: what is unknown weighs more than what remains."""
    known = document["metrics"] or document["overall_success"] or document["issues_detected"]
    if document["errors"] or not (known or document.get("out_of_memory_kills")):
        return ExitCode.UNKNOWN
    return ExitCode.HEALTHY if document["overall_success"] else ExitCode.ISSUES


def _last_line(text: str) -> str:
    return text.splitlines()[-1] if text else "it said nothing"


def _unwritable(file: Path) -> str:
    """Why a file cannot be written, as far as that can be told without; empty where it can."""
    if mount_answers.is_silent(file):
        return "it lies on a mount that does not answer"
    if file.exists():
        if not file.is_file():
            return "is no regular file"
        return "" if os.access(file, os.W_OK) else "cannot be written"
    folder = file.parent
    if not folder.is_dir():
        return "there is no such folder"
    return "" if os.access(folder, os.W_OK | os.X_OK) else "its folder cannot be written"


def arguments(
    where: registry.Folders, junitxml: Path | None, ignored: Sequence[Path] = ()
) -> list[str]:
    """pytest over the folders but for some files, as we need it: our own settings alone, whatever
    lies in the current folder or in PYTEST_ADDOPTS.
    """
    left_out = _NEVER_USED if len(where.checks) > 1 or junitxml else _NEVER_USED + _NOT_OURS
    return [
        *(str(folder) for folder in where.checks),
        *(f"--ignore={file}" for file in ignored),
        *([f"--junitxml={junitxml}"] if junitxml else []),
        f"--config-file={Path(__file__).with_name('pass.ini')}",
        "--noconftest",
        "--continue-on-collection-errors",  # one check that cannot be loaded is that one's trouble
        "--import-mode=importlib",
        "--quiet",
        "--color=no",
        # reading the sources for a traceback that nobody sees loads a megabyte of modules: too much
        # where memory is short
        "--tb=short" if junitxml else "--tb=line",
        *(f"-pno:{name}" for name in left_out),
        "--json-report",
        "--json-report-file=none",
        "--json-report-omit",
        "log",
        "streams",
        "warnings",
        "keywords",
    ]


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Keep what programs write to descriptors 1 and 2 out of our own output."""
    kept = {}
    for each in (1, 2):
        with contextlib.suppress(OSError):  # closed by whoever started us
            kept[each] = os.dup(each)
    nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    try:
        for each in kept:
            os.dup2(nowhere, each)
        yield
    finally:
        for each, before in kept.items():
            os.dup2(before, each)
            os.close(before)
        os.close(nowhere)


@contextlib.contextmanager
def _sheltered() -> Iterator[None]:
    """Keep other people's pytest settings and plugins out of our runs."""
    before = dict(os.environ)
    path = list(sys.path)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    for name in ("PYTEST_ADDOPTS", "PYTEST_PLUGINS", "PYTEST_DEBUG"):
        os.environ.pop(name, None)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        sys.path[:] = path
