"""The loop and the board with a clock that is given: order, lateness, and what is forgotten."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import msgspec
import pytest

from sipedge.media.plane import CallLost, MediaBack, MediaSilent, Message, Terms
from sipedge.relay.background import Background
from sipedge.relay.board import Board
from sipedge.relay.loop import MILLISECOND, REST, SECOND, Lateness, Loop
from sipedge.relay.ports import NoPortFree, PortRange
from tests.relay.peers import Phone


class Clock:
    """Stands still until told, or slept by."""

    def __init__(self) -> None:
        self.now = 1_000 * SECOND
        self.slept: list[float] = []

    def __call__(self) -> int:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += round(seconds * SECOND)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def loop(clock: Clock) -> Iterator[Loop]:
    loop = Loop(clock, clock.sleep)
    yield loop
    loop.close()


def test_timers_run_in_order_once_they_are_due(loop: Loop, clock: Clock) -> None:
    done: list[str] = []
    loop.call_at(clock.now + 20, lambda now: done.append("second"))
    loop.call_at(clock.now + 10, lambda now: done.append("first"))
    loop.call_at(clock.now + 15, lambda now: done.append("never")).cancel()
    loop.turn(0)
    assert done == []
    clock.now += 20
    loop.turn(0)
    assert done == ["first", "second"]


def keep_busy(loop: Loop, clock: Clock, count: int, each: int) -> None:
    """A tenth of a second of descriptors that are always readable; each takes `each` ns of the clock."""
    pipes = [os.pipe() for _ in range(count)]
    end = clock.now + SECOND // 10

    def reader(now: int) -> None:
        clock.now += each
        if clock.now > end:
            loop.stop()

    for ours, theirs in pipes:
        os.write(theirs, b"x")
        loop.watch(ours, reader)
    loop.run()
    for one in (one for pipe in pipes for one in pipe):
        loop.unwatch(one)
        os.close(one)


def test_much_on_many_descriptors_is_taken_together(loop: Loop, clock: Clock) -> None:
    keep_busy(loop, clock, count=8, each=10_000)
    assert len(clock.slept) > 100
    assert max(clock.slept) == pytest.approx((REST - 8 * 10_000) / SECOND)  # from the turn's begin


@pytest.mark.parametrize(("count", "each", "rests"), [(1, MILLISECOND, 0), (2, 50_000, 4), (60, 10_000, 0)])
def test_little_a_busy_few_and_what_fills_the_loop_are_taken_as_they_come(
    loop: Loop, clock: Clock, count: int, each: int, rests: int
) -> None:
    keep_busy(loop, clock, count, each)
    assert len(clock.slept) == rests


def test_a_rest_is_over_when_a_timer_is_due(loop: Loop, clock: Clock) -> None:
    late: list[int] = []

    def timer(now: int) -> None:
        late.append(now - due.pop())
        due.append(now + REST)
        loop.call_at(due[0], timer)

    due = [clock.now]
    loop.call_at(due[0], timer)
    keep_busy(loop, clock, count=8, each=10_000)
    assert len(clock.slept) > 100 and max(late) <= 8 * 10_000


def test_a_failing_timer_or_reader_is_forgotten_and_the_others_go_on(
    loop: Loop, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(now: int) -> None:
        raise RuntimeError("a mistake of ours")

    done: list[int] = []
    ours, theirs = os.pipe()
    os.write(theirs, b"x")
    loop.watch(ours, fails)
    loop.call_at(clock.now, fails)
    loop.call_at(clock.now, done.append)
    loop.turn(0)
    loop.turn(0)
    assert done == [clock.now]
    assert [record.message for record in caplog.records] == [
        "timed work failed and is forgotten",
        "a reader failed and is forgotten",
    ]
    loop.unwatch(ours)
    os.close(ours)
    os.close(theirs)


def test_another_thread_can_have_work_done(loop: Loop) -> None:
    done: list[int] = []

    def work() -> None:
        for _ in range(100):
            loop.post(lambda: done.append(1))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    loop.turn(1.0)
    assert len(done) == 100


def test_a_paused_descriptor_waits(loop: Loop) -> None:
    heard: list[int] = []
    ours, theirs = os.pipe()
    os.write(theirs, b"x")
    loop.watch(ours, heard.append)
    loop.pause(ours, True)
    loop.turn(0)
    assert heard == []
    loop.pause(ours, False)
    loop.turn(0)
    assert len(heard) == 1
    loop.unwatch(ours)
    loop.pause(ours, True)
    os.close(ours)
    os.close(theirs)


def test_lateness_is_that_of_the_last_minute() -> None:
    lateness = Lateness()
    assert lateness.measure() == (0.0, 0.0)
    now = 100 * SECOND
    lateness.add(40 * MILLISECOND, now)
    for _ in range(999):
        lateness.add(MILLISECOND, now)
    assert lateness.measure() == (0.001, 0.04)
    for step in range(1, 4):
        lateness.add(2 * MILLISECOND, now + step * 31 * SECOND)
    assert lateness.measure() == (0.002, 0.002)


class Hearing:
    """An owner that remembers."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.heard: list[Message] = []

    def send(self, message: Message) -> None:
        self.heard.append(message)


