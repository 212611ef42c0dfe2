"""Make a virtual environment of a lock file, whole or not at all: ``environment.py VENV LOCK``.

It stands alone, because it runs before anything is installed. A copy of the lock inside the
environment says what it was made of, and that it is complete and ours.
"""

from __future__ import annotations

import fcntl
import filecmp
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

EXIT_UNKNOWN = 3
PLACE = "MIYABI_HEALING_ENVIRONMENT"  # the folder that it is made in, if the usual one is not to be
NEEDED = 80_000_000  # bytes, while it is made; half of that stays
NEEDED_FILES = 5_000


def say(message: str) -> None:
    print(f"miyabi-healing: {message}", file=sys.stderr, flush=True)


def stop(message: str) -> NoReturn:
    say(message)
    sys.exit(EXIT_UNKNOWN)


def is_made(venv: Path, lock: Path) -> bool:
    stamp = venv / lock.name
    return (
        os.access(venv / "bin/python", os.X_OK)
        and stamp.is_file()
        and filecmp.cmp(lock, stamp, shallow=False)
    )


def has_room(folder: Path) -> bool:
    """Whether an environment can be made there. Raises OSError."""
    space = os.statvfs(folder)
    return space.f_bavail * space.f_frsize >= NEEDED and (
        not space.f_files or space.f_favail >= NEEDED_FILES
    )


def require_room(folder: Path) -> None:
    """Exits, saying what is missing and where there would be enough of it, where the disk is
    full.
    """
    while not folder.exists():
        folder = folder.parent
    if has_room(folder):
        return
    space = os.statvfs(folder)
    free = f"{space.f_bavail * space.f_frsize / 1e6:.0f} MB and {space.f_favail} files are free"
    need = f"the environment needs {NEEDED / 1e6:.0f} MB and {NEEDED_FILES} files to be made"
    for other in ("/dev/shm", os.environ.get("XDG_RUNTIME_DIR", ""), "/tmp", "/var/tmp"):
        if os.path.isdir(other) and os.access(other, os.W_OK) and has_room(Path(other)):
            if os.statvfs(other).f_flag & os.ST_NOEXEC:
                continue
            there = f"{other}/miyabi-healing-{os.getuid()}"
            stop(f"{need}, and on {folder} {free}; elsewhere: {PLACE}={there} ./run_healing.sh")
    stop(f"{need}, and on {folder} {free}; make room, or name a folder on another disk in {PLACE}")


def temporary_folder(venv: Path) -> dict[str, str]:
    """Where pip unpacks: beside the environment, where the usual place has no room."""
    usual = Path(os.environ.get("TMPDIR") or "/tmp")
    try:
        enough = os.access(usual, os.W_OK) and has_room(usual)
    except OSError:
        enough = False
    return {} if enough else {"TMPDIR": str(venv.parent)}


def make(venv: Path, lock: Path) -> None:
    """Have `venv` hold what `lock` lists. Exits, saying why and what helps, where that cannot
    be.
    """
    if sys.version_info < (3, 11):
        stop(f"{sys.executable} is Python {sys.version.split()[0]}; 3.11 or newer is needed")
    if importlib.util.find_spec("ensurepip") is None:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        stop(
            f"{sys.executable} cannot make environments; on Debian and Ubuntu: apt install "
            f"python{version}-venv"
        )
    os.umask(0o022)  # whoever can write to it chooses what we execute
    require_room(venv.parent)
    venv.parent.mkdir(parents=True, exist_ok=True)
    with venv.with_name(f"{venv.name}.log").open("a+") as log:
        # The log is the lock as well: pip inherits it, so one that outlives a killed start still
        # keeps the next out.
        try:
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another start that is making {venv}")
            fcntl.flock(log, fcntl.LOCK_EX)
        if is_made(venv, lock):
            return
        if venv.exists() and not (venv / lock.name).exists():
            stop(f"{venv} is not ours to replace; move it away and start again")
        say(f"making the environment {venv} from {lock.name}, once; it takes a moment")
        log.truncate(0)
        build(venv, lock, log.fileno())


def build(venv: Path, lock: Path, log: int) -> None:
    new, old = venv.with_name(f"{venv.name}.new"), venv.with_name(f"{venv.name}.old")
    environment = {**os.environ, **temporary_folder(venv)}
    for folder in (new, old):  # of a start that was killed
        shutil.rmtree(folder, ignore_errors=True)
    pip = [str(new / "bin/python"), "-I", "-m", "pip", "--disable-pip-version-check", "--no-input"]
    for command in (
        [sys.executable, "-I", "-m", "venv", "--prompt", venv.name, str(new)],
        [
            *pip,
            "install",
            "--no-user",
            "--no-deps",
            "--require-hashes",
            "--progress-bar=off",
            "-r",
            str(lock),
        ],
        # nobody needs them any more; one has a hand in every start
        [*pip, "uninstall", "--yes", "--quiet", "setuptools", "pip"],
    ):
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
        )
        if done.returncode:
            shutil.rmtree(new, ignore_errors=True)
            text = venv.with_name(f"{venv.name}.log")
            said = [line for line in text.read_text(errors="replace").splitlines() if line.strip()]
            stop(
                "\n    ".join(
                    [f"{command[3]} failed; are there network and space? {text} ends:", *said[-3:]]
                )
            )
    for script in (file for file in (new / "bin").iterdir() if not file.is_symlink()):
        script.write_bytes(script.read_bytes().replace(os.fsencode(new), os.fsencode(venv)))
    shutil.copyfile(lock, new / lock.name)
    if venv.exists():
        venv.rename(old)
    new.rename(venv)
    shutil.rmtree(old, ignore_errors=True)


if __name__ == "__main__":
    try:
        make(Path(sys.argv[1]), Path(sys.argv[2]))
    except OSError as error:
        stop(f"the environment cannot be made: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
