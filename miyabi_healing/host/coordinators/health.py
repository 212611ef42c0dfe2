"""How one coordinator of tasks is: whether it lives, hangs or is only slow, and which of its claims
are left behind. Looks only.

A heartbeat that is late is a reason to look, never a verdict: who gets on with anything is slow.
And a fresh one hides no claim: those are judged by their owners alone.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from pathlib import Path

from miyabi_healing.host import control_groups
from miyabi_healing.host.coordinators import claims, lives, owners, place
from miyabi_healing.host.coordinators.claims import CannotRead
from miyabi_healing.host.coordinators.owners import Fate, Owner
from miyabi_healing.host.coordinators.place import Place
from miyabi_healing.host.process_ending import named
from miyabi_healing.host.process_status import LINUX, Process, read_process
from miyabi_healing.host.users import Witness
from miyabi_healing.model.claim import Claim
from miyabi_healing.model.config import Config
from miyabi_healing.model.coordinator import Coordinator
from miyabi_healing.support import globbing
from miyabi_healing.support.formatting import display, duration_text

_OUR_SERVICE = r"miyabi-healing.*\.service"  # as `install` calls them
_NAMED = 3  # claims in a description


class Life(Enum):
    """How a coordinator is. `SILENT` hangs by all that can be seen in one short look."""

    WELL = "well"
    SLOW = "slow"
    STOPPED = "stopped"
    SILENT = "silent"
    GONE = "gone"
    WAITING = "waiting"


@dataclass(frozen=True)
class State:
    """One look at a coordinator; `mark` is what its process has come to, by which a later run sees
    whether it has got on with anything.
    """

    life: Life
    text: str
    place: Place
    mark: str = ""

    @property
    def down(self) -> int:
        """1 where it is to be healed."""
        return int(self.life in (Life.GONE, Life.STOPPED, Life.SILENT))

    @property
    def notes(self) -> tuple[str, ...]:
        """What is to be known though it is no issue."""
        return (self.text,) if self.life in (Life.SLOW, Life.WAITING) else ()


class CoordinatorHealth:
    """One coordinator of the configuration, by its name."""

    def __init__(self, name: str, config: Config) -> None:
        self.name, self.config = name, config
        self.settings: Coordinator = config.coordinators[name]

    def __str__(self) -> str:
        return display(self.name)

    @cached_property
    def state(self) -> State:
        """How it is, by one look. Raises OSError and ToolError where it cannot be told."""
        return self.look()

    @cached_property
    def claims(self) -> Claims:
        """Its claims, each with what is known of its owner. Raises OSError, CannotRead."""
        return read_claims(self.settings, self.config, self.name)

    def look(self) -> State:
        """Look afresh."""
        found = place.find(self.settings)
        if found.waits:
            return State(Life.WAITING, f"{self}: {found.waits}", found)
        process = found.process
        if process is None:
            if why := self._out_of_sight(found):
                return State(Life.WAITING, f"{self}: {found.gone}, but {why}", found)
            return State(Life.GONE, f"Coordinator {self} is down: {found.gone}", found)
        late = self.late(process)
        if not late:
            return State(Life.WELL, f"Coordinator {self} lives: {named(process)}", found)
        return self._without_beat(process, late, found)

    def _out_of_sight(self, found: Place) -> str:
        """Why it may live all the same, where it is not seen. Raises OSError."""
        witness = Witness(self.config)
        if self.settings.pid_file:
            path = Path(self.settings.pid_file).expanduser()
            return owners.elsewhere(path if os.path.lexists(path) else path.parent, witness)
        if found.pane and not (found.pane.dead or found.shell) and witness.confined:
            return f"tmux says that its program runs, and {witness.confined}"
        return ""

    def late(self, process: Process) -> str:
        """Since when there is no heartbeat, in words; empty where it is on time. One that began
        just now has not been late yet.
        """
        if not self.settings.heartbeat:
            return ""
        lived = lives.age(process)
        try:
            last = os.stat(Path(self.settings.heartbeat).expanduser()).st_mtime
        except FileNotFoundError:
            last = 0.0
        silent = min(time.time() - last, lived)
        if silent <= self.settings.heartbeat_limit:
            return ""
        return f"no heartbeat for {duration_text(silent)}"

    def _without_beat(self, process: Process, late: str, found: Place) -> State:
        who = f"{named(process)}, {late}"
        if lives.stopped(process):
            text = f"Coordinator {self} hangs: {who}, and it is stopped"
            return State(Life.STOPPED, text, found)
        workers = self._workers()
        before = lives.progress(process, workers)
        time.sleep(self.settings.look)
        after = lives.progress(process, workers)
        now = read_process(process.pid)
        if now is None or now.start != process.start:
            return self.look()
        if before != after or now.state in "DRt":
            text = f"coordinator {self} is slow, and left alone: {who}, but it gets on"
            return State(Life.SLOW, text, found)
        text = f"Coordinator {self} hangs: {who}, and no sign of life"
        return State(Life.SILENT, text, found, _mark(process, after))

    def _workers(self) -> frozenset[int]:
        """The pids of who has claims: that they work is no sign of life of the coordinator."""
        return frozenset(each.pid for each in self._owners())

    def _owners(self) -> tuple[Process, ...]:
        try:
            living = self.claims.of(Fate.LIVES)
        except (OSError, CannotRead):
            return ()
        return tuple(owner.process for _, owner in living if owner.process)

    def ends_with(self, process: Process) -> str:
        """Who has a claim, lives, and would end with the coordinator's process, in words: systemd
        ends all of a unit, and the kernel tells a terminal's session when its leader ends. Raises
        OSError.
        """
        by_unit = self.settings.unit or self.settings.user_unit
        ours = control_groups.unit_of(control_groups.paths_of(process.pid)) if by_unit else None
        leads = process.tty and (self.settings.pane or process.session == process.pid)
        for each in self._owners():
            if each.pid == process.pid:
                continue
            if leads and (each.session, each.tty) == (process.session, process.tty):
                return f"{named(each)} has a claim, and works in the same terminal"
            with suppress(FileNotFoundError, ProcessLookupError):  # it has ended
                if ours and control_groups.unit_of(control_groups.paths_of(each.pid)) == ours:
                    return f"{named(each)} has a claim, and works in the same unit, {ours.name}"
        return ""

    def apart(self, argv: list[str]) -> list[str]:
        """The command line by which what a command starts outlives our own service, where we run
        as one: systemd ends all that is left in it with us.
        """
        ours = control_groups.unit_of(control_groups.paths_of("self")) if LINUX else None
        if ours is None or not re.fullmatch(_OUR_SERVICE, ours.name):
            return argv
        user = [] if ours.user is None else ["--user"]
        return ["systemd-run", *user, "--scope", "--quiet", "--collect", "--", *argv]

    def lived_for(self, seconds: float, old: Process | None = None) -> bool:
        """Whether one is there that is not the `old` one, and was not started just now."""
        now = place.find(self.settings).process
        if now is None or (old and (now.pid, now.start) == (old.pid, old.start)):
            return False
        return lives.age(now) >= seconds

    def owner(self, claim: Claim) -> Owner:
        """Look at one owner again."""
        return judge(claim, self.settings, self.config)


def _mark(process: Process, progress: frozenset[tuple[object, ...]]) -> str:
    import hashlib

    told = repr(sorted(map(repr, progress))).encode()
    return f"{process.pid} {process.start} {hashlib.sha256(told).hexdigest()[:16]}"


@dataclass(frozen=True)
class Claims:
    """Claims and their owners: those whose owner is `gone`, `lives`, or could not be told."""

    name: str
    found: tuple[tuple[Claim, Owner], ...]

    def of(self, fate: Fate) -> tuple[tuple[Claim, Owner], ...]:
        return tuple(each for each in self.found if each[1].fate == fate)

    @property
    def orphaned(self) -> int:
        return len(self.of(Fate.GONE))

    @property
    def notes(self) -> Iterator[str]:
        """What could not be told, and was kept."""
        unknown = self.of(Fate.UNKNOWN)
        if unknown:
            claim, owner = unknown[0]
            yield (
                f"{self.name}: {len(unknown)} claim(s) kept, whose owner could not be told: "
                f"{claim_name(claim)}: {owner.text}"
            )

    def __str__(self) -> str:
        gone = self.of(Fate.GONE)
        words = "; ".join(f"{claim_name(claim)}: {owner.text}" for claim, owner in gone[:_NAMED])
        more = "; …" if len(gone) > _NAMED else ""
        several = f" ({words}{more})" if gone else ""
        left = f"Found {len(gone)} of {len(self.found)} claim(s) of {self.name}"
        return f"{left} whose owner is gone{several}"


def claim_name(claim: Claim) -> str:
    return display(str(claim.id))


def read_claims(settings: Coordinator, config: Config, name: str = "") -> Claims:
    """Raises OSError, CannotRead."""
    there, inside = claims.read(settings), lives.Inside()  # in this order: who claims is there
    found = tuple((each, judge(each, settings, config, inside)) for each in there)
    return Claims(display(name or settings.kind), found)


def judge(
    claim: Claim, settings: Coordinator, config: Config, inside: lives.Inside | None = None
) -> Owner:
    """What is known of a claim's owner. `inside` is looked at once for many claims."""
    if claim.owner is None or str(claim.owner).strip() == "":
        return Owner(Fate.UNKNOWN, "no owner is written in it")
    found = owners.judge(str(claim.owner), claim.started, settings)
    owner = str(claim.owner)
    if found.fate != Fate.GONE or owners.is_of_another_boot(owner, settings):
        return found
    try:
        why = owners.out_of_sight(where(settings), settings, Witness(config))
        if why := why or owners.inside(owner, claim.started, settings, inside or lives.Inside()):
            return Owner(Fate.UNKNOWN, why)
    except (OSError, CannotRead) as error:
        return Owner(Fate.UNKNOWN, str(error))
    return found


def where(settings: Coordinator) -> Path | None:
    """The file or folder that the claims are in; None of a server. Raises OSError."""
    if settings.kind == "postgres":
        return None
    if settings.kind == "tasks":
        return claims.tasks_path(settings)
    if settings.kind == "sqlite":
        return Path(settings.sqlite).expanduser()
    return globbing.fixed_part(settings.claims or settings.locks)
