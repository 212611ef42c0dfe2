"""Every kind of step's handler: importing this module makes each say what it knows."""

from __future__ import annotations

from miyabi_healing.gate.handlers import (
    delete,
    log_undo,
    logs,
    purge,
    quarantine,
    reclaim,
    retire_worktree,
    run,
    signal,
)

HANDLERS = (delete, log_undo, logs, purge, quarantine, reclaim, retire_worktree, run, signal)
