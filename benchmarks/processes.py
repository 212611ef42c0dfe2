"""Processes: finding zombies among many.

Where there are zombies, ours looks at them again after a tenth of a second: wall time would show
nothing but that pause.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager

from benchmarks.harness import Aim, Broken, Case, Command, Settings, Side, main, needs, python

# Each waits for the end of its standard input, a pipe that only the benchmark could write to:
# whatever ends that, SIGKILL too, ends them all.
PARENT = """
import os, sys
def wait():
    os.read(0, 1)
def become(many, then):
    for _ in range(many):
        if os.fork() == 0:
            then()
            os._exit(0)
become(int(sys.argv[1]), wait)
become(int(sys.argv[2]), int)
os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT) if int(sys.argv[2]) else None
print(flush=True)
wait()
"""


def cases(settings: Settings) -> Generator[Case, None, None]:
    number = settings.scaled(5000)
    peer = Command((needs("ps"), "-eo", "stat,pid,ppid"))
    core = Aim("core", 0.5, name="CPU without an interpreter's start", against="cpu")
    for zombies, aims in (
        (0, (Aim(reach=0.5), Aim("cpu", 0.5, name="CPU"), core)),
        (20, (Aim("cpu", 0.5, name="CPU"), core)),
    ):
        job = f"zombies among {number:,} processes, {zombies or 'none'} there"
        with crowd(number, zombies):
            ours = python("benchmarks.ours", "count_zombies", zombies)
            mine = Side("ours", lambda ours=ours: ours)  # type: ignore[misc]
            yield Case(job, mine, Side("ps", lambda: peer), aims, rounds=9)
            if zombies:
                plan = Side("ours", lambda: python("benchmarks.ours", "plan_zombies", 20))
                job = f"planning about {zombies} zombies among {number:,} processes"
                aim = Aim("core", 0.5, absolute=True, name="CPU", unit="s")
                yield Case(job, plan, None, (aim,), rounds=5)


@contextmanager
def crowd(number: int, zombies: int) -> Iterator[None]:
    """So many processes that do nothing, and some that are dead, all in a session of their own."""
    argv = [sys.executable, "-I", "-S", "-c", PARENT, str(number), str(zombies)]
    parent = subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )
    try:
        assert parent.stdin is not None
        assert parent.stdout is not None
        if not parent.stdout.readline():
            raise Broken(f"{number} processes cannot be started here")
        time.sleep(0.5)
        yield
    finally:
        os.killpg(parent.pid, signal.SIGKILL)
        parent.communicate()
        time.sleep(1)  # their init has to reap them


if __name__ == "__main__":
    main({"processes": cases})
