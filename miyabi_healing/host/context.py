"""What a healer is given to look at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from miyabi_healing.host.readings import Host
from miyabi_healing.state import run_clock
from miyabi_healing.state.run_clock import Moment

_T = TypeVar("_T")


@dataclass(frozen=True)
class HealerContext:
    """The host, and the fixtures of the check that failed, still alive."""

    host: Host
    fixtures: Mapping[str, object]
    # the moment by all clocks: ages in quarantine are measured with it
    now: Callable[[], Moment] = run_clock.unknown_moment
    # for how many seconds, as earlier runs have seen, there has been what this healer waits for
    seen_for: Callable[[], Mapping[str, float]] = dict

    def reading(self, kind: type[_T]) -> _T:
        """The check's fixture of type `kind`. Raises LookupError where the check uses none."""
        for value in self.fixtures.values():
            if isinstance(value, kind):
                return value
        raise LookupError(
            f"the check uses no fixture that is a {kind.__name__}; it has "
            f"{', '.join(self.fixtures)}"
        )
