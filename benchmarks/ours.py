"""What is measured of ours, a function each, called in an interpreter of its own; what it imports is part of its cost."""

from __future__ import annotations


def find_logs(pattern: str, megabytes: str, mark: str) -> None:
    """Print the logs that are large, or that nothing has happened to since `mark` was written."""
    import os
    import time

    from miyabi_healing.host import logs

    begun = time.process_time()
    size, since = float(megabytes) * 1e6, os.stat(mark).st_mtime
    found = [file for file in logs.read(pattern).files if file.size > size or file.last <= since]
    print("\n".join(str(file) for file in found))
    print(f'{{"core": {time.process_time() - begun}}}')


def count_zombies(expected: str) -> None:
    """Count the zombies that last."""
    import time

    from miyabi_healing.host.processes import Processes

    begun = time.process_time()
    found = len(Processes().zombies())
    assert found >= int(expected), found
    print(f'{{"core": {time.process_time() - begun}}}')
