"""What a coordinator says while it works: a line for each wave, each slice and each host that is
not well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from miyabi_healing.fleet.report import host_row
from miyabi_healing.fleet.wording import STATES, counts_text, many_hosts
from miyabi_healing.model.rollout import Answer, Claim, HostState, Rollout
from miyabi_healing.support.formatting import duration_text

Say = Callable[[str, bool], None]  # a line, and whether it is bad news

# States of which a message says all, so that the word for it need not stand before it.
_SAID = (HostState.ISSUES, HostState.UNKNOWN)


_MOST_NAMES, _LONGEST_NAME = 5, 200  # of issues that were healed; characters


def answer_text(answer: Answer) -> str:
    """What one host has said, in a line."""
    words = answer.message or STATES[answer.state]
    if answer.state in _SAID or not answer.message:
        return f"{answer.host}: {words}"
    return f"{answer.host}: {answer.state.value}: {words}"


def healed_text(answer: Answer) -> str:
    """What was healed on a host, in a line; empty where nothing was."""
    row = host_row(answer)
    healed = [] if row["again"] else [each for each in row["issues"] if each["healed"]]
    names = [f"{each['name']} ({each['target']})".removesuffix(" ()") for each in healed]
    said = [each[:_LONGEST_NAME] for each in names[:_MOST_NAMES]]  # any host may write anything
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return f"{answer.host}: healed: {', '.join(said)}{more}" if said else ""


class Teller:
    """`say` is given lines, `progress` what is being done now, for a line that changes. Several
    slices can be in hand.
    """

    def __init__(self, rollout: Rollout, say: Say, progress: Callable[[str], None]) -> None:
        self._say, self._progress = say, progress
        self._rollout, self._wave = rollout, 0
        self._hosts, self._slices = Counter[int](), Counter[int]()
        self._sizes = {each.number: len(each.hosts) for each in rollout.slices}
        self._slice_of = {host: each.number for each in rollout.slices for host in each.hosts}
        for each in rollout.slices:
            self._hosts[each.wave] += len(each.hosts)
            self._slices[each.wave] += 1
        self._claims: dict[int, Claim] = {}
        self._heard: dict[int, Counter[str]] = {}

    def begins(self, claim: Claim) -> None:
        """A slice is ours."""
        number, wave = claim.slice.number, claim.slice.wave
        self._ends(number)  # it was ours before
        self._claims[number], self._heard[number] = claim, Counter()
        if wave != self._wave:
            self._wave = wave
            canary = wave == 1 and self._rollout.rules.canary
            rule = ", all of which must be well" if canary else ""
            head = f"wave {wave} of {self._rollout.waves}"
            self._say(f"{head}: {many_hosts(self._hosts[wave])}{rule}", False)
        left, all_of_it = len(claim.slice.hosts), self._sizes.get(number, 0)
        if 0 < left < all_of_it:  # somebody began it
            self._say(f"{self._head(claim)}: {left} of {many_hosts(all_of_it)} left to ask", False)
        self._show()

    def hears(self, answer: Answer) -> None:
        """A host has answered."""
        number = self._slice_of[answer.host]
        if answer.state is not HostState.WELL:
            self._say(answer_text(answer), True)
        elif healed := healed_text(answer):
            self._say(healed, False)
        if number in self._claims:
            self._heard[number][answer.state.value] += 1
            self._show()
            if self._heard[number].total() == len(self._claims[number].slice.hosts):
                self._ends(number)

    def waits(self, lease: float) -> None:
        """What could be asked now is in others' hands."""
        self.ends()
        long = duration_text(lease)
        words = f"waiting for hosts that others have; without a sign of life for {long}"
        self._say(f"{words}, they are taken over", False)

    def ends(self) -> None:
        """Nothing is in hand any more."""
        for number in tuple(self._claims):
            self._ends(number)

    def _ends(self, number: int) -> None:
        """A slice is done, or somebody else's."""
        claim, heard = self._claims.pop(number, None), self._heard.pop(number, None)
        if claim is not None and heard:
            self._say(f"{self._head(claim)}: {counts_text(heard)}", False)

    def _show(self) -> None:
        asked = sum(len(each.slice.hosts) for each in self._claims.values())
        heard = sum(each.total() for each in self._heard.values())
        head = f"wave {self._wave} of {self._rollout.waves}"
        self._progress(f"{head}: {heard} of {many_hosts(asked)} have answered")

    def _head(self, claim: Claim) -> str:
        text = f"wave {claim.slice.wave} of {self._rollout.waves}"
        one = self._slices[claim.slice.wave] == 1
        return text if one else f"{text}, slice {claim.slice.number}"
