"""The rows of the data files in ``host/data``, and of the tables of the same form in a
configuration: caches, databases that look like logs, and how agents lock worktrees; groups of logs.

A host without such rows does not load this.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Literal

from miyabi_healing.model.limit_settings import LimitSettings

if TYPE_CHECKING:
    from msgspec import Meta  # as in `model.config`


@dataclass(frozen=True, repr=False)
class CacheKind:
    """A kind of cache. `folders` are relative to a home (`macos`: there, on macOS), or absolute:
    the system's own, which only `gentle` and `strong` ever clean, as root.

    Category A is made again at no more cost than time, B is costly to make again and only
    cleaned where ``caches.also`` names it, C is a person's: files are set aside, never deleted.
    `gentle` and `strong` are the owner's commands (``{}`` is the folder, ``{parent}`` the one
    above it), `note` says what they do. `users` are programs that must not be running
    meanwhile, `locks` files below the home that the owner locks, `needs` what must be there.
    Without its owner's tool, a `deletable` one may be deleted, all but what is named in
    `spare`; `depth` is how far below the folder lie the parts that go or stay as a whole, `days`
    how long a part has to be untouched, besides what the healer asks for. Of what has versions,
    `newest` of them stay, however old (0: the parts are no versions of one another). Parts that are
    of no use to one another go `together`, and not as few as make room enough. With `tagged`,
    the folders are no caches: those are, below them, that tools have marked (CACHEDIR.TAG). With
    `trash`, they are a trash can as freedesktop.org has it. `environment` is what the owner's
    commands get besides, with the same places.
    """

    category: Literal["A", "B", "C"]
    folders: tuple[str, ...] = ()
    macos: tuple[str, ...] = ()
    gentle: tuple[str, ...] = ()
    strong: tuple[str, ...] = ()
    note: str = ""
    users: tuple[str, ...] = ()
    locks: tuple[str, ...] = ()
    needs: str = ""
    deletable: bool = True
    spare: tuple[str, ...] = ()
    depth: Annotated[int, Meta(ge=1, le=10)] = 1
    days: Annotated[float, Meta(ge=0)] = 0
    newest: Annotated[int, Meta(ge=0)] = 0
    together: bool = False
    tagged: bool = False
    trash: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.folders and not self.macos:
            raise ValueError("folders must name one at least")
        for each in (*self.folders, *self.macos, *self.locks):
            if (
                not each.strip("/.")
                or not {".", ".."}.isdisjoint(each.split("/"))
                or set("*?[~") & set(each)
                or not each.isprintable()
            ):
                raise ValueError(f"folders and locks must name one below a home, not {each!r}")
        if any(each.startswith("/") for each in (*self.macos, *self.locks)):
            raise ValueError("macos and locks must be relative to a home")
        if self.needs and not self.needs.startswith("/"):
            raise ValueError(f"needs must be an absolute path, not {self.needs!r}")
        if self.category == "C" and (self.gentle or self.strong):
            raise ValueError("of category C nothing is cleaned by a command")
        if self.trash and self.category != "C":
            raise ValueError("a trash can holds a person's files: that is category C")
        if self.tagged and (self.category == "C" or self.gentle or self.strong or self.of_system):
            raise ValueError(
                "what is marked as a cache is of category A or B, below a home, and has no command"
            )
        for command in (self.gentle, self.strong):
            if command and "/" in command[0] and not command[0].startswith("/"):
                raise ValueError(f"a command's program is a name or a whole path: {command[0]!r}")
        if self.of_system:
            self._check_system()

    def _check_system(self) -> None:
        if not (self.gentle or self.strong) or self.category == "C":
            raise ValueError(
                "an absolute folder is only cleaned by a command: give it gentle or strong, and "
                "category A or B"
            )
        if not all(each.startswith("/") for each in self.folders):
            raise ValueError("folders must all be relative to a home, or all absolute")
        if self.spare or self.locks or self.macos or self.depth != 1 or self.days or self.newest:
            raise ValueError(
                "spare, locks, macos, depth, days and newest mean nothing for an absolute folder"
            )

    @property
    def of_system(self) -> bool:
        return any(each.startswith("/") for each in self.folders)

    @property
    def costly(self) -> bool:
        return self.category == "B"


@dataclass(frozen=True, repr=False)
class KnownFolder:
    """What a folder holds that is no cache: `verdict` and `what`, in words for people. Where:
    `folders` relative to a home, or absolute; `names` of folders anywhere; `marks`, names inside
    that make any folder one. What `holds` others is named by what is in it.
    """

    verdict: Literal["costly", "a person's", "the system's"]
    what: str
    folders: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()
    holds: bool = False

    def __post_init__(self) -> None:
        if not (self.folders or self.names or self.marks):
            raise ValueError("folders, names or marks must name something")
        if any("/" in each for each in (*self.names, *self.marks)):
            raise ValueError("names and marks are names, not paths")


@dataclass(frozen=True, repr=False)
class DatabaseKind:
    """A database whose own files look like logs: what lies `beside` them, what their folder is
    called (`folders`), and they themselves (`files`).

    A name may have one ``*``. What is listed under `beside` makes everything in its folder a part
    of the database, so it must be a name that nothing else has: ``dump.rdb`` and ``*.db`` lie
    beside ordinary logs, too. One that begins with ``{stem}`` (the log's own name without its
    extension) or ``{name}`` speaks of that one log alone.
    """

    beside: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    files: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not (self.beside or self.folders or self.files):
            raise ValueError("beside, folders or files must name something")
        for each in (*self.beside, *self.folders, *self.files):
            if each.count("*") > 1 or set("?[]") & set(each) or not each.strip("*"):
                raise ValueError(f"a name may have one * beside letters, and no more: {each!r}")
            own = each in self.beside and each.startswith(("{stem}", "{name}"))
            if "{" in each and not own:
                raise ValueError(f"only names under beside may begin with {{stem}}: {each!r}")


@dataclass(frozen=True, repr=False)
class AgentLock:
    """The `reasons` (none: such locks hold) with which an agent locks a worktree (``git
    worktree lock --reason``): each has ``{pid}`` once, may have ``{host}`` and ``{start}`` (as
    ps(1) says lstart), and ``*`` for any text.
    """

    reasons: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for each in self.reasons:
            places = [each.count(place) for place in ("{pid}", "{host}", "{start}")]
            if "{" in re.sub(r"\{(pid|host|start)\}", "", each):
                raise ValueError(f"places are {{pid}}, {{host}} and {{start}}, no other: {each!r}")
            if places[0] != 1 or max(places) > 1:
                raise ValueError(f"a reason must have {{pid}} once, no place twice: {each!r}")
            if re.search(r"[*}]\{pid\}|\{pid\}[*{\d]|\d\{pid\}", each):
                raise ValueError(f"no digit and no other place may be beside {{pid}}: {each!r}")
            if not each.isprintable() or each.count("*") > 3:
                raise ValueError(f"a reason may have three *, and no control character: {each!r}")
            if not re.search(r"[^\W\d_]", re.sub(r"\{(pid|host|start)\}", "", each)):
                raise ValueError(f"a reason must have words of the agent's own: {each!r}")


@dataclass(frozen=True, repr=False)
class ProgramGroup:
    """Programs that are never signalled, by what they are called (fnmatch(3)); with `asked` they
    may be told that a child ended (SIGCHLD), and only never ended. What lies below a folder called
    like one of `folders` belongs to it. With `below`, whatever such a program started is live work
    as long as it lives.
    """

    programs: tuple[str, ...]
    asked: bool = False
    below: bool = False
    folders: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for each in (*self.programs, *self.folders):
            if "/" in each or not each.strip("*?.") or each.strip() != each:
                raise ValueError(f"a program or folder is called by its name alone: {each!r}")
        if self.folders and not self.asked:
            raise ValueError("folders mean something only with asked")


@dataclass(frozen=True, repr=False)
class LogGroupSettings(LimitSettings):
    """Logs with a limit of their own, by their `pattern`."""

    pattern: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.pattern:
            raise ValueError("pattern must name files, like /srv/app/*.log")
