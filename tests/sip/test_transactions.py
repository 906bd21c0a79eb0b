"""The tables themselves: every (state, input) is either a row or nothing, and no walk leaves them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from sipedge.sip.flows import Flow
from sipedge.sip.transactions import (
    DOUBLES,
    MACHINES,
    PATIENCE,
    T1,
    T2,
    T4,
    Action,
    Input,
    Machine,
    State,
    Timers,
    Transaction,
)

UDP = Flow("udp", ("192.0.2.1", 5060), ("192.0.2.2", 5060))
TCP = Flow("tcp", ("192.0.2.1", 5060), ("192.0.2.2", 5060), 1)
KINDS = sorted({kind for kind, _ in MACHINES})
GAVE_UP = (Action.TIMED_OUT, Action.UNSENT, Action.ACK_MISSING, Action.PRACK_MISSING)


def transaction(kind: str, flow: Flow, timers: Timers, now: float = 0.0) -> Transaction:
    made = Transaction(kind, "key", "INVITE", flow, None)
    made.begin(now, timers)
    return made


def states(machine: Machine) -> set[State]:
    return {machine.start} | {to for to, _ in machine.rows.values()}


@pytest.mark.parametrize("key", sorted(MACHINES))
def test_every_state_but_the_last_can_be_reached_and_left(key: tuple[str, bool]) -> None:
    machine = MACHINES[key]
    left = {state for state, _ in machine.rows}
    assert states(machine) == left | {State.TERMINATED}
    assert not any(state is State.TERMINATED for state, _ in machine.rows)


@pytest.mark.parametrize("key", sorted(MACHINES))
def test_every_timer_that_is_started_has_its_row_and_every_timer_row_is_started(key: tuple[str, bool]) -> None:
    machine = MACHINES[key]
    started = {timer for timers in machine.clocks.values() for timer, _ in timers}
    rowed = {given for _, given in machine.rows if given.name.startswith("TIMER_") or given >= Input.RESEND_2XX}
    assert started == rowed
    for state, timers in machine.clocks.items():
        for timer, delay in timers:
            assert (state, timer) in machine.rows
            assert delay > 0


def test_over_a_stream_no_request_or_refusal_is_resent_and_nothing_lingers() -> None:
    for kind in KINDS:
        machine = MACHINES[kind, True]
        timers = {timer for clocks in machine.clocks.values() for timer, _ in clocks}
        ends = {Input.RESEND_2XX, Input.UNANSWERED, Input.RESEND_1XX, Input.UNPRACKED}
        assert timers <= {Input[f"TIMER_{letter}"] for letter in "BFHLM"} | ends


def test_the_timer_values_are_those_of_the_rfc() -> None:
    assert (T1, T2, T4, PATIENCE) == (0.5, 4.0, 5.0, 32.0)
    delays = {
        timer: delay for machine in MACHINES.values() for clocks in machine.clocks.values() for timer, delay in clocks
    }
    assert {timer.name[-1]: delay for timer, delay in delays.items() if timer.name.startswith("TIMER_")} == {
        "A": 0.5, "B": 32, "D": 32, "E": 4, "F": 32, "G": 0.5, "H": 32, "I": 5, "J": 32, "K": 5, "L": 32, "M": 32
    }  # fmt: skip


@given(st.sampled_from(KINDS), st.booleans(), st.lists(st.sampled_from(Input), max_size=30))
def test_whatever_is_fed_in_a_transaction_stays_in_its_table_and_tells_its_end_once(
    kind: str, reliable: bool, inputs: list[Input]
) -> None:
    timers = Timers()
    machine = MACHINES[kind, reliable]
    walked = transaction(kind, TCP if reliable else UDP, timers)
    gave_up = 0
    for given_input in inputs:
        before, epoch = walked.state, walked.epoch
        actions = walked.step(given_input, 0.0, timers)
        row = machine.rows.get((before, given_input))
        if row is None:
            assert actions is None and (walked.state, walked.epoch) == (before, epoch)
        else:
            assert (walked.state, actions) == row
            gave_up += sum(action in GAVE_UP for action in actions or ())
    assert gave_up <= 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("flow", [UDP, TCP], ids=["udp", "tcp"])
def test_every_pair_of_state_and_input_has_one_meaning(kind: str, flow: Flow) -> None:
    machine = MACHINES[kind, flow.reliable]
    for state in State:
        for given_input in Input:
            timers = Timers()
            stepped = Transaction(kind, "key", "INVITE", flow, None)
            stepped.state = state
            actions = stepped.step(given_input, 0.0, timers)
            expected = machine.rows.get((state, given_input))
            assert (stepped.state, actions) == (expected if expected is not None else (state, None))


class Waiting(RuleBasedStateMachine):
    """Timers against the plainest model there is: a list that is sorted."""

    made = Bundle("made")

    @initialize()
    def start(self) -> None:
        self.timers = Timers()
        self.now = 0.0
        self.model: list[tuple[float, int, Transaction, Input, int]] = []
        self.count = 0

    @rule(target=made)
    def make(self) -> Transaction:
        return Transaction("client", "key", "BYE", UDP, None)

    @rule(one=made, delay=st.sampled_from([0.5, 4.0, 5.0, 32.0]), timer=st.sampled_from(Input))
    def set(self, one: Transaction, delay: float, timer: Input) -> None:
        self.timers.set(delay, self.now, one, timer)
        self.count += 1
        self.model.append((self.now + delay, self.count, one, timer, one.epoch))

    @rule(one=made)
    def leave(self, one: Transaction) -> None:
        one.epoch += 1

    @rule(one=made)
    def finish(self, one: Transaction) -> None:
        one.state = State.TERMINATED

    @rule(seconds=st.sampled_from([0.0, 0.5, 3.9, 32.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        due = {entry[1]: entry for entry in self.model if entry[0] <= self.now}
        fired = list(self.timers.expired(self.now))
        expected = [(entry[2], entry[3]) for entry in due.values() if self.meant(entry)]
        assert sorted(map(repr_of, fired)) == sorted(map(repr_of, expected))
        self.model = [entry for entry in self.model if entry[1] not in due]

    def meant(self, entry: tuple[float, int, Transaction, Input, int]) -> bool:
        _, _, one, timer, epoch = entry
        steady = timer in (Input.TIMER_F, Input.TIMER_L, Input.UNANSWERED)
        return one.state is not State.TERMINATED and (steady or one.epoch == epoch)

    @invariant()
    def the_next_deadline_is_the_earliest_meant(self) -> None:
        assert self.timers.due() == min([entry[0] for entry in self.model if self.meant(entry)], default=None)


def repr_of(fired: tuple[Transaction, Input]) -> tuple[int, Input]:
    return id(fired[0]), fired[1]


TestWaiting = Waiting.TestCase


def test_a_transaction_shows_its_method_and_state() -> None:
    assert repr(Transaction("invite client", "key", "INVITE", UDP, None)) == "<Transaction INVITE calling>"


def test_doubling_timers_are_bounded() -> None:
    assert {timer.name: bound for timer, bound in DOUBLES.items()} == {
        "TIMER_A": 32.0, "TIMER_E": 4.0, "TIMER_G": 4.0, "RESEND_2XX": 4.0, "RESEND_1XX": 32.0
    }  # fmt: skip
