"""Asking places whether they answer, in a child that can be given up."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from typing import NoReturn

LIMIT = 2.0  # seconds that a mount has to answer in


_CHILD_ENDS_WITHIN = 0.2  # seconds for the end of the child that asked


_AT_ONCE = 200  # places, each a thread of the child


def ask(places: Iterable[str]) -> list[int | None]:
    """Look at some places at a time, in a child that is given up after LIMIT: the device of each,
    None for no answer.

    An error is an answer, too: 0.
    """
    asked = list(places)
    return [
        each
        for at in range(0, len(asked), _AT_ONCE)
        for each in _ask_some(asked[at : at + _AT_ONCE])
    ]


def _ask_some(places: list[str]) -> list[int | None]:
    import select
    import time

    from miyabi_healing.support import interrupts

    found: dict[int, int] = {}
    reading, writing = os.pipe()
    with interrupts.held_back():  # the child is ours to end, and nothing may come between
        try:
            child = os.fork()
        except OSError:  # there are too many processes: then nothing can be told
            os.close(reading)
            os.close(writing)
            return [None] * len(places)
        if child == 0:
            _look_and_tell(places, writing)
        os.close(writing)
    said, end = b"", time.monotonic() + LIMIT
    try:
        while (
            len(found) < len(places)
            and select.select([reading], [], [], max(end - time.monotonic(), 0))[0]
        ):
            if not (data := os.read(reading, 1 << 16)):
                break
            *lines, said = (said + data).split(b"\n")
            found.update(
                (int(number), int(device)) for number, device in (line.split() for line in lines)
            )
    finally:
        os.close(reading)
        _abandon_child(child)
    return [found.get(number) for number in range(len(places))]


def _look_and_tell(places: list[str], pipe: int) -> NoReturn:
    """In the child: a thread for each place, so that none waits for another one.

    It keeps no descriptor but the pipe: whatever becomes of it, it must hold neither our lock nor
    our output.
    """
    import _thread
    import time

    def look(number: int, path: str) -> None:
        try:
            os.statvfs(path)
            device = os.stat(path).st_dev
        except OSError:
            device = 0
        os.write(pipe, b"%d %d\n" % (number, device))

    try:
        last = max(map(int, os.listdir("/proc/self/fd")))
        os.closerange(0, pipe)
        os.closerange(pipe + 1, last + 1)
        _thread.stack_size(1 << 17)
        for each in enumerate(places):
            _thread.start_new_thread(look, each)
        time.sleep(2 * LIMIT)  # whoever asked ends us before
    finally:
        os._exit(0)


def _abandon_child(child: int) -> None:
    """End the child; one that even SIGKILL does not end at once is left to the kernel."""
    import signal
    import time

    with contextlib.suppress(OSError):
        os.kill(child, signal.SIGKILL)
        end = time.monotonic() + _CHILD_ENDS_WITHIN
        while not os.waitpid(child, os.WNOHANG)[0] and time.monotonic() < end:
            time.sleep(0.002)
