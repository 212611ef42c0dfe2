"""Starting and ending without what a short life has no use for: most of a start is imports, a sixth
of it was the end.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib.util
import os
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import NoReturn

# What pytest imports and a run never asks for anything. They are loaded when somebody does.
_POSTPONED = frozenset({"importlib.metadata", "locale", "zipfile"})
_BYTECODE_NEEDS = 16 << 20  # bytes
_COLOURING = "pygments"  # what pytest shows code in colours with; our runs show none


def collect_seldom() -> None:
    """Let the garbage collector wait: what a start makes is all still needed when it would look."""
    gc.set_threshold(100_000, 50, 100)


class Postponing:
    """Finds the modules in POSTPONED so that they are loaded by their first use
    (importlib.util.LazyLoader), not at once.
    """

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in _POSTPONED:
            return None
        for finder in sys.meta_path:
            if (
                finder is not Postponing
                and (spec := finder.find_spec(name, path, target))
                and spec.loader
            ):
                spec.loader = importlib.util.LazyLoader(spec.loader)
                return spec
        return None


class _Nothing:
    """Stands for whatever is taken from a module that is left out."""


class _Empty(ModuleType):
    def __getattr__(self, name: str) -> type[_Nothing]:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Nothing


class LeavingOut:
    """Finds an empty module for each of the package COLOURS, and makes it: anything may be imported
    from it, and is Nothing.
    """

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name.partition(".")[0] != _COLOURING:
            return None
        return ModuleSpec(name, LeavingOut, is_package=True)  # type: ignore[arg-type]

    @staticmethod
    def create_module(spec: ModuleSpec) -> ModuleType:
        return _Empty(spec.name)

    @staticmethod
    def exec_module(module: ModuleType) -> None:
        pass


@contextlib.contextmanager
def postponing() -> Iterator[None]:
    """Postpone and leave out while pytest is imported; whoever imports the same afterwards gets the
    real thing.
    """
    finders: list[type[Postponing | LeavingOut]] = (
        [Postponing] if _COLOURING in sys.modules else [Postponing, LeavingOut]
    )
    sys.meta_path[:0] = finders
    try:
        yield
    finally:
        for finder in finders:
            sys.meta_path.remove(finder)
        if LeavingOut in finders:
            for name in [each for each in sys.modules if each.partition(".")[0] == _COLOURING]:
                del sys.modules[name]


def spare_full_disks(folders: Iterable[Path]) -> None:
    """Keep nothing that is compiled where a folder of code lies on a disk that is all but full.

    pytest gives up a check whose bytecode it cannot keep for want of space (``try_makedirs`` in its
    assertion/rewrite.py), and CPython before 3.12.8 and 3.13.1 leaves half a file (gh-126606).
    """
    for folder in folders:
        with contextlib.suppress(OSError):
            space = os.statvfs(folder)
            if space.f_bavail * space.f_frsize < _BYTECODE_NEEDS:
                sys.dont_write_bytecode = True


def leave(end: SystemExit) -> NoReturn:
    """End the program now, as `end` asks for: what was written is out, and what is to be done at
    exit is done.

    Whatever is out of the ordinary (a message as status, a thread at work, output that cannot be
    written) goes the usual way.
    """
    code = 0 if end.code is None else end.code
    if isinstance(code, int) and threading.active_count() == 1:
        with contextlib.suppress(OSError, ValueError):
            for stream in (sys.stdout, sys.stderr):
                if stream is not None:
                    stream.flush()
            atexit._run_exitfuncs()
            os._exit(code)
    raise end


def open_what_is_closed() -> None:
    """Have all three standard streams: the next file would get the descriptor of a closed one, and
    pytest needs them.
    """
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            os.open(os.devnull, os.O_RDWR)  # the lowest that is free
            for each in (name, f"__{name}__"):
                setattr(
                    sys, each, os.fdopen(descriptor, "r" if name == "stdin" else "w", closefd=False)
                )
