"""Whether anybody who lives is at the other end of what processes have open: pipes, sockets,
terminals. Looks only.

That the other end of a pipe or a Unix socket is gone is asked of the kernel, which knows of
processes in other namespaces and of other users as well. Who could not be told counts as there.
"""

from __future__ import annotations

import errno
import os
import select
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from miyabi_healing.host import catalogue, sockets, visibility
from miyabi_healing.host.open_files import told_by
from miyabi_healing.host.process_status import PROC, Process, _numbers, container, read_process
from miyabi_healing.host.programs import program_name
from miyabi_healing.support import mount_answers
from miyabi_healing.support.formatting import display

_NOT_CONNECTED = frozenset(("TCP", "TCPv6", "UDP", "UDPv6", "NETLINK", "PACKET", "RAW", "PING"))
# what a process does for others who have it open: the kernel asks it, and no peer is to be seen
_SERVED = {
    "/dev/fuse": "it serves a mounted folder (/dev/fuse)",
    "/dev/net/tun": "it serves a network (/dev/net/tun)",
    "/dev/kvm": "it runs a virtual machine (/dev/kvm)",
}
_READS, _WRITES = 1, 2
Family = Sequence[Process]


@dataclass(frozen=True)
class _Pipe:
    """An end of a pipe or FIFO, by what its link says: whether it is read from, written to, or
    both.
    """

    pid: int
    descriptor: int
    link: str
    mode: int
    inode: int


@dataclass
class _Held:
    """What a family holds that somebody could be at the other end of; `client` is somebody who is
    known to be without asking further.
    """

    pipes: list[_Pipe] = field(default_factory=list)
    sockets: dict[int, tuple[int, int]] = field(default_factory=dict)  # inode: pid and descriptor
    client: str = ""


def clients_of(families: Sequence[Family]) -> list[str]:
    """Who lives at the other end of anything that a family of processes has open, in words; empty
    where nobody does. The families do not count for each other, unless one of them has a client.
    """
    held = [_held_by(family) for family in families]
    found = [each.client for each in held]
    links: list[tuple[int, int]] = []
    owners: dict[str, set[int]] = {}
    for number, each in enumerate(held):
        for link in {pipe.link for pipe in each.pipes} | {_link(inode) for inode in each.sockets}:
            owners.setdefault(link, set()).add(number)
    wanted: dict[str, list[int]] = {}  # what nobody outside may hold, and whose client they were

    try:
        known = sockets.read_sockets() if any(each.sockets for each in held) else sockets.Sockets()
    except OSError as error:
        why = f"its connections cannot be seen: {error.strerror or error}"
        found = [
            was or (why if each.sockets else "") for was, each in zip(found, held, strict=True)
        ]
        known = sockets.Sockets()
    for number, each in enumerate(held):
        if found[number]:
            continue
        for other in _other_ends(each, known, held, owners):
            if other.client:
                found[number] = other.client
            for owner in owners.get(other.link, ()):
                links.append((number, owner))
            wanted.setdefault(other.link, []).append(number)
    ours = {process.pid for family in families for process in family}
    for link, pid in _holders(set(wanted), ours).items():
        for number in wanted[link]:
            found[number] = f"{_who(pid)} is at the other end of its {_kind_of(link)}"
    return _spread(found, links)


@dataclass(frozen=True)
class _OtherEnd:
    """The other end of something: by its link, who has it open is not known yet; by `client` it is
    in use, whoever that is.
    """

    link: str
    client: str = ""


