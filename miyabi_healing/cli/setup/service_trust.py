"""Whether what a service is to start can be relied on."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from miyabi_healing.runner import registry
from miyabi_healing.support import paths
from miyabi_healing.support.formatting import display

TEMPORARY = ("/tmp", "/var/tmp", "/dev/shm", "/run", tempfile.gettempdir())


class NotInstalled(Exception):
    """Nothing was changed; the message says why not."""


def doubts(words: Sequence[str], system: bool) -> Iterator[str]:
    """Why what is to be started should not be: it may vanish, or somebody else may change what it
    does.
    """
    shared = stat.S_IWOTH | (stat.S_IWGRP if system else 0)  # many people have a group of their own
    named = [word for word in words if word.startswith("/")]
    for path in map(
        Path,
        dict.fromkeys(
            (*named, *map(str, (paths.PACKAGE, *map(registry.builtin, ("checks", "healers")))))
        ),
    ):
        if top := next(
            (top for top in TEMPORARY if path.is_relative_to(os.path.realpath(top))), None
        ):
            yield f"{display(path)} is below {top}, where nothing stays"
        for each in (path, *path.parents):
            try:
                status = each.stat()
            except OSError as error:
                yield f"{display(each)}: {error.strerror}"
                break
            open_to = status.st_mode & shared and not status.st_mode & stat.S_ISVTX
            if open_to or status.st_uid not in (0, os.geteuid()):
                yield f"{display(each)} can be changed by others than you"


def untrusted_programs(words: Sequence[str], system: bool) -> tuple[str, ...]:
    """What to warn a user of. Raises NotInstalled for what root must not start."""
    found = tuple(dict.fromkeys(doubts(words, system)))
    if found and system:
        raise NotInstalled(
            f"{found[0]}: root would start it again and again; install the "
            "program into a folder of root's, like /opt"
        )
    return found
