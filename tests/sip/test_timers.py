"""Every timer of the four tables, in a world where 32 seconds cost nothing."""

from __future__ import annotations

from collections.abc import Callable

from pytest import approx, mark

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
from tests.sip.world import SDP, World

# T1 doubling up to T2, within 64*T1
RESENDS = (0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5)


def answering(world: World, status: int = 200, after_ringing: bool = True) -> None:
    """Bob answers every call at once."""

    def react(event: Event) -> None:
        if isinstance(event, Invited):
            if after_ringing:
                world.bob.endpoint.respond(event.transaction, 180, world.now)
            body = SDP if status < 300 else b""
            world.bob.endpoint.respond(event.transaction, status, world.now, body=body)

    world.bob.react = react


def provisional(world: World, kind: type[Invited] | type[Requested], status: int) -> None:
    """Bob answers such requests with a provisional and never says more."""

    def react(event: Event) -> None:
        if isinstance(event, kind):
            world.bob.endpoint.respond(event.transaction, status, world.now)

    world.bob.react = react


def call(world: World) -> str:
    """A call that stands; Alice's leg."""
    answering(world)
    leg = world.dial()
    world.run(world.now + 1)
    assert world.alice.one(Answered).leg == leg
    world.bob.one(Acked)
    return leg


def deaf(data: bytes) -> tuple[float, ...]:
    return ()


def lose(*starts: bytes) -> Callable[[bytes], tuple[float, ...]]:
    return lambda data: () if data.startswith(starts) else (0.01,)


def test_an_unheard_invite_is_resent_at_doubling_intervals_and_given_up_after_64_t1() -> None:
    world = World(fate=deaf)
    leg = world.dial()
    world.run(100)
    assert world.messages("alice", b"INVITE") == approx([0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5])
    failed = world.alice.one(Failed)
    assert (failed.leg, failed.status, failed.cause, failed.response) == (leg, 408, Cause.TIMEOUT, None)
    assert world.empty()


def test_over_a_stream_nothing_is_resent_but_the_wait_is_as_long() -> None:
    world = World(transport="tcp", fate=deaf)
    world.dial()
    world.run(31.9)
    assert world.messages("alice", b"INVITE") == [0]
    assert not world.alice.told(Failed)
    world.run(32.1)
    assert world.alice.one(Failed).cause is Cause.TIMEOUT


def test_100_trying_leaves_at_once_and_stops_the_resends() -> None:
    world = World()
    world.dial()
    world.run(60)
    assert world.messages("alice", b"INVITE") == [0]
    assert world.messages("bob", b"SIP/2.0 100") == approx([0.01])
    assert [event.status for event in world.alice.told(Progressed)] == [100]


def test_a_repeated_invite_gets_the_last_provisional_again() -> None:
    world = World(fate=lambda data: () if data.startswith(b"SIP/2.0") and world.now < 1 else (0.01,))
    provisional(world, Invited, 180)
    world.dial()
    world.run(3)
    assert len(world.messages("bob", b"SIP/2.0 180")) == 3
    assert [event.status for event in world.alice.told(Progressed)] == [180]


def test_a_refusal_is_resent_until_it_is_acknowledged_and_forgotten_after_timer_h() -> None:
    world = World(fate=lose(b"ACK"))
    answering(world, 486, after_ringing=False)
    world.dial()
    world.run(31.9)
    assert world.messages("bob", b"SIP/2.0 486") == approx([0.01 + at for at in RESENDS])
    assert len(world.messages("alice", b"ACK")) == 11  # each repetition is ACKed again
    assert world.bob.endpoint.statistics()["server_transactions"] == 1
    world.run(33)
    assert world.empty()
    assert world.alice.one(Failed).status == 486


def test_an_acknowledged_refusal_lingers_for_timer_i_and_d_and_then_goes() -> None:
    world = World()
    answering(world, 603, after_ringing=False)
    world.dial()
    world.run(4.9)
    assert world.bob.endpoint.statistics()["server_transactions"] == 1
    world.run(5.1)
    assert world.bob.endpoint.statistics()["server_transactions"] == 0
    world.run(31.9)
    assert world.alice.endpoint.statistics()["client_transactions"] == 1
    world.run(32.1)
    assert world.empty()


def test_over_a_stream_a_refused_call_leaves_nothing_behind() -> None:
    world = World(transport="tcp")
    answering(world, 603, after_ringing=False)
    world.dial()
    world.run(0.1)
    assert world.alice.one(Failed).status == 603
    assert world.empty()


@mark.parametrize("transport", ["udp", "tcp"])
def test_a_2xx_is_resent_until_acknowledged_and_then_reported_missing(transport: str) -> None:
    world = World(transport=transport, fate=lose(b"ACK"))
    answering(world, after_ringing=False)
    world.dial()
    world.run(31.9)
    assert world.messages("bob", b"SIP/2.0 200") == approx([0.01 + at for at in RESENDS])
    assert len(world.messages("alice", b"ACK")) == 11
    assert not world.bob.told(AckMissing)
    world.run(32.1)
    missing = world.bob.one(AckMissing)
    assert world.bob.endpoint.bye(missing.leg, world.now) is not None
    world.run(100)
    assert world.alice.one(Ended)
    assert world.bob.one(Responded).status == 200
    assert world.empty()


