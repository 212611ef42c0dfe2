"""Having one filesystem write what it has to write."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from pathlib import Path


def flush_filesystem(path: Path, seconds: float) -> None:
    """Flush the filesystem of a path (syncfs(2)), and wait for it no longer than that: a busy disk
    can take minutes.
    """
    if not sys.platform.startswith("linux"):
        return
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        worker = threading.Thread(target=_flush, args=(descriptor,), daemon=True)
        worker.start()
        worker.join(seconds)


def _flush(descriptor: int) -> None:
    import ctypes

    try:
        ctypes.CDLL(None).syncfs(descriptor)
    finally:
        os.close(descriptor)
