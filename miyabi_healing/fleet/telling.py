"""What a coordinator says while it works: a line for each wave, each slice and each host that is
not well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from miyabi_healing.fleet.wording import STATES, counts_text, many_hosts
from miyabi_healing.fleet.worker import Worker
from miyabi_healing.model.rollout import Answer, Claim, HostState, Rollout

Say = Callable[[str, bool], None]  # a line, and whether it is bad news

# States of which a message says all, so that the word for it need not stand before it.
_SAID = (HostState.ISSUES, HostState.UNKNOWN)


def answer_text(answer: Answer) -> str:
    """What one host has said, in a line."""
    words = answer.message or STATES[answer.state]
    if answer.state in _SAID or not answer.message:
        return f"{answer.host}: {words}"
    return f"{answer.host}: {answer.state.value}: {words}"


class Teller:
    """`say` is given lines, `progress` what is being done now, for a line that changes."""

    def __init__(self, rollout: Rollout, say: Say, progress: Callable[[str], None]) -> None:
        self._say, self._progress = say, progress
        self._rollout, self._wave = rollout, 0
        self._hosts, self._slices = Counter[int](), Counter[int]()
        self._sizes = {each.number: len(each.hosts) for each in rollout.slices}
        for each in rollout.slices:
            self._hosts[each.wave] += len(each.hosts)
            self._slices[each.wave] += 1
        self._claim: Claim | None = None
        self._heard = Counter[str]()

    def begins(self, claim: Claim) -> None:
        """A slice is ours."""
        self.ends()
        self._claim, self._heard = claim, Counter()
        wave = claim.slice.wave
        if wave != self._wave:
            self._wave = wave
            canary = wave == 1 and self._rollout.rules.canary
            rule = ", all of which must be well" if canary else ""
            self._say(f"{self._head(whole=True)}: {many_hosts(self._hosts[wave])}{rule}", False)
        left, all_of_it = len(claim.slice.hosts), self._sizes.get(claim.slice.number, 0)
        if 0 < left < all_of_it:  # somebody began it
            self._say(f"{self._head()}: {left} of {many_hosts(all_of_it)} left to ask", False)
        self._progress(f"{self._head()}: {many_hosts(left)} asked")

    def hears(self, answer: Answer) -> None:
        """A host has answered."""
        self._heard[answer.state.value] += 1
        if answer.state is not HostState.WELL:
            self._say(answer_text(answer), True)
        asked = len(self._claim.slice.hosts) if self._claim else 0
        self._progress(f"{self._head()}: {self._heard.total()} of {asked} have answered")

    def ends(self) -> None:
        """The slice in hand is done, or somebody else's."""
        if self._claim is None:
            return
        if self._heard:
            self._say(f"{self._head()}: {counts_text(self._heard)}", False)
        self._claim = None

    def _head(self, whole: bool = False) -> str:
        text = f"wave {self._wave} of {self._rollout.waves}"
        if whole or self._claim is None or self._slices[self._wave] == 1:
            return text
        return f"{text}, slice {self._claim.slice.number}"


class TellingWorker:
    """A worker of which `teller` knows when it begins."""

    def __init__(self, worker: Worker, teller: Teller) -> None:
        self._worker, self._teller = worker, teller

    def work(
        self, claim: Claim, told: Callable[[Answer], None], cancelled: Callable[[], bool]
    ) -> None:
        """See `worker.Worker`."""
        self._teller.begins(claim)
        self._worker.work(claim, told, cancelled)