def test_an_answered_call_leaves_the_accepted_states_after_64_t1() -> None:
    world = World()
    call(world)
    world.run(31.9)
    assert world.alice.endpoint.statistics() == {"legs": 1, "server_transactions": 0, "client_transactions": 1}
    assert world.bob.endpoint.statistics() == {"legs": 1, "server_transactions": 1, "client_transactions": 0}
    world.run(32.1)
    for side in (world.alice, world.bob):
        assert side.endpoint.statistics() == {"legs": 1, "server_transactions": 0, "client_transactions": 0}
        assert side.endpoint.due() is None


def test_an_unheard_bye_is_resent_up_to_t2_apart_and_given_up_after_64_t1() -> None:
    world = World()
    leg = call(world)
    world.fate = deaf
    key = world.alice.endpoint.bye(leg, world.now)
    start = world.now
    world.run(start + 31.9)
    assert world.messages("alice", b"BYE") == approx([start + at for at in RESENDS])
    world.run(start + 32.1)
    outcome = world.alice.one(Responded)
    assert (outcome.transaction, outcome.status, outcome.cause) == (key, 408, Cause.TIMEOUT)
    assert world.alice.endpoint.dialog(leg) is None


def test_a_provisional_to_a_request_slows_its_resends_to_t2_without_lengthening_the_wait() -> None:
    world = World()
    leg = call(world)
    provisional(world, Requested, 183)
    start = world.now
    world.alice.endpoint.request(leg, "INFO", start)
    world.run(start + 40)
    assert [round(at - start - 0.02, 2) for at in world.messages("alice", b"INFO")[1:]] == [4, 8, 12, 16, 20, 24, 28]
    assert world.alice.one(Responded).cause is Cause.TIMEOUT
    assert len(world.messages("bob", b"SIP/2.0 183")) == 8  # repetitions of the request draw the provisional again


def test_a_repeated_request_gets_the_same_final_answer_for_timer_j() -> None:
    lost = 2

    def fate(data: bytes) -> tuple[float, ...]:
        nonlocal lost
        if data.startswith(b"SIP/2.0 200") and b" BYE\r\n" in data and lost:
            lost -= 1
            return ()
        return (0.01,)

    world = World(fate=fate)
    leg = call(world)
    world.alice.endpoint.bye(leg, world.now)
    world.run(world.now + 5)
    assert len(world.messages("bob", b"SIP/2.0 200")) == 1 + 3
    assert len(world.bob.told(Ended)) == 1
    assert world.alice.one(Responded).status == 200
    world.run(100)
    assert world.empty()


def test_a_request_nobody_answers_is_forgotten_without_a_word() -> None:
    world = World()
    leg = call(world)
    world.alice.endpoint.request(leg, "INFO", world.now)
    world.run(world.now + 100)
    event = world.bob.one(Requested)
    assert world.bob.endpoint.statistics()["server_transactions"] == 0
    assert world.bob.endpoint.respond(event.transaction, 200, world.now) is False


def test_a_cancel_before_any_provisional_is_held_back_and_the_invite_no_longer_resent() -> None:
    world = World(fate=lambda data: (0.01,) if not data.startswith(b"INVITE") else (5.0,))
    leg = world.dial()
    world.run(1)
    world.alice.endpoint.cancel(leg, world.now)
    world.run(4.9)
    assert world.messages("alice", b"INVITE") == approx([0, 0.5])
    assert not world.messages("alice", b"CANCEL")
    world.run(6)
    assert world.messages("alice", b"CANCEL") == approx([5.01])
    assert world.bob.one(Cancelled)
    failed = world.alice.one(Failed)
    assert (failed.status, failed.cause) == (487, Cause.RESPONSE)
    world.run(100)
    assert world.empty()


def test_a_cancelled_call_that_gets_no_final_answer_is_given_up() -> None:
    world = World(fate=lambda data: () if data.startswith((b"SIP/2.0 487", b"SIP/2.0 200")) else (0.01,))
    leg = world.dial()
    world.run(1)
    world.alice.endpoint.cancel(leg, world.now)
    world.run(32.9)
    assert not world.alice.told(Failed)
    assert len(world.messages("alice", b"CANCEL")) == 11
    world.run(33.1)
    assert world.alice.one(Failed).cause is Cause.TIMEOUT
    world.run(100)
    assert world.empty()


def test_a_cancel_that_is_never_heard_of_gives_up_too() -> None:
    world = World(fate=deaf)
    leg = world.dial()
    world.alice.endpoint.cancel(leg, world.now)
    world.run(33)
    assert world.alice.one(Failed).cause is Cause.TIMEOUT
    assert world.empty()


def test_an_idle_call_needs_no_timer() -> None:
    world = World()
    call(world)
    world.run(40)
    assert world.alice.endpoint.due() is None and world.bob.endpoint.due() is None
