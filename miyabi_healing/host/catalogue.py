"""The data files: what is known of caches, databases, protected programs and the like. One file a
subject; the forms of their rows are in `model.catalogue`.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any


@cache
def table(name: str) -> dict[str, dict[str, Any]]:
    """The rows of ``host/data/NAME.toml``, by their names."""
    import tomllib

    file = Path(__file__).parent / "data" / f"{name}.toml"
    return tomllib.loads(file.read_text(encoding="utf-8"))


@cache
def words(name: str, key: str) -> frozenset[str]:
    """All words that the rows of a file have under one key."""
    return frozenset(word for row in table(name).values() for word in row[key])
