"""Waves of hosts, and what stops a rollout."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miyabi_healing.fleet.rules import why_to_stop
from miyabi_healing.fleet.waves import make_slices
from miyabi_healing.model.rollout import Answer, HostState, Rollout, Rules, Slice

HOSTS = tuple(f"h{number}" for number in range(30))
WELL, ISSUES, UNREACHABLE = HostState.WELL, HostState.ISSUES, HostState.UNREACHABLE


def wave_sizes(slices: tuple[Slice, ...]) -> list[int]:
    waves = sorted({each.wave for each in slices})
    return [sum(len(each.hosts) for each in slices if each.wave == wave) for wave in waves]


@pytest.mark.parametrize(
    ("hosts", "waves", "sizes"),
    [
        (30, ("1", "5", "50%"), [1, 5, 15, 9]),
        (30, ("100%",), [30]),
        (30, ("20",), [20, 10]),
        (3, ("1", "5"), [1, 2]),
        (3, ("10%",), [1, 1, 1]),  # a share is one host at least
        (7, ("50%",), [3, 3, 1]),  # and rounded down
    ],
)
def test_last_wave_is_repeated_and_a_share_is_of_all_hosts(
    hosts: int, waves: tuple[str, ...], sizes: list[int]
) -> None:
    assert wave_sizes(make_slices(HOSTS[:hosts], waves, 50, 50)) == sizes


def test_slices_are_as_even_as_can_be_and_no_larger_than_may_be_at_work() -> None:
    assert [len(each.hosts) for each in make_slices(HOSTS[:26], ("100%",), 25, 50)] == [13, 13]
    assert {len(each.hosts) for each in make_slices(HOSTS, ("100%",), 25, 10)} == {10}


@given(
    count=st.integers(1, 200),
    waves=st.lists(
        st.one_of(st.integers(1, 60).map(str), st.integers(1, 100).map(lambda share: f"{share}%")),
        min_size=1,
        max_size=4,
    ),
    size=st.integers(1, 40),
    at_once=st.integers(1, 40),
)
def test_every_host_is_in_one_slice_and_order_is_kept(
    count: int, waves: list[str], size: int, at_once: int
) -> None:
    hosts = [f"h{number}" for number in range(count)]
    slices = make_slices(hosts, waves, size, at_once)
    assert [host for each in slices for host in each.hosts] == hosts
    assert [each.number for each in slices] == list(range(1, len(slices) + 1))
    numbers = [each.wave for each in slices]
    assert numbers == sorted(numbers)
    assert set(numbers) == set(range(1, max(numbers) + 1))
    assert all(1 <= len(each.hosts) <= min(size, at_once) for each in slices)


@pytest.mark.parametrize("wrong", ["0", "-1", "", "0%", "101%", "1.5", "50 %", "all", "٣"])
def test_wave_that_is_none_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="is no wave"):
        make_slices(HOSTS, ("1", wrong), 5, 5)


@pytest.mark.parametrize(
    ("hosts", "waves", "size", "message"),
    [
        ((), ("1",), 5, "no hosts"),
        (("a", "b", "a"), ("1",), 5, "twice"),
        (HOSTS, (), 5, "no waves"),
        (HOSTS, ("1",), 0, "one host at least"),
    ],
)
def test_slices_of_nothing_are_refused(
    hosts: tuple[str, ...], waves: tuple[str, ...], size: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make_slices(hosts, waves, size, 5)


def answers(*states: HostState, issues: tuple[str, ...] = ()) -> list[Answer]:
    report = {"issues_detected": [{"name": each, "target": ""} for each in issues]}
    return [Answer(f"h{number}", state, report=report) for number, state in enumerate(states)]


def rollout(**rules: float) -> Rollout:
    return Rollout("a", (Slice(1, 1, HOSTS),), rules=Rules(**rules))  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", sorted(set(HostState) - {WELL, *("untouched", "at work")}))
def test_whatever_else_than_well_counts_as_bad(bad: HostState) -> None:
    """Those that cannot be reached above all: Ansible's own max_fail_percentage leaves them out."""
    wave = answers(WELL, WELL, bad)
    reason = why_to_stop(rollout(), 2, wave, [])
    assert reason is not None
    assert reason.startswith("max_fail: 1 of 3 hosts in wave 2 not well (33 %, limit 20 %): h2 (")
    canary = why_to_stop(rollout(max_fail=100), 1, wave, [])
    assert canary == f"canary: 1 of 3 hosts not well: h2 ({bad.value})"


@pytest.mark.parametrize(
    ("wave", "bad", "stops"), [(2, 1, False), (2, 2, True), (1, 1, True), (1, 0, False)]
)
def test_share_of_a_wave_may_fail_but_none_of_the_canary(wave: int, bad: int, stops: bool) -> None:
    found = answers(*[UNREACHABLE] * bad, *[WELL] * (5 - bad))
    assert (why_to_stop(rollout(), wave, found, []) is not None) is stops
    assert (why_to_stop(rollout(canary=False), wave, found, []) is not None) is (bad == 2)


def test_many_hosts_are_named_by_the_first() -> None:
    reason = why_to_stop(rollout(), 2, answers(*[UNREACHABLE] * 7), [])
    assert reason is not None
    assert reason.endswith("h4 (unreachable) and 2 more")


@pytest.mark.parametrize(
    ("found", "others", "stops"), [(5, 5, True), (4, 6, False), (4, 0, False), (5, 0, True)]
)
def test_one_issue_on_many_hosts_stops_also_where_it_was_healed(
    found: int, others: int, stops: bool
) -> None:
    so_far = answers(*[WELL] * found, issues=("full", "full"))
    so_far += answers(*[WELL] * others, issues=("other",) if others < 5 else ())
    reason = why_to_stop(rollout(), 2, answers(WELL), so_far)
    assert (reason is not None) is stops
    if reason:
        assert reason.startswith(f"same_issue: {found} of {found + others} hosts found full (")
        assert "h4 (well)" in reason


def test_hosts_without_a_report_say_nothing_about_issues() -> None:
    so_far = answers(*[ISSUES] * 4, issues=("full",))
    so_far += [Answer(f"x{number}", UNREACHABLE) for number in range(90)]
    assert why_to_stop(rollout(), 2, answers(WELL), so_far) is None
    nonsense = [Answer("y", WELL, report={"issues_detected": each}) for each in (None, 3, [None])]
    assert "4 of 7 hosts" in str(why_to_stop(rollout(), 2, answers(WELL), so_far + nonsense))
