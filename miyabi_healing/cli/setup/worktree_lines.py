"""What a first configuration sets where worktrees have piled up."""

from __future__ import annotations

from collections.abc import Iterator

from miyabi_healing.cli.setup.discovery import Findings
from miyabi_healing.model.config import Budgets
from miyabi_healing.support.formatting import size_text

_FOR_PILES = 200  # worktrees a run
_LEAST_LIMIT = 5  # GB: who has less in worktrees need not count them


def budgets(found: Findings) -> Iterator[tuple[str, list[str]]]:
    """More worktrees a run, where there are more than one may retire by default."""
    usual = Budgets().worktrees
    if found.linked > usual:
        repos = sum(repo.worktrees > 1 for repo in found.repos)
        where = f"{repos} repositories" if repos > 1 else "a repository"
        why = f"{found.linked} linked worktrees in {where}; {usual} a run otherwise"
        yield "worktrees", [f"worktrees = {_FOR_PILES}  # {why}"]


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
    taken = sum(size for _, size in found.space.sizes) if found.space else 0
    limit = space_limit(taken)
    if found.space is None or limit is None:
        return []
    least = "at least " if found.space.unknown else ""
    return [
        f"# {found.linked} linked worktrees take {least}{size_text(taken)}. About half of that is "
        "the limit, so that the",
        "# next run retires what may go. Raise it where more has to stay.",
        f"threshold = {limit}  # GB, in all repositories together",
        f"high = {2 * limit}",
    ]
