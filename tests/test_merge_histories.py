"""For any history: what counts as merged is in the base by one of four rules, told here by brute
force and by git's own patch ids, and what is in it by one of them counts.

``PROPERTY_EXAMPLES=5000`` looks longer.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from pathlib import Path

import pytest
from gitworld import git
from hypothesis import HealthCheck, event, given, note, settings
from hypothesis import strategies as st

from miyabi_healing.host.git.branches import Branches
from miyabi_healing.host.git.repositories import open_repository
from miyabi_healing.model.config import Config

EXAMPLES = settings(
    max_examples=int(os.environ.get("PROPERTY_EXAMPLES", "40")), deadline=None,
    derandomize="PROPERTY_EXAMPLES" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)  # fmt: skip
BASES = ("main", "origin/main", "upstream/main")
TOPICS = ("one", "two", "three")
Tree = dict[str, tuple[str, bytes]]
Edit = tuple[str, int, int]
Step = tuple[str, str, str, Edit, bool]
FIRST: Tree = {
    "hot": ("100644", b"# Changes\n\n- first\n"),
    "code": ("100644", b"".join(b"line %d\n" % number for number in range(12))),
    "same": ("100644", b"same\n" * 8),
    "picture": ("100644", b"\0picture"),
}


@dataclass
class Repo:
    """A repository as it is made up: commits by number, and where branches and bases are."""

    trees: list[Tree] = field(default_factory=list)
    parents: list[tuple[int, ...]] = field(default_factory=list)
    at: dict[str, int] = field(default_factory=dict)

    def commit(self, name: str, tree: Tree, *parents: int) -> None:
        self.trees.append(tree)
        self.parents.append(parents)
        self.at[name] = len(self.trees) - 1

    def reach(self, start: int) -> set[int]:
        found: set[int] = set()
        waiting = [start]
        while waiting:
            if (each := waiting.pop()) not in found:
                found.add(each)
                waiting += self.parents[each]
        return found

    def merge_bases(self, one: int, other: int) -> list[int]:
        shared = self.reach(one) & self.reach(other)
        older = {each for at in shared for each in self.reach(at) if each != at}
        return sorted(shared - older)

    def parent_tree(self, commit: int) -> Tree:
        return self.trees[self.parents[commit][0]] if self.parents[commit] else {}

    def joined(self, one: int, other: int) -> Tree:
        """What merging gives, with both sides of a conflict."""
        shared = self.merge_bases(one, other)
        before = self.trees[shared[0]] if shared else {}
        return merged_trees(before, self.trees[one], self.trees[other])

    def changes(self, tip: int, base: int) -> list[int]:
        """What rebasing takes along, the oldest first."""
        own = self.reach(tip) - self.reach(base)
        return sorted(each for each in own if len(self.parents[each]) < 2)


def merged_trees(before: Tree, ours: Tree, theirs: Tree) -> Tree:
    tree: Tree = {}
    for path in sorted({*ours, *theirs}):
        old, one, two = before.get(path), ours.get(path), theirs.get(path)
        if one == two or two == old:
            chosen = one
        elif one == old:
            chosen = two
        elif one and two:
            text = merged_lines((old or ("", b""))[1], one[1], two[1])
            chosen = (one[0] if old and two[0] == old[0] else two[0], text)
        else:
            chosen = one or two
        if chosen:
            tree[path] = chosen
    return tree


def merged_lines(before: bytes, ours: bytes, theirs: bytes) -> bytes:
    """Both sides' changes, those of theirs after those of ours where they meet."""
    old = before.splitlines(keepends=True)

    def hunks(text: bytes) -> list[tuple[int, int, list[bytes]]]:
        new = text.splitlines(keepends=True)
        codes = SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
        return [(a, b, new[c:d]) for kind, a, b, c, d in codes if kind != "equal"]

    mine = hunks(ours)
    lines, at = [], 0
    for start, end, new in sorted(
        mine + [each for each in hunks(theirs) if each not in mine], key=lambda each: each[:2]
    ):
        lines += old[at:start] + new
        at = max(at, end)
    return b"".join(lines + old[at:])


