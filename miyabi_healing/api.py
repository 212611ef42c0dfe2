"""What authors of checks and healers import, and all that they need: ``from miyabi_healing.api
import Plan, quarantine``.

The names in NAMES stay as they are. Those in READINGS are what the built-in healers look at
besides: they are there for all, and change with them. Nothing is loaded until its name is used.
One more: a line in one of the tables, and one among the imports for type checkers.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

# Each name: the module that has it, in this package but for one, and what it is.
NAMES: dict[str, tuple[str, str]] = {
    # What a healer is given and hands back.
    "HealerContext": ("host.context", "the host, the check's fixtures, `reading(kind)`, `now()`"),
    "Host": ("host.readings", "every reading of the host, each taken once in a run"),
    "Issue": ("model.issue", "what a check found: name, target, metric_value, limit, severity"),
    "Limit": ("model.issue", "what a check allows: it trips above threshold, healed below clear"),
    "Severity": ("model.issue", "LOW, MEDIUM, HIGH or CRITICAL; they compare"),
    "Plan": ("model.plan", "steps towards a goal, and what was left alone"),
    "Goal": ("model.plan", "when a plan has done enough: a text, and a question"),
    "Kept": ("model.plan", "one thing that was looked at and left alone, with a short reason"),
    "share_of": ("model.because", "what a path has of what has grown: `issue.because`"),
    # Steps with what can be derived filled in: the way to make one.
    "quarantine": ("host.planning", "Quarantine of a path"),
    "delete": ("host.planning", "Delete of paths below a folder"),
    "retire_worktree": ("host.planning", "RetireWorktree of a linked git worktree"),
    "archive_log": ("host.planning", "ArchiveLog of a path"),
    "archive_logs": ("host.planning", "ArchiveLogs of small logs of one folder"),
    "trim_log": ("host.planning", "TrimLog of a path, or CutLog without an archive"),
    "signal_process": ("host.planning", "Signal to a process"),
    "run_tool": ("host.planning", "Run of a command line"),
    "give_back": ("host.planning", "GiveBack of claims, or GiveBackRows of those in a table"),
    "reclaim": ("host.planning", "Reclaim through a control file of the kernel"),
    "unit": ("host.planning", "the Unit that a file or folder is"),
    # The kinds of steps, to name their types or to fill in everything by hand.
    "Step": ("model.steps", "any of them: target, reason, bytes, later, undo, counts, guard"),
    "Quarantine": ("model.steps", "renames a file or folder into quarantine"),
    "Delete": ("model.steps", "deletes what can be made again; gone for good"),
    "Unit": ("model.steps", "a file or folder of a Delete that goes or stays as a whole"),
    "RetireWorktree": ("model.steps", "sets a linked git worktree aside"),
    "ArchiveLog": ("model.steps", "compresses a closed log"),
    "ArchiveLogs": ("model.steps", "compresses small closed logs of one folder together"),
    "BundledLog": ("model.steps", "one of the logs of an ArchiveLogs"),
    "TrimLog": ("model.steps", "archives and cuts the beginning of a live log"),
    "CutLog": ("model.steps", "cuts the beginning of a live log for good"),
    "Signal": ("model.steps", "one signal to one process"),
    "Run": ("model.steps", "an owner's own tool"),
    "Reclaim": ("model.steps", "asks the kernel for memory"),
    "GiveBack": ("model.steps", "sets tasks of a file back to pending"),
    "GiveBackRows": ("model.steps", "the same in a table"),
    "Claim": ("model.claim", "that somebody has a task in hand: id, status, owner, started"),
    "Purge": ("model.steps", "deletes one thing from quarantine for good"),
    # What a check's fixtures are: `context.reading(Mount)`.
    "Mount": ("host.filesystems", "a filesystem (fixture mount)"),
    "Repository": ("host.git.repositories", "a git repository (fixture repository)"),
    "Repositories": ("host.git.worktree_space", "all that are looked after (fixture repositories)"),
    "Worktree": ("host.git.repositories", "a linked worktree of a repository"),
    "LogGroup": ("host.logs", "the files of a log pattern (fixture log_group)"),
    "LogFile": ("host.logs", "one of them"),
    "Processes": ("host.processes", "the processes of the host (fixture processes)"),
    "Orphans": ("host.orphans", "processes that are left behind (fixture orphans)"),
    "Process": ("host.process_status", "one of them: pid, name, start, ppid"),
    "CoordinatorHealth": ("host.coordinators.health", "a coordinator (fixture coordinator)"),
    "Memory": ("host.memory", "the memory of the host, or of the container (fixture memory)"),
    # Looking, measuring, wording.
    "Identity": ("model.identity", "what makes a file the one that was measured"),
    "identity_at": ("support.files", "the Identity of a path"),
    "used": ("support.files", "the bytes that a file occupies, by its status"),
    "newest": ("support.files", "when anything happened to a file last, by its status"),
    "MEGABYTE": ("support.files", "bytes"),
    "size_text": ("support.formatting", "bytes in words: 1.5 GB"),
    "display": ("support.formatting", "a path or text of others as one printable line"),
    "Meta": ("msgspec", "for Options: Annotated[float, Meta(ge=0)] is zero or more"),
}

READINGS: dict[str, tuple[str, str]] = {
    "cache_steps": ("host", "module: what may be done about one cache"),
    "caches": ("host", "module: known caches, their parts, the homes they are in"),
    "filesystems": ("host", "module: reads a filesystem anew"),
    "log_text": ("host", "module: whether a file is a log by its content"),
    "logs": ("host", "module: reads logs"),
    "largest_folders": ("host.space.brief", "what takes a filesystem's space, for a report"),
    "deleted_rows": ("host.space.brief", "who has deleted files open, for a report"),
    "find_cut": ("host.log_cutting", "where the beginning of a live log may be cut off"),
    "LogPlace": ("host.log_places", "why logs of a folder may not be touched where they lie"),
    "FolderWriters": ("host.log_writers", "who has the logs of a folder open, and how"),
    "log_batches": ("host", "module: small logs that are archived together"),
    "memory": ("host", "module: reads memory anew"),
    "memory_rows": ("host", "module: who and what takes it, in rows for a report"),
    "measure_processes": ("host.memory_users", "what processes take, the largest first"),
    "matches": ("host.programs", "whether a process's program is called like one of some patterns"),
    "retention": ("state", "module: what may leave the quarantine"),
    "commands": ("support", "module: finds programs that may be started"),
    "globbing": ("support", "module: patterns of paths"),
    "mount_answers": ("support", "module: whether a mount answers"),
    "Cache": ("host.caches", "a known cache in a home"),
    "CacheOwners": ("host.cache_owners", "who is at work with a cache"),
    "old_files": ("host.personal_files", "a person's old files in a folder"),
    "OpenFiles": ("host.open_files", "the files that processes have open"),
    "Family": ("host.orphan_groups", "an orphan, and all that lives below it"),
    "has_ended": ("host.orphan_families", "whether a process is gone"),
    "look_again": ("host.orphan_families", "whether a process is an orphan now"),
    "catches": ("host.process_status", "whether a process catches a signal"),
    "process_ending": ("host", "module: whom nobody may end, and why"),
    "control_groups": ("host", "module: units and containers of processes"),
    "Fate": ("host.coordinators.owners", "what is known of a claim's owner"),
    "CannotRead": ("host.coordinators.claims", "claims could not be read"),
    "Life": ("host.coordinators.health", "how a coordinator is"),
    "systemctl": ("host.coordinators.asking", "the command line of systemd's tool"),
    "tmux": ("host.coordinators.asking", "the command line that reaches a server of tmux"),
    "container": ("host.process_status", "why there may be processes that cannot be seen"),
    "told_by": ("host.open_files", "what a descriptor's fdinfo says"),
    "Witness": ("host.users", "who uses a path, or could unseen"),
    "LockFolders": ("host.git.locks", "where locks of git lie, and who could hold them"),
    "Holders": ("host.git.locks", "who holds a lock of git"),
    "Lock": ("host.git.locks", "a lock file of git"),
    "stale": ("host.git.locks", "those that nobody holds"),
    "UserConfiguration": ("host.git.user_configuration", "a user's own configuration of git"),
    "DAY": ("support.formatting", "seconds"),
    "Reason": ("host.git.verdict", "why a worktree is kept"),
    "Verdict": ("host.git.verdict", "whether a worktree may go, and what shows it"),
    "Waits": ("host.git.worktrees", "how many days a worktree has to be idle, or missing"),
    "duration_text": ("support.formatting", "seconds in words: 3 h"),
    "ToolError": ("support.command_errors", "a program could not be asked, or said no"),
    "WorktreeInspector": ("host.git.worktrees", "what would be missed in worktrees"),
    "droppable": ("host.git", "module: what may be taken out of a worktree that stays"),
    "leftover_folders": ("host.git.leftovers", "worktrees that git does not know any more"),
    "measure_folder": ("host.git.worktree_sizes", "what a folder takes, and what of it is shared"),
    "measure_folders": ("host.git.worktree_sizes", "what folders take, in so many seconds"),
}

if TYPE_CHECKING:
    from msgspec import Meta as Meta

    from miyabi_healing.host import cache_steps as cache_steps
    from miyabi_healing.host import caches as caches
    from miyabi_healing.host import control_groups as control_groups
    from miyabi_healing.host import filesystems as filesystems
    from miyabi_healing.host import log_batches as log_batches
    from miyabi_healing.host import log_text as log_text
    from miyabi_healing.host import logs as logs
    from miyabi_healing.host import memory as memory
    from miyabi_healing.host import memory_rows as memory_rows
    from miyabi_healing.host import process_ending as process_ending
    from miyabi_healing.host.cache_owners import CacheOwners as CacheOwners
    from miyabi_healing.host.caches import Cache as Cache
    from miyabi_healing.host.context import HealerContext as HealerContext
    from miyabi_healing.host.coordinators.asking import systemctl as systemctl
    from miyabi_healing.host.coordinators.asking import tmux as tmux
    from miyabi_healing.host.coordinators.claims import CannotRead as CannotRead
    from miyabi_healing.host.coordinators.health import CoordinatorHealth as CoordinatorHealth
    from miyabi_healing.host.coordinators.health import Life as Life
    from miyabi_healing.host.coordinators.owners import Fate as Fate
    from miyabi_healing.host.filesystems import Mount as Mount
    from miyabi_healing.host.git import droppable as droppable
    from miyabi_healing.host.git.leftovers import leftover_folders as leftover_folders
    from miyabi_healing.host.git.locks import Holders as Holders
    from miyabi_healing.host.git.locks import Lock as Lock
    from miyabi_healing.host.git.locks import LockFolders as LockFolders
    from miyabi_healing.host.git.locks import stale as stale
    from miyabi_healing.host.git.repositories import Repository as Repository
    from miyabi_healing.host.git.repositories import Worktree as Worktree
    from miyabi_healing.host.git.user_configuration import UserConfiguration as UserConfiguration
    from miyabi_healing.host.git.verdict import Reason as Reason
    from miyabi_healing.host.git.verdict import Verdict as Verdict
    from miyabi_healing.host.git.worktree_sizes import measure_folder as measure_folder
    from miyabi_healing.host.git.worktree_sizes import measure_folders as measure_folders
    from miyabi_healing.host.git.worktree_space import Repositories as Repositories
    from miyabi_healing.host.git.worktrees import Waits as Waits
    from miyabi_healing.host.git.worktrees import WorktreeInspector as WorktreeInspector
    from miyabi_healing.host.log_cutting import find_cut as find_cut
    from miyabi_healing.host.log_places import LogPlace as LogPlace
    from miyabi_healing.host.log_writers import FolderWriters as FolderWriters
    from miyabi_healing.host.logs import LogFile as LogFile
    from miyabi_healing.host.logs import LogGroup as LogGroup
    from miyabi_healing.host.memory import Memory as Memory
    from miyabi_healing.host.memory_users import measure_processes as measure_processes
    from miyabi_healing.host.open_files import OpenFiles as OpenFiles
    from miyabi_healing.host.open_files import told_by as told_by
    from miyabi_healing.host.orphan_families import has_ended as has_ended
    from miyabi_healing.host.orphan_families import look_again as look_again
    from miyabi_healing.host.orphan_groups import Family as Family
    from miyabi_healing.host.orphans import Orphans as Orphans
    from miyabi_healing.host.personal_files import old_files as old_files
    from miyabi_healing.host.planning import archive_log as archive_log
    from miyabi_healing.host.planning import archive_logs as archive_logs
    from miyabi_healing.host.planning import delete as delete
    from miyabi_healing.host.planning import give_back as give_back
    from miyabi_healing.host.planning import quarantine as quarantine
    from miyabi_healing.host.planning import reclaim as reclaim
    from miyabi_healing.host.planning import retire_worktree as retire_worktree
    from miyabi_healing.host.planning import run_tool as run_tool
    from miyabi_healing.host.planning import signal_process as signal_process
    from miyabi_healing.host.planning import trim_log as trim_log
    from miyabi_healing.host.planning import unit as unit
    from miyabi_healing.host.process_status import Process as Process
    from miyabi_healing.host.process_status import catches as catches
    from miyabi_healing.host.process_status import container as container
    from miyabi_healing.host.processes import Processes as Processes
    from miyabi_healing.host.programs import matches as matches
    from miyabi_healing.host.readings import Host as Host
    from miyabi_healing.host.space.brief import deleted_rows as deleted_rows
    from miyabi_healing.host.space.brief import largest_folders as largest_folders
    from miyabi_healing.host.users import Witness as Witness
    from miyabi_healing.model.because import share_of as share_of
    from miyabi_healing.model.claim import Claim as Claim
    from miyabi_healing.model.identity import Identity as Identity
    from miyabi_healing.model.issue import Issue as Issue
    from miyabi_healing.model.issue import Limit as Limit
    from miyabi_healing.model.issue import Severity as Severity
    from miyabi_healing.model.plan import Goal as Goal
    from miyabi_healing.model.plan import Kept as Kept
    from miyabi_healing.model.plan import Plan as Plan
    from miyabi_healing.model.steps import ArchiveLog as ArchiveLog
    from miyabi_healing.model.steps import ArchiveLogs as ArchiveLogs
    from miyabi_healing.model.steps import BundledLog as BundledLog
    from miyabi_healing.model.steps import CutLog as CutLog
    from miyabi_healing.model.steps import Delete as Delete
    from miyabi_healing.model.steps import GiveBack as GiveBack
    from miyabi_healing.model.steps import GiveBackRows as GiveBackRows
    from miyabi_healing.model.steps import Purge as Purge
    from miyabi_healing.model.steps import Quarantine as Quarantine
    from miyabi_healing.model.steps import Reclaim as Reclaim
    from miyabi_healing.model.steps import RetireWorktree as RetireWorktree
    from miyabi_healing.model.steps import Run as Run
    from miyabi_healing.model.steps import Signal as Signal
    from miyabi_healing.model.steps import Step as Step
    from miyabi_healing.model.steps import TrimLog as TrimLog
    from miyabi_healing.model.steps import Unit as Unit
    from miyabi_healing.state import retention as retention
    from miyabi_healing.support import commands as commands
    from miyabi_healing.support import globbing as globbing
    from miyabi_healing.support import mount_answers as mount_answers
    from miyabi_healing.support.command_errors import ToolError as ToolError
    from miyabi_healing.support.files import MEGABYTE as MEGABYTE
    from miyabi_healing.support.files import identity_at as identity_at
    from miyabi_healing.support.files import newest as newest
    from miyabi_healing.support.files import used as used
    from miyabi_healing.support.formatting import DAY as DAY
    from miyabi_healing.support.formatting import display as display
    from miyabi_healing.support.formatting import duration_text as duration_text
    from miyabi_healing.support.formatting import size_text as size_text

_WHERE = {**NAMES, **READINGS}
__all__ = sorted(_WHERE)


def __getattr__(name: str) -> object:
    """Load what a name stands for, once. Raises AttributeError."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    place, what = _WHERE[name]
    home = place if place == "msgspec" else f"miyabi_healing.{place}"
    if what.startswith("module:"):
        found: object = importlib.import_module(f"{home}.{name}")
    else:
        found = getattr(importlib.import_module(home), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return __all__
