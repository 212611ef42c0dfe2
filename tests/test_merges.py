"""Merged by evidence: what only looks merged stays, and what a base has rewritten since may go."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from gitworld import commit, git, merge, repository

from miyabi_healing.host.git import histories, merges
from miyabi_healing.host.git.branches import Branches
from miyabi_healing.host.git.repositories import open_repository
from miyabi_healing.model.config import Config
from miyabi_healing.support.command_errors import ToolError

TOPIC = "refs/heads/topic"
LINES = "".join(f"line {number}\n" for number in range(20))


@pytest.fixture
def repo(home: Path) -> Path:
    folder = repository(home / "app")
    commit(folder, "hot", "# Changes\n\n- first\n")
    commit(folder, "lines", LINES)
    return folder


def branches(repo: Path) -> Branches:
    return Branches(open_repository(str(repo), Config()))


def evidence(repo: Path) -> str:
    """Why topic is merged; empty where it is not."""
    return branches(repo).merged_among([TOPIC]).get(TOPIC, "")


def start(repo: Path, name: str = "topic") -> None:
    git(repo, "switch", "-q", "-c", name)


def back(repo: Path) -> None:
    git(repo, "switch", "-q", "main")


def tip(repo: Path, name: str = "HEAD") -> str:
    return git(repo, "rev-parse", "--short=7", name)


def hot(repo: Path, line: str) -> None:
    """Adds a line where everybody does."""
    text = (repo / "hot").read_text().replace("# Changes\n\n", f"# Changes\n\n- {line}\n")
    commit(repo, "hot", text)


def reword(repo: Path, old: str, new: str) -> None:
    commit(repo, "hot", (repo / "hot").read_text().replace(old, new))


def test_evidence_names_what_a_person_can_look_at(repo: Path) -> None:
    start(repo)
    hot(repo, "topic")
    commit(repo, "own", "own\n")
    back(repo)
    assert evidence(repo) == ""
    merge(repo, "topic", "squash")
    squash = tip(repo)
    assert evidence(repo) == "merged: merging it into main would change nothing"
    reword(repo, "- topic", "- topic, in better words")
    assert evidence(repo) == f"merged: squashed into main as {squash}"
    git(repo, "merge", "-q", "-s", "ours", "--no-edit", "topic")
    assert evidence(repo) == f"merged: its tip {tip(repo, 'topic')} is in main"


@pytest.mark.parametrize("number", [1, 3, 6])
def test_rebased_onto_a_hot_file_names_the_new_commits(repo: Path, number: int) -> None:
    start(repo)
    for each in range(number):
        hot(repo, f"topic {each}")
    back(repo)
    commit(repo, "elsewhere", "main moved on\n")
    merge(repo, "topic", "rebase")
    new = git(repo, "log", "--reverse", "--format=%h", "--abbrev=7", f"-{number}").split()
    reword(repo, "- topic 0", "- topic 0, in better words")
    if number == 1:
        assert evidence(repo) == f"merged: its commit is in main as {new[0]}"
    else:
        more = f" and {number - 3} more" if number > 3 else ""
        assert evidence(repo) == (
            f"merged: its {number} commits are in main as {', '.join(new[:3])}{more}"
        )


def test_what_is_missing_is_said_with_its_titles(repo: Path) -> None:
    start(repo)
    hot(repo, "topic")
    commit(repo, "second", "second\n")
    back(repo)
    commit(repo, "elsewhere", "main moved on\n")
    git(repo, "cherry-pick", "topic~1")
    reword(repo, "- topic", "- topic, in better words")
    found = branches(repo)
    assert found.merged_among([TOPIC]) == {}
    why = f"1 of its 2 commits is in no base: {tip(repo, 'topic')} second: second"
    assert found.own_work(TOPIC) == branches(repo).own_work(TOPIC) == why
    git(repo, "cherry-pick", "topic")
    assert branches(repo).own_work(TOPIC) == ""


MISSED: dict[str, Callable[[Path], object]] = {
    "white space": lambda repo: commit(repo, "hot", "# Changes\n\n-  topic\n- first\n"),
    "white space at the end": lambda repo: commit(repo, "hot", "# Changes\n\n- topic \n- first\n"),
    "carriage returns": lambda repo: (repo / "hot").write_bytes(
        b"# Changes\n\n- topic\r\n- first\n"
    ),
    "words": lambda repo: commit(repo, "hot", "# Changes\n\n- amended\n- first\n"),
    "a part of it": lambda repo: commit(repo, "hot", "# Changes\n\n- first\n"),
}


@pytest.mark.parametrize("difference", MISSED)
def test_change_that_the_base_got_otherwise_stays(repo: Path, difference: str) -> None:
    start(repo)
    hot(repo, "topic")
    back(repo)
    if difference == "a part of it":
        commit(repo, "part", "of it\n")
    else:
        MISSED[difference](repo)
        git(repo, "commit", "-q", "-a", "--allow-empty", "-m", "hot: differently")
    reword(repo, "- first", "- first, in better words")
    assert evidence(repo) == ""


def test_binary_change_is_told_by_its_content(repo: Path) -> None:
    (repo / "picture").write_bytes(b"\0one")
    git(repo, "add", ".")
    git(repo, "commit", "-q", "-m", "picture")
    start(repo)
    (repo / "picture").write_bytes(b"\0two")
    git(repo, "commit", "-q", "-a", "-m", "picture")
    back(repo)
    (repo / "picture").write_bytes(b"\0three")
    git(repo, "commit", "-q", "-a", "-m", "picture")
    assert evidence(repo) == ""
    git(repo, "reset", "-q", "--hard", "HEAD~")
    commit(repo, "elsewhere", "main moved on\n")
    git(repo, "cherry-pick", "topic")
    (repo / "picture").write_bytes(b"\0four")
    git(repo, "commit", "-q", "-a", "-m", "picture")
    assert "is in main as" in evidence(repo)


@pytest.mark.parametrize("where", ["info/attributes", "the user's", "configuration"])
def test_no_setting_makes_two_changes_the_same(repo: Path, home: Path, where: str) -> None:
    """A merge that keeps both sides loses what one side removed; a text that is called binary, a
    diff that ignores things, and a replacement.
    """
    start(repo)
    commit(repo, "hot", "# Changes\n\n")
    own = tip(repo)
    back(repo)
    reword(repo, "- first", "- first, in better words")
    attributes = "hot -diff merge=union\n"
    if where == "info/attributes":
        (repo / ".git" / "info").mkdir(exist_ok=True)
        (repo / ".git" / "info" / "attributes").write_text(attributes)
    elif where == "the user's":
        (home / ".config" / "git").mkdir(parents=True, exist_ok=True)
        (home / ".config" / "git" / "attributes").write_text(attributes)
    else:
        (home / "attributes").write_text(attributes)
        git(repo, "config", "core.attributesFile", str(home / "attributes"))
        for name, value in (("noprefix", "true"), ("context", "0"), ("ignoreSubmodules", "all")):
            git(repo, "config", f"diff.{name}", value)
    assert evidence(repo) == ""
    git(repo, "replace", own, tip(repo, "main"))
    assert evidence(repo) == ""


def test_change_far_from_other_changes_of_its_file_is_found(repo: Path) -> None:
    start(repo)
    commit(repo, "lines", LINES.replace("line 6\n", "changed\n"))
    back(repo)
    commit(repo, "lines", "first\n" + LINES.replace("line 15\n", "the base's\n"))
    git(repo, "cherry-pick", "topic")
    commit(repo, "lines", (repo / "lines").read_text().replace("changed", "and again"))
    assert evidence(repo) == f"merged: its commit is in main as {tip(repo, 'main~1')}"


def test_commit_that_changes_nothing_is_no_work(repo: Path) -> None:
    start(repo)
    git(repo, "commit", "-q", "--allow-empty", "-m", "run the tests again")
    hot(repo, "topic")
    commit(repo, "own", "own\n")
    back(repo)
    commit(repo, "elsewhere", "main moved on\n")
    git(repo, "cherry-pick", "topic~1", "topic")
    reword(repo, "- topic", "- topic, in better words")
    assert evidence(repo).startswith("merged: its 2 commits are in main as")


def test_link_is_no_file_although_it_changes_in_the_same_way(repo: Path) -> None:
    commit(repo, "place", "here")
    start(repo)
    commit(repo, "place", "there")
    back(repo)
    (repo / "place").unlink()
    for where in ("here", "there"):
        (repo / "place").unlink(missing_ok=True)
        (repo / "place").symlink_to(where)
        git(repo, "add", ".")
        git(repo, "commit", "-q", "-m", "a link")
    assert evidence(repo) == ""


def test_merge_of_three_is_work(repo: Path) -> None:
    """Git is not asked what it would make of it: this one drops what the third has."""
    start(repo, "another")
    commit(repo, "another", "another\n")
    back(repo)
    start(repo)
    hot(repo, "topic")
    mine = commit(repo, "own", "own\n")
    back(repo)
    commit(repo, "elsewhere", "main moved on\n")
    tree = git(repo, "merge-tree", "--write-tree", mine, "main")
    merged = git(
        repo, "commit-tree", tree, "-p", mine, "-p", "main", "-p", "another", "-m", "three"
    )
    git(repo, "branch", "-q", "-f", "topic", merged)
    git(repo, "cherry-pick", f"{mine}~1", mine, "another")
    reword(repo, "- topic", "- topic, in better words")
    assert evidence(repo) == ""


def test_merge_that_somebody_changed_something_in_is_work(repo: Path) -> None:
    """All other commits are in the base, and the resolved conflict is not."""
    start(repo)
    hot(repo, "topic")
    back(repo)
    commit(repo, "elsewhere", "main moved on\n")
    git(repo, "switch", "-q", "topic")
    git(repo, "merge", "-q", "--no-commit", "main")
    (repo / "hidden").write_text("only in the merge\n")
    git(repo, "add", ".")
    git(repo, "commit", "-q", "-m", "an evil merge")
    evil = tip(repo)
    back(repo)
    git(repo, "cherry-pick", "topic~1")
    reword(repo, "- topic", "- topic, in better words")
    assert evidence(repo) == ""
    assert branches(repo).own_work(TOPIC).endswith(f"{evil} an evil merge")


def test_merging_the_base_into_it_hides_no_squash(repo: Path) -> None:
    start(repo)
    hot(repo, "topic")
    for each in range(2):
        back(repo)
        commit(repo, f"main{each}", "main moved on\n")
        git(repo, "switch", "-q", "topic")
        git(repo, "merge", "-q", "--no-edit", "main")
        hot(repo, f"more {each}")
    back(repo)
    merge(repo, "topic", "squash")
    squash = tip(repo)
    reword(repo, "- more 1", "- more 1, in better words")
    assert evidence(repo) == f"merged: squashed into main as {squash}"


def test_work_made_again_after_it_was_taken_back_is_work(repo: Path) -> None:
    """The base had the same change, but before the branch took its taking back over."""
    start(repo)
    hot(repo, "topic")
    back(repo)
    merge(repo, "topic", "squash")
    git(repo, "revert", "--no-edit", "HEAD")
    git(repo, "branch", "-q", "older", "topic~1")
    git(repo, "switch", "-q", "older")
    commit(repo, "older", "older\n")
    git(repo, "switch", "-q", "-C", "topic", "main")
    hot(repo, "topic")
    back(repo)
    reword(repo, "- first", "- first, in better words")
    found = branches(repo)
    assert found.merged_among([TOPIC, "refs/heads/older"]) == {}


def test_merged_and_taken_back_later_was_merged(repo: Path) -> None:
    start(repo)
    hot(repo, "topic")
    back(repo)
    merge(repo, "topic", "squash")
    squash = tip(repo)
    git(repo, "revert", "--no-edit", "HEAD")
    assert evidence(repo) == f"merged: its commit is in main as {squash}"


def test_line_added_twice_needs_two_that_add_it(repo: Path) -> None:
    commit(repo, "same", "same\n" * 9)
    start(repo)
    commit(repo, "same", "same\n" * 10)
    commit(repo, "same", "same\n" * 11)
    back(repo)
    commit(repo, "elsewhere", "main moved on\n")
    git(repo, "cherry-pick", "topic~1")
    assert evidence(repo) == ""
    assert branches(repo).own_work(TOPIC).startswith("1 of its 2 commits is in no base")


@pytest.mark.parametrize("how", ["unrelated", "shallow", "shallow in one of two ways"])
def test_branch_that_only_deletes_is_work_where_no_merge_base_is_known(
    repo: Path, home: Path, how: str
) -> None:
    if how == "unrelated":
        git(repo, "switch", "-q", "--orphan", "topic")
        commit(repo, "lines", LINES)
        back(repo)
    else:
        start(repo)
        git(repo, "rm", "-q", "hot")
        git(repo, "commit", "-q", "-m", "only deletes")
        back(repo)
        for each in range(3):
            commit(repo, f"main{each}", "main moved on\n")
        git(repo, "clone", "-q", "--depth=1", "--no-single-branch", f"file://{repo}", "../cut")
        repo = home / "app" / ".." / "cut"
        git(repo, "branch", "-q", "topic", "origin/topic")
    assert evidence(repo.resolve()) == ""
    assert "common" in branches(repo.resolve()).own_work(TOPIC)


def test_shallow_repository_that_lacks_the_newest_common_commit_keeps(
    repo: Path, home: Path
) -> None:
    """What topic takes back came by a side that was cut off: judged by the older common commit that
    is left, it changes nothing.
    """
    start(repo, "side")
    commit(repo, "lines", LINES + "more\n")
    side = git(repo, "rev-parse", "HEAD")
    start(repo)
    commit(repo, "lines", LINES)
    git(repo, "switch", "-q", "side")
    cut = commit(repo, "elsewhere", "side moved on\n")
    back(repo)
    commit(repo, "other", "main moved on\n")
    git(repo, "merge", "-q", "--no-edit", "side")
    assert evidence(repo) == ""
    (repo / ".git" / "shallow").write_text(f"{cut}\n")
    assert git(repo, "merge-base", "main", "topic") != side
    assert evidence(repo) == ""


def test_shallow_repository_that_lacks_what_a_branch_grew_on_keeps(repo: Path) -> None:
    """The same from the other side: it is the branch that came by what was cut off."""
    older = tip(repo)
    commit(repo, "lines", LINES + "more\n")
    start(repo)
    cut = commit(repo, "lines", LINES)
    git(repo, "merge", "-q", "--no-edit", "-s", "ours", older)
    tree = git(repo, "rev-parse", "HEAD^{tree}")
    merged = git(repo, "commit-tree", tree, "-p", cut, "-p", older, "-m", "both")
    back(repo)
    git(repo, "branch", "-q", "-f", "topic", merged)
    assert evidence(repo) == ""
    (repo / ".git" / "shallow").write_text(f"{cut}\n")
    assert evidence(repo) == ""


def test_shallow_repository_tells_what_lies_above_the_cut(repo: Path, home: Path) -> None:
    git(home, "clone", "-q", "--depth=1", f"file://{repo}", "cut")
    cut = home / "cut"
    start(cut)
    hot(cut, "topic")
    back(cut)
    commit(cut, "elsewhere", "main moved on\n")
    merge(cut, "topic", "rebase")
    reword(cut, "- topic", "- topic, in better words")
    assert "is in main as" in evidence(cut)


def test_criss_cross_merges_are_judged_by_their_single_commits(repo: Path) -> None:
    start(repo)
    commit(repo, "own", "own\n")
    back(repo)
    commit(repo, "mains", "main's\n")
    one, other = tip(repo, "main"), tip(repo, "topic")
    git(repo, "merge", "-q", "--no-edit", other)
    git(repo, "switch", "-q", "topic")
    git(repo, "merge", "-q", "--no-edit", one)
    hot(repo, "topic")
    back(repo)
    assert len(git(repo, "merge-base", "--all", "main", "topic").split()) == 2
    assert evidence(repo) == ""
    git(repo, "cherry-pick", "topic")
    reword(repo, "- topic", "- topic, in better words")
    assert "is in main as" in evidence(repo)


def test_any_base_is_enough(repo: Path, home: Path) -> None:
    git(home, "clone", "-q", str(repo), "clone")
    start(repo, "upstreams")
    hot(repo, "topic")
    back(repo)
    git(repo, "merge", "-q", "--ff-only", "upstreams")
    reword(repo, "- topic", "- topic, in better words")
    clone = home / "clone"
    start(clone)
    hot(clone, "topic")
    commit(clone, "elsewhere", "another\n")
    git(clone, "rebase", "-q", "--onto", "HEAD~1", "HEAD")
    back(clone)
    assert evidence(clone) == ""
    git(clone, "fetch", "-q")
    assert "in origin/main" in evidence(clone)


def test_object_that_is_missing_keeps_its_branch_and_no_other(repo: Path) -> None:
    start(repo)
    hot(repo, "topic")
    blob = git(repo, "rev-parse", "HEAD:hot")
    back(repo)
    for name in ("a", "b", "c"):
        start(repo, name)
        commit(repo, name, f"{name}\n")
        back(repo)
        merge(repo, name, "squash")
    hot(repo, "main's")
    (repo / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    found = branches(repo)
    merged = found.merged_among(f"refs/heads/{name}" for name in ("a", "b", "c", "topic"))
    assert sorted(merged) == ["refs/heads/a", "refs/heads/b", "refs/heads/c"]
    assert "could not be told" in found.own_work(TOPIC)


def test_more_history_than_is_looked_through_keeps_and_says_so(
    repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(repo)
    hot(repo, "topic")
    back(repo)
    merge(repo, "topic", "squash")
    for each in range(4):
        reword(repo, "- topic", f"- topic {each}")
    assert "is in main as" in evidence(repo)
    merges._MERGES.clear()
    monkeypatch.setattr(histories, "MOST_COMMITS", 3)
    monkeypatch.setattr(merges, "MOST_COMMITS", 3)
    assert "only the newest 3 commits of main" in branches(repo).own_work(TOPIC)


def test_git_that_cannot_merge_in_batches_is_asked_for_patches(
    repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(repo)
    hot(repo, "topic")
    back(repo)
    merge(repo, "topic", "squash")
    ask = merges.ScratchGit.ask

    def older(self: merges.ScratchGit, *arguments: str, stdin: str = "") -> bytes:
        if arguments[0] == "merge-tree":
            raise ToolError("git merge-tree: usage")
        if arguments[0] == "version":
            return b"git version 2.34.1\n"
        return ask(self, *arguments, stdin=stdin)

    monkeypatch.setattr(merges.ScratchGit, "ask", older)
    assert evidence(repo) == f"merged: its commit is in main as {tip(repo)}"


def test_number_of_git_processes_does_not_grow_with_the_branches(
    repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    ask = merges.ScratchGit.ask

    def counted(self: merges.ScratchGit, *arguments: str, stdin: str = "") -> bytes:
        asked.append(arguments[0])
        return ask(self, *arguments, stdin=stdin)

    monkeypatch.setattr(merges.ScratchGit, "ask", counted)
    for number in (2, 8):
        for each in range(number):
            start(repo, f"topic-{number}-{each}")
            hot(repo, f"topic {each}")
            back(repo)
            merge(repo, f"topic-{number}-{each}", "squash")
        start(repo, f"open-{number}")
        commit(repo, "open", "open\n")
        back(repo)
        asked.clear()
        found = branches(repo)
        merged = found.merged_among(each for each in found.refs if f"-{number}" in each)
        assert len(merged) == number
        assert len(asked) <= 6


@pytest.mark.root
def test_scratch_git_folder_is_its_owners_whatever_the_mask(repo: Path) -> None:
    before = os.umask(0o077)
    try:
        start(repo)
        commit(repo, "own", "own\n")
        back(repo)
        for folder in [repo, *repo.rglob("*")]:
            os.chown(folder, 65534, 65534, follow_symlinks=False)
        place = merges.opened(open_repository(str(repo), Config()))
        with place as opened:
            assert {os.stat(each).st_uid for each in Path(opened.folder).iterdir()} == {65534}
    finally:
        os.umask(before)
