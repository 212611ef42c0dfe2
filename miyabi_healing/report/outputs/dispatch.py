"""Where a finished report goes besides standard output: one output a module, imported only where it
is set up.

Whatever happens to an output changes neither the report nor the exit status: what went wrong is one
line on standard error.
"""

from __future__ import annotations

import contextlib
import importlib
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from miyabi_healing.model.config import Config
from miyabi_healing.model.exit_codes import ExitCode
from miyabi_healing.state import run_lock
from miyabi_healing.support import console, interrupts, mount_answers, paths, secrets

if TYPE_CHECKING:
    from miyabi_healing.report.alerts.message import Channel, Mail
    from miyabi_healing.report.document_types import Document
    from miyabi_healing.report.outputs.output import Output, OutputRequest, Setup


class _Setup(NamedTuple):
    """What is asked before anything is made for the outputs: a host without any pays for none."""

    settings: Config
    dry_run: bool
    annotate: int = 0
    mail: Mail | None = None


class _Module(NamedTuple):
    """An output that is a module of ``report``, imported when there is something to send. With
    `for_all` it speaks for all checks together, and says nothing after a run of a part.
    """

    name: str
    module: str
    wants: Callable[[Setup], bool]
    for_all: bool = False

    def wanted(self, given: Setup) -> bool:
        return self.wants(given)

    def send(self, given: OutputRequest) -> None:
        importlib.import_module(f"miyabi_healing.report.{self.module}").send(given)


def _pings(given: Setup) -> bool:
    is_set_up = given.settings.ping.url_file or secrets.PING in secrets.withdrawn
    return bool(is_set_up) and not given.dry_run


_said: set[str] = set()
_OUTPUTS: tuple[Output, ...] = (
    _Module(
        "textfile",
        "outputs.textfile",
        lambda given: bool(given.settings.metrics.textfile) and not given.dry_run,
        for_all=True,
    ),
    _Module(
        "html",
        "outputs.html",
        lambda given: bool(given.settings.report.html) and not given.dry_run,
        for_all=True,
    ),
    _Module("github", "outputs.github", lambda given: bool(given.annotate)),
    _Module("alerts", "alerts.queue", lambda given: given.mail is not None),
    _Module("ping", "outputs.ping", _pings, for_all=True),
    _Module(
        "fleet",
        "outputs.fleet",
        lambda given: given.settings.fleet.report and not given.dry_run,
        for_all=True,
    ),
)


def wanted(settings: Config, to: Sequence[Channel]) -> bool:
    """Whether anything is to be sent after a run that changes something."""
    return bool(to) or any(each.wanted(_Setup(settings, False)) for each in _OUTPUTS)


def usable_channels(settings: Config, slack: bool) -> tuple[Channel, ...]:
    """Who is alerted to what has changed: nobody, where nobody asked for it. What is missing for it
    is said, once while this process lives. Raises ConfigError.
    """
    return channels(settings, _complain_once, slack)


def channels(
    settings: Config, say: Callable[[str], None], slack: bool = False
) -> tuple[Channel, ...]:
    """The same; what is missing is handed to `say`. Raises ConfigError."""
    rules = settings.alerts
    if not (
        slack or rules.slack or rules.apprise_urls_file or secrets.APPRISE in secrets.withdrawn
    ):
        return ()
    from miyabi_healing.report.alerts import queue

    return queue.configured_channels(rules, slack, say)


def begin_run(settings: Config, dry_run: bool, part: bool = False) -> None:
    """Say that a run begins, to whom that matters. While another one is at work, or where this is
    one of a part of the checks, it will not be told either.
    """
    if part or not _pings(_Setup(settings, dry_run)):
        return
    with _guarded("ping"):
        mount_answers.check(paths.state_folder())
        if not run_lock.is_held(paths.state_folder()):
            from miyabi_healing.report.outputs import ping

            ping.start(settings)


def queue_outputs(
    document: Document, code: int, settings: Config, to: Sequence[Channel], dry_run: bool
) -> Mail | None:
    """Note in the report what somebody is alerted to, and queue it; a run that was cut short is
    not told.
    """
    if not to or code == ExitCode.BUSY or code > 128:
        return None
    with _guarded("alerts"), interrupts.held_back():
        mount_answers.check(paths.state_folder())
        from miyabi_healing.report.alerts import queue

        return queue.queue_alerts(document, settings, to, paths.state_folder(), dry_run)
    return None


def send_outputs(
    document: Document,
    code: int,
    settings: Config,
    *,
    dry_run: bool,
    seconds: float,
    annotate: int = 0,
    mail: Mail | None = None,
    healers: Callable[[], Iterable[str]] = tuple,
    part: bool = False,
) -> None:
    """Send what came of a run, once it is over. Ctrl-C cuts that short; a service that is being
    stopped has the time for it. `healers` gives the names of all healers there are. A run of a
    `part` of the checks is told only to those who do not take it for one of all.
    """
    setup = _Setup(settings, dry_run, annotate, mail)
    outputs = [each for each in _OUTPUTS if each.wanted(setup) and not (part and each.for_all)]
    if code == ExitCode.BUSY or not outputs:
        return
    with interrupts.held_back((signal.SIGTERM, signal.SIGHUP)):
        try:
            with interrupts.in_order():
                from miyabi_healing.report.outputs.output import OutputRequest

                given = OutputRequest(
                    document, code, settings, dry_run, seconds, annotate, mail, healers
                )
                for output in outputs:
                    with _guarded(output.name):
                        output.send(given)
        except interrupts.StopRequested as asked:
            _complain(f"{asked} came before everybody had been told")


@contextlib.contextmanager
def _guarded(name: str) -> Iterator[None]:
    """Make one line of whatever goes wrong."""
    try:
        yield
    except mount_answers.NoAnswer as problem:
        _complain(f"{name}: {problem}")
    except Exception as error:
        from miyabi_healing.report.outputs.output import OutputError

        # else a bug, or something nobody thought of: its words might hold a secret
        what = str(error) if isinstance(error, OutputError) else type(error).__name__
        _complain(f"{name}: {what}")


def _complain_once(words: str) -> None:
    """Say it for the first time only: watch mode asks before every run."""
    if words not in _said:
        _said.add(words)
        _complain(f"{words}; nothing is sent there")


def _complain(words: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # standard error may be closed
        console.complain(words)
