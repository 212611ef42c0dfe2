"""Git branches: telling which are merged when the base has moved on far since, and every branch
added a line to the same file.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Generator

from benchmarks.harness import Aim, Case, Command, Settings, Side, main, needs, python
from benchmarks.worktrees import CHERRY

_SINCE = 3000  # commits of the base since the branches began
_WHO = "committer Bench <bench@example.invalid> 1700000000 +0000"


def cases(settings: Settings) -> Generator[Case, None, None]:
    git, sh = needs("git"), needs("sh")
    os.environ.update(GIT_CONFIG_GLOBAL="/dev/null", GIT_CONFIG_SYSTEM="/dev/null")
    for who in ("AUTHOR", "COMMITTER"):
        os.environ.update({f"GIT_{who}_NAME": "Bench", f"GIT_{who}_EMAIL": "bench@example.invalid"})
    repo = settings.folder / "repo"
    branches, since = settings.scaled(300), settings.scaled(_SINCE)
    subprocess.run([git, "init", "-q", "-b", "main", str(repo)], check=True)
    subprocess.run(
        [git, "fast-import", "--quiet"],
        cwd=repo,
        input=history(branches, since).encode(),
        check=True,
    )
    asking = python(
        "benchmarks.ours", "merged_branches", repo, branches - len(range(0, branches, 3))
    )
    one_by_one = Command((sh, "-c", CHERRY), cwd=repo)
    yield Case(
        f"which of {branches} branches are merged, {since:,} commits later, all in one changelog",
        Side("ours", lambda: asking),
        Side("commit-tree and cherry a branch", lambda: one_by_one),
        (
            Aim(reach=0.1),
            Aim("core", 0.1, name="without an interpreter's start", against="wall"),
            Aim("processes", 10, absolute=True, name="git processes"),
        ),
        rounds=3,
    )


def history(branches: int, since: int) -> str:
    """Branches of two commits, each third of them not merged, squashed, or rebased; the base adds
    to its files in between, and rewords all that it got in the end.
    """
    log = ["first"]
    code = [f"line {number}" for number in range(200)]
    out = [_commit("main", "begin", {"CHANGELOG": log, **_files(code)})]
    landings = dict(zip(range(0, since, max(since // branches, 1)), range(branches), strict=False))
    for number in range(since):
        code[number % 200] = f"line {number % 200}, changed by {number}"
        if (branch := landings.get(number)) is not None:
            name, line = f"topic/{branch}", f"topic {branch}"
            own = {f"src/topic{branch}": [line] * 20}
            log = [line, *log]
            out.append(_commit(name, "work", own, start="refs/heads/main"))
            out.append(_commit(name, "changelog", {"CHANGELOG": log}))
            out += [
                [],
                [_commit("main", "squash", {**own, "CHANGELOG": log})],
                [_commit("main", "work", own), _commit("main", "changelog", {"CHANGELOG": log})],
            ][branch % 3]
            log = log if branch % 3 else log[1:]
        out.append(_commit("main", "more", {f"src/code{number % 50}": code}))
    out.append(_commit("main", "reword", {"CHANGELOG": [f"{line}, reworded" for line in log]}))
    return "".join(out)


def _files(code: list[str]) -> dict[str, list[str]]:
    return {f"src/code{number}": code for number in range(50)}


def _commit(branch: str, title: str, files: dict[str, list[str]], start: str = "") -> str:
    out = [f"commit refs/heads/{branch}\n{_WHO}\ndata {len(title)}\n{title}\n"]
    out += [f"from {start}\n"] if start else []
    for path, lines in files.items():
        text = "".join(f"{line}\n" for line in lines)
        out.append(f"M 100644 inline {path}\ndata {len(text)}\n{text}\n")
    return "".join(out)


if __name__ == "__main__":
    main({"merges": cases})
