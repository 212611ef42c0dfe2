"""How many files this process may have open at a time (getrlimit(2), RLIMIT_NOFILE)."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator

_SPARE = 128  # for everything else that is opened meanwhile: the journal, /proc, a helper's pipes


def most_held() -> int:
    """How many files may be held open besides what is open now, once the limit is raised as far as
    it goes; at least one.
    """
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    most = 1 << 20 if hard == resource.RLIM_INFINITY else hard
    return max(1, most - len(os.listdir("/dev/fd")) - _SPARE)


@contextlib.contextmanager
def room_for(count: int) -> Iterator[None]:
    """Raise the soft limit so that `count` files more may be open, and put it back afterwards."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = len(os.listdir("/dev/fd")) + count + _SPARE
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft == resource.RLIM_INFINITY or most <= soft:
        yield
        return
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