def _other_ends(
    held: _Held, known: sockets.Sockets, everyone: Sequence[_Held], owners: dict[str, set[int]]
) -> Iterator[_OtherEnd]:
    modes: dict[str, int] = {}
    for other in everyone:
        for pipe in other.pipes:
            modes[pipe.link] = modes.get(pipe.link, 0) | pipe.mode
    for pipe in held.pipes:
        named = not pipe.link.startswith("pipe:[")
        if modes[pipe.link] == _READS | _WRITES:
            yield _OtherEnd(pipe.link)
        elif named and pipe.mode == _READS:  # of a name's new reader poll(2) tells nothing
            yield _OtherEnd(
                pipe.link, "" if _sees_everybody() else "somebody may write to its FIFO"
            )
        elif _other_side_is_open(pipe):
            yield _OtherEnd(pipe.link, "somebody has the other end of its pipe")
    for inode, (pid, descriptor) in held.sockets.items():
        if inode in known.unix:
            yield from _of_unix(known.unix[inode], known, owners)
        elif inode in known.tcp:
            yield from _of_tcp(known.tcp[inode], known, owners)
        elif inode in known.udp:
            one = known.udp[inode]
            if sockets.is_connected(one):
                yield _OtherEnd("", f"it is connected to {one.remote_text}")
        elif inode not in known.others and not _is_unconnected(pid, descriptor):
            yield _OtherEnd("", "a socket of it cannot be told")


def _of_unix(
    one: sockets.UnixSocket, known: sockets.Sockets, owners: dict[str, set[int]]
) -> Iterator[_OtherEnd]:
    if one.state == sockets.LISTENS:
        if one.waiting:
            yield _OtherEnd("", f"somebody waits at its socket {display(one.name)}")
        return
    if one.is_left:
        return
    peer = known.unix.get(one.peer or 0)
    if peer and peer.name in catalogue.words("background_sockets", "sockets"):
        return
    name = (peer.name if peer else "") or one.name
    yield _end_of_socket(one.peer or 0, f"it is connected{name and f' at {display(name)}'}", owners)


def _of_tcp(
    one: sockets.NetworkSocket, known: sockets.Sockets, owners: dict[str, set[int]]
) -> Iterator[_OtherEnd]:
    if one.state == sockets.LISTENS:
        if one.waiting:
            yield _OtherEnd("", "somebody waits to be connected to it")
        return
    if not sockets.is_connected(one):
        return
    other = known.other_end(one)
    if other == 0:
        return
    yield _end_of_socket(other or 0, f"it is connected to {one.remote_text}", owners)


def _end_of_socket(inode: int, text: str, owners: dict[str, set[int]]) -> _OtherEnd:
    """Among the families themselves only who else has it counts; elsewhere somebody has."""
    link = _link(inode) if inode else ""
    return _OtherEnd(link) if link in owners else _OtherEnd(link, text)


def _held_by(family: Family) -> _Held:
    held = _Held()
    for process in family:
        top = f"{PROC}/{process.pid}"
        try:
            ours = os.stat(f"{top}/ns/net").st_ino == os.stat(f"{PROC}/self/ns/net").st_ino
            for name in os.listdir(f"{top}/fd"):
                _add(held, process.pid, int(name))
            if held.sockets and not ours:
                held.client = "its connections are in another network namespace"
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended
        except OSError as error:
            held.client = f"what it has open cannot be seen: {error.strerror}"
    return held


def _add(held: _Held, pid: int, descriptor: int) -> None:
    """Add what a descriptor leads to, where somebody could be at the other end. Raises OSError."""
    path = f"{PROC}/{pid}/fd/{descriptor}"
    try:
        link = os.readlink(path)
        if link.startswith("socket:["):
            held.sockets.setdefault(_number(link), (pid, descriptor))
        elif link.startswith(("/dev/pts/", "/dev/tty", "/dev/console", "/dev/ptmx")):
            if not link.endswith(" (deleted)"):
                held.client = held.client or f"it has the terminal {display(link)} open"
        elif link in _SERVED:
            held.client = held.client or _SERVED[link]
        elif link.startswith(("pipe:[", "/dev/shm/")) or (
            link.startswith("/") and not link.startswith(("/dev/", "/memfd:"))
        ):
            flags, mount = told_by(f"{PROC}/{pid}/fdinfo/{descriptor}")
            inode = _number(link) if link.startswith("pipe:[") else _fifo(path, mount)
            if inode:
                access = flags & os.O_ACCMODE
                mode = {os.O_RDONLY: _READS, os.O_WRONLY: _WRITES}.get(access, _READS | _WRITES)
                held.pipes.append(_Pipe(pid, descriptor, link, mode, inode))
    except (FileNotFoundError, ProcessLookupError):
        return  # closed meanwhile


