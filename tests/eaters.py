"""A HOME in which 23 kinds of things eat a disk, as people report them: caches that may go, some
that are costly, what is a person's, and traps that look like caches.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

CACHE_TAG = "Signature: 8a477f597d28d172789f06886806bc55\n"
CARGO_TAG = f"{CACHE_TAG}# This file is a cache directory tag created by cargo.\n"
OLD = "20240102030405"
GOES, COSTLY, PERSONAL, STAYS = "goes", "costly", "a person's", "stays"


@dataclass(frozen=True)
class Eater:
    """A folder below the home, what becomes of it by default, and the files in it. What `stays` is
    a trap.
    """

    name: str
    fate: str
    path: str
    files: tuple[str, ...]


EATERS = (
    Eater("npm", GOES, ".npm/_cacache", ("content-v2/sha512/aa/bb/x", "tmp/y")),
    Eater("npx", GOES, ".npm/_npx/0123456789abcdef", ("node_modules/tool/index.js",)),
    Eater("pip", GOES, ".cache/pip", ("http-v2/a/b/c/d/e/x", "wheels/a/b/c/d/x.whl")),
    Eater("bun", GOES, ".bun/install/cache", ("left-pad@1.0.0/index.js", "react@19/index.js")),
    Eater("poetry", GOES, ".cache/pypoetry/artifacts", ("aa/bb/x.whl",)),
    Eater("go modules", GOES, "go/pkg/mod", ("example.com/group/x@v1/x.go",)),
    Eater("go builds", GOES, ".cache/go-build", ("00/00a-d", "ff/ffb-d")),
    Eater("cargo", GOES, ".cargo/registry/cache", ("index.crates.io-1/serde-1.crate",)),
    Eater("ccache", GOES, ".cache/ccache", ("0/a/x", "f/b/y")),
    Eater("sccache", GOES, ".cache/sccache", ("a/b/abc",)),
    Eater("electron", GOES, ".cache/electron", ("0a1b/electron.zip",)),
    Eater("thumbnails", GOES, ".cache/thumbnails", ("large/a.png", "normal/b.png")),
    Eater("editor's servers", GOES, ".vscode-server/cli/servers/Stable-old", ("server/node",)),
    Eater("build folder", GOES, "src/app/target", ("debug/deps/libapp.rlib",)),
    Eater("runner's logs", GOES, "actions-runner/_diag", ("Runner_1.log",)),
    Eater("models", COSTLY, ".cache/huggingface/hub", ("models--x/blobs/a",)),
    Eater("more models", COSTLY, ".ollama/models", ("blobs/sha256-a", "manifests/x")),
    Eater("browsers", COSTLY, ".cache/ms-playwright", ("chromium-1/chrome",)),
    Eater("maven", COSTLY, ".m2/repository", ("org/x/1/x-1.jar",)),
    Eater("downloads", PERSONAL, "Downloads", ("holiday.mkv", "thesis.pdf")),
    Eater("trash", PERSONAL, ".local/share/Trash", ("files/old.iso",)),
    Eater("agent's sessions", STAYS, ".claude/projects", ("x/session.jsonl",)),
    Eater("machines", STAYS, "src/machines", ("disk.qcow2",)),
)
# What lies beside these, or in them, and must be there afterwards.
TRAPS = (
    ".cargo/bin/tool", ".cargo/credentials.toml", ".cache/ccache/ccache.conf",
    ".cache/pypoetry/virtualenvs/x/bin/python", ".cache/JetBrains/Idea/LocalHistory/changes",
    ".cache/JetBrains/Idea/caches/content.dat", ".cache/huggingface/token",
    ".cache/go-build/fuzz/x/found", ".vscode-server/cli/servers/Stable-new/server/node",
    ".vscode-server/data/User/settings.json", "src/app/src/main.rs", "src/app/target/CACHEDIR.TAG",
    "src/lib/.venv/bin/tool", "src/lib/.venv/CACHEDIR.TAG", "src/machines/CACHEDIR.TAG",
    ".cache/thumbnails/mine/.git/HEAD", ".cache/thumbnails/mine/work.txt", "elsewhere/uv/precious",
    ".local/share/Trash/info/old.iso.trashinfo", "actions-runner/_diag/Worker_2.log",
    "actions-runner/_diag/Worker_3.log", "actions-runner/_work/app/app/notes.txt",
    "src/app/node_modules/left-pad/index.js",
)  # fmt: skip


def build(home: Path, size: int = 2_000_000) -> None:
    """Make it all, each eater of so many bytes, and make everything old but what is the newest of
    its kind. `home` is the mount point of an ext4 on a loop device: only there can the time of a
    file's last change be set.
    """
    for each in EATERS:
        for name in each.files:
            put(home / each.path / name, os.urandom(size // len(each.files)))
    for name in TRAPS:
        tag = CARGO_TAG if "target" in name else CACHE_TAG
        put(home / name, tag.encode() if name.endswith("CACHEDIR.TAG") else b"precious\n")
    put(home / "src/lib/.venv/pyvenv.cfg", b"home = /usr/bin\n")
    (home / ".local/share/Trash/info/old.iso.trashinfo").write_text(
        "[Trash Info]\nPath=/x/old.iso\nDeletionDate=2024-01-02T03:04:05\n"
    )
    (home / ".cache/uv").symlink_to(home / "elsewhere/uv")
    # the project's own name of a file that bun has in its cache
    linked = home / "src/app/node_modules/left-pad/index.js"
    linked.unlink()
    os.link(home / ".bun/install/cache/left-pad@1.0.0/index.js", linked)
    module = home / "go/pkg/mod/example.com/group/x@v1"
    (module / "x.go").chmod(0o444)
    module.chmod(0o555)
    make_old(home, ("Stable-new", "Worker_2.log", "Worker_3.log"))


def put(file: Path, data: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)


def make_old(disk: Path, but: tuple[str, ...]) -> None:
    """Set the times of all files on a loop-mounted ext4, the one of the last change as well
    (debugfs(8)); it is unmounted meanwhile.
    """
    names = [
        os.path.join(folder, name).removeprefix(str(disk))
        for folder, folders, files in os.walk(disk)
        for name in (*folders, *files)
    ]
    script = "".join(
        f'set_inode_field "{name}" {field} {OLD}\n'
        for name in names
        if not any(each in name for each in but)
        for field in ("ctime", "mtime")
    )
    device = next(
        line.split()[0]
        for line in Path("/proc/self/mounts").read_text().splitlines()
        if line.split()[1] == str(disk)
    )
    image = Path("/sys/block", os.path.basename(device), "loop/backing_file").read_text().strip()
    subprocess.run(["umount", str(disk)], check=True)
    subprocess.run(
        ["debugfs", "-w", "-f", "-", image], input=script, text=True, check=True,
        capture_output=True,
    )  # fmt: skip
    subprocess.run(["mount", "-o", "loop", image, str(disk)], check=True)