def edited(tree: Tree, edit: Edit) -> Tree:
    """A tree after somebody changed something in it."""
    kind, where, what = edit
    names = sorted(tree)
    name = names[where % len(names)] if names else "new"
    mode, text = tree.get(name, ("100644", b""))
    lines = text.splitlines(keepends=True)
    at = what % len(lines) if lines else 0
    if kind == "hot":
        name, (mode, text) = "hot", tree.get("hot", ("100644", b""))
        return {**tree, "hot": (mode, b"# Changes\n\n- %d\n" % what + text[11:])}
    if kind == "space":
        name, (mode, text) = "hot", tree.get("hot", ("100644", b""))
        return {**tree, "hot": (mode, text.replace(b"- ", b"-  ", 1))}
    if kind == "same":
        return {**tree, "same": ("100644", tree.get("same", ("", b""))[1] + b"same\n")}
    if kind == "reword":
        return {**tree, "hot": ("100644", tree.get("hot", ("", b""))[1].replace(b"- ", b"* "))}
    if kind == "new":
        return {**tree, f"new{what}": ("100644", b"new\n")}
    if kind == "delete":
        return {path: each for path, each in tree.items() if path != name}
    if kind == "rename":
        rest = {path: each for path, each in tree.items() if path != name}
        return {**rest, f"renamed{what}": (mode, text)}
    if kind == "mode":
        return {**tree, name: ({"100644": "100755", "100755": "100644"}[mode], text)}
    if kind == "binary":
        return {**tree, "picture": ("100644", b"\0%d" % what)}
    if kind == "line":
        lines[at : at + 1] = [b"changed %d\n" % what]
    elif kind == "drop":
        del lines[at : at + 1]
    elif kind == "twice":
        lines[at:at] = lines[at : at + 1]
    return {**tree, name: (mode, b"".join(lines))}


def perform(repo: Repo, step: Step) -> None:
    """One thing that somebody does with a topic and a base."""
    what, topic, base, edit, also = step
    own, there = repo.at[topic], repo.at[base]
    if what in ("commit", "commit to the base"):
        name, at = (topic, own) if what == "commit" else (base, there)
        repo.commit(name, edited(repo.trees[at], edit), at)
    elif what == "empty":
        repo.commit(topic, repo.trees[own], own)
    elif what == "amend" and len(repo.parents[own]) == 1 and own not in repo.reach(there):
        repo.commit(topic, edited(repo.trees[own], edit), *repo.parents[own])
    elif what == "start":
        repo.at[topic] = there
        repo.commit(topic, edited(repo.trees[there], edit), there)
    elif what == "orphan":
        repo.commit(topic, edited(repo.trees[there], ("delete", *edit[1:]) if also else edit))
    elif what in ("merge", "squash"):
        tree = repo.joined(there, own)
        tree = edited(tree, edit) if also else tree
        repo.commit(base, tree, *([there, own] if what == "merge" else [there]))
    elif what == "update" and own not in repo.reach(there):
        tree = repo.joined(own, there)
        repo.commit(topic, edited(tree, edit) if also else tree, own, there)
    elif what == "rebase":
        for at, each in enumerate(repo.changes(own, there)):
            tree = merged_trees(repo.parent_tree(each), repo.trees[repo.at[base]], repo.trees[each])
            repo.commit(base, edited(tree, edit) if also and not at else tree, repo.at[base])
    elif what == "pick" and (changes := repo.changes(own, there)):
        each = changes[edit[1] % len(changes)]
        tree = merged_trees(repo.parent_tree(each), repo.trees[there], repo.trees[each])
        repo.commit(base, tree, there)
    elif what == "revert":
        recent = sorted(repo.reach(there))[-3:]
        each = recent[edit[1] % len(recent)]
        tree = merged_trees(repo.trees[each], repo.trees[there], repo.parent_tree(each))
        repo.commit(base, tree, there)
    elif what == "fast-forward" and there in repo.reach(own):
        repo.at[base] = own
    elif what == "publish":
        repo.at[BASES[edit[1] % 3]] = there


OFTEN = ("commit", "start", "commit to the base", "squash", "rebase")
SELDOM = (
    "merge", "update", "update", "pick", "revert", "amend", "fast-forward", "publish", "empty",
    "orphan",
)  # fmt: skip
EDITS = st.tuples(
    st.sampled_from(
        "hot hot hot hot new delete rename mode binary line space drop twice same".split()
    ),
    st.integers(0, 5),
    st.integers(0, 5),
)  # fmt: skip
STEP = st.tuples(
    st.sampled_from(OFTEN * 3 + SELDOM),
    st.sampled_from(TOPICS),
    st.sampled_from(("main", *BASES)),
    EDITS,
    st.sampled_from((False, False, True)),
)


AMISS = ("", "", "update", "orphan", "again", "again", "amend", "empty", "commit", "pick", "start")
OWN = st.one_of(
    st.lists(EDITS, max_size=2).map(lambda more: [("hot", 0, 1), *more]),
    st.just([("same", 0, 0), ("same", 0, 0)]),
)


