"""What a fleet's coordinator asks of one host."""

from __future__ import annotations

from dataclasses import dataclass

LONGEST_LABEL = 200  # characters
LARGEST_TOKEN = 2**63 - 1  # as SQLite and Postgres (bigint) hold it


@dataclass(frozen=True)
class FleetOrder:
    """A run that is to be made once. `label` names it, empty for one that has no name; `token` is
    the coordinator's fencing token, None without one: whoever took over has a higher one.

    Raises ValueError.
    """

    label: str = ""
    token: int | None = None

    def __post_init__(self) -> None:
        if len(self.label) > LONGEST_LABEL or not self.label.isprintable():
            raise ValueError(f"a label has at most {LONGEST_LABEL} printable characters")
        if self.token is not None and not 0 <= self.token <= LARGEST_TOKEN:
            raise ValueError(f"a token is a whole number from 0 to {LARGEST_TOKEN}")
