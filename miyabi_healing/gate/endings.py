"""What can be said of each kind of step that has no entry in quarantine (any more): after a crash,
and when asked to undo it.

A kind that is not in the table is one of another version's: what such a step did is not known, and
is not guessed.
"""

from __future__ import annotations

from dataclasses import dataclass

from miyabi_healing.gate.undo import WAYS

GONE = "it is not in quarantine any more: purged, or moved back by hand"
UNTOUCHED = "nothing had been changed yet"  # such a step changes nothing before it has an entry


@dataclass(frozen=True)
class Ending:
    """`crashed` is what came of a step that was cut short, `no_way` why it cannot be undone, `next`
    what the next run does.
    """

    crashed: str
    no_way: str
    next: str = "a pass that may change something takes it back"


def set_aside() -> Ending:
    return Ending(UNTOUCHED, GONE)


def final(crashed: str, no_way: str) -> Ending:
    return Ending(crashed, no_way, crashed)


KNOWN = {
    "quarantine": set_aside(),
    "retire worktree": set_aside(),
    "archive log": set_aside(),
    "trim log": set_aside(),
    "cut log": final(
        "what was cut away is gone, as the configuration asks",
        "it was cut without an archive, as the configuration asks",
    ),
    "delete": final(
        "what was deleted stays deleted: its tool makes it again",
        "its tool makes it again; what it was is listed in the state folder's manifests",
    ),
    "signal": final("whether the signal was sent is not known", "a signal cannot be taken back"),
    "run": final("whether the command ended is not known", "what another program did is its own"),
    "reclaim": final("there is nothing to take back", "there is nothing to give back"),
    "purge": Ending(
        "what is left of it is in quarantine",
        "it was deleted for good",
        "a pass that may change something finishes it",
    ),
}


def is_unknown(kind: str) -> bool:
    """Whether it is a kind neither of steps nor of entries in quarantine, by which a step is named
    when the journal is gone.
    """
    return kind not in KNOWN and kind not in WAYS


def unknown(kind: str) -> str:
    return f"this version does not know steps of the kind {kind!r}: what it did is unknown"


def crashed(kind: str) -> str:
    """What came of a step that was ended in the middle, where nothing of it is in quarantine."""
    return KNOWN[kind].crashed if kind in KNOWN else unknown(kind)


def to_come(kind: str) -> str:
    """What the next run that may change something will do about it."""
    return KNOWN[kind].next if kind in KNOWN else unknown(kind)


def no_way(kind: str) -> str:
    """Why a step that was applied cannot be undone, where nothing of it is in quarantine."""
    if is_unknown(kind):
        return unknown(kind)
    return KNOWN[kind].no_way if kind in KNOWN else GONE
