"""Which hosts are asked first, and how many at a time."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from miyabi_healing.model.rollout import Slice


def make_slices(
    hosts: Sequence[str], waves: Sequence[str], slice_size: int, at_once: int
) -> tuple[Slice, ...]:
    """Hosts in their order, in waves of so many each: a number, or a share of all hosts like
    ``50%``, which is one host at least; the last one is repeated (Ansible's ``serial``). Slices of
    one wave differ by one host at most, and have no more than `slice_size` and `at_once`.

    Raises ValueError.
    """
    if not hosts:
        raise ValueError("there are no hosts")
    if len(set(hosts)) < len(hosts):
        raise ValueError("a host is there twice")
    if not waves:
        raise ValueError("there are no waves")
    sizes = [_size(each, len(hosts)) for each in waves]
    largest = min(slice_size, at_once)
    if largest < 1:
        raise ValueError("a slice has one host at least")
    made: list[Slice] = []
    start = wave = 0
    while start < len(hosts):
        end = start + sizes[min(wave, len(sizes) - 1)]
        wave += 1
        for part in _parts(hosts[start:end], largest):
            made.append(Slice(len(made) + 1, wave, tuple(part)))
        start = end
    return tuple(made)


def _size(wave: str, hosts: int) -> int:
    match = re.fullmatch(r"([0-9]{1,9})(%?)", wave.strip())
    number = int(match[1]) if match else 0
    is_share = bool(match and match[2])
    if number < 1 or (is_share and number > 100):
        raise ValueError(f"{wave!r} is no wave: it takes a number from 1 on, or 1% to 100%")
    return max(1, number * hosts // 100) if is_share else number


def _parts(hosts: Sequence[str], largest: int) -> Iterator[Sequence[str]]:
    count = -(-len(hosts) // largest)
    for number in range(count):
        yield hosts[len(hosts) * number // count : len(hosts) * (number + 1) // count]
