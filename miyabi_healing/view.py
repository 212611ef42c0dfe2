"""What a healer is given to look at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from miyabi_healing import run_clock
from miyabi_healing.host import Host
from miyabi_healing.run_clock import Moment

T = TypeVar("T")


@dataclass(frozen=True)
class View:
    """The host, and the fixtures of the check that failed, still alive."""

    host: Host
    fixtures: Mapping[str, object]
    now: Callable[[], Moment] = run_clock.unknown  # the moment by all clocks: ages in quarantine are measured with it

    def reading(self, kind: type[T]) -> T:
        """The check's fixture of type `kind`. Raises LookupError where the check uses none."""
        for value in self.fixtures.values():
            if isinstance(value, kind):
                return value
        raise LookupError(f"the check uses no fixture that is a {kind.__name__}; it has {', '.join(self.fixtures)}")
