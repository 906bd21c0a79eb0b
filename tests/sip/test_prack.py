"""Reliable provisional responses, per leg (RFC 3262): asked for, resent, acknowledged, waited for."""

from __future__ import annotations

import pytest

from sipedge.sip.endpoint import Endpoint
from sipedge.sip.events import (
    Acked,
    Answered,
    Cancelled,
    Ended,
    Failed,
    Invited,
    PrackMissing,
    Progressed,
    Requested,
)
from sipedge.sip.flows import Flow
from sipedge.sip.messages import Request, Response, parse
from tests.sip.world import SDP, World, entropy

METHODS = ("INVITE", "ACK", "BYE", "CANCEL", "PRACK", "OPTIONS", "UPDATE")
REQUIRED = [("Require", "100rel")]
FLOW = Flow("udp", ("192.0.2.1", 5060), ("192.0.2.9", 5060))


def speaking(**more: object) -> World:
    """Two sides that know 100rel."""
    return World(methods=METHODS, extensions=("100rel",), **more)  # type: ignore[arg-type]


def dialled(world: World, body: bytes = SDP, required: bool = True) -> Invited:
    world.dial(body, REQUIRED if required else ())
    world.run(world.now + 0.1)
    return world.bob.one(Invited)


def sent(world: World, side: str, start: bytes) -> list[Request | Response]:
    return [parse(data) for _, name, data in world.sent if name == side and data.startswith(start)]


def say(world: World, invited: Invited, status: int, body: bytes = b"") -> bool:
    done = world.bob.endpoint.respond(invited.transaction, status, world.now, body=body)
    world.settle()
    return done


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_required_reliable_response_is_acknowledged_and_not_resent(transport: str) -> None:
    world = speaking(transport=transport)
    invited = dialled(world)
    say(world, invited, 180)
    world.run(5.0)
    (ringing,) = sent(world, "bob", b"SIP/2.0 180")
    (prack,) = sent(world, "alice", b"PRACK")
    assert isinstance(ringing, Response) and isinstance(prack, Request)
    assert ringing.require == {"100rel"} and ringing.reliable is not None
    assert prack.rack == (ringing.reliable, 1, "INVITE") and prack.cseq.number == 2
    assert prack.target == f"sip:{invited.leg}@192.0.2.2:5070" + (";transport=tcp" if transport == "tcp" else "")
    assert [event.status for event in world.alice.told(Progressed)] == [100, 180]
    say(world, invited, 200, SDP)
    world.run(6.0)
    assert world.alice.one(Answered) and world.bob.one(Acked)
    assert not world.bob.told(Requested)
    assert sent(world, "alice", b"INVITE")[0].supported == {"100rel"}
    assert sent(world, "bob", b"SIP/2.0 200")[-1].supported == {"100rel"}


def test_a_response_is_only_reliable_where_the_caller_requires_it() -> None:
    world = speaking()
    invited = dialled(world, required=False)
    say(world, invited, 183, SDP)
    world.run(3.0)
    (progress,) = sent(world, "bob", b"SIP/2.0 183")
    assert isinstance(progress, Response) and progress.reliable is None
    assert not sent(world, "alice", b"PRACK")


def test_a_reliable_response_is_resent_at_doubling_intervals_until_its_prack() -> None:
    deaf = True
    world = speaking(fate=lambda data: () if deaf and data.startswith(b"PRACK") else (0.0,))
    say(world, dialled(world), 180)
    began = world.messages("bob", b"SIP/2.0 180")[0]
    world.run(began + 4.0)
    times = [at - began for at in world.messages("bob", b"SIP/2.0 180")]
    assert times == pytest.approx([0, 0.5, 1.5, 3.5])
    assert len(world.alice.told(Progressed)) == 2, "100, and 180 once"
    deaf = False
    world.run(began + 40.0)
    assert len(world.messages("bob", b"SIP/2.0 180")) <= 5, "the PRACK's own repetition was heard"


def test_a_call_whose_reliable_response_is_never_acknowledged_is_refused() -> None:
    world = speaking(fate=lambda data: () if data.startswith(b"PRACK") else (0.01,))
    invited = dialled(world)
    say(world, invited, 183, SDP)
    assert say(world, invited, 200, SDP), "held for the PRACK"
    world.run(33.0)
    assert world.bob.one(PrackMissing).leg == invited.leg
    assert world.alice.one(Failed).status == 504
    assert world.bob.endpoint.dialog(invited.leg) is None
    assert not world.alice.told(Answered)
    world.run(140.0)
    assert world.empty()


