"""Small closed logs, of which there may be thousands: which of a folder's are archived together.
Looks only.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

from miyabi_healing.host.logs import LogFile
from miyabi_healing.support import descriptors
from miyabi_healing.support.files import MEGABYTE

SMALL = MEGABYTE  # larger ones are worth an archive of their own
_MOST_FILES = 1000  # each is held open until it is deleted
_MOST_BYTES = 64 * MEGABYTE  # what a crash leaves to be taken back, and a goal may be overshot by


def is_small(file: LogFile) -> bool:
    """Whether a log is one of those: of a few blocks, with no hole, whose place would be lost."""
    size = file.status.st_size
    return 0 < size <= SMALL and file.size >= size - file.status.st_blksize


def batches(files: Iterable[LogFile], most: int) -> Iterator[list[LogFile]]:
    """Small logs, each lot of one folder, the oldest first; `most` is how many may be in one."""
    most = max(1, min(most, _MOST_FILES, descriptors.most_held()))
    ordered = sorted(files, key=lambda file: (file.folder, file.last, file.name))
    for _folder, group in itertools.groupby(ordered, key=lambda file: file.folder):
        lot, size = list[LogFile](), 0
        for file in group:
            if len(lot) == most or (lot and size + file.status.st_size > _MOST_BYTES):
                yield lot
                lot, size = [], 0
            lot.append(file)
            size += file.status.st_size
        yield lot
