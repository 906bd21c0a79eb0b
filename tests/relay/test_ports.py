"""Ports: even, oldest first, rested."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipedge.relay.ports import LEAST, NoPortFree, PortRange, parse_range


def test_only_even_ports_whose_odd_neighbour_is_in_the_range_are_given() -> None:
    ports = PortRange(20_001, 20_006)
    assert [ports.take(0.0) for _ in range(2)] == [20_002, 20_004]
    with pytest.raises(NoPortFree):
        ports.take(0.0)


def test_a_port_is_used_again_only_after_all_others_and_after_its_rest() -> None:
    ports = PortRange(20_000, 20_005)
    first, second = ports.take(0.0), ports.take(0.0)
    ports.give(first, 10.0)
    ports.give(second, 11.0)
    assert ports.take(11.0) == 20_004
    with pytest.raises(NoPortFree):
        ports.take(10.0 + LEAST - 0.01)
    assert ports.take(10.0 + LEAST) == first
    with pytest.raises(NoPortFree):
        ports.take(10.0 + LEAST)
    assert ports.take(11.0 + LEAST) == second


def test_ports_are_counted_as_used_resting_and_free() -> None:
    ports = PortRange(20_000, 20_007)
    assert ports.counts(0.0) == (0, 0, 4)
    taken = ports.take(0.0)
    assert taken in ports and taken + 1 in ports and taken + 2 not in ports
    ports.give(taken, 1.0)
    assert ports.counts(30.9) == (0, 1, 3)
    assert ports.counts(31.0) == (0, 0, 4)


def test_a_port_no_socket_was_on_needs_no_rest() -> None:
    ports = PortRange(20_000, 20_001)
    ports.unused(ports.take(0.0))
    assert ports.take(0.0) == 20_000
    ports.give(20_002, 0.0)
    ports.unused(20_002)
    assert ports.counts(0.0) == (1, 0, 0)


@given(st.lists(st.tuples(st.booleans(), st.floats(0.0, 10.0)), max_size=200), st.integers(2, 12))
def test_no_port_is_given_twice_or_before_its_least_rest(steps: list[tuple[bool, float]], size: int) -> None:
    ports, now = PortRange(30_000, 30_000 + size), 0.0
    used: list[int] = []
    rested: dict[int, float] = {}
    for take, passed in steps:
        now += passed
        if take:
            try:
                port = ports.take(now)
            except NoPortFree:
                free = [at for one, at in rested.items() if one not in used]
                never = (size + 1) // 2 - len(rested.keys() | set(used))
                assert never == 0 and all(now - at < LEAST for at in free)
                continue
            assert port not in used and now - rested.get(port, -100.0) >= LEAST
            used.append(port)
        elif used:
            port = used.pop(0)
            rested[port] = now
            ports.give(port, now)


@pytest.mark.parametrize("text", ["", "20000", "a-b", "20000-", "-5", "20000-30000-40000", "20000.5-30000"])
def test_a_range_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_range(text)


@pytest.mark.parametrize(("first", "last"), [(0, 10), (20_000, 20_000), (20_001, 20_002), (5, 70_000), (9, 8)])
def test_a_range_without_a_pair_is_refused(first: int, last: int) -> None:
    with pytest.raises(ValueError):
        PortRange(first, last)


def test_a_range_is_read_from_its_text() -> None:
    assert parse_range("20000-29999") == (20_000, 29_999)