def test_what_follows_a_described_response_waits_for_its_prack_in_order() -> None:
    lost = {b"PRACK"}
    world = speaking(fate=lambda data: () if data[:5] in lost else (0.01,))
    invited = dialled(world)
    say(world, invited, 183, SDP)
    for status, body in ((180, b""), (200, SDP)):
        assert say(world, invited, status, body)
    world.run(world.now + 0.1)
    assert not sent(world, "bob", b"SIP/2.0 180") and not world.alice.told(Answered)
    lost.clear()
    world.run(world.now + 3.0)
    (first, second), answers = sent(world, "alice", b"PRACK")[-2:], world.alice.told(Answered)
    assert isinstance(first, Request) and isinstance(second, Request)
    assert second.rack.rseq == first.rack.rseq + 1
    assert [event.status for event in world.alice.told(Progressed)] == [100, 183, 180]
    assert len(answers) == len(world.bob.told(Acked)) == 1


def test_an_answer_need_not_wait_for_the_prack_of_mere_ringing() -> None:
    world = speaking(fate=lambda data: () if data.startswith(b"PRACK") else (0.01,))
    invited = dialled(world)
    say(world, invited, 180)
    say(world, invited, 183, SDP)
    say(world, invited, 200, SDP)
    world.run(60.0)
    assert world.alice.one(Answered) and world.bob.one(Acked)
    assert len(sent(world, "bob", b"SIP/2.0 180")) == 1 and not sent(world, "bob", b"SIP/2.0 183")
    assert not world.bob.told(PrackMissing)


def test_a_prack_that_comes_after_the_answer_is_still_answered() -> None:
    world = speaking(fate=lambda data: () if data.startswith((b"PRACK", b"ACK")) else (0.01,))
    invited = dialled(world)
    say(world, invited, 180)
    world.run(world.now + 0.1)
    say(world, invited, 200, SDP)
    prack = next(data for _, name, data in world.sent if name == "alice" and data.startswith(b"PRACK"))
    world.bob.endpoint.receive(prack, world.flow(world.bob), world.now)
    world.settle()
    assert sent(world, "bob", b"SIP/2.0 200")[-1].cseq.method == "PRACK"


def test_a_caller_that_gives_up_ends_what_waits() -> None:
    world = speaking(fate=lambda data: () if data.startswith(b"PRACK") else (0.01,))
    invited = dialled(world)
    say(world, invited, 183, SDP)
    say(world, invited, 200, SDP)
    world.run(world.now + 0.2)
    leg = world.alice.told(Progressed)[0].leg
    world.alice.endpoint.cancel(leg, world.now)
    world.run(world.now + 1)
    assert world.alice.one(Failed).status == 487 and world.bob.one(Cancelled)
    before = len(world.messages("bob", b"SIP/2.0 183"))
    world.run(140.0)
    assert len(world.messages("bob", b"SIP/2.0 183")) == before
    assert world.empty()


def test_ringing_for_an_invite_without_an_offer_is_not_said_and_the_answer_is() -> None:
    world = speaking()
    invited = dialled(world, body=b"")
    assert say(world, invited, 180)
    assert not sent(world, "bob", b"SIP/2.0 18")
    say(world, invited, 200, SDP)
    world.run(world.now + 0.1)
    assert world.alice.one(Answered)
    assert "supported" not in sent(world, "alice", b"INVITE")[0].headers


def test_an_offer_in_a_prack_is_for_our_user_to_answer() -> None:
    world = speaking(fate=lambda data: () if data.startswith(b"PRACK") else (0.01,))
    invited = dialled(world)
    say(world, invited, 183, SDP)
    world.run(world.now + 0.1)
    prack = next(data for _, name, data in world.sent if name == "alice" and data.startswith(b"PRACK"))
    kind = b"Content-Type: application/sdp\r\nContent-Length: %d" % len(SDP)
    world.bob.endpoint.receive(prack.replace(b"Content-Length: 0", kind) + SDP, world.flow(world.bob), world.now)
    world.settle()
    asked = world.bob.one(Requested)
    assert asked.request.description == SDP
    world.bob.endpoint.respond(asked.transaction, 200, world.now, body=SDP)
    before = len(world.messages("bob", b"SIP/2.0 183"))
    world.run(world.now + 10)
    assert len(world.messages("bob", b"SIP/2.0 183")) == before, "acknowledged, whatever its offer comes to"


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (lambda head: head.replace(b" 1 INVITE", b" 2 INVITE"), 481),
        (lambda head: head.replace(b"RAck: ", b"RAck: 1"), 481),
        (lambda head: head.replace(b" 1 INVITE", b" 1 UPDATE"), 481),
        (lambda head: head.replace(b"RAck: ", b"RAck: x"), 400),
        (lambda head: head.replace(b" 1 INVITE", b" 1"), 400),
        (lambda head: head.replace(b"RAck: ", b"X: "), 400),
    ],
)
def test_a_prack_for_nothing_we_sent_is_refused(change, status: int) -> None:  # type: ignore[no-untyped-def]
    world = speaking(fate=lambda data: () if data.startswith(b"PRACK") else (0.01,))
    say(world, dialled(world), 180)
    world.run(world.now + 0.1)
    prack = next(data for _, name, data in world.sent if name == "alice" and data.startswith(b"PRACK"))
    world.bob.endpoint.receive(change(prack), world.flow(world.bob), world.now)
    world.settle()
    assert sent(world, "bob", b"SIP/2.0 %d" % status)
    world.run(world.now + 1)
    assert len(world.messages("bob", b"SIP/2.0 180")) > 1, "still waiting for its own"


