"""zstd: the standard library's, or its backport before Python 3.14. Loaded where it is used."""

from __future__ import annotations

import sys
from typing import Any


def library() -> Any:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd
