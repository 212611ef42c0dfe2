"""Programs that are known, and what may be done to them: the rows of ``protected_programs.toml``.
Looks only.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from miyabi_healing.host import catalogue
from miyabi_healing.host.process_status import Process
from miyabi_healing.host.programs import program_names, program_paths

_LOGIN = "login and privilege"
SHELLS = "shells"


def reason_not_to_signal(
    process: Process, more: Sequence[str], but: Sequence[str] = ()
) -> str | None:
    """That it is one of the programs that are never signalled, or called like one of `more`, which
    may be patterns (fnmatch(3)); None where it is neither. `but` are groups that may be.
    """
    names = program_names(process)
    for group, row in catalogue.table("protected_programs").items():
        asked = row.get("asked") or group in but
        found = "" if asked else _listed(names, row["programs"])
        if found:
            return f"{found} is protected"
    found = _listed(names, more)
    return f"{found} is protected" if found else None


def reason_not_to_end(process: Process, but: Sequence[str] = ()) -> str | None:
    """That it is one of those that may be asked but never ended; None where it is not, or only in
    the groups `but`.
    """
    names, paths = program_names(process), program_paths(process)
    for group, row in catalogue.table("protected_programs").items():
        if group in but:
            continue
        if found := _listed(names, row["programs"]):
            return f"{found} is one of the {group}"
        if found := _below(paths, row.get("folders", ())):
            return f"its program lies below {found}: one of the {group}"
    return None


def work_of(process: Process) -> str | None:
    """The group of programs whose children are live work as long as they live; None where it is
    in none.
    """
    names, paths = program_names(process), program_paths(process)
    for group, row in catalogue.table("protected_programs").items():
        if row.get("below") and (
            _listed(names, row["programs"]) or _below(paths, row.get("folders", ()))
        ):
            return group
    return None


def logs_in(process: Process) -> bool:
    """Whether it opens sessions for people."""
    programs = catalogue.table("protected_programs")[_LOGIN]["programs"]
    return bool(_listed(program_names(process), programs))


def _listed(names: frozenset[str], patterns: Sequence[str]) -> str:
    """The first name that is called like one of some patterns; empty without one."""
    found = names.intersection(patterns) or {
        name
        for each in patterns
        if set(each) & set("*?[")
        for name in names
        if fnmatchcase(name, each)
    }
    return min(found, default="")


def _below(paths: Sequence[str], folders: Sequence[str]) -> str:
    """The folder of a list that a program lies below; empty where there is none, or where it is
    one of the extensions there: such a helper can be started again by whoever uses it.
    """
    found = ""
    for path in paths:
        parts = path.split("/")[:-1]
        for each in folders:
            place = next((at for at, part in enumerate(parts) if fnmatchcase(part, each)), None)
            if place is not None and "extensions" in parts[place:]:
                return ""
            found = found or ("" if place is None else each)
    return found
