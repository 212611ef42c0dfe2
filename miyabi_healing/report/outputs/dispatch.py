"""Where a finished report goes besides standard output: one outlet a module, imported only where it
is set up.

Whatever happens to an outlet changes neither the report nor the exit status: a problem is one line
on standard error.
"""

from __future__ import annotations

import contextlib
import importlib
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from miyabi_healing.model.config import Config
from miyabi_healing.model.exit_codes import ExitCode
from miyabi_healing.report.outputs.output import Document, Problem, Told
from miyabi_healing.state import run_lock
from miyabi_healing.support import console, interrupts, mount_answers, paths, secrets

if TYPE_CHECKING:
    from miyabi_healing.report.alerts.queue import Channel, Mail


def pings(settings: Config) -> bool:
    return bool(settings.ping.url_file or secrets.PING in secrets.withdrawn)


OUTLETS: tuple[tuple[str, Callable[[Told], bool]], ...] = (  # and when it is wanted
    ("textfile", lambda told: bool(told.settings.metrics.textfile) and not told.dry_run),
    ("github", lambda told: bool(told.annotate)),
    ("alerts", lambda told: told.mail is not None),
    ("ping", lambda told: pings(told.settings) and not told.dry_run),
)


def wanted(settings: Config, to: Sequence[Channel]) -> bool:
    """Whether anything is to be told of a pass that changes something."""
    return bool(to) or any(
        wants(Told({}, 0, settings, dry_run=False, seconds=0)) for _, wants in OUTLETS
    )


def channels(settings: Config, slack: bool) -> tuple[Channel, ...]:
    """Who is alerted to what has changed: nobody, where nobody asked for it. Raises ConfigError."""
    rules = settings.alerts
    if not (
        slack or rules.slack or rules.apprise_urls_file or secrets.APPRISE in secrets.withdrawn
    ):
        return ()
    from miyabi_healing.report.alerts import queue

    return queue.channels(rules, slack)


def begin(settings: Config, dry_run: bool) -> None:
    """Say that a pass begins, to whom that matters. While another one is at work, this one will not
    be told either.
    """
    if dry_run or not pings(settings):
        return
    with guarded("ping"):
        mount_answers.check(paths.state_folder())
        if not run_lock.is_held(paths.state_folder()):
            from miyabi_healing.report.outputs import ping

            ping.start(settings)


def queue(
    document: Document, code: int, settings: Config, to: Sequence[Channel], dry_run: bool
) -> Mail | None:
    """Note in the report what somebody is alerted to, and queue it; a pass that was cut short is
    not told.
    """
    if not to or code == ExitCode.BUSY or code > 128:
        return None
    with guarded("alerts"), interrupts.held_back():
        mount_answers.check(paths.state_folder())
        from miyabi_healing.report.alerts import queue

        return queue.queue(document, settings, to, paths.state_folder(), dry_run)
    return None


def tell(
    document: Document,
    code: int,
    settings: Config,
    *,
    dry_run: bool,
    seconds: float,
    annotate: int = 0,
    mail: Mail | None = None,
) -> None:
    """Tell what came of a pass, once it is over. Ctrl-C cuts that short; a service that is being
    stopped has the time for it.
    """
    if code == ExitCode.BUSY:
        return
    told = Told(document, code, settings, dry_run, seconds, annotate, mail)
    with interrupts.held_back((signal.SIGTERM, signal.SIGHUP)):
        try:
            with interrupts.in_order():
                for name in [name for name, wants in OUTLETS if wants(told)]:
                    with guarded(name):
                        importlib.import_module(f"{__package__}.{name}").tell(told)
        except interrupts.Asked as asked:
            complain(f"{asked} came before everybody had been told")


@contextlib.contextmanager
def guarded(name: str) -> Iterator[None]:
    """Make one line of whatever goes wrong."""
    try:
        yield
    except (Problem, mount_answers.NoAnswer) as problem:
        complain(f"{name}: {problem}")
    except Exception as error:
        # a bug, or something nobody thought of: its words might hold a secret
        complain(f"{name}: {type(error).__name__}")


def complain(words: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # standard error may be closed
        console.complain(words)