def pass_time(loop: Loop, clock: Clock, seconds: float) -> None:
    for _ in range(round(seconds * 50)):
        clock.now += 20 * MILLISECOND
        loop.turn(0)


@pytest.fixture
def board(loop: Loop) -> Iterator[Board]:
    writer = Background("writer")
    board = Board(loop, "127.0.0.1", PortRange(12_000, 12_999), writer, lambda: 1.8e9, lambda bits: 5)
    yield board
    board.shut()
    assert writer.finish(5.0)


def test_a_lost_edges_calls_end_after_five_seconds_unless_claimed(board: Board, loop: Loop, clock: Clock) -> None:
    first, second = Hearing("edge-1"), Hearing("edge-2")
    for id in ("c1", "c2"):
        board.open(id, 2, 20.0, first)
    board.orphan(first)
    pass_time(loop, clock, 4.0)
    assert board.held() == ("c1", "c2") and board.left_behind("edge-1") == ("c1", "c2")
    assert board.claim(("c2", "c9"), second) == ("c2",)
    pass_time(loop, clock, 2.5)
    assert board.held() == ("c2",) and board.left_behind("edge-1") == ()
    assert first.heard == second.heard == []
    board.claim(("c2",), first)
    assert second.heard == [CallLost("c2", "claimed")]


def test_a_call_that_never_gets_a_peer_does_not_hold_its_ports_for_good(board: Board, loop: Loop, clock: Clock) -> None:
    owner = Hearing("edge-1")
    board.open("c1", 2, 86_400.0, owner)
    pass_time(loop, clock, 595)
    assert "c1" in board
    pass_time(loop, clock, 10)
    assert "c1" not in board and owner.heard == [CallLost("c1", "gone")]
    assert board.measures().ports_resting == 2


def test_a_peer_on_the_highest_port_has_no_rtcp_and_a_call(board: Board, loop: Loop, clock: Clock) -> None:
    call = board.open("c1", 1, 20.0, Hearing("edge-1"))
    leg = call.legs[0]
    call.connect(leg, Terms("127.0.0.1", 65_535, "PCMA", ("127.0.0.0/8",)))
    leg.emit(b"\xd5" * 160, clock.now, first=True)
    pass_time(loop, clock, 6)
    assert board.held() == ("c1",) and leg.sent == 1


def test_silence_is_told_once_until_somebody_speaks(board: Board, loop: Loop, clock: Clock) -> None:
    owner = Hearing("edge-1")
    call = board.open("c1", 1, 10.0, owner)
    with Phone() as phone:
        call.connect(call.legs[0], phone.terms())
        phone.to = ("127.0.0.1", call.legs[0].port)
        pass_time(loop, clock, 25)
        (event,) = owner.heard
        assert isinstance(event, MediaSilent) and event.leg == 1 and 10.0 <= event.seconds <= 11.0
        phone.say(b"\xd5" * 160)
        pass_time(loop, clock, 9)
        assert owner.heard[1:] == [MediaBack("c1", 1)]
        pass_time(loop, clock, 4)
        assert isinstance(owner.heard[-1], MediaSilent) and len(owner.heard) == 3
        call.connect(call.legs[0], msgspec.structs.replace(phone.terms(), direction="inactive"))
        pass_time(loop, clock, 30)
        assert owner.heard[3:] == [MediaBack("c1", 1)], "who is held is not thought silent"


def test_a_call_that_cannot_be_seen_to_is_closed_and_the_others_go_on(
    board: Board, loop: Loop, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    owner = Hearing("edge-1")
    broken = board.open("c1", 2, 20.0, owner)
    board.open("c2", 2, 20.0, owner)

    def fails(now: int) -> None:
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(broken, "refresh", fails)
    pass_time(loop, clock, 2)
    assert board.held() == ("c2",) and owner.heard == [CallLost("c1", "gone")]
    assert "a call failed and is closed: c1" in caplog.text


def test_without_descriptors_the_answer_is_no_ports(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(host: str, port: int) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("sipedge.relay.sockets.bind_pair", full)
    with pytest.raises(NoPortFree):
        board.open("c1", 2, 20.0, Hearing("edge-1"))
    assert board.measures().ports_free == 500


def test_calls_are_spread_over_the_turns(board: Board) -> None:
    calls = [board.open(f"c{index}", 1, 20.0, Hearing("edge-1")) for index in range(20)]
    assert len({call.legs[0].port for call in calls}) == 20
    assert [len(slot) for slot in board._slots] == [2] * 10