def test_a_prack_to_one_that_sent_nothing_reliable_is_refused() -> None:
    world = speaking()
    invited = dialled(world, required=False)
    say(world, invited, 200, SDP)
    world.run(1.0)
    leg = world.alice.one(Answered).leg
    world.alice.endpoint.request(leg, "PRACK", world.now, headers=[("RAck", "1 1 INVITE")])
    world.run(2.0)
    assert sent(world, "bob", b"SIP/2.0 481")
    world.alice.endpoint.bye(leg, world.now)
    world.run(3.0)
    assert world.bob.one(Ended)


def test_a_re_invite_whose_progress_is_never_acknowledged_leaves_the_call() -> None:
    world = speaking(fate=lambda data: () if data.startswith(b"PRACK") else (0.01,))
    invited = dialled(world, required=False)
    say(world, invited, 200, SDP)
    world.run(1.0)
    leg = world.alice.one(Answered).leg
    world.alice.endpoint.request(leg, "INVITE", 1.0, headers=REQUIRED, body=SDP, content_type="application/sdp")
    world.run(2.0)
    again = world.bob.one(Requested)
    world.bob.endpoint.respond(again.transaction, 183, world.now, body=SDP)
    world.run(40.0)
    assert sent(world, "bob", b"SIP/2.0 504")
    assert not world.bob.told(PrackMissing) and world.bob.endpoint.dialog(invited.leg) is not None


# -- the calling side, against answers written by hand ---------------------------------------------------------------


def progress(
    invite: bytes, rseq: str, *, tag: str = "t", status: str = "183 Session Progress", require: str = ""
) -> bytes:
    head = invite.decode().split("\r\n")
    kept = [line for line in head if line.startswith(("Via", "From", "Call-ID", "CSeq"))]
    to = next(line for line in head if line.startswith("To"))
    more = [f"{to};tag={tag}" if tag else to, f"Require: {require or '100rel'}", f"RSeq: {rseq}"]
    contact = f"Contact: <sip:{tag or 'x'}@192.0.2.1>"
    return "\r\n".join([f"SIP/2.0 {status}", *kept, *more, contact, "Content-Length: 0\r\n\r\n"]).encode()


def asking() -> tuple[Endpoint, bytes]:
    endpoint = Endpoint(entropy=entropy("prack"), methods=METHODS, extensions=("100rel",))
    endpoint.invite(FLOW, "sip:b@192.0.2.1", 0.0, from_="<sip:a@b>", to="<sip:b@b>", body=SDP)
    ((_, invite),) = endpoint.take_sends()
    return endpoint, invite


def heard(endpoint: Endpoint, data: bytes) -> list[str]:
    """What is sent in answer: RAck and target of each PRACK."""
    endpoint.receive(data, FLOW, 0.1)
    said = [parse(one) for _, one in endpoint.take_sends()]
    return [f"{one.rack.rseq} {one.target}" for one in said if isinstance(one, Request) and one.method == "PRACK"]


def test_reliable_responses_are_taken_in_order_and_each_once() -> None:
    endpoint, invite = asking()
    assert heard(endpoint, progress(invite, "7")) == ["7 sip:t@192.0.2.1"]
    assert heard(endpoint, progress(invite, "7")) == [], "again: its PRACK is on its way"
    assert heard(endpoint, progress(invite, "9")) == [], "8 is missing"
    assert heard(endpoint, progress(invite, "8")) == ["8 sip:t@192.0.2.1"]
    assert heard(endpoint, progress(invite, "9")) == ["9 sip:t@192.0.2.1"]
    assert [event.status for event in endpoint.take_events() if isinstance(event, Progressed)] == [183] * 3


def test_each_phone_of_a_forked_call_counts_for_itself_and_their_number_is_bounded() -> None:
    endpoint, invite = asking()
    pracks = [heard(endpoint, progress(invite, "5", tag=f"t{n}")) for n in range(17)]
    assert pracks == [[f"5 sip:t{n}@192.0.2.1"] for n in range(16)] + [[]]


@pytest.mark.parametrize(
    "more", [{"tag": ""}, {"rseq": "x"}, {"require": "timer"}, {"require": ","}, {"status": "100 Trying"}], ids=str
)
def test_what_is_no_reliable_response_is_not_acknowledged(more: dict[str, str]) -> None:
    endpoint, invite = asking()
    assert heard(endpoint, progress(invite, **({"rseq": "7"} | more))) == []
    assert len(endpoint.take_events()) == 1
