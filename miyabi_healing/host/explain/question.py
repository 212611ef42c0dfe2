"""What is asked about, and with what it is answered."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from miyabi_healing.host.readings import Host
from miyabi_healing.host.users import Witness
from miyabi_healing.model.config import Config
from miyabi_healing.model.plan import Plan
from miyabi_healing.state.run_clock import Moment
from miyabi_healing.support.formatting import display


@dataclass(frozen=True)
class Question:
    """A thing by the `word` it was asked by; `path` is that as an absolute path without links on
    the way, `pid` the process that is meant, if one is.

    `options` has a healer's options by its name; `plan` what a healer would do about one reading.
    `program` is how the program was called, for commands.
    """

    word: str
    path: Path
    pid: int | None
    config: Config
    state: Path
    now: Moment
    program: str
    options: Callable[[str], Any]
    plan: Callable[[str, object], Plan]

    @cached_property
    def host(self) -> Host:
        return Host(self.config)

    @cached_property
    def witness(self) -> Witness:
        return self.host.witness()

    def threshold(self, check: str, usual: float, target: str = "") -> float:
        """What a check allows of a target, as configured."""
        settings = self.config.check(check)
        for each in (settings.of_target(target), settings):
            if each is not None and each.threshold is not None:
                return each.threshold
        return usual

    def switched_off(self, check: str, healer: str) -> tuple[str, ...]:
        """Why nothing is done about any thing of a kind, where that is so."""
        found = []
        if not self.config.check(check).enabled:
            found.append(f"the check is switched off: [checks.{check}] enabled")
        if not self.config.healer(healer).enabled:
            found.append(f"the healer is switched off: [healers.{healer}] enabled")
        return tuple(found)


def shell_word(path: object) -> str:
    """A path as one word of a command that can be typed."""
    return display(shlex.quote(str(path)))
