#!/usr/bin/env python3
"""Starts Miyabi Healing with any python3: in this interpreter if it has all that is needed, else by
run_healing.sh.

Older interpreters read this file too, so it is written for Python 3.6.
"""

import importlib.util
import os
import sys

ROOT = os.path.dirname(os.path.realpath(__file__))
MODULES = (
    "click",
    "jinja2",
    "msgspec",
    "platformdirs",
    "prometheus_client",
    "psutil",
    "pytest_jsonreport",
    "rich",
    "slack_sdk",
)
TRIED = "MIYABI_HEALING_TRIED"
EXIT_UNKNOWN = 3
BYTECODE_NEEDS = 16 << 20  # bytes: below, what is compiled is not kept


def is_complete() -> bool:
    """Whether the program can run in this interpreter."""
    if sys.version_info < (3, 11):
        return False
    zstd = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
    try:
        # all of pytest would cost a tenth of a second, even for --help
        from _pytest import version_tuple

        return version_tuple >= (9,) and all(map(importlib.util.find_spec, (*MODULES, zstd)))
    except ImportError:
        return False


def spare_full_disk() -> None:
    """Keep nothing that is compiled on a disk that is all but full: an older CPython leaves half a
    file there, which no later start can read (gh-126606).
    """
    space = os.statvfs(ROOT)
    if space.f_bavail * space.f_frsize < BYTECODE_NEEDS:
        sys.dont_write_bytecode = True


def run_program() -> None:
    """Run it, also where an earlier start has left half a file."""
    try:
        from miyabi_healing.cli.main import main
    except EOFError:
        sys.dont_write_bytecode = True
        sys.pycache_prefix = os.devnull  # nothing lies below: all is compiled again
        from miyabi_healing.cli.main import main
    main()


def start_afresh() -> None:
    """Become run_healing.sh, which has or makes an environment."""
    stamp = os.path.join(sys.prefix, "runner.txt")
    try:
        if os.environ.get(TRIED) == sys.prefix:
            raise OSError("making it anew did not help")
        if os.path.exists(stamp):  # our own, spoilt: as by an upgrade of the interpreter beneath it
            open(stamp, "w").close()
    except OSError as error:
        print(
            f"miyabi-healing: {sys.prefix} is incomplete ({error}); delete it and start again",
            file=sys.stderr,
        )
        sys.exit(EXIT_UNKNOWN)
    os.environ[TRIED] = sys.prefix
    os.execv("/bin/sh", ["sh", os.path.join(ROOT, "run_healing.sh"), *sys.argv[1:]])


if __name__ == "__main__":
    if is_complete():
        os.environ.pop(TRIED, None)
        sys.path.insert(0, ROOT)
        spare_full_disk()
        run_program()
    else:
        start_afresh()
