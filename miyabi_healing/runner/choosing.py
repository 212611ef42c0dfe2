"""A run of some checks only: ``--only`` and ``--skip``, by the names of checks or of healers.

A run of a part is no run of all: what it left out is in its report and in history, keeps its last
reading, and nobody is told that it is well.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from miyabi_healing.model.config import Config, ConfigError
from miyabi_healing.runner.check_sources import CheckSource, check_sources
from miyabi_healing.runner.registry import Folders
from miyabi_healing.support.near_matches import did_you_mean


class UnknownName(ConfigError):
    """A name on the command line that no check and no healer has, or that leaves nothing to do."""


@dataclass(frozen=True)
class Choice:
    """What was asked for: names of checks (``disk_space_critical``, with or without ``test_``) and
    of healers, which stand for all checks that call them.
    """

    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.only or self.skip)


@dataclass(frozen=True)
class Chosen:
    """What that comes to: the checks to run, those left out that would run otherwise, the files of
    which none is to run, and what people should know.
    """

    names: frozenset[str]
    left_out: tuple[str, ...]
    ignored: tuple[Path, ...]
    notes: tuple[str, ...] = ()


def split_names(given: Iterable[str]) -> tuple[str, ...]:
    """The names in ``--only a,b --only c``, each once."""
    words = (word.strip() for each in given for word in each.split(","))
    return tuple(dict.fromkeys(word for word in words if word))


def choose(choice: Choice, where: Folders, config: Config) -> Chosen:
    """Which checks that is. Raises UnknownName, and ConfigError where two healers have one name."""
    sources = check_sources(where)
    healers = where.healer_files()
    only = _checks_of("--only", choice.only, sources, healers)
    skip = _checks_of("--skip", choice.skip, sources, healers)
    off = {each.name: why for each in sources if (why := each.why_off(config))}
    every = dict.fromkeys(each.name for each in sources)
    asked = [name for name in every if (name in only or not choice.only) and name not in skip]
    names = frozenset(name for name in asked if name not in off)
    if not names:
        raise UnknownName(_nothing_left(choice, asked, off))
    return Chosen(
        names,
        tuple(name for name in every if name not in names and name not in off),
        tuple(sorted(
            {each.file for each in sources} - {each.file for each in sources if each.name in names}
        )),
        tuple(f"{name} was asked for, but is {off[name]}" for name in asked
              if name in only and name in off),
    )  # fmt: skip


def _nothing_left(choice: Choice, asked: list[str], off: dict[str, str]) -> str:
    if choice.only and asked:
        return "--only: " + "; ".join(f"{name} is {off[name]}" for name in asked)
    if choice.only:
        return "--only and --skip together leave no check to run"
    return "--skip leaves no check to run; 'list' shows what there is"


def _checks_of(
    option: str, given: tuple[str, ...], sources: list[CheckSource], healers: Collection[str]
) -> set[str]:
    """The checks that names stand for. Raises UnknownName."""
    names = {each.name for each in sources}
    found: set[str] = set()
    for word in given:
        if (name := word.removeprefix("test_")) in names:
            found.add(name)
            continue
        callers = {each.name for each in sources if word in each.healers}
        if not callers and word in healers:
            raise UnknownName(f"{option}: no check calls the healer {word}; 'list' shows which do")
        if not callers:
            near = did_you_mean(name, names | set(healers))
            raise UnknownName(f"{option}: no check or healer is called {word!r}; {near}")
        found |= callers
    return found


def left_out_of(where: Folders, config: Config, ran: Collection[str]) -> tuple[str, ...]:
    """The checks that are on and were not among those that ran: for ``pytest -k`` and its like."""
    found = (each for each in check_sources(where) if not each.why_off(config))
    return tuple(dict.fromkeys(each.name for each in found if each.name not in ran))
