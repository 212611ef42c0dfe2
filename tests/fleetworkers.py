"""The commands about rollouts, with hosts that stand in for real ones: no ssh, no Ansible."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from click.testing import CliRunner

from miyabi_healing.cli.fleet import heal, resume
from miyabi_healing.cli.main import command
from miyabi_healing.fleet.worker import WorkerError
from miyabi_healing.model.rollout import Answer, Claim, HostState


@dataclass
class StandInWorker:
    """Answers for its hosts; one without an answer is silent. `asked` has whom it was asked for."""

    answers: Mapping[str, Answer]
    asked: list[str] = field(default_factory=list)
    error: str = ""
    during: Callable[[Claim], None] = lambda claim: None

    def hosts(self, pattern: str) -> tuple[str, ...]:
        return tuple(self.answers)

    def work(
        self, claim: Claim, told: Callable[[Answer], None], cancelled: Callable[[], bool]
    ) -> None:
        if self.error:
            raise WorkerError(self.error)
        self.asked += claim.slice.hosts
        self.during(claim)
        for host in claim.slice.hosts:
            if self.answers[host].state is not HostState.UNTOUCHED:
                told(self.answers[host])


@contextmanager
def standing_in(monkeypatch: pytest.MonkeyPatch, *hosts: str | Answer) -> Iterator[StandInWorker]:
    """Have the commands ask these; a mere name is one that is well."""
    answers = [
        Answer(each, HostState.WELL, 0, "Looked.") if isinstance(each, str) else each
        for each in hosts
    ]
    worker = StandInWorker({each.host: each for each in answers})
    with monkeypatch.context() as patch:
        for module in (heal, resume):
            patch.setattr(module, "make_worker", lambda *_: worker)
        yield worker


def invoke(*arguments: object) -> tuple[int, str]:
    """The exit status and the output, from inside this process."""
    done = CliRunner().invoke(command, [str(each) for each in arguments])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output
