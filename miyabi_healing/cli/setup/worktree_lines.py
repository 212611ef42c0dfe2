"""What a first configuration sets where worktrees have piled up."""

from __future__ import annotations

import math
from collections.abc import Iterator

from miyabi_healing.cli.setup.discovery import Findings
from miyabi_healing.model.config import Budgets, QuarantineSettings
from miyabi_healing.support.formatting import size_text

_FOR_PILES = 200  # worktrees a run
_WITH_GITS = 1.1  # times what worktrees take: git's folders for them go with them, and count
_LEAST_LIMIT = 5  # GB: who has less in worktrees need not count them


def budgets(found: Findings) -> Iterator[tuple[str, list[str]]]:
    """More worktrees, and more gigabytes, a run, where there is more than one may retire by
    default.

    A pile that needs several runs may never go: what is left after the first is below the limit.
    """
    usual = Budgets()
    if found.linked > usual.worktrees:
        repos = sum(repo.worktrees > 1 for repo in found.repos)
        where = f"{repos} repositories" if repos > 1 else "a repository"
        why = f"{found.linked} linked worktrees in {where}; {usual.worktrees} a run otherwise"
        yield "worktrees", [f"worktrees = {_FOR_PILES}  # {why}"]
    moved = _taken(found) / 1e9 * _WITH_GITS
    if moved > usual.gigabytes:
        why = f"linked worktrees take {_shown(found)}; {usual.gigabytes:g} a run otherwise"
        yield "gigabytes", [f"gigabytes = {_rounded_up(moved)}  # {why}"]


def quarantine(found: Findings) -> Iterator[tuple[str, list[str]]]:
    """A quarantine that holds all worktrees and as much as by default besides, where they would
    take more than half of one: they take no more space there than where they are.
    """
    usual = QuarantineSettings().gigabytes
    moved = _taken(found) / 1e9 * _WITH_GITS
    if moved > usual / 2:
        why = f"linked worktrees take {_shown(found)}; {usual:g} otherwise"
        yield "gigabytes", [f"gigabytes = {_rounded_up(moved + usual)}  # {why}"]


def _taken(found: Findings) -> int:
    return sum(size for _, size in found.space.sizes) if found.space else 0


def _shown(found: Findings) -> str:
    least = "at least " if found.space and found.space.unknown else ""
    return f"{least}{size_text(_taken(found))}"


def _rounded_up(gigabytes: float) -> int:
    """The next number with one digit and zeros."""
    whole = math.ceil(gigabytes)
    kind = int("1" + "0" * (len(str(whole)) - 1))
    return math.ceil(whole / kind) * kind


def space_limit(taken: float) -> int | None:
    """The gigabytes that worktrees which take so many bytes may take; None where they take little.

    Half of what they take, rounded down to a number with one digit and zeros: so the next run looks
    for what may go.
    """
    if taken <= _LEAST_LIMIT * 1e9:
        return None
    half = int(max(taken / 2e9, _LEAST_LIMIT))
    kind = int("1" + "0" * (len(str(half)) - 1))
    return half // kind * kind


def space(found: Findings) -> list[str]:
    """A limit in gigabytes for the worktrees of all repositories; none where they take little."""
    limit = space_limit(_taken(found))
    if limit is None:
        return []
    return [
        f"# {found.linked} linked worktrees take {_shown(found)}. About half of that is "
        "the limit, so that the",
        "# next run retires what may go. Raise it where more has to stay.",
        f"threshold = {limit}  # GB, in all repositories together",
        f"high = {2 * limit}",
    ]
