"""What a child of the watch does: a whole run, or no more than sending what came of one."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from miyabi_healing.model import config
from miyabi_healing.model.exit_codes import ExitCode
from miyabi_healing.report.outputs import dispatch
from miyabi_healing.runner import registry, session
from miyabi_healing.support import interrupts

if TYPE_CHECKING:
    from miyabi_healing.report.alerts.message import Channel, Mail
    from miyabi_healing.report.document_types import Document
    from miyabi_healing.runner.choosing import Choice


@dataclass(frozen=True)
class How:
    """What a run is made with; `choice` are the checks that were asked for, where not all are."""

    settings: config.Config
    dry_run: bool
    more_checks: tuple[str, ...]
    to: tuple[Channel, ...]
    choice: Choice | None = None

    @property
    def part(self) -> bool:
        return bool(self.choice)

    def is_like(self, other: How | None) -> bool:
        """Whether a run that is made with it is made the same way; a channel is known by what it
        sends with.
        """
        channels = [(each.name, getattr(each.send, "args", each.send)) for each in self.to]
        return other is not None and replace(self, to=()) == replace(other, to=()) and channels == [
            (each.name, getattr(each.send, "args", each.send)) for each in other.to
        ]  # fmt: skip


def run_and_send(how: How, orders: int, pipe: int) -> None:
    """A whole run. Its report is in the pipe before anybody else is told, so that nothing can
    happen to it.

    What collects the checks returns from `run` in a fork for each run; only if it cannot collect
    them, in this process.
    """
    from miyabi_healing.runner.watch import prefork

    began = time.monotonic()

    def begin() -> None:
        nonlocal began
        began = time.monotonic()
        dispatch.begin_run(how.settings, how.dry_run, how.part)

    document, code = _run(how, orders, pipe, begin)
    mail = dispatch.queue_outputs(document, code, how.settings, how.to, how.dry_run)
    prefork.tell(pipe, {"document": document, "code": code})
    seconds = time.monotonic() - began
    _send(how, document, code, seconds, mail)


def queue_and_send(how: How, document: Document, code: int, seconds: float) -> None:
    """Send what came of a run that came to no report."""
    mail = dispatch.queue_outputs(document, code, how.settings, how.to, how.dry_run)
    _send(how, document, code, seconds, mail)


def _send(how: How, document: Document, code: int, seconds: float, mail: Mail | None) -> None:
    dispatch.send_outputs(
        document,
        code,
        how.settings,
        dry_run=how.dry_run,
        seconds=seconds,
        mail=mail,
        healers=partial(registry.healer_names, how.settings),
        part=how.part,
    )


def _run(how: How, orders: int, pipe: int, begin: Callable[[], None]) -> tuple[Document, int]:
    from miyabi_healing.report import documents
    from miyabi_healing.runner.watch.prefork import Collected

    try:
        with interrupts.in_order():
            basis = Collected(how.settings, how.more_checks, orders, pipe, begin)
            return session.run_checks(
                how.settings,
                dry_run=how.dry_run,
                more_checks=how.more_checks,
                watching=True,
                choice=how.choice,
                collected=basis.serve,
            )
    except session.Stopped as stopped:
        return documents.failed_report(str(stopped)), stopped.code
    except interrupts.StopRequested as asked:
        return documents.failed_report(f"stopped by {asked}"), 128 + interrupts.received
    except config.ConfigError as error:
        return documents.failed_report(str(error)), ExitCode.USAGE
    except Exception as error:  # a bug of ours must not pass for an issue of the host
        return documents.failed_report(f"{type(error).__name__}: {error}"), ExitCode.UNKNOWN
