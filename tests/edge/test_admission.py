"""How many calls are taken while things fall behind, and what a datagram is without reading it."""

from __future__ import annotations

from random import Random

import pytest

from sipedge.admission import (
    CALM,
    CEILING,
    CROWDED,
    CRUSH,
    FLOOR,
    OPENING,
    REMEMBERED,
    SOON,
    Admission,
    Door,
    Lately,
    Signals,
    refusal,
    scan,
    urgency,
)
from sipedge.sip.flows import Flow
from sipedge.sip.messages import Request, Response, parse

FLOW = Flow("udp", ("192.0.2.7", 5070), ("192.0.2.1", 5060))
LATE = Signals(loop=0.2)
IN_TIME = Signals(loop=0.001, queue=0.002, relay=0.001, redis=0.003)


def invite(call: str = "a", *, tag: str = "", cseq: str = "1 INVITE", via: str = "Via", extra: str = "") -> bytes:
    return (
        f"INVITE sip:+842471000001@192.0.2.1 SIP/2.0\r\n"
        f"{via}: SIP/2.0/UDP 192.0.2.7:5070;branch=z9hG4bK{call};rport\r\nVia: SIP/2.0/UDP 10.0.0.9;branch=z9hG4bKx\r\n"
        f"Max-Forwards: 70\r\n{extra}From: <sip:1@192.0.2.7>;tag=f\r\nTo: <sip:2@192.0.2.1>{tag}\r\n"
        f"Call-ID: {call}\r\nCSeq: {cseq}\r\nContent-Length: 4\r\n\r\nv=0\n"
    ).encode()


def run(admission: Admission, offered: float, capacity: float, seconds: float, begin: float) -> list[tuple[float, int]]:
    """A server that falls behind when it takes more than `capacity` calls a second; (when, calls taken) by sample."""
    taken, now, rest, done = [], begin, 0.0, 0.0
    for _ in range(round(seconds * 10)):
        count = 0
        rest += offered / 10
        for one in range(int(rest)):
            count += admission.take(f"{now} {one}", now + one / offered)
            done += capacity / offered
            while done >= 1.0 and admission.opening:
                admission.opened()
                done -= 1.0
            done = min(done, 1.0)
        rest -= int(rest)
        now += 0.1
        backlog = admission.opening
        admission.sample(Signals(queue=backlog / capacity), now)
        taken.append((now, count))
    return taken


def test_all_are_taken_while_everything_keeps_time() -> None:
    admission = Admission(0.0)
    taken = run(admission, offered=500, capacity=600, seconds=5, begin=0.0)
    assert sum(count for _, count in taken) == 2500 and admission.rate == CEILING


@pytest.mark.parametrize("times", [2, 10])
def test_an_overloaded_server_goes_on_taking_what_it_can(times: int) -> None:
    admission = Admission(0.0)
    taken = run(admission, offered=400 * times, capacity=400, seconds=30, begin=0.0)
    settled = [count for now, count in taken if now > 3]
    assert 0.85 * 400 < sum(settled) / len(settled) * 10 <= 400 * 1.02


def test_after_an_overload_everybody_is_taken_again_within_seconds() -> None:
    admission = Admission(0.0)
    run(admission, offered=4000, capacity=400, seconds=20, begin=0.0)
    after = run(admission, offered=300, capacity=400, seconds=10, begin=20.0)
    assert all(count == 30 for now, count in after if now > 25) and admission.rate == CEILING


def test_late_once_is_no_overload_and_late_twice_is() -> None:
    admission = Admission(0.0)
    for step in range(1, 9):
        assert admission.sample(LATE if step % 2 else IN_TIME, step / 10) == (("loop",) if step % 2 else ())
    assert admission.rate == CEILING
    admission.sample(LATE, 0.9)
    admission.sample(LATE, 1.0)
    assert admission.rate == FLOOR


def test_one_pause_that_shows_in_two_places_is_late_once() -> None:
    admission = Admission(0.0)
    admission.sample(Signals(loop=0.3, queue=0.0), 0.1)
    admission.sample(Signals(loop=0.0, queue=0.2), 0.2)
    admission.sample(Signals(loop=0.0, queue=0.0), 0.3)
    assert admission.rate == CEILING


def test_one_look_at_a_neighbour_is_one_however_often_it_is_weighed() -> None:
    admission = Admission(0.0)
    assert admission.sample(Signals(0.0, 0.0, relay=0.05), 0.1) == ("relay",)
    for step in range(2, 6):
        assert admission.sample(Signals(0.0, 0.0), step / 10) == ("relay",), "nobody has looked again"
    assert admission.rate == CEILING
    admission.sample(Signals(0.0, 0.0, relay=0.05), 0.6)
    assert admission.rate < CEILING


