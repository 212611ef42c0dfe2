"""The pictures of the documentation, from a real world: ``python3 docs/pictures.py`` makes them
anew (as root on Linux, with git and Chromium).

A host called build-07 with a full disk, worktrees of agents, logs and a git lock is made on a loop
device, in namespaces of its own. The program heals it there; only the weeks before that are made
up. What is written is read through for names of the machine it was made on.
"""

from __future__ import annotations

import fcntl
import io
import json
import math
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

DOCS = Path(__file__).resolve().parent
PROJECT = DOCS.parent
PYTHON = PROJECT / ".venv/bin/python"
TOP = Path("/srv")  # of the world, in namespaces of its own
HOME = TOP / "build"
HOST, COLUMNS = "build-07", 100
DAYS = 30  # of the made-up past
WIDTH = 1144  # pixels of the picture of the page
CONFIG = """
[disk]
mounts = ["/srv"]
[git]
repos = ["~/src/app"]
[logs]
patterns = ["~/logs/*.log"]
[caches]
never = ["journald", "docker-build"]
[safety]
ours_alone = ["/srv"]
[checks.large_log_files]
threshold = 50
[checks.tmpfs_usage]
enabled = false
[checks.swap_usage]
enabled = false
"""
MEGABYTE = 1_000_000


def main() -> None:
    """Make the environment, then go into namespaces of our own."""
    if "--inside" in sys.argv:
        make_all(Path(sys.argv[-1]))
        return
    sys.path.insert(0, str(PROJECT / "tests"))
    from browser import find_chromium

    if sys.platform != "linux" or os.geteuid() != 0 or not find_chromium():
        sys.exit("docs/pictures.py: needs Linux, root and Chromium (apt install chromium)")
    subprocess.run([PROJECT / "run_healing.sh", "--version"], check=True, stdout=subprocess.DEVNULL)
    with tempfile.TemporaryDirectory(prefix="pictures-") as folder:
        inside = [str(PYTHON), "-I", str(DOCS / "pictures.py"), "--inside", folder]
        apart = ["unshare", "--mount", "--pid", "--uts", "--fork", "--mount-proc", "--kill-child"]
        subprocess.run([*apart, *inside], check=True)


def make_all(folder: Path) -> None:
    """The world, and every picture of it."""
    sys.path[:0] = [str(PROJECT), str(PROJECT / "tests")]
    strangers = {socket.gethostname(), str(PROJECT).lstrip("/"), str(folder).lstrip("/")}
    socket.sethostname(HOST)
    clean = {
        "HOME": str(HOME),
        "USER": "build",
        "LANG": "C.UTF-8",
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    }
    os.environ.clear()
    os.environ.update(clean)
    mount_world(folder / "disk.img")
    fill_world()
    os.chdir(HOME / "miyabi-healing")
    invent_past()
    report = terminal(["./run_healing.sh"])
    page = subprocess.run(
        ["./run_healing.sh", "report", "--html", "-"], check=True, capture_output=True, text=True
    ).stdout
    live = terminal(["./run_healing.sh", "--watch", "--interval", "4"], seconds=10)
    for words in (*report, *live, page):
        if found := [each for each in strangers if re.search(rf"\b{re.escape(each)}\b", words)]:
            sys.exit(f"docs/pictures.py: the name of this machine or a path of it: {found}")
    svg(report, "./run_healing.sh", DOCS / "report.svg")
    svg(live, "./run_healing.sh --watch", DOCS / "watch.svg")
    photograph(page, folder)


def mount_world(image: Path) -> None:
    """Two GB of ext4 at TOP, and the project in its home; gone with the namespace."""
    with open(image, "wb") as file:
        file.truncate(2 << 30)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(image)], check=True)
    TOP.mkdir(exist_ok=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(TOP)], check=True)
    (HOME / "miyabi-healing").mkdir(parents=True)
    subprocess.run(["mount", "--bind", str(PROJECT), str(HOME / "miyabi-healing")], check=True)


