"""What a healer is given to look at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from miyabi_healing.host import Host

T = TypeVar("T")


@dataclass(frozen=True)
class View:
    """The host, and the fixtures of the check that failed, still alive."""

    host: Host
    fixtures: Mapping[str, object]

    def reading(self, kind: type[T]) -> T:
        """The check's fixture of type `kind`. Raises LookupError where the check uses none."""
        for value in self.fixtures.values():
            if isinstance(value, kind):
                return value
        raise LookupError(f"the check uses no fixture that is a {kind.__name__}; it has {', '.join(self.fixtures)}")
