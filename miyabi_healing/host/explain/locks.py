"""Why a lock file of git's goes or stays."""

from __future__ import annotations

import os
import re
from pathlib import Path

from miyabi_healing.host.explain.question import Question
from miyabi_healing.host.git.lock_places import locked_configurations
from miyabi_healing.host.git.locks import Holders, Lock, locks
from miyabi_healing.host.git.repositories import NoRepository, Repository, open_repository
from miyabi_healing.host.git.user_configuration import UserConfiguration
from miyabi_healing.model.explanation import Explanation
from miyabi_healing.support.formatting import duration_text


def explain(question: Question) -> Explanation | None:
    """For a lock that git knows; None for anything else, a person's ``yarn.lock`` among them.
    Raises OSError.
    """
    if not question.path.name.endswith((".lock", ".pid")):
        return None
    found = _lock_of(question)
    if found is None:
        return None
    place, target, lock = found
    limit = question.threshold("stale_git_lock", 600, target)
    holders = Holders(place.folders)
    held, unseen = holders.reason(lock, limit), holders.unseen(lock)
    age = f"it was written {duration_text(max(lock.age, 0))} ago; stale is more than {limit:g} s"
    whose = f"the repository {place}" if isinstance(place, Repository) else str(place)
    evidence = [f"of {whose}", age]
    if held:
        return Explanation(
            kind="git lock",
            target=str(lock),
            verdict=f"stays: {held}",
            evidence=tuple(evidence),
            changes=("it may go once it is old enough, unchanged, and nobody holds it",),
            commands=tuple(
                f"{question.program} why {pid}" for pid in re.findall(r"\(pid (\d+)", held)
            ),
        )
    evidence.append("nobody who is seen has it open, works in the repository, or names it")
    if unseen:
        return Explanation(
            kind="git lock",
            target=str(lock),
            verdict=f"stays: somebody could hold it: {unseen}",
            evidence=tuple(evidence),
            changes=(unseen.partition("; ")[2] or unseen,),
        )
    return Explanation(
        kind="git lock",
        target=str(lock),
        verdict="goes: the next run sets it aside in quarantine",
        evidence=(
            *evidence,
            "nobody could hold it unseen",
            *question.switched_off("stale_git_lock", "fix_git_locks"),
        ),
        commands=(f"{question.program} --dry-run",),
    )


def _lock_of(question: Question) -> tuple[Repository | UserConfiguration, str, Lock] | None:
    """The lock, and what has it, with the target that a check knows that by: the outermost
    repository, since a submodule's git folder looks like one, or a user's own configuration.
    """
    found = None
    for folder in question.path.parents:
        if repository := _repository_at(folder, question):
            for lock in locks(repository.common):
                if lock.path == question.path:
                    found = repository, str(repository.main), lock
    if found:
        return found
    for target in locked_configurations(question.config):
        place = UserConfiguration(os.path.dirname(target), question.config)
        for lock in place.locks():
            if lock.path == question.path:
                return place, target, lock
    return None


def _repository_at(folder: Path, question: Question) -> Repository | None:
    try:
        found = open_repository(str(folder), question.config)
    except (NoRepository, OSError):
        return None
    return found if question.path.is_relative_to(found.common) else None