def fill_world() -> None:
    """What is wrong with the host."""
    from gitworld import commit, git, merged_worktree, repository, worktree
    from pile import make_old

    config = HOME / ".config/miyabi-healing/config.toml"
    config.parent.mkdir(parents=True)
    config.write_text(CONFIG)
    git_config = (
        "[user]\nname = Build\nemail = build@example.invalid\n[init]\ndefaultBranch = main\n"
    )
    (HOME / ".gitconfig").write_text(git_config)
    repo = repository(HOME / "src/app")
    names = ["login-form", "cache-keys", "retry-uploads", "dark-mode", "search-index", "csv-export"]
    trees = [
        *(merged_worktree(repo, f"agent-{name}") for name in names),
        *(merged_worktree(repo, f"fix-{number}", "merge") for number in range(101, 111)),
        *(worktree(repo, name) for name in ("payment-rework", "new-parser")),
    ]
    dirty = merged_worktree(repo, "profile-page")
    (dirty / "notes.txt").write_text("do not forget\n")
    environment = merged_worktree(repo, "billing-api")
    (environment / ".env").write_text("KEY=1\n")
    locked = merged_worktree(repo, "usb-copy")
    git(repo, "worktree", "lock", "--reason", "on a usb stick", str(locked))
    for tree in (*trees, dirty, environment, locked):
        admin = Path(git(tree, "rev-parse", "--absolute-git-dir"))
        make_old(admin, 24)
        make_old(tree, 24)
    commit(merged_worktree(repo, "today"), "more.txt", "at work\n")
    lock = repo / ".git/index.lock"
    lock.touch()
    os.utime(lock, (time.time() - 3700,) * 2)
    for name, size in (("server", 61), ("worker", 38)):
        write_log(HOME / f"logs/{name}.log", size * MEGABYTE)
    put(HOME / ".cache/pip/http-v2/a/b/c/body", 60)
    put(HOME / ".cache/uv/archive-v0/Zk3/lib/wheel.so", 50)
    put(HOME / "machines/build.qcow2", 760)
    put(HOME / "Downloads/ubuntu-24.04.iso", 310)
    put(HOME / "src/render/frames/take-1.exr", 260)
    put(HOME / ".claude/projects/app/session.jsonl", 120)
    put(HOME / "db/backup/monday.dump", 90)
    free = os.statvfs(TOP)
    rest = free.f_bavail * free.f_frsize - 20 * MEGABYTE
    put(HOME / "backup/home.tar", int(rest / MEGABYTE))
    for name in ("pip", "uv"):
        age(HOME / ".cache" / name, 40)
    os.sync()