@st.composite
def stories(draw: st.DrawFn) -> list[Step]:
    """Work that lands in a base which rewrites its lines afterwards, with something amiss in it:
    it lands with white space, in part, is taken back and made again, ends in another history.
    """
    topic, base = draw(st.sampled_from(TOPICS)), draw(st.sampled_from(("main", "main", *BASES)))
    how = draw(st.sampled_from(("squash", "rebase", "rebase", "pick")))
    begin, *own = draw(OWN)
    if draw(st.booleans()):
        begin, own = ("new", 0, draw(st.integers(0, 5))), [begin, *own]

    def step(what: str, edit: Edit, also: bool = False) -> Step:
        return what, topic, base, edit, also

    steps = [
        step("start", begin),
        *(step("commit", each) for each in own),
        step("commit to the base", ("new", 0, draw(st.integers(6, 9)))),
    ]
    if draw(st.booleans()):
        other = TOPICS[TOPICS.index(topic) - 1]
        steps.insert(0, ("commit", other, base, ("new", 0, 5), False))
    if draw(st.booleans()):
        steps.append(step("update", ("new", 0, draw(st.integers(0, 9))), also=draw(st.booleans())))
    steps.append(step(how, ("space", 0, 0), also=draw(st.sampled_from((False, False, True)))))
    amiss, edit, also = draw(st.sampled_from(AMISS)), draw(EDITS), draw(st.booleans())
    if amiss == "again":
        steps += [step("revert", ("", 0, 2)), step("start", ("hot", 0, 1))]
    reword = step("commit to the base", ("reword", 0, 1))
    if amiss == "orphan":
        return [*steps, reword, step(amiss, edit, also=True)]
    if amiss not in ("", "again"):
        steps.insert(draw(st.integers(1, len(steps))), step(amiss, edit, also=also))
    return [*steps, reword]


STEPS = st.lists(st.one_of(STEP.map(lambda each: [each]), stories()), min_size=1, max_size=5).map(
    lambda parts: [step for part in parts for step in part]
)


@pytest.fixture(scope="module")
def template() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        git(Path(folder), "init", "-q", "-b", "main", "--template=", "repo")
        yield Path(folder, "repo")


def written(repo: Repo, folder: Path) -> list[str]:
    """The repository on disk, with clocks that were wrong; the ids of its commits."""
    out = [b"feature done\n"]
    for number, (tree, parents) in enumerate(zip(repo.trees, repo.parents, strict=True)):
        date = 1_700_000_000 + number * 7919 % 101
        out.append(b"commit refs/made/%d\nmark :%d\n" % (number, number + 1))
        out.append(b"committer A <a@example.invalid> %d +0000\n" % date)
        title = b"commit %d" % number
        out.append(b"data %d\n%s\n" % (len(title), title))
        for word, each in zip((b"from", *[b"merge"] * 9), parents, strict=False):
            out.append(b"%s :%d\n" % (word, each + 1))
        out.append(b"deleteall\n")
        for path, (mode, text) in tree.items():
            out.append(b"M %s inline %s\n" % (mode.encode(), path.encode()))
            out.append(b"data %d\n%s\n" % (len(text), text))
    for name, at in repo.at.items():
        full = f"refs/{'remotes' if '/' in name else 'heads'}/{name}"
        out.append(b"reset %s\nfrom :%d\n" % (full.encode(), at + 1))
    out.append(b"done\n")
    asked(folder, "fast-import", "--quiet", "--export-marks=.git/marks", stdin=b"".join(out))
    marks = dict(line.split() for line in (folder / ".git" / "marks").read_text().splitlines())
    return [marks[f":{number + 1}"] for number in range(len(repo.trees))]


def asked(folder: Path, *arguments: str, stdin: bytes) -> bytes:
    return subprocess.run(
        ["git", "-C", str(folder), *arguments], input=stdin, capture_output=True, check=True
    ).stdout


