"""Whole calls between two user agents: races, forks, losses. One dialog or none, and both ends agree on it."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TypeVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipedge.sip.dialogs import Dialog
from sipedge.sip.events import (
    Acked,
    AckMissing,
    Answered,
    Cancelled,
    Cause,
    Ended,
    Event,
    Failed,
    Invited,
    Progressed,
    Requested,
    Responded,
)
from sipedge.sip.messages import Request, Response, parse
from tests.sip.world import SDP, Side, World

E = TypeVar("E", bound=Event)


def on(side: Side, kind: type[E], act: Callable[[E], object]) -> None:
    """Lets a side act at once when it is told of such an event."""
    before = side.react

    def react(event: Event) -> None:
        before(event)
        if isinstance(event, kind):
            act(event)

    side.react = react


def ringing(world: World) -> str:
    on(world.bob, Invited, lambda event: world.bob.endpoint.respond(event.transaction, 180, world.now))
    leg = world.dial()
    world.run(world.now + 0.1)
    return leg


def answer(world: World) -> None:
    assert world.bob.endpoint.respond(world.bob.one(Invited).transaction, 200, world.now, body=SDP)
    world.run(world.now + 0.1)


def talking(world: World) -> str:
    leg = ringing(world)
    answer(world)
    world.bob.one(Acked)
    assert world.alice.one(Answered).response.body == SDP
    return leg


def bobs(world: World) -> str:
    return world.bob.one(Invited).leg


def sent(world: World, side: str, start: bytes) -> list[Request | Response]:
    return [parse(data) for _, name, data in world.sent if name == side and data.startswith(start)]


def over(world: World) -> None:
    """Nothing stands and, some time later, nothing is kept."""
    world.run(world.now + 70)
    assert world.empty()


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_call_from_ringing_to_the_callers_hanging_up(transport: str) -> None:
    world = World(transport=transport)
    leg = talking(world)
    assert [event.status for event in world.alice.told(Progressed)] == [100, 180]
    key = world.alice.endpoint.bye(leg, world.now, headers=[("Reason", "Q.850;cause=16")])
    world.run(world.now + 1)
    ended = world.bob.one(Ended)
    assert (ended.leg, ended.request.cause) == (bobs(world), 16)
    outcome = world.alice.one(Responded)
    assert (outcome.leg, outcome.transaction, outcome.method, outcome.status) == (leg, key, "BYE", 200)
    over(world)


def test_the_called_side_hangs_up() -> None:
    world = World()
    leg = talking(world)
    world.bob.endpoint.bye(bobs(world), world.now)
    world.run(world.now + 1)
    assert world.alice.one(Ended).leg == leg
    assert world.bob.one(Responded).status == 200
    over(world)


def test_both_hang_up_at_once() -> None:
    world = World()
    leg = talking(world)
    world.alice.endpoint.bye(leg, world.now)
    world.bob.endpoint.bye(bobs(world), world.now)
    world.run(world.now + 1)
    assert world.alice.one(Responded).status == world.bob.one(Responded).status == 200
    assert not world.alice.told(Ended) and not world.bob.told(Ended)
    over(world)


def test_messages_within_a_call_carry_what_the_rfc_wants() -> None:
    world = World()
    leg = talking(world)
    world.alice.endpoint.bye(leg, world.now)
    world.run(world.now + 1)
    (invite,) = sent(world, "alice", b"INVITE")
    (ack,) = sent(world, "alice", b"ACK")
    (bye,) = sent(world, "alice", b"BYE")
    (ok,) = [each for each in sent(world, "bob", b"SIP/2.0 200") if each.cseq.method == "INVITE"]
    assert isinstance(invite, Request) and isinstance(ack, Request) and isinstance(bye, Request)
    assert ok.contact is not None and invite.contact is not None
    assert ack.target == bye.target == ok.contact.text == f"sip:{bobs(world)}@192.0.2.2:5070"
    assert invite.contact.text == f"sip:{leg}@192.0.2.1:5060"
    assert (invite.cseq.number, ack.cseq.number, bye.cseq.number) == (1, 1, 2)
    assert len({invite.via.branch, ack.via.branch, bye.via.branch}) == 3
    assert invite.to.tag == "" and ack.to.tag == bye.to.tag == ok.to.tag != ""
    assert "rport" in invite.via.params
    assert ok.header("allow") == invite.header("allow")
    for token in (invite.call_id, invite.from_.tag, invite.via.branch, ok.to.tag, leg):
        assert "192" not in token and "alice" not in token and len(token) >= 20


@pytest.mark.parametrize("status", [404, 486, 503, 603])
def test_a_refusal_reaches_the_caller_and_leaves_nothing(status: int) -> None:
    world = World()
    leg = ringing(world)
    world.bob.endpoint.respond(
        world.bob.one(Invited).transaction, status, world.now, headers=[("Reason", "Q.850;cause=17")]
    )
    world.run(world.now + 1)
    failed = world.alice.one(Failed)
    assert (failed.leg, failed.status, failed.cause) == (leg, status, Cause.RESPONSE)
    assert failed.response is not None and failed.response.cause == 17
    (ack,) = sent(world, "alice", b"ACK")
    (invite,) = sent(world, "alice", b"INVITE")
    assert ack.via.branch == invite.via.branch and ack.to.tag == failed.response.to.tag
    over(world)


def test_a_caller_gives_up_while_it_rings() -> None:
    world = World()
    leg = ringing(world)
    world.alice.endpoint.cancel(leg, world.now, headers=[("Reason", "SIP;cause=200")])
    world.run(world.now + 1)
    assert world.bob.one(Cancelled).leg == bobs(world)
    assert world.bob.one(Cancelled).request.header("reason") == "SIP;cause=200"
    failed = world.alice.one(Failed)
    assert (failed.status, failed.cause) == (487, Cause.RESPONSE)
    (cancel,), (invite,) = sent(world, "alice", b"CANCEL"), sent(world, "alice", b"INVITE")
    assert isinstance(cancel, Request) and isinstance(invite, Request)
    assert (cancel.target, cancel.via.branch, cancel.from_.tag) == (invite.target, invite.via.branch, invite.from_.tag)
    assert cancel.to.tag == "" and cancel.cseq.number == 1
    assert world.bob.endpoint.respond(world.bob.one(Invited).transaction, 200, world.now) is False
    over(world)


def test_an_answer_that_crosses_the_cancel_is_acknowledged_and_hung_up() -> None:
    world = World()
    leg = ringing(world)
    world.bob.endpoint.respond(world.bob.one(Invited).transaction, 200, world.now, body=SDP)
    world.alice.endpoint.cancel(leg, world.now)
    world.run(world.now + 2)
    failed = world.alice.one(Failed)
    assert (failed.status, failed.cause) == (487, Cause.CANCELLED)
    assert not world.alice.told(Answered) and not world.alice.told(Responded)
    assert world.bob.one(Acked) and world.bob.one(Ended) and not world.bob.told(Cancelled)
    over(world)


def test_a_cancel_for_an_answered_call_changes_nothing() -> None:
    world = World(fate=lambda data: () if data.startswith(b"SIP/2.0 200") and world.now < 0.3 else (0.01,))
    leg = ringing(world)
    world.bob.endpoint.respond(world.bob.one(Invited).transaction, 200, world.now, body=SDP)
    world.run(world.now + 0.05)
    world.alice.endpoint.cancel(leg, world.now)
    world.run(world.now + 5)
    assert world.alice.one(Failed).cause is Cause.CANCELLED
    assert world.bob.one(Ended)
    over(world)


def test_cancelling_what_is_answered_or_over_does_nothing() -> None:
    world = World()
    leg = talking(world)
    world.alice.endpoint.cancel(leg, world.now)
    world.alice.endpoint.cancel("nobody", world.now)
    world.bob.endpoint.cancel(bobs(world), world.now)
    world.run(world.now + 1)
    assert not sent(world, "alice", b"CANCEL") and not sent(world, "bob", b"CANCEL")
    assert world.alice.endpoint.dialog(leg) is not None


def test_the_caller_hangs_up_in_the_early_dialog() -> None:
    world = World()
    ringing(world)
    invite = sent(world, "alice", b"INVITE")[0]
    ring = sent(world, "bob", b"SIP/2.0 180")[0]
    bye = (
        f"BYE sip:x@192.0.2.2 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKearly\r\n"
        f"From: {invite.header('from')}\r\nTo: {ring.header('to')}\r\nCall-ID: {invite.call_id}\r\nCSeq: 2 BYE\r\n\r\n"
    )
    world.bob.endpoint.receive(bye.encode(), world.flow(world.bob), world.now)
    world.run(world.now + 1)
    assert world.bob.one(Cancelled).request.method == "BYE"
    assert world.alice.one(Failed).status == 487
    over(world)


def test_a_bye_before_the_ack_is_held_until_the_ack() -> None:
    lost = [2]

    def fate(data: bytes) -> tuple[float, ...]:
        if data.startswith(b"ACK") and lost[0]:
            lost[0] -= 1
            return ()
        return (0.01,)

    world = World(fate=fate)
    ringing(world)
    world.bob.endpoint.respond(world.bob.one(Invited).transaction, 200, world.now, body=SDP)
    assert world.bob.endpoint.bye(bobs(world), world.now, headers=[("Reason", "Q.850;cause=16")]) is None
    world.run(world.now + 1)
    assert not sent(world, "bob", b"BYE")
    world.run(world.now + 2)
    assert world.alice.one(Ended).request.cause == 16
    assert world.bob.one(Responded).status == 200
    over(world)


def test_a_bye_held_for_an_ack_that_never_comes_goes_out_in_the_end() -> None:
    world = World(fate=lambda data: () if data.startswith(b"ACK") else (0.01,))
    ringing(world)
    world.bob.endpoint.respond(world.bob.one(Invited).transaction, 200, world.now, body=SDP)
    world.bob.endpoint.bye(bobs(world), world.now)
    world.run(world.now + 40)
    assert world.bob.one(AckMissing) and world.alice.one(Ended)
    over(world)


def test_ending_a_leg_that_is_over_or_unanswered_sends_nothing() -> None:
    world = World()
    leg = ringing(world)
    assert world.alice.endpoint.bye(leg, world.now) is None
    assert world.alice.endpoint.bye("nobody", world.now) is None
    assert world.alice.endpoint.request(leg, "INFO", world.now) is None
    assert world.alice.endpoint.request("nobody", "INFO", world.now) is None
    world.run(world.now + 1)
    assert not sent(world, "alice", b"BYE") and not sent(world, "alice", b"INFO")


def test_an_invite_without_an_offer_is_acknowledged_with_the_answer() -> None:
    world = World()
    on(world.bob, Invited, lambda event: world.bob.endpoint.respond(event.transaction, 200, world.now, body=SDP))
    leg = world.dial(body=b"")
    world.run(1.2)
    assert not sent(world, "alice", b"ACK")
    assert world.alice.one(Answered).leg == leg
    world.alice.endpoint.acknowledge(leg, b"v=0\r\n", world.now)
    world.alice.endpoint.acknowledge(leg, b"v=1\r\n", world.now)
    world.run(5)
    assert world.bob.one(Acked).request.body == b"v=0\r\n"
    assert {parsed.body for parsed in sent(world, "alice", b"ACK")} == {b"v=0\r\n"}


def fork(response: bytes, tag: bytes) -> bytes:
    """The same answer as another phone of the callee would give it."""
    head, _, rest = response.partition(b"\r\nTo: ")
    to, _, rest = rest.partition(b"\r\n")
    return head + b"\r\nTo: " + to.partition(b";tag=")[0] + b";tag=" + tag + b"\r\n" + rest


def test_the_answers_of_other_phones_are_acknowledged_and_hung_up() -> None:
    world = World()
    leg = talking(world)
    (ok,) = [data for _, name, data in world.sent if name == "bob" and data.startswith(b"SIP/2.0 200")]
    for _ in range(2):  # repeated, the other phone's answer is only acknowledged again
        world.alice.endpoint.receive(fork(ok, b"other"), world.flow(world.alice), world.now)
    world.settle()
    acks, byes = sent(world, "alice", b"ACK"), sent(world, "alice", b"BYE")
    assert [ack.to.tag for ack in acks][1:] == ["other", "other"]
    assert [bye.to.tag for bye in byes] == ["other"]
    world.run(world.now + 40)
    assert world.alice.endpoint.dialog(leg) is not None
    assert world.alice.one(Answered) and not world.alice.told(Responded)


def test_an_answer_after_the_leg_ended_is_still_hung_up() -> None:
    world = World()
    leg = talking(world)
    (ok,) = [data for _, name, data in world.sent if name == "bob" and data.startswith(b"SIP/2.0 200")]
    world.alice.endpoint.bye(leg, world.now)
    world.run(world.now + 1)
    acks = len(sent(world, "alice", b"ACK"))
    world.alice.endpoint.receive(ok, world.flow(world.alice), world.now)
    world.alice.endpoint.receive(fork(ok, b"late"), world.flow(world.alice), world.now)
    world.settle()
    assert len(sent(world, "alice", b"ACK")) == acks + 2
    assert [bye.to.tag for bye in sent(world, "alice", b"BYE")][1:] == ["late"]
    over(world)


def test_early_dialogs_of_several_phones_end_in_the_one_that_answers() -> None:
    world = World()
    leg = ringing(world)
    (ring,) = [data for _, name, data in world.sent if name == "bob" and data.startswith(b"SIP/2.0 180")]
    world.alice.endpoint.receive(fork(ring, b"other"), world.flow(world.alice), world.now)
    world.settle()
    early = world.alice.endpoint.dialog(leg)
    assert early is not None and (early.remote_tag, early.confirmed) == ("other", False)
    answer(world)
    confirmed = world.alice.endpoint.dialog(leg)
    assert confirmed is not None and confirmed.confirmed
    assert confirmed.remote_tag == world.alice.one(Answered).response.to.tag != "other"


def test_requests_within_a_call_and_their_answers() -> None:
    world = World()
    leg = talking(world)
    on(
        world.bob,
        Requested,
        lambda event: world.bob.endpoint.respond(
            event.transaction, 200, world.now, reason="Fine", body=b"", headers=[("X-Y", "z")]
        ),
    )
    info = world.alice.endpoint.request(
        leg, "INFO", world.now, body=b"Signal=5\r\n", content_type="application/dtmf-relay"
    )
    update = world.alice.endpoint.request(leg, "UPDATE", world.now, headers=[("Supported", "timer")])
    world.run(world.now + 1)
    asked = world.bob.told(Requested)
    assert [event.request.method for event in asked] == ["INFO", "UPDATE"]
    assert asked[0].request.body == b"Signal=5\r\n" and {event.leg for event in asked} == {bobs(world)}
    assert [(event.transaction, event.status) for event in world.alice.told(Responded)] == [(info, 200), (update, 200)]
    refreshed = world.alice.told(Responded)[1].response
    assert refreshed is not None and refreshed.contact is not None and refreshed.reason == "Fine"


def test_a_re_invite_that_is_accepted_refreshes_the_target_and_is_acknowledged() -> None:
    world = World()
    leg = talking(world)
    on(world.bob, Requested, lambda event: world.bob.endpoint.respond(event.transaction, 200, world.now, body=SDP))
    key = world.alice.endpoint.request(leg, "INVITE", world.now, body=SDP, content_type="application/sdp")
    assert world.alice.endpoint.request(leg, "INVITE", world.now, body=SDP) is None, "one INVITE at a time"
    world.run(world.now + 1)
    assert world.alice.one(Responded).transaction == key
    assert len(world.bob.told(Acked)) == 2
    acks = len(sent(world, "alice", b"ACK"))
    ok = [data for _, name, data in world.sent if name == "bob" and data.startswith(b"SIP/2.0 200")][-1]
    world.alice.endpoint.receive(ok, world.flow(world.alice), world.now)
    world.settle()
    assert len(sent(world, "alice", b"ACK")) == acks + 1, "its 2xx repeated is ACKed again"
    assert world.alice.endpoint.bye(leg, world.now) is not None
    world.run(world.now + 1)
    assert world.bob.one(Ended)
    over(world)


def test_a_re_invite_that_is_refused_leaves_the_call_as_it_was() -> None:
    world = World()
    leg = talking(world)
    on(world.bob, Requested, lambda event: world.bob.endpoint.respond(event.transaction, 488, world.now))
    dialog = world.bob.endpoint.dialog(bobs(world))
    assert dialog is not None
    before = msgspec.structs.asdict(dialog)
    world.alice.endpoint.request(leg, "INVITE", world.now, body=SDP, content_type="application/sdp")
    world.run(world.now + 10)
    assert world.alice.one(Responded).status == 488
    assert world.bob.endpoint.dialog(bobs(world)) is dialog
    assert msgspec.structs.asdict(dialog) | {"remote_seq": 0} == before | {"remote_seq": 0}
    assert world.alice.endpoint.request(leg, "INVITE", world.now, body=SDP) is not None


def test_re_invites_that_cross_are_both_told_to_wait() -> None:
    world = World()
    leg = talking(world)
    world.alice.endpoint.request(leg, "INVITE", world.now, body=SDP, content_type="application/sdp")
    world.bob.endpoint.request(bobs(world), "INVITE", world.now, body=SDP, content_type="application/sdp")
    world.run(world.now + 1)
    assert world.alice.one(Responded).status == world.bob.one(Responded).status == 491
    assert not world.alice.told(Requested) and not world.bob.told(Requested)


def test_a_re_invite_over_an_unfinished_one_gets_500_and_a_time_to_come_back() -> None:
    world = World()
    talking(world)
    invite = sent(world, "alice", b"INVITE")[0]
    ok = sent(world, "bob", b"SIP/2.0 200")[0]

    def again(seq: int) -> bytes:
        return (
            f"INVITE sip:x@192.0.2.2 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK{seq}\r\n"
            f"From: {invite.header('from')}\r\nTo: {ok.header('to')}\r\nCall-ID: {invite.call_id}\r\n"
            f"CSeq: {seq} INVITE\r\nContact: <sip:a@192.0.2.1>\r\n\r\n"
        ).encode()

    for seq in (5, 6):
        world.bob.endpoint.receive(again(seq), world.flow(world.bob), world.now)
    world.settle()
    (busy,) = sent(world, "bob", b"SIP/2.0 500")
    assert busy.cseq.number == 6 and busy.retry_after is not None and busy.retry_after <= 10
    (waiting,) = world.bob.told(Requested)
    assert waiting.transaction.seq == 5
    world.bob.endpoint.receive(again(4).replace(b"INVITE", b"OPTIONS"), world.flow(world.bob), world.now)
    world.settle()
    assert len(sent(world, "bob", b"SIP/2.0 500")) == 2, "a request older than the last is out of order"


def test_offers_that_overlap_get_500_and_a_time_to_come_back() -> None:
    world = World()
    leg = talking(world)
    for method in ("UPDATE", "UPDATE", "INVITE"):
        world.alice.endpoint.request(leg, method, world.now, body=SDP, content_type="application/sdp")
        world.run(world.now + 0.1)
    first, second = world.alice.told(Responded)
    assert (first.method, second.method, first.status, second.status) == ("UPDATE", "INVITE", 500, 500)
    assert first.response is not None and first.response.retry_after is not None
    waiting = world.bob.one(Requested)
    world.bob.endpoint.respond(waiting.transaction, 200, world.now, body=SDP)
    world.alice.endpoint.request(leg, "UPDATE", world.now)
    world.alice.endpoint.request(leg, "UPDATE", world.now, body=SDP, content_type="application/sdp")
    world.run(world.now + 0.1)
    assert len(world.bob.told(Requested)) == 3, "answered, and so is open for the next; one without an offer always is"


def test_an_offer_before_our_2xx_is_acknowledged_has_to_wait() -> None:
    world = World(fate=lambda data: () if data.startswith(b"ACK") else (0.01,))
    leg = ringing(world)
    world.bob.endpoint.respond(world.bob.one(Invited).transaction, 200, world.now, body=SDP)
    world.run(world.now + 0.1)
    for method in ("INVITE", "UPDATE"):
        world.alice.endpoint.request(leg, method, world.now, body=SDP, content_type="application/sdp")
        world.run(world.now + 0.1)
    assert [event.status for event in world.alice.told(Responded)] == [491, 491]


def test_hanging_up_over_a_pending_re_invite_of_theirs_ends_both() -> None:
    world = World()
    leg = talking(world)
    world.alice.endpoint.request(leg, "INVITE", world.now, body=SDP, content_type="application/sdp")
    world.run(world.now + 0.1)
    assert world.bob.endpoint.bye(bobs(world), world.now) is not None
    world.run(world.now + 1)
    assert world.alice.one(Responded).status == 487 and world.alice.one(Ended)
    over(world)


def test_a_re_invite_without_an_offer_is_acknowledged_with_the_answer() -> None:
    world = World()
    leg = talking(world)
    on(world.bob, Requested, lambda event: world.bob.endpoint.respond(event.transaction, 200, world.now, body=SDP))
    world.alice.endpoint.request(leg, "INVITE", world.now)
    world.run(world.now + 0.1)
    assert world.alice.one(Responded).status == 200 and len(world.bob.told(Acked)) == 1
    world.alice.endpoint.acknowledge(leg, b"answer", world.now)
    world.run(world.now + 0.1)
    assert world.bob.told(Acked)[1].request.body == b"answer"


def test_a_pending_re_invite_is_cancelled_without_ending_the_call() -> None:
    world = World()
    leg = talking(world)
    key = world.alice.endpoint.request(leg, "INVITE", world.now, body=SDP, content_type="application/sdp")
    assert key is not None
    world.run(world.now + 0.1)
    invite = sent(world, "alice", b"INVITE")[1]
    cancel = (
        f"CANCEL {invite.target} SIP/2.0\r\nVia: {invite.header('via')}\r\nFrom: {invite.header('from')}\r\n"  # type: ignore[union-attr]
        f"To: {invite.header('to')}\r\nCall-ID: {invite.call_id}\r\nCSeq: {invite.cseq.number} CANCEL\r\n\r\n"
    )
    world.bob.endpoint.receive(cancel.encode(), world.flow(world.bob), world.now)
    world.run(world.now + 1)
    assert not world.bob.told(Cancelled)
    assert world.alice.one(Responded).status == 487
    assert world.bob.endpoint.dialog(bobs(world)) is not None


def test_a_bye_over_a_pending_re_invite_ends_both() -> None:
    world = World()
    leg = talking(world)
    world.alice.endpoint.request(leg, "INVITE", world.now, body=SDP, content_type="application/sdp")
    world.run(world.now + 0.1)
    world.alice.endpoint.bye(leg, world.now)
    world.run(world.now + 1)
    assert {(event.method, event.status) for event in world.alice.told(Responded)} == {("INVITE", 487), ("BYE", 200)}
    assert world.bob.one(Ended)
    over(world)


def test_a_snapshot_carries_a_call_to_another_worker() -> None:
    world = World()
    talking(world)
    dialog = world.bob.endpoint.dialog(bobs(world))
    assert dialog is not None
    packed = msgspec.msgpack.encode(dialog)
    assert len(packed) < 700
    taken = World(fate=world.fate)
    taken.alice = world.alice
    taken.now = world.now
    taken.bob.endpoint.restore(msgspec.msgpack.decode(packed, type=Dialog))
    assert taken.bob.endpoint.bye(dialog.leg, taken.now) is not None
    taken.run(taken.now + 1)
    assert taken.alice.one(Ended)
    assert taken.bob.one(Responded).status == 200


def agree(world: World, legs: tuple[str, str]) -> None:
    """Both ends hold the same dialog, or neither holds one."""
    ours, theirs = (side.endpoint.dialog(leg) for side, leg in zip((world.alice, world.bob), legs, strict=True))
    assert (ours is None) == (theirs is None)
    if ours is not None and theirs is not None:
        assert (ours.call_id, ours.local_tag, ours.remote_tag) == (theirs.call_id, theirs.remote_tag, theirs.local_tag)
        assert ours.confirmed and theirs.confirmed


@given(
    seed=st.integers(0, 2**32),
    loss=st.sampled_from([0.0, 0.1, 0.3, 0.5]),
    give_up=st.one_of(st.none(), st.floats(0, 4)),
    pick_up=st.floats(0, 4),
    hang_up=st.floats(0, 30),
    by_caller=st.booleans(),
)
def test_however_datagrams_are_lost_doubled_and_overtaken_both_ends_agree(
    seed: int, loss: float, give_up: float | None, pick_up: float, hang_up: float, by_caller: bool
) -> None:
    luck = random.Random(seed)

    def fate(data: bytes) -> tuple[float, ...]:
        return tuple(luck.uniform(0.001, 0.8) for _ in range(luck.choice([1, 1, 1, 2])) if luck.random() >= loss)

    world = World(fate=fate)
    leg = ringing(world)
    steps: list[tuple[float, Callable[[], object]]] = [
        (pick_up, lambda: pick(world)),
        (40 + hang_up, lambda: hang(world, leg, by_caller)),
    ]
    if give_up is not None:
        steps.append((give_up, lambda: world.alice.endpoint.cancel(leg, world.now)))
    for at, act in sorted(steps, key=lambda step: step[0]):
        world.run(at)
        act()
    invited = world.bob.told(Invited)
    world.run(37)
    assert len(world.bob.told(Invited)) <= 1, "one INVITE is one call, however often it arrives"
    if invited and loss < 0.5:
        agree(world, (leg, invited[0].leg))
    assert len(world.alice.told(Answered)) + len(world.alice.told(Failed)) == 1, "a call is answered or fails, once"
    world.run(300)
    if not world.alice.told(Answered):
        assert len(world.alice.told(Failed)) == 1
    for side in (world.alice, world.bob):
        assert len(side.told(Ended)) + len(side.told(Cancelled)) <= 1
        statistics = side.endpoint.statistics()
        assert (statistics["server_transactions"], statistics["client_transactions"]) == (0, 0)


def pick(world: World) -> None:
    for event in world.bob.told(Invited):
        world.bob.endpoint.respond(event.transaction, 200, world.now, body=SDP)
    if not world.bob.told(Invited):
        on(world.bob, Invited, lambda event: world.bob.endpoint.respond(event.transaction, 200, world.now, body=SDP))


def hang(world: World, leg: str, by_caller: bool) -> None:
    if by_caller:
        world.alice.endpoint.bye(leg, world.now)
    else:
        for event in world.bob.told(Invited):
            world.bob.endpoint.bye(event.leg, world.now)
