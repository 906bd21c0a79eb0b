"""What a trunk's `uri` says, and in which order its machines are tried."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipedge.targets import BLOCKED_SECONDS, Hop, Place, Target, Targets

A, B, C, D = (Hop("udp", f"10.0.0.{n}", 5060) for n in (1, 2, 3, 4))


def named() -> Targets:
    return Targets(Target.parse("sip:sbc.example"))


@pytest.mark.parametrize(
    ("uri", "target", "written"),
    [
        ("sip:127.0.0.1:5070;transport=udp", Target("udp", "127.0.0.1", 5070), "127.0.0.1:5070"),
        ("sip:10.0.0.1;transport=TCP", Target("tcp", "10.0.0.1", 5060, open_port=True), "10.0.0.1:5060"),
        ("sip:10.0.0.1:5070", Target("udp", "10.0.0.1", 5070, open_transport=True), "10.0.0.1:5070"),
        ("sip:[2001:db8::1]:5080;transport=udp", Target("udp", "2001:db8::1", 5080), "[2001:db8::1]:5080"),
        ("sip:[2001:db8::1];transport=udp", Target("udp", "2001:db8::1", 5060, open_port=True), "[2001:db8::1]:5060"),
        ("sip:sbc.example", Target("udp", "sbc.example", 5060, open_transport=True, open_port=True), "sbc.example"),
        ("sip:sbc.example:5060", Target("udp", "sbc.example", 5060, open_transport=True), "sbc.example:5060"),
        ("sip:sbc.example;transport=tls", Target("tls", "sbc.example", 5061, open_port=True), "sbc.example"),
        ("SIPS:sbc.example;transport=tcp", Target("tls", "sbc.example", 5061, True, open_port=True), "sbc.example"),
        ("sips:[2001:db8::1]:5071", Target("tls", "2001:db8::1", 5071, secure=True), "[2001:db8::1]:5071"),
    ],
)
def test_a_uri_says_where_calls_go_and_what_it_leaves_open(uri: str, target: Target, written: str) -> None:
    assert Target.parse(uri) == target
    assert target.hostport == written


def test_an_address_is_its_own_only_machine() -> None:
    targets = Targets(Target.parse("sip:10.0.0.1:5070;transport=tcp"))
    assert targets.first == Hop("tcp", "10.0.0.1", 5070)
    assert ("10.0.0.1", 5070) in targets and ("10.0.0.1", 5060) not in targets


def test_a_name_nobody_has_looked_up_leads_nowhere() -> None:
    targets = named()
    assert targets.first is None and targets.in_order(0.0, Random(1)) == []


def test_priority_comes_before_weight_and_weight_shares_the_calls() -> None:
    targets, random = named(), Random(5)
    targets.learn(
        [Place((0, 10), 60, (A,)), Place((0, 10), 20, (B,)), Place((0, 10), 0, (C,)), Place((0, 20), 99, (D,))]
    )
    orders = [targets.in_order(0.0, random) for _ in range(4000)]
    assert all(order[3] == D and set(order) == {A, B, C, D} for order in orders)
    first = Counter(order[0] for order in orders)
    assert 2800 < first[A] < 3200 and 850 < first[B] < 1150 and first[C] < 40


def test_the_preferred_transport_comes_before_any_priority() -> None:
    targets = named()
    targets.learn([Place((1, 0), 1, (A,)), Place((0, 50), 1, (B, C))])
    assert targets.in_order(0.0, Random(1)) == [B, C, A] and targets.first == B


def test_one_that_failed_is_left_out_for_a_while_unless_all_did() -> None:
    targets, random = named(), Random(1)
    targets.learn([Place((0,), 1, (A, B))])
    targets.failed(A, 100.0)
    assert targets.in_order(101.0, random) == [B]
    assert targets.in_order(100.0 + BLOCKED_SECONDS, random) == [A, B]
    targets.failed(B, 101.0)
    assert targets.in_order(102.0, random) == [A, B] and targets.blocked(102.0) == {A, B}
    targets.works(A)
    assert targets.in_order(102.0, random) == [A]
    targets.learn([Place((0,), 1, (A, C))])
    assert targets.in_order(102.0, random) == [A, C] and targets.blocked(102.0) == frozenset()


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.sampled_from([A, B, C, D])), max_size=6),
    st.sets(st.sampled_from([A, B, C, D])),
    st.integers(),
)
def test_whatever_failed_every_call_has_somewhere_to_go(
    records: list[tuple[int, int, Hop]], failed: set[Hop], seed: int
) -> None:
    targets = named()
    targets.learn([Place((rank,), weight, (hop,)) for rank, weight, hop in records])
    known = {hop for _, _, hop in records}
    for hop in failed & known:
        targets.failed(hop, 0.0)
    order = targets.in_order(1.0, Random(seed))
    assert set(order) == (known - failed or known)
    ranks = [next(rank for rank, _, hop in sorted(records, key=lambda r: r[0]) if hop == one) for one in order]
    assert ranks == sorted(ranks) or len(order) != len(set(order))