class Truth:
    """What is merged, told by brute force: of the whole history, each pair by itself."""

    def __init__(self, repo: Repo, folder: Path, ids: list[str]) -> None:
        self.repo, self.ids, self.folder = repo, ids, folder
        self.known: dict[tuple[int, int], set[str]] = {}
        self.patch = self._patches([(at, *each[:1]) for at, each in enumerate(repo.parents)])
        merges = {at: each for at, each in enumerate(repo.parents) if len(each) > 1}
        pairs = [(repo.at[base], repo.at[topic]) for base in BASES for topic in TOPICS]
        asks = {*pairs, *((at, at) for at in (*merges, *(pair[0] for pair in pairs)))}
        asks |= {(each[0], each[1]) for each in merges.values()}
        self.merged = self._merged(sorted(asks))
        self.plain = {
            at
            for at, each in merges.items()
            if self.merged[each[0], each[1]] == self.merged[at, at]
        }

    def _patches(self, pairs: list[tuple[int, ...]]) -> dict[int, str]:
        lines = "".join(" ".join(self.ids[at] for at in each) + "\n" for each in pairs)
        text = asked(
            self.folder,
            "diff-tree", "--stdin", "-p", "-r", "--root", "--full-index", "--no-renames",
            stdin=lines.encode(),
        )  # fmt: skip
        known = {name: at for at, name in enumerate(self.ids)}
        rows = asked(self.folder, "patch-id", "--verbatim", stdin=text).decode().split("\n")
        return {known[row.split()[1]]: row.split()[0] for row in rows if row}

    def _merged(self, pairs: list[tuple[int, int]]) -> dict[tuple[int, int], str]:
        """What merging gives; of a commit with itself, its tree; nothing where it conflicts."""
        lines = "".join(f"{self.ids[one]} {self.ids[two]}\n" for one, two in pairs)
        answer = asked(
            self.folder, "merge-tree", "--write-tree", "--allow-unrelated-histories",
            "--no-messages", "--stdin", stdin=lines.encode(),
        ).decode()  # fmt: skip
        found = re.findall(r"([01])\0([0-9a-f]{40})\0(?:[^\0]+\0)*\0", answer)
        assert len(found) == len(pairs)
        trees = [tree if clean == "1" else "" for clean, tree in found]
        return dict(zip(pairs, trees, strict=True))

    def rules(self, topic: str, base: str) -> set[str]:
        """Those of the four rules by which the topic is merged."""
        pair = self.repo.at[topic], self.repo.at[base]
        if pair not in self.known:
            self.known[pair] = self._rules(*pair)
        return self.known[pair]

    def _rules(self, tip: int, there: int) -> set[str]:
        repo = self.repo
        own = repo.reach(tip) - repo.reach(there)
        since = repo.reach(there) - repo.reach(tip)
        landed = Counter(self.patch.get(each) for each in since if len(repo.parents[each]) < 2)
        shared = repo.merge_bases(tip, there)
        found = set()
        if not own:
            found.add("ancestor")
        if not shared:
            return found
        if self.merged[there, tip] == self.merged[there, there]:
            found.add("adds nothing")
        changes = Counter(
            self.patch[each] for each in own if len(repo.parents[each]) < 2 and each in self.patch
        )
        merges = {each for each in own if len(repo.parents[each]) > 1}
        if changes and changes <= landed and merges <= self.plain:
            found.add("one by one")
        if len(shared) == 1:
            whole = self._patches([(tip, shared[0])]).get(tip)
            if whole and landed[whole]:
                found.add("squashed")
        return found


@EXAMPLES
@given(steps=STEPS, cut=st.sampled_from((False, False, True)), where=st.integers(0, 20))
def test_merged_is_what_brute_force_finds(
    home: Path, template: Path, steps: list[Step], cut: bool, where: int
) -> None:
    repo = Repo()
    repo.commit("main", FIRST)
    repo.at.update(dict.fromkeys((*BASES, *TOPICS), 0))
    for step in steps:
        perform(repo, step)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "repo")
        shutil.copytree(template, folder)
        ids = written(repo, folder)
        truth = Truth(repo, folder, ids)
        rules = {(topic, base): truth.rules(topic, base) for topic in TOPICS for base in BASES}
        note(f"{repo.at} {repo.parents} {rules}")
        if cut:
            (folder / ".git" / "shallow").write_text(f"{ids[where % len(ids)]}\n")
        branches = Branches(open_repository(str(folder), Config()))
        merged = branches.merged_among(f"refs/heads/{topic}" for topic in TOPICS)
        for topic in TOPICS:
            evidence = merged.get(f"refs/heads/{topic}", "")
            by_base = [base for base in BASES if re.search(rf" {base}\b", evidence)]
            note(f"{topic}: {evidence or branches.own_work(f'refs/heads/{topic}')}")
            if evidence:
                base = max(by_base, key=len)
                event("cut" if cut else " or ".join(sorted(rules[topic, base])))
                assert rules[topic, base], f"{topic} is not in {base}: {evidence}"
                for each in re.findall(r"\b[0-9a-f]{7}\b", evidence):
                    at = next(at for at, name in enumerate(ids) if name.startswith(each))
                    assert at in repo.reach(repo.at[base])
            else:
                assert branches.own_work(f"refs/heads/{topic}")
                missed = {base: rules[topic, base] for base in BASES if rules[topic, base]}
                assert cut or not missed, f"{topic} is kept"
                event("kept")
