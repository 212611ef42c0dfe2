"""Sockets, and which of them are at the two ends of one connection. Looks only.

/proc/net/unix does not say who is connected to whom, so the kernel is asked by sock_diag(7); a
peer that is gone has the number 0 there. TCP's two ends are matched by their addresses.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from miyabi_healing.host.process_status import PROC

LISTENS = 10  # TCP_LISTEN in the kernel's tcp_states.h, for Unix sockets as well
_CONNECTED = 1  # TCP_ESTABLISHED
_SOCK_DIAG, _BY_FAMILY, _DUMP = 4, 20, 0x301  # NETLINK_SOCK_DIAG; NLM_F_REQUEST | NLM_F_DUMP
_SHOW = 0x01 | 0x04 | 0x10  # UDIAG_SHOW_NAME, _PEER, _RQLEN
_NAME, _PEER, _QUEUE, _SHUT = 0, 2, 4, 6  # UNIX_DIAG_NAME, _PEER, _RQLEN, _SHUTDOWN
_SHUT_BOTH = 3
_SECONDS = 2.0


@dataclass(frozen=True)
class UnixSocket:
    """One Unix socket by its inode: that of its peer (0: it is gone, or has not accepted yet; None:
    it has none), its name (``@`` for NUL), and how many wait in its queue.
    """

    inode: int
    kind: int
    state: int
    peer: int | None
    name: str
    waiting: int
    shut: bool

    @property
    def is_left(self) -> bool:
        """Whether its peer is gone, or it never had one: a stream is shut down then."""
        return self.peer is None or (
            self.peer == 0 and (self.shut or self.kind == socket.SOCK_DGRAM)
        )


@dataclass(frozen=True)
class NetworkSocket:
    """One TCP or UDP socket, by its inode, with both addresses as the kernel writes them."""

    inode: int
    state: int
    local: str
    remote: str
    waiting: int

    @property
    def remote_text(self) -> str:
        address, _, port = self.remote.partition(":")
        return f"{_address_text(address)}:{int(port, 16)}"


@dataclass(frozen=True)
class Sockets:
    """All sockets of a network namespace. `others` are of kinds that have no other end
    (netlink(7), packet(7)).
    """

    unix: dict[int, UnixSocket] = field(default_factory=dict)
    tcp: dict[int, NetworkSocket] = field(default_factory=dict)
    udp: dict[int, NetworkSocket] = field(default_factory=dict)
    others: frozenset[int] = frozenset()
    ends: dict[tuple[str, str], int] = field(default_factory=dict)  # (local, remote) of TCP: inode

    def other_end(self, mine: NetworkSocket) -> int | None:
        """The inode of the socket at the other end of a TCP connection; 0 where that is closed,
        None where it is not in this network namespace.
        """
        return self.ends.get((mine.remote, mine.local))


def read_sockets() -> Sockets:
    """Look at all sockets of our own network namespace. Raises OSError where they cannot be
    seen.
    """
    tcp = [each for name in ("tcp", "tcp6") for each in _table(name)]
    udp = [each for name in ("udp", "udp6", "udplite", "udplite6") for each in _table(name)]
    return Sockets(
        {each.inode: each for each in _unix_sockets()},
        {each.inode: each for each in tcp if each.inode},
        {each.inode: each for each in udp if each.inode},
        frozenset(_inodes("netlink", 9)) | frozenset(_inodes("packet", 8)),
        {(each.local, each.remote): each.inode for each in tcp if each.state == _CONNECTED},
    )


def is_connected(one: NetworkSocket) -> bool:
    return one.state == _CONNECTED


def _unix_sockets() -> Iterator[UnixSocket]:
    """Every Unix socket. Raises OSError."""
    body = struct.pack("=BBHIIIII", socket.AF_UNIX, 0, 0, 0xFFFFFFFF, 0, _SHOW, 0, 0)
    head = struct.pack("=IHHII", 16 + len(body), _BY_FAMILY, _DUMP, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _SOCK_DIAG) as link:
        link.settimeout(_SECONDS)
        link.send(head + body)
        while True:
            block = link.recv(1 << 18)
            at = 0
            while at < len(block):
                length, kind = struct.unpack_from("=IH", block, at)
                if kind == 3:  # NLMSG_DONE
                    return
                if kind == 2:  # NLMSG_ERROR
                    code = -struct.unpack_from("=i", block, at + 16)[0]
                    raise OSError(code, f"sock_diag: {os.strerror(code)}")
                yield _unix_socket(block[at + 16 : at + length])
                at += (length + 3) & ~3


def _unix_socket(message: bytes) -> UnixSocket:
    """Read one ``unix_diag_msg`` with its attributes (linux/unix_diag.h)."""
    _family, kind, state, _pad, inode = struct.unpack_from("=BBBBI", message)
    attributes: dict[int, bytes] = {}
    at = 16
    while at + 4 <= len(message):
        length, name_of_it = struct.unpack_from("=HH", message, at)
        attributes[name_of_it] = message[at + 4 : at + length]
        at += max((length + 3) & ~3, 4)
    peer, queue = attributes.get(_PEER), attributes.get(_QUEUE)
    name = attributes.get(_NAME, b"")
    if name[:1] == b"\0":
        name = b"@" + name[1:]
    return UnixSocket(
        inode,
        kind,
        state,
        None if peer is None else struct.unpack("=I", peer)[0],
        os.fsdecode(name.rstrip(b"\0")),
        struct.unpack_from("=I", queue)[0] if queue else 0,
        attributes.get(_SHUT, b"")[:1] == bytes([_SHUT_BOTH]),
    )


def _table(name: str) -> Iterator[NetworkSocket]:
    """The rows of ``/proc/net/tcp`` and its like (proc_pid_net(5))."""
    for part in _rows(name):
        local, remote, state, queues, inode = part[1], part[2], part[3], part[4], part[9]
        waiting = int(queues.partition(":")[2], 16)
        yield NetworkSocket(int(inode), int(state, 16), _plain(local), _plain(remote), waiting)


def _inodes(name: str, column: int) -> Iterator[int]:
    return (int(part[column]) for part in _rows(name))


def _rows(name: str) -> Iterator[list[str]]:
    try:
        with open(f"{PROC}/self/net/{name}", encoding="ascii", errors="replace") as file:
            next(file, "")
            yield from (line.split() for line in file)
    except FileNotFoundError:
        return  # a kernel without it


def _plain(address: str) -> str:
    """An address of IPv4 that is written as one of IPv6 (``::ffff:127.0.0.1``), as IPv4."""
    prefix = f"0000000000000000{socket.htonl(0xFFFF):08X}"
    return address[24:] if address.startswith(prefix) and len(address) == 37 else address


def _address_text(address: str) -> str:
    words = [struct.pack("=I", int(address[at : at + 8], 16)) for at in range(0, len(address), 8)]
    family = socket.AF_INET if len(words) == 1 else socket.AF_INET6
    return socket.inet_ntop(family, b"".join(words))