@pytest.mark.parametrize("signals", [Signals(queue=0.05), Signals(relay=0.03), Signals(redis=0.2), Signals(loop=0.2)])
def test_each_of_the_four_can_slow_the_edge_down(signals: Signals) -> None:
    admission = Admission(0.0)
    admission.sample(signals, 0.1)
    admission.sample(signals, 0.2)
    assert admission.rate < CEILING


def test_the_floor_is_never_undercut() -> None:
    admission = Admission(0.0)
    for step in range(200):
        admission.sample(LATE, step / 10)
    assert admission.rate == FLOOR
    admission.opening = -100
    assert sum(admission.take(str(one), 30.0 + one / 75) for one in range(75)) == 75


def test_a_crowd_that_a_pause_left_is_borne_and_one_that_stays_is_not() -> None:
    admission = Admission(0.0)
    assert sum(admission.take(str(one), 0.0) for one in range(2 * CRUSH)) == CRUSH and admission.closed(0.0)
    for _ in range(CRUSH - OPENING):
        admission.opened()
    assert not admission.closed(CROWDED / 2) and admission.closed(2 * CROWDED)
    admission.opened()
    assert admission.take("one leaves, one enters", 1.0) and not admission.take("no other", 1.0)
    for _ in range(OPENING - CALM + 1):
        admission.opened()
    assert all(admission.take(str(one), 2.0) for one in range(OPENING))


def test_where_the_rate_was_drawn_only_so_many_are_on_their_way_as_are_set_up_in_time() -> None:
    admission = Admission(0.0)
    admission.rate = 500.0
    assert sum(admission.take(str(one), 10.0) for one in range(CRUSH)) == 500 * SOON
    assert admission.closed(10.0) and not Admission(0.0).closed(0.0, ahead=CRUSH - 1)
    assert Admission(0.0).closed(0.0, ahead=CRUSH), "who waits to be read is on the way too"


def test_places_that_a_fault_kept_come_back_when_the_calls_are_counted() -> None:
    admission = Admission(0.0)
    for one in range(CRUSH):
        assert admission.take(str(one), 1.0)
    assert admission.closed(2.0)
    admission.recount(0)
    assert not admission.closed(2.0) and admission.opening == 0


def test_names_are_forgotten_in_time() -> None:
    lately = Lately(0.0)
    lately.add("a", 1.0)
    lately.add("b", REMEMBERED + 2)
    assert "a" in lately and "b" in lately and "c" not in lately
    lately.add("c", 2 * REMEMBERED + 4)
    assert "a" not in lately and "b" in lately
    lately.add("d", 9 * REMEMBERED)
    assert "c" not in lately and len(lately) == 1


