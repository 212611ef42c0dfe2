"""What a failure predictor has said of this host: its document, from a file or through a pipe.

It decides whether a run is made, so only what is sure counts: whoever cannot read it, or does not
know what it means, knows nothing of the host.
"""

from __future__ import annotations

import errno
import json
import os
import select
import stat
import time

from miyabi_healing.model.outlook import HEALTHY, LEVELS
from miyabi_healing.support import mount_answers
from miyabi_healing.support.formatting import display, duration_text
from miyabi_healing.support.ownership import trusted, who_else

WAIT = 60.0  # seconds for whoever writes a pipe
_LARGEST = 4 << 20  # bytes
_OLDEST = 6 * 3600  # seconds of a file: no predictor of this kind looks further ahead
_AHEAD = 60  # seconds that another clock may be ahead; what is further would never be too old
STDIN = "-"


class NotKnown(Exception):
    """Nothing is known from it; the message says why."""


def read_health(name: str, wait: float = WAIT) -> str:
    """The `overall_health` of the document in a file, or on standard input (``-``): one of
    `LEVELS`. Raises NotKnown, also where that takes longer than `wait` seconds.
    """
    try:
        data = _read(name, time.monotonic() + wait)
    except OSError as error:
        raise NotKnown(str(error.strerror or error)) from None
    if not data.strip():
        raise NotKnown("it is empty")
    try:
        document = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        raise NotKnown("it is not JSON") from None
    health = document.get("overall_health") if isinstance(document, dict) else None
    if not isinstance(health, str):
        raise NotKnown("it has no overall_health")
    if health not in LEVELS:
        raise NotKnown(f"its overall_health is {display(health)[:40]!r}, which means nothing here")
    if document.get("could_not_tell"):
        raise NotKnown("it could not tell")
    if health == HEALTHY and _levels(document.get("predictions")) - {HEALTHY}:
        raise NotKnown("it says healthy, and has predictions that say otherwise")
    return health


def _levels(predictions: object) -> set[str]:
    rows = predictions if isinstance(predictions, list) else []
    return {str(each.get("level")) for each in rows if isinstance(each, dict)}


def _read(name: str, end: float) -> bytes:
    """All that is there, at most as much as such a document has. Raises OSError, NotKnown."""
    if name == STDIN:
        return _read_until(0, end)
    path = os.path.expanduser(name)
    mount_answers.check(path)
    # not waiting for a writer of a FIFO; what is read is waited for below
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if who := who_else(path, status, trusted()):
            raise NotKnown(f"it {who}, who could keep this host from being healed")
        age = time.time() - status.st_mtime
        if stat.S_ISREG(status.st_mode) and age > _OLDEST:
            raise NotKnown(f"it was written {duration_text(age)} ago")
        if stat.S_ISREG(status.st_mode) and age < -_AHEAD:
            raise NotKnown(f"it was written {duration_text(-age)} ahead of the clock")
        return _read_until(descriptor, end)
    finally:
        os.close(descriptor)


def _read_until(descriptor: int, end: float) -> bytes:
    """Until its end, however slowly that comes: a FIFO that nobody has opened yet has none."""
    data, waiting = bytearray(), select.poll()
    waiting.register(descriptor, select.POLLIN)
    while True:
        left = end - time.monotonic()
        if left <= 0 or not waiting.poll(left * 1000):
            raise NotKnown("it did not come to its end in time")
        try:
            piece = os.read(descriptor, 1 << 16)
        except BlockingIOError:
            continue
        if not piece:
            return bytes(data)
        data += piece
        if len(data) > _LARGEST:
            raise NotKnown("it is too large to be one")
