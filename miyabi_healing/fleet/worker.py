"""How hosts are asked: the extension point of a coordinator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from miyabi_healing.model.rollout import Answer, Claim


class Worker(Protocol):
    """Asks all hosts of one slice, and tells each answer as it comes."""

    def work(
        self, claim: Claim, told: Callable[[Answer], None], cancelled: Callable[[], bool]
    ) -> None:
        """Ask each host of the slice for the run `claim.label` with `claim.token`, `told` of each
        as it answers, or is known not to. Where `cancelled` (asked several times a second), end at
        once; hosts that were asked may go on. A host that nothing was told of was not reached.
        Raises WorkerError where no host could be asked at all.
        """


class WorkerError(Exception):
    """Why hosts could not be asked; the message is one line that names the way out."""