class Hall:
    """A door and what left by it."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.admission = Admission(0.0)
        self.trunk_full: int | None = None
        self.assured = "nobody's"
        self.door = Door(
            self.admission,
            secret=b"s" * 16,
            random=Random(1),
            send=self._send,
            full=lambda source, user, now: self.trunk_full,
            assured=lambda user, now: user == self.assured,
        )

    def _send(self, flow: Flow, data: bytes) -> None:
        assert flow == FLOW
        self.sent.append(data)

    def keeps(self, data: bytes, age: float = 0.0, now: float = 1.0) -> bool:
        return self.door.keeps(data, FLOW, age, now)

    def shut(self) -> None:
        self.admission.rate = self.admission._tokens = 0.0


def test_an_open_door_lets_everything_by() -> None:
    hall = Hall()
    assert not hall.keeps(invite()) and not hall.keeps(b"BYE x") and not hall.sent


def test_a_shut_door_answers_503_that_its_caller_understands() -> None:
    hall = Hall()
    hall.shut()
    asked = parse(invite())
    assert hall.keeps(invite())
    (data,) = hall.sent
    said = parse(data)
    assert isinstance(said, Response) and isinstance(asked, Request)
    assert said.status == 503 and 1 <= (said.retry_after or 0) <= 5
    assert (said.call_id, said.cseq, said.from_.tag, said.via.branch) == ("a", asked.cseq, "f", asked.via.branch)
    assert said.via.params["received"] == "192.0.2.7" and said.via.params["rport"] == "5070"
    assert said.vias[1:] == asked.vias[1:] and said.to.tag.startswith("busy")
    ack = f"ACK sip:x SIP/2.0\r\nVia: {asked.vias[0]}\r\nTo: {said.headers['to'][0]}\r\nCall-ID: a\r\n\r\n"
    assert hall.keeps(ack.encode()) and not hall.keeps(ack.replace("tag=busy", "tag=a0").encode())
    assert len(hall.sent) == 1


def test_who_was_refused_hears_the_same_again_and_may_come_back_with_a_new_cseq() -> None:
    hall = Hall()
    hall.shut()
    assert hall.keeps(invite())
    hall.admission.rate = hall.admission._tokens = 100.0
    assert hall.keeps(invite()) and not hall.keeps(invite(cseq="2 INVITE")) and not hall.keeps(invite("b"))
    first, second = hall.sent
    assert parse(first).to.tag == parse(second).to.tag


def test_a_trunk_beyond_its_own_limit_hears_480_and_takes_no_place_from_others() -> None:
    hall = Hall()
    hall.trunk_full = 42
    assert not hall.keeps(invite("a")), "while all keep time the call itself says so"
    hall.admission.rate = 200.0
    assert hall.keeps(invite("b"))
    hall.trunk_full = None
    assert hall.keeps(invite("b")), "sent again it hears the same again"
    first, second = (parse(data) for data in hall.sent)
    assert isinstance(first, Response) and first.status == 480 and first.cause == 42
    assert first.to.tag == second.to.tag and hall.door.counts["trunk_limit"] == 2
    ack = f"ACK sip:x SIP/2.0\r\nVia: {first.vias[0]}\r\nTo: {first.headers['to'][0]}\r\nCall-ID: b\r\n\r\n"
    assert hall.keeps(ack.encode()) and not hall.keeps(invite("c"))


def test_what_is_guaranteed_passes_a_shut_door_and_takes_the_place_of_others() -> None:
    hall = Hall()
    hall.shut()
    hall.assured = "+842471000001"
    assert not hall.keeps(invite("a"), age=0.2) and hall.admission.take("a 1 INVITE", 1.0, assured=True)
    assert hall.admission._tokens < 0.0, "the others wait for what it took"
    hall.assured = "+842471000002"
    assert hall.keeps(invite("b")) and not hall.admission.take("b 1 INVITE", 1.0)
    assert hall.keeps(invite("a"), age=0.5) is False, "what was taken is never turned away"


def test_what_was_taken_or_is_inside_a_call_is_never_turned_away() -> None:
    hall = Hall()
    assert hall.admission.take("a 1 INVITE", 0.5)
    hall.shut()
    assert not hall.keeps(invite("a")) and not hall.keeps(invite("b", tag=";tag=c0ffee")) and not hall.sent
    assert not hall.keeps(b"CANCEL sip:x SIP/2.0\r\n\r\n", age=3.0) and not hall.keeps(b"BYE sip:x SIP/2.0\r\n\r\n")


def test_an_invite_that_waited_too_long_is_dropped_and_its_next_copy_taken() -> None:
    hall = Hall()
    assert hall.keeps(invite(), age=0.5) and not hall.sent and hall.door.counts["stale"] == 1
    assert not hall.keeps(invite(), age=0.1)


def test_under_strain_a_place_goes_to_who_has_not_waited_long() -> None:
    hall = Hall()
    assert not hall.keeps(invite("a"), age=0.2), "nobody else needs the place"
    hall.admission.rate = 200.0
    assert hall.keeps(invite("b"), age=0.2) and len(hall.sent) == 1
    assert not hall.keeps(invite("c"), age=0.01)


@pytest.mark.parametrize(
    "data",
    [
        invite(extra="From: <sip:3@x>;tag=g\r\n"),
        invite(extra="Subject: a\r\n folded\r\n"),
        invite(extra="Subject: a\x00b\r\n"),
        invite(extra="Subject: a\rVia: b\r\n"),
        invite(extra="Subject: \xfc\r\n"),
        invite().replace(b";rport", b";received=1.2.3.4;rport"),
        invite().replace(b";rport", b";rport=9"),
        invite().replace(b";rport", b",SIP/2.0/UDP b;branch=z9hG4bKq"),
        invite().replace(b"Call-ID: a", b"Call-ID:"),
        invite().replace(b"CSeq: 1 INVITE\r\n", b""),
        b"INVITE sip:x SIP/2.0",
    ],
)
def test_what_is_unusual_is_left_to_the_parser(data: bytes) -> None:
    assert scan(data) is None


def test_compact_names_are_read_too() -> None:
    data = invite().replace(b"Via:", b"v:").replace(b"From:", b"F :").replace(b"To:", b"t:").replace(b"Call-ID:", b"i:")
    scanned = scan(data)
    assert scanned == scan(invite()) and scanned is not None
    assert refusal(scanned, FLOW.remote, "503 Service Unavailable", "Retry-After: 3", b"k" * 16).startswith(
        b"SIP/2.0 503 "
    )


def test_the_order_of_work() -> None:
    inside = b"\r\nTo: <sip:x>;tag=1\r\n"
    ordered = [b"BYE sip:x", b"ACK sip:x", b"PRACK sip:x", b"SIP/2.0 200 OK", b"INVITE sip:x" + inside, b"UPDATE sip:x"]
    ordered += [b"INVITE sip:x", b"CANCEL sip:x", b"OPTIONS sip:x", b"REGISTER sip:x"]
    assert [urgency(one) for one in ordered] == [0, 0, 0, 1, 2, 2, 3, 3, 4, 4]