def put(file: Path, megabytes: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with open(file, "wb") as stream:
        os.posix_fallocate(stream.fileno(), 0, megabytes * MEGABYTE)


def age(folder: Path, days: float) -> None:
    for path, folders, names in os.walk(folder):
        for name in (*folders, *names, "."):
            os.utime(os.path.join(path, name), (time.time() - days * 86_400,) * 2)


def write_log(file: Path, size: int) -> None:
    file.parent.mkdir(exist_ok=True)
    lines = "".join(
        f"GET /api/v1/items/{number} 200 {number % 97} ms\n" for number in range(20_000)
    )
    with open(file, "w") as stream:
        while stream.tell() < size:
            stream.write(lines)


def invent_past() -> None:
    """Weeks before now, an hour apart, which lead to what is measured now."""
    from pagework import run_at

    from miyabi_healing.state.journal import Journal
    from miyabi_healing.support import paths

    asked = subprocess.run(
        ["./run_healing.sh", "--dry-run", "--json"], check=False, capture_output=True, text=True
    )
    metrics = json.loads(asked.stdout)["metrics"]
    state = paths.state_folder()
    state.mkdir(mode=0o700, parents=True)
    book, hours = Journal(state / paths.JOURNAL), DAYS * 24
    with book.at_once():
        for hour in range(hours, 0, -1):
            if 280 < hour < 320:  # somebody had the host switched off
                continue
            rows = [past(each, hours - hour, hours) for each in metrics]
            run_at(book, time.time() - hour * 3600, rows)
    book.close()


def past(metric: dict[str, object], hour: int, hours: int) -> tuple[object, ...]:
    """What a value may have been: it grew, was healed where it was over its limit, and grew again;
    what is low now always was.
    """
    now, limit = float(str(metric["value"])), float(str(metric["threshold"]))
    healed_at = int(hours * (0.3 + len(str(metric["name"])) % 5 / 10))
    begin = limit * 0.45
    if metric["unit"] == "s":
        value = 0.0
    elif now < limit * 0.8:
        value = now * (1 + 0.25 * math.sin(hour / 4) + 0.2 * math.sin(hour / 29))
    elif hour <= healed_at:
        value = begin + (limit * 1.01 - begin) * hour / healed_at
    else:
        value = begin + (min(now, limit) - begin) * (hour - healed_at) / (hours - healed_at)
    value += limit * 0.012 * math.sin(hour / 3.8) if value > limit * 0.3 else 0
    over = value > limit and hour == healed_at
    value = value if over else min(value, limit)
    if metric["unit"] == "":
        value = limit + 1 if over else int(value)
    outcome, after = ("healed", begin) if over else ("healthy", None)
    what = metric["name"], metric["target"]
    return (*what, float(value), after, limit, metric["unit"], outcome)


def terminal(command: Sequence[str], seconds: float = 120) -> list[str]:
    """What a command leaves on a terminal's screen, with its colours; one that goes on is stopped
    after so many seconds, while its view stands.
    """
    pid, master = pty.fork()
    if pid == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        os.execvpe(command[0], command, {**os.environ, "TERM": "xterm-256color"})
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 60, COLUMNS, 0, 0))
    end, read = time.monotonic() + seconds, b""
    while (left := end - time.monotonic()) > 0:
        if not select.select([master], [], [], left)[0]:
            break
        try:
            read += os.read(master, 1 << 16)
        except OSError:  # it has ended
            break
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    with suppress(OSError):
        while os.read(master, 1 << 16):
            pass
    os.waitpid(pid, 0)
    os.close(master)
    return screen(read.decode("utf-8", "replace"))


def screen(text: str) -> list[str]:
    """The lines that stand at the end: what moves the cursor is followed as far as rich uses it."""
    rows, row = [""], 0
    for piece in re.split(r"(\x1b\[[0-9;?]*[A-Za-z]|\r\n|\n|\r)", text):
        code = piece[-1:] if piece.startswith("\x1b[") else ""
        count = int(number) if code and (number := piece[2:-1]).isdigit() else 1
        if piece in ("\n", "\r\n"):
            row += 1
            rows += [""] * (row + 1 - len(rows))
        elif code == "A":
            row = max(row - count, 0)
        elif code == "H":
            row = 0
        elif code == "K":
            rows[row] = ""
        elif code == "J":
            rows[row:] = [""]
        elif piece and piece != "\r" and code in ("", "m"):
            rows[row] += piece
    while rows and not re.sub(r"\x1b\[[0-9;]*m", "", rows[-1]).strip():
        rows.pop()
    return rows


def svg(lines: Sequence[str], title: str, file: Path) -> None:
    """Lines of a terminal as a picture."""
    from rich.console import Console
    from rich.text import Text

    console = Console(
        record=True,
        width=COLUMNS,
        file=io.StringIO(),
        force_terminal=True,
        color_system="truecolor",
    )
    console.print(Text.from_ansi("\n".join(lines)), overflow="fold")
    made = console.export_svg(title=title, unique_id=file.stem)
    # rich's own face comes from the network; here the reader's is good enough
    made = re.sub(r"@font-face \{.*?\}", "", made, flags=re.DOTALL)
    file.write_text("\n".join(line.rstrip() for line in made.split("\n")) + "\n")


def photograph(page: str, folder: Path) -> None:
    """The page down to the map of the space, light and dark."""
    from browser import browser, find_chromium

    program = find_chromium()
    assert program
    file = folder / "page.html"
    file.write_text(page)
    with browser(program, folder) as chromium:
        for scheme in ("light", "dark"):
            chromium.open(file, WIDTH, scheme)
            end = chromium.run("document.querySelector('.map').getBoundingClientRect().bottom")
            (DOCS / f"page-{scheme}.png").write_bytes(chromium.picture(round(end) + 10))


if __name__ == "__main__":
    main()
