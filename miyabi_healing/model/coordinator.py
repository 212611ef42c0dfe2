"""A coordinator of tasks on one host, as a configuration describes it: where it is, where its
claims are, and how it is ended and started.

A host that has none does not load this.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from miyabi_healing.model.conninfo import store_objection

if TYPE_CHECKING:
    from msgspec import Meta  # as in `model.config`

CLAIMS = ("tasks", "sqlite", "postgres", "claims", "locks")
PLACES = ("pid_file", "unit", "user_unit", "pane")
WITH_HOST = "host boot pid start"
_TABLES = ("sqlite", "postgres")


@dataclass(frozen=True, repr=False)
class Coordinator:
    """A process that hands out tasks, by a `pid_file`, a `unit` of systemd (`user_unit`: of the
    user's), or a `pane` of tmux (`tmux`: its socket, as a path or a name). `program` is a pattern
    of what its program is called. A `heartbeat` file that was not touched for `heartbeat_limit`
    seconds is a reason to look whether it hangs, for `look` seconds.

    Its claims: a file of `tasks`, in which RFC 6901 pointers lead to the `list` (or mapping), and
    in each task to `id` (empty: the mapping's key), `status`, `owner`, `started_at`; the status is
    one of `claimed`, or `pending`; writers hold a flock on `lock_file`. Or a table in `sqlite` or
    `postgres`: a `query` for id, status, owner, started_at of claimed tasks, and the statement
    `give_back` with the parameters id, status, owner. Or files that match `claims`, or folders that
    match `locks`: the owner stands in `owner_file` in the folder, is what the group of the
    expression `owner_in_name` matches, or is the content of the file.

    `owned_by` is how an owner is written. `give_back_command` replaces our own way of giving a
    claim back, with {id}, {status} and {owner} in it. `start` starts it where its unit or pane does
    not; in a pane it is the pane's command. `kill_pane`: a shell that is left in the pane may be
    ended.
    """

    pid_file: str = ""
    unit: str = ""
    user_unit: str = ""
    pane: str = ""
    tmux: str = ""
    program: str = ""
    heartbeat: str = ""
    heartbeat_limit: Annotated[float, Meta(gt=0)] = 120
    look: Annotated[float, Meta(gt=0, le=30)] = 0.5

    tasks: str = ""
    list: str = ""
    id: str = "/id"
    status: str = "/status"
    owner: str = "/assigned_to"
    started_at: str = "/started_at"
    claimed: tuple[str, ...] = ("in_progress",)
    pending: str = "pending"
    lock_file: str = ""

    sqlite: str = ""
    postgres: str = ""
    query: str = ""
    give_back: str = ""

    claims: str = ""
    locks: str = ""
    owner_file: str = ""
    owner_in_name: str = ""

    owned_by: Literal[
        "pid", "pid start", "host boot pid start", "pid file", "unit", "user unit", "pane"
    ] = "pid"
    give_back_command: tuple[str, ...] = ()
    start: tuple[str, ...] = ()
    kill_pane: bool = False

    def __post_init__(self) -> None:
        for names, what in ((CLAIMS, "where its claims are"), (PLACES, "where it is")):
            if sum(bool(getattr(self, name)) for name in names) != 1:
                raise ValueError(f"say {what} by exactly one of {', '.join(names)}")
        for name in ("pid_file", "heartbeat", "tasks", "lock_file", "sqlite", "claims", "locks"):
            value = getattr(self, name)
            if value and not value.startswith(("/", "~")):
                raise ValueError(f"{name} must be an absolute path, not {value!r}")
        for name in ("list", "id", "status", "owner", "started_at"):
            check_pointer(name, getattr(self, name))
        self._check_claims()
        if self.pid_file and not self.start:
            raise ValueError("start must say how it is started: pid_file alone does not")

    def _check_claims(self) -> None:
        kind = self.kind
        if kind == "tasks":
            empty = [each for each in ("status", "owner") if not getattr(self, each)]
            if empty or not self.claimed or self.pending in self.claimed:
                raise ValueError(
                    f"{empty[0]} must be a pointer into a task"
                    if empty
                    else "claimed must name a status, and not that of pending"
                )
        if (kind in _TABLES) != bool(self.query):
            raise ValueError("query goes with sqlite or postgres, and they with it")
        if self.give_back and kind not in _TABLES:
            raise ValueError("give_back goes with sqlite or postgres")
        if kind in _TABLES and bool(self.give_back) == bool(self.give_back_command):
            raise ValueError("a table needs give_back or give_back_command, and not both")
        missing = [
            each for each in ("id", "owner", "status") if not _parameter(kind, each, self.give_back)
        ]
        if self.give_back and missing:
            raise ValueError(
                f"give_back must compare {missing[0]}: "
                f"{':' if kind == 'sqlite' else '%('}{missing[0]}{'' if kind == 'sqlite' else ')s'}"
                " is not in it"
            )
        if self.postgres and (reason := store_objection(self.postgres)):
            raise ValueError(f"postgres{reason.removeprefix('store')}")
        if kind == "postgres" and self.owned_by != WITH_HOST:
            raise ValueError(
                f"owned_by must be {WITH_HOST!r} with postgres: its owners can be on other hosts"
            )
        if self.owner_file and (kind != "locks" or "/" in self.owner_file):
            raise ValueError("owner_file is the name of a file in a folder of locks")
        if kind == "locks" and bool(self.owner_file) == bool(self.owner_in_name):
            raise ValueError("locks need owner_file or owner_in_name, and not both")
        if self.owner_in_name:
            if kind not in ("claims", "locks"):
                raise ValueError("owner_in_name goes with claims or locks")
            try:
                groups = re.compile(self.owner_in_name).groups
            except re.error as error:
                raise ValueError(f"owner_in_name is no regular expression: {error}") from None
            if groups != 1:
                raise ValueError("owner_in_name must have one group, which is the owner")

    @property
    def kind(self) -> str:
        """The key that says where the claims are."""
        return next(each for each in CLAIMS if getattr(self, each))


def _parameter(kind: str, name: str, statement: str) -> bool:
    """Whether a statement has a named parameter, as its library writes it."""
    written = rf":{name}\b" if kind == "sqlite" else re.escape(f"%({name})s")
    return re.search(written, statement) is not None


def check_pointer(name: str, pointer: str) -> None:
    """Raises ValueError for what is no JSON pointer (RFC 6901, 3)."""
    if pointer and (not pointer.startswith("/") or re.search(r"~(?![01])", pointer)):
        raise ValueError(f"{name} must be a JSON pointer, like /tasks, not {pointer!r}")
