"""Files of a worktree that git ignores or does not know: which of them somebody would miss."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from miyabi_healing.host import catalogue
from miyabi_healing.model.config import GitSettings
from miyabi_healing.support.files import read_small

_LARGEST_COPY = 1 << 20  # bytes; who copies more into each worktree has another way to
_MOST_FILES = 1000  # in an ignored folder that nothing is known of


@dataclass(frozen=True)
class MissedFiles:
    """What is looked at: the `folder` that a worktree's files are in, the path where they `belong`
    (another one where they were moved), and the `main` worktree of its repository, whose `owner`
    all belong to. `bases` are worktrees that stay as well, where there is no main one.
    """

    folder: Path
    belong: Path
    main: Path
    owner: int
    settings: GitSettings
    bases: tuple[Path, ...] = ()

    def of_ignored(self, path: str) -> str | None:
        """What of an ignored path somebody would miss; None where nobody would. `path` is as `git
        status` says it: a folder that is itself ignored ends with a slash.

        A folder that tools make again goes as a whole. That a file lies in one that is only called
        so says nothing: then git names the file, and it counts by itself.
        """
        link = os.path.islink(self.folder / path.rstrip("/"))
        if link and self.is_regenerable(path.rstrip("/")):
            return None  # what it leads to stays
        if not path.endswith("/"):
            return None if self.is_litter(path) or self.is_a_copy(path) else path
        if self.is_regenerable(path.rstrip("/")):
            nested = _nested_repository(self.folder / path)
            return None if nested is None else f"{nested} is a repository"
        for number, file in enumerate(self._files_below(path)):
            if number == _MOST_FILES or not (self.is_litter(file) or self.is_a_copy(file)):
                return file
        return None

    def is_litter(self, path: str) -> bool:
        """Whether a file is what tools leave behind, by its name or the end of its path."""
        patterns = (*catalogue.words("litter", "files"), *self.settings.litter)
        return any(_fits(path, pattern) for pattern in patterns)

    def is_a_copy(self, path: str) -> bool:
        """Whether the main worktree has the same file or link, or this is a link into it."""
        return any(self._is_a_copy_of(path, each) for each in (self.main, *self.bases))

    def _is_a_copy_of(self, path: str, main: Path) -> bool:
        """A link on the way to the main worktree's file may lead back here: then it is no other
        file. Nor is one the main worktree's that lies in another worktree below it.
        """
        here, there = self.folder / path, main / path
        try:
            if here.is_symlink():
                return self._leads_into(main, path) or os.readlink(here) == os.readlink(there)
            around = os.path.join(os.path.realpath(main), os.path.dirname(path))
            return (
                os.path.realpath(around) == os.path.normpath(around)
                and not any(os.path.lexists(main / each / ".git") for each in _folders(path))
                and self._read(here) == self._read(there)
            )
        except OSError:
            return False

    def _leads_into(self, main: Path, path: str) -> bool:
        """Whether a link leads to something of the main worktree, and not to something of its own
        that lies below it.
        """
        link = os.readlink(self.folder / path)
        target = Path(os.path.realpath(os.path.join(self.belong, os.path.dirname(path), link)))
        own = (self.belong, self.folder)
        return target.is_relative_to(os.path.realpath(main)) and not any(
            target.is_relative_to(os.path.realpath(each)) for each in own
        )

    def _read(self, path: Path) -> bytes:
        return read_small(path, owner=self.owner, limit=_LARGEST_COPY)

    def is_regenerable(self, path: str) -> bool:
        """Whether a folder is called as those are that tools make again."""
        names = (*catalogue.words("regenerable_folders", "folders"), *self.settings.regenerable)
        return any(_fits(path, name) for name in names)

    def _files_below(self, path: str) -> Iterator[str]:
        """Everything below an ignored folder that is no folder, and repositories in it."""

        if os.path.islink(self.folder / path.rstrip("/")):
            yield path.rstrip("/")
            return
        for top, folders, names in os.walk(self.folder / path, onerror=_raise):
            links = [name for name in folders if os.path.islink(os.path.join(top, name))]
            repository = [".git"] if ".git" in folders else []
            for name in (*repository, *links, *names):
                yield os.path.relpath(os.path.join(top, name), self.folder)


def _folders(path: str) -> list[Path]:
    """The folders that a relative path goes through."""
    return list(Path(path).parents)[:-1]


def _fits(path: str, pattern: str) -> bool:
    """Whether the end of a path is what a pattern says: as many parts as it has."""
    parts = path.split("/")
    end = "/".join(parts[-(pattern.count("/") + 1) :])
    return fnmatch.fnmatchcase(end, pattern)


def _nested_repository(folder: Path) -> Path | None:
    """A git repository somewhere below `folder`; None where there is none. Raises OSError where it
    cannot be looked into.
    """
    for path, folders, names in os.walk(folder, onerror=_raise):
        if ".git" in folders or ".git" in names:
            return Path(path)
    return None


def _raise(error: OSError) -> None:
    raise error