def _fifo(path: str, mount: int | None) -> int:
    """The inode of a FIFO with a name; 0 where it is none, or its mount does not answer. Raises
    OSError.
    """
    if mount_answers.behind(path, mount):
        return 0
    status = os.stat(path)
    return status.st_ino if stat.S_ISFIFO(status.st_mode) else 0


def _other_side_is_open(pipe: _Pipe) -> bool:
    """Whether anybody at all has the other end of a pipe: poll(2) says POLLHUP to a reader where no
    writer is left, and POLLERR to a writer where no reader is.

    It is opened as its holder has it, for a moment, so that nobody at the other end notices.
    """
    how = os.O_RDONLY if pipe.mode == _READS else os.O_WRONLY
    try:
        handle = os.open(f"{PROC}/{pipe.pid}/fd/{pipe.descriptor}", os.O_PATH | os.O_CLOEXEC)
        try:
            status = os.fstat(handle)
            if not stat.S_ISFIFO(status.st_mode) or status.st_ino != pipe.inode:
                return True
            end = os.open(f"{PROC}/self/fd/{handle}", how | os.O_NONBLOCK | os.O_CLOEXEC)
        finally:
            os.close(handle)
    except OSError as error:
        return error.errno != errno.ENXIO  # a FIFO with a name is refused to a writer (fifo(7))
    try:
        poll = select.poll()
        poll.register(end, select.POLLIN if pipe.mode == _READS else select.POLLOUT)
        gone = select.POLLHUP if pipe.mode == _READS else select.POLLERR
        return not any(event & gone for _, event in poll.poll(0))
    finally:
        os.close(end)


def _sees_everybody() -> bool:
    return container() is None and visibility.sees_everybody()


def _is_unconnected(pid: int, descriptor: int) -> bool:
    """Whether a socket that is in no table is of a kind that is in one while it is connected
    (``system.sockprotoname`` in the kernel's net/socket.c).
    """
    try:
        kind = os.getxattr(f"{PROC}/{pid}/fd/{descriptor}", "system.sockprotoname")
    except (OSError, AttributeError):
        return False
    return os.fsdecode(kind).rstrip("\0") in _NOT_CONNECTED


def _holders(links: set[str], ours: set[int]) -> dict[str, int]:
    """Who else has what these links say open: the first process that is found for each."""
    found: dict[str, int] = {}
    if not links - {""}:
        return found
    for name in _numbers():
        if int(name) in ours:
            continue
        try:
            descriptors = os.listdir(f"{PROC}/{name}/fd")
        except OSError:
            continue
        for each in descriptors:
            try:
                link = os.readlink(f"{PROC}/{name}/fd/{each}")
            except OSError:
                continue
            if link in links:
                found.setdefault(link, int(name))
    return found


def _spread(found: Sequence[str], links: Sequence[tuple[int, int]]) -> list[str]:
    """A family that is connected with one that has a client has one as well."""
    spread = list(found)
    while True:
        more = [
            (one, spread[other])
            for pair in links
            for one, other in (pair, pair[::-1])
            if spread[other] and not spread[one]
        ]
        if not more:
            return spread
        for one, why in more:
            spread[one] = f"it is connected with another one, of which: {why}"


def _who(pid: int) -> str:
    try:
        process = read_process(pid)
    except OSError:
        process = None
    return f"{display(program_name(process))} (pid {pid})" if process else f"pid {pid}"


def _kind_of(link: str) -> str:
    return "socket" if link.startswith("socket:") else "pipe"


def _link(inode: int) -> str:
    return f"socket:[{inode}]"


def _number(link: str) -> int:
    return int(link.partition("[")[2].rstrip("]"))
