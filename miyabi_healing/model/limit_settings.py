"""Limits as the configuration sets them: of a check, and of some of its targets."""

from __future__ import annotations

import fnmatch
import glob
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated

from miyabi_healing.model.issue import Limit, Severity

if TYPE_CHECKING:
    from msgspec import Meta  # as in `model.config`


@dataclass(frozen=True, repr=False)
class LimitSettings:
    """What may be set of a limit; None is what it would be without."""

    threshold: Annotated[float, Meta(ge=0)] | None = None
    clear: Annotated[float, Meta(ge=0)] | None = None
    low: Annotated[float, Meta(ge=0)] | None = None
    medium: Annotated[float, Meta(ge=0)] | None = None
    high: Annotated[float, Meta(ge=0)] | None = None
    critical: Annotated[float, Meta(ge=0)] | None = None

    def __post_init__(self) -> None:
        if self.threshold is not None and self.clear is not None and self.clear > self.threshold:
            raise ValueError(
                f"clear must not be above the threshold, {self.threshold:g}, but is {self.clear:g}"
            )

    def adjust(self, limit: Limit) -> Limit:
        """The limit a check comes with, as the user wants it."""
        changed = {severity: getattr(self, severity.label) for severity in Severity}
        bounds = {
            **limit.bounds,
            **{severity: bound for severity, bound in changed.items() if bound is not None},
        }
        clear_at = self.clear if self.clear is not None else limit.clear_at
        if self.threshold is None:
            return replace(limit, bounds=bounds, clear_at=clear_at)
        return replace(limit, threshold=self.threshold, bounds=bounds, clear_at=self.clear)


@dataclass(frozen=True, repr=False)
class CheckSettings(LimitSettings):
    """One check's ``[checks.NAME]``; None is the check's own default.

    `targets` are limits for some of what it looks at, by name or pattern: a mount, a repository, a
    pattern of logs. The first that fits counts.
    """

    enabled: bool = True
    gate: tuple[int, int] | None = None
    targets: Mapping[str, LimitSettings] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.gate and not 1 <= self.gate[0] <= self.gate[1] <= 100:
            raise ValueError(
                f"gate must be like [2, 3], the runs needed and of how many, not {list(self.gate)}"
            )

    def of_target(self, target: str) -> LimitSettings | None:
        """The limit of a target's own, if it has one: by its name, or by the first pattern."""
        rows = sorted(self.targets, key=lambda name: _plain(name) != _plain(target))
        return next((self.targets[name] for name in rows if is_target(name, target)), None)


def is_target(name: str, target: str) -> bool:
    """Whether a row is about a target: by its name, written from a home or not, or by a pattern."""
    if _plain(name) == _plain(target):
        return True
    if not name.strip("/"):
        return False
    home, _, rest = name.partition("/")
    pattern = f"{glob.escape(_plain(home))}/{rest}" if name.startswith("~") else name
    return fnmatch.fnmatchcase(_plain(target), pattern.rstrip("/"))


def _plain(path: str) -> str:
    return os.path.expanduser(path).rstrip("/") or "/"
