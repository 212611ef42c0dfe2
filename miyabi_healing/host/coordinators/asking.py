"""What systemd and tmux say of a unit and of a pane. Asks only."""

from __future__ import annotations

import os
from dataclasses import dataclass

from miyabi_healing.support import commands
from miyabi_healing.support.command_errors import ToolError

_LIMIT = 10  # seconds
_NO_SOCKET = "No such file or directory"
_NO_SERVER = ("no server running", _NO_SOCKET, "Connection refused")


@dataclass(frozen=True)
class UnitState:
    """A unit of systemd: `pid` of its main process (0: none), its states (systemctl(1)), and which
    start of it this is (`invocation`).
    """

    pid: int
    active: str
    sub: str
    invocation: str


@dataclass(frozen=True)
class Pane:
    """A pane of tmux; `id` is its own for as long as the server lives."""

    id: str
    pid: int
    dead: bool


def systemctl(user: bool) -> list[str]:
    """The command line that reaches the system's systemd, or the user's."""
    return ["systemctl", *(["--user"] if user else [])]


def unit_state(name: str, *, user: bool) -> UnitState:
    """Raises ToolError, also where there is no such unit."""
    keys = ("LoadState", "MainPID", "ActiveState", "SubState", "InvocationID")
    argv = [*systemctl(user), "show", *(f"--property={each}" for each in keys), "--", name]
    said = commands.run_program(argv, time_limit=_LIMIT, whole_environment=True)
    rows = dict(
        line.partition("=")[::2] for line in said.stdout.decode("utf-8", "replace").splitlines()
    )
    if said.code or "ActiveState" not in rows:
        raise ToolError(f"systemctl cannot tell of {name}: {said.complaint}")
    if rows.get("LoadState") in ("not-found", "masked", "error", "bad-setting"):
        raise ToolError(f"systemd has no unit {name} that can be started: {rows['LoadState']}")
    pid = rows.get("MainPID", "0")
    return UnitState(
        int(pid) if pid.isdigit() else 0,
        rows["ActiveState"],
        rows.get("SubState", ""),
        rows.get("InvocationID", ""),
    )


def tmux(socket: str) -> list[str]:
    """The command line that reaches a server: its socket is a path, or a name."""
    if not socket:
        return ["tmux"]
    return ["tmux", "-S" if "/" in socket else "-L", os.path.expanduser(socket)]


def pane(target: str, socket: str, *, sure: bool = False) -> Pane | None:
    """The pane of that id (``%3``), or at that place (``session:window.pane`` by numbers; of what
    has one pane alone, ``session`` or ``session:window``); None where there is none, or no server.
    Raises ToolError where that cannot be told; if it has to be `sure`, also where there is no
    socket: that of another user, or with another TMUX_TMPDIR, lies elsewhere.

    All are listed, and the names compared here: of a target that is not there, tmux tells about
    another one.
    """
    form = "#{pane_id} #{pane_pid} #{pane_dead} #{window_index} #{pane_index} #{session_name}"
    argv = [*tmux(socket), "list-panes", "-a", "-F", form]
    said = commands.run_program(argv, time_limit=_LIMIT, whole_environment=True)
    if said.code:
        away = sure and _NO_SOCKET in said.complaint
        if not away and any(each in said.complaint for each in _NO_SERVER):
            return None
        raise ToolError(f"tmux cannot tell of {target}: {said.complaint}")
    alike = []
    for line in said.stdout.decode("utf-8", "replace").splitlines():
        number, pid, dead, window, index, session = line.split(" ", 5)
        found = Pane(number, int(pid) if pid.isdigit() else 0, dead == "1")
        if target in (number, f"{session}:{window}.{index}"):
            return found
        if target in (session, f"{session}:", f"{session}:{window}"):
            alike.append(found)
    if len(alike) > 1:
        raise ToolError(f"{target} has {len(alike)} panes; name one, like {alike[0].id}")
    return alike[0] if alike else None
