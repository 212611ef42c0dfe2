"""Runs one program and writes what it cost as JSON to the descriptor named first: wall and CPU
seconds, peak memory, status.

A process of its own, as small as an interpreter can be: in the kernel's books a new program starts
with the peak of the process that started it, so nothing that is measured here appears smaller than
this (about 10 MB).
"""

import os
import sys
import time


def main(answer: int, argv: list[str]) -> None:
    os.set_inheritable(answer, False)
    begun = time.perf_counter()
    child = os.posix_spawnp(argv[0], argv, os.environ)
    _pid, status, usage = os.wait4(child, 0)
    wall = time.perf_counter() - begun
    code = os.waitstatus_to_exitcode(status)
    # ru_maxrss is in bytes there, in kilobytes elsewhere
    kilobyte = 1 if sys.platform == "darwin" else 1024
    text = (
        f'{{"wall": {wall}, "cpu": {usage.ru_utime + usage.ru_stime}, "rss": '
        f'{usage.ru_maxrss * kilobyte}, "code": {code}}}'
    )
    os.write(answer, text.encode())


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
