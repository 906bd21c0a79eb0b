"""The four transactions as tables (RFC 3261 17 with RFC 6026), reliable provisional responses as a fifth (RFC 3262),
and the queue their timers wait in.

Everything that moves a transaction stands in this file. A row reads: in this state, given this input, go to that
state and do these actions. No row: nothing happens. Entering a state starts the timers its clocks name and drops
those of the state left, except the `STEADY` ones, which run on from where they were started. A timer in `DOUBLES`
runs again, twice as long up to its bound, for as long as its row stays in the same state.

Over a stream nothing is resent and nothing lingers (Timers D, I, J, K are zero): `_over_stream` derives those tables.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from enum import IntEnum
from typing import Any, NamedTuple

from msgspec import Struct

from sipedge.sip.dialogs import Dialog
from sipedge.sip.digest import Authorisation
from sipedge.sip.flows import Flow
from sipedge.sip.messages import Request, answer_head, write_message

T1 = 0.5
T2 = 4.0
T4 = 5.0
PATIENCE = 64 * T1  # Timers B, F, H, J, L, M
TIMER_D = 32.0


class State(IntEnum):
    CALLING = 1  # INVITE client: sent, nothing heard
    WITHDRAWN = 2  # INVITE client: given up before anything was heard; CANCEL must wait for a 1xx (RFC 3261 9.1)
    TRYING = 3  # non-INVITE, both sides
    PROCEEDING = 4
    CANCELLING = 5  # INVITE client: CANCEL sent
    COMPLETED = 6
    CONFIRMED = 7  # INVITE server: a refusal was ACKed
    ACCEPTED = 8  # INVITE: a 2xx went by (RFC 6026)
    ACKED = 9  # INVITE server: … and was ACKed
    TERMINATED = 10


class Input(IntEnum):
    REQUEST = 1  # the same request again
    ACK = 2
    R1XX = 3  # a response came in
    R2XX = 4
    RFAIL = 5  # 300..699
    S1XX = 6  # our user sends a response
    S2XX = 7
    SFAIL = 8
    CANCEL = 9  # our user gives the INVITE up
    TRANSPORT = 10  # could not be sent
    PRACK = 11
    TIMER_A = 12
    TIMER_B = 13
    TIMER_D = 14
    TIMER_E = 15
    TIMER_F = 16
    TIMER_G = 17
    TIMER_H = 18
    TIMER_I = 19
    TIMER_J = 20
    TIMER_K = 21
    TIMER_L = 22
    TIMER_M = 23
    RESEND_2XX = 24  # RFC 3261 13.3.1.4
    UNANSWERED = 25  # our own user never answered
    RESEND_1XX = 26  # RFC 3262 3
    UNPRACKED = 27


class Action(IntEnum):
    SEND = 1  # (again) the last message
    UP = 2  # show the message to the user
    ACK = 3  # build the ACK for this refusal and send it
    SEND_CANCEL = 4
    TIMED_OUT = 5  # tell the user
    UNSENT = 6  # tell the user
    ACK_MISSING = 7  # tell the user
    PRACK_MISSING = 8  # refuse the call, tell the user


S, I, A = State, Input, Action  # noqa: E741 - the tables are read like the RFC's figures
Rows = Mapping[tuple[State, Input], tuple[State, tuple[Action, ...]]]
Clocks = Mapping[State, tuple[tuple[Input, float], ...]]

INVITE_CLIENT: Rows = {  # RFC 3261 figure 5 as amended by RFC 6026 7.2, with 9.1 for CANCEL
    (S.CALLING, I.TIMER_A): (S.CALLING, (A.SEND,)),
    (S.CALLING, I.TIMER_B): (S.TERMINATED, (A.TIMED_OUT,)),
    (S.CALLING, I.TRANSPORT): (S.TERMINATED, (A.UNSENT,)),
    (S.CALLING, I.R1XX): (S.PROCEEDING, (A.UP,)),
    (S.CALLING, I.R2XX): (S.ACCEPTED, (A.UP,)),
    (S.CALLING, I.RFAIL): (S.COMPLETED, (A.ACK, A.UP)),
    (S.CALLING, I.CANCEL): (S.WITHDRAWN, ()),
    (S.WITHDRAWN, I.TIMER_B): (S.TERMINATED, (A.TIMED_OUT,)),
    (S.WITHDRAWN, I.R1XX): (S.CANCELLING, (A.SEND_CANCEL,)),
    (S.WITHDRAWN, I.R2XX): (S.ACCEPTED, (A.UP,)),
    (S.WITHDRAWN, I.RFAIL): (S.COMPLETED, (A.ACK, A.UP)),
    (S.PROCEEDING, I.R1XX): (S.PROCEEDING, (A.UP,)),
    (S.PROCEEDING, I.R2XX): (S.ACCEPTED, (A.UP,)),
    (S.PROCEEDING, I.RFAIL): (S.COMPLETED, (A.ACK, A.UP)),
    (S.PROCEEDING, I.CANCEL): (S.CANCELLING, (A.SEND_CANCEL,)),
    (S.CANCELLING, I.R2XX): (S.ACCEPTED, (A.UP,)),
    (S.CANCELLING, I.RFAIL): (S.COMPLETED, (A.ACK, A.UP)),
    (S.CANCELLING, I.TIMER_B): (S.TERMINATED, (A.TIMED_OUT,)),
    (S.COMPLETED, I.RFAIL): (S.COMPLETED, (A.SEND,)),
    (S.COMPLETED, I.TIMER_D): (S.TERMINATED, ()),
    (S.ACCEPTED, I.R2XX): (S.ACCEPTED, (A.UP,)),
    (S.ACCEPTED, I.TIMER_M): (S.TERMINATED, ()),
}
INVITE_CLIENT_CLOCKS: Clocks = {
    S.CALLING: ((I.TIMER_A, T1), (I.TIMER_B, PATIENCE)),
    S.WITHDRAWN: ((I.TIMER_B, PATIENCE),),
    S.CANCELLING: ((I.TIMER_B, PATIENCE),),
    S.COMPLETED: ((I.TIMER_D, TIMER_D),),
    S.ACCEPTED: ((I.TIMER_M, PATIENCE),),
}

CLIENT: Rows = {  # RFC 3261 figure 6
    (S.TRYING, I.TIMER_E): (S.TRYING, (A.SEND,)),
    (S.TRYING, I.TIMER_F): (S.TERMINATED, (A.TIMED_OUT,)),
    (S.TRYING, I.TRANSPORT): (S.TERMINATED, (A.UNSENT,)),
    (S.TRYING, I.R1XX): (S.PROCEEDING, ()),
    (S.TRYING, I.R2XX): (S.COMPLETED, (A.UP,)),
    (S.TRYING, I.RFAIL): (S.COMPLETED, (A.UP,)),
    (S.PROCEEDING, I.TIMER_E): (S.PROCEEDING, (A.SEND,)),
    (S.PROCEEDING, I.TIMER_F): (S.TERMINATED, (A.TIMED_OUT,)),
    (S.PROCEEDING, I.TRANSPORT): (S.TERMINATED, (A.UNSENT,)),
    (S.PROCEEDING, I.R2XX): (S.COMPLETED, (A.UP,)),
    (S.PROCEEDING, I.RFAIL): (S.COMPLETED, (A.UP,)),
    (S.COMPLETED, I.TIMER_K): (S.TERMINATED, ()),
}
CLIENT_CLOCKS: Clocks = {
    S.TRYING: ((I.TIMER_E, T1), (I.TIMER_F, PATIENCE)),
    S.PROCEEDING: ((I.TIMER_E, T2),),
    S.COMPLETED: ((I.TIMER_K, T4),),
}

INVITE_SERVER: Rows = {  # RFC 3261 figure 7 as amended by RFC 6026 7.1, with 13.3.1.4 for the 2xx
    (S.PROCEEDING, I.REQUEST): (S.PROCEEDING, (A.SEND,)),
    (S.PROCEEDING, I.S1XX): (S.PROCEEDING, (A.SEND,)),
    (S.PROCEEDING, I.S2XX): (S.ACCEPTED, (A.SEND,)),
    (S.PROCEEDING, I.SFAIL): (S.COMPLETED, (A.SEND,)),
    (S.COMPLETED, I.REQUEST): (S.COMPLETED, (A.SEND,)),
    (S.COMPLETED, I.TIMER_G): (S.COMPLETED, (A.SEND,)),
    (S.COMPLETED, I.TIMER_H): (S.TERMINATED, ()),
    (S.COMPLETED, I.ACK): (S.CONFIRMED, ()),
    (S.CONFIRMED, I.TIMER_I): (S.TERMINATED, ()),
    (S.ACCEPTED, I.RESEND_2XX): (S.ACCEPTED, (A.SEND,)),
    (S.ACCEPTED, I.ACK): (S.ACKED, (A.UP,)),
    (S.ACCEPTED, I.TIMER_L): (S.TERMINATED, (A.ACK_MISSING,)),
    (S.ACKED, I.TIMER_L): (S.TERMINATED, ()),
}
INVITE_SERVER_CLOCKS: Clocks = {
    S.COMPLETED: ((I.TIMER_G, T1), (I.TIMER_H, PATIENCE)),
    S.CONFIRMED: ((I.TIMER_I, T4),),
    S.ACCEPTED: ((I.RESEND_2XX, T1), (I.TIMER_L, PATIENCE)),
}

SERVER: Rows = {  # RFC 3261 figure 8; an answer our own user never gave is bounded too (RFC 4320 4.2: then say nothing)
    (S.TRYING, I.S1XX): (S.PROCEEDING, (A.SEND,)),
    (S.TRYING, I.S2XX): (S.COMPLETED, (A.SEND,)),
    (S.TRYING, I.SFAIL): (S.COMPLETED, (A.SEND,)),
    (S.TRYING, I.UNANSWERED): (S.TERMINATED, ()),
    (S.PROCEEDING, I.REQUEST): (S.PROCEEDING, (A.SEND,)),
    (S.PROCEEDING, I.S1XX): (S.PROCEEDING, (A.SEND,)),
    (S.PROCEEDING, I.S2XX): (S.COMPLETED, (A.SEND,)),
    (S.PROCEEDING, I.SFAIL): (S.COMPLETED, (A.SEND,)),
    (S.PROCEEDING, I.UNANSWERED): (S.TERMINATED, ()),
    (S.COMPLETED, I.REQUEST): (S.COMPLETED, (A.SEND,)),
    (S.COMPLETED, I.TIMER_J): (S.TERMINATED, ()),
}
SERVER_CLOCKS: Clocks = {
    S.TRYING: ((I.UNANSWERED, PATIENCE),),
    S.COMPLETED: ((I.TIMER_J, PATIENCE),),
}

PROVISIONAL: Rows = {  # RFC 3262 3: a reliable 1xx is resent until its PRACK, or until a final answer makes it idle
    (S.PROCEEDING, I.RESEND_1XX): (S.PROCEEDING, (A.SEND,)),
    (S.PROCEEDING, I.UNPRACKED): (S.TERMINATED, (A.PRACK_MISSING,)),
    (S.PROCEEDING, I.PRACK): (S.TERMINATED, (A.UP,)),
    (S.PROCEEDING, I.S2XX): (S.TERMINATED, ()),
    (S.PROCEEDING, I.SFAIL): (S.TERMINATED, ()),
}
PROVISIONAL_CLOCKS: Clocks = {
    S.PROCEEDING: ((I.RESEND_1XX, T1), (I.UNPRACKED, PATIENCE)),
}

# Timers that run again and how long at most between two runs. A 2xx and a reliable 1xx are resent over streams
# too: a proxy behind may use UDP.
DOUBLES: Mapping[Input, float] = {
    I.TIMER_A: PATIENCE,
    I.TIMER_E: T2,
    I.TIMER_G: T2,
    I.RESEND_2XX: T2,
    I.RESEND_1XX: PATIENCE,
}
STEADY = frozenset({I.TIMER_F, I.TIMER_L, I.UNANSWERED})
_UNRELIABLE_ONLY = (I.TIMER_A, I.TIMER_E, I.TIMER_G)
_ZERO_OVER_STREAM = (I.TIMER_D, I.TIMER_I, I.TIMER_J, I.TIMER_K)


class Machine(NamedTuple):
    """One table with its timers, its first state, and whether it is an INVITE's."""

    rows: Rows
    clocks: Clocks
    start: State
    invite: bool


def _over_stream(machine: Machine) -> Machine:
    """The same table over a reliable transport: no resends, and a state that only lingers on a zero timer is left
    at once."""
    fleeting = {state for state, timers in machine.clocks.items() if timers[0][0] in _ZERO_OVER_STREAM}
    rows = {
        (state, given): (State.TERMINATED if to in fleeting else to, actions)
        for (state, given), (to, actions) in machine.rows.items()
        if state not in fleeting and given not in _UNRELIABLE_ONLY
    }
    clocks = {
        state: tuple([(timer, delay) for timer, delay in timers if timer not in _UNRELIABLE_ONLY])
        for state, timers in machine.clocks.items()
        if state not in fleeting
    }
    return machine._replace(rows=rows, clocks=clocks)


_DATAGRAM = {
    "invite client": Machine(INVITE_CLIENT, INVITE_CLIENT_CLOCKS, State.CALLING, True),
    "client": Machine(CLIENT, CLIENT_CLOCKS, State.TRYING, False),
    "invite server": Machine(INVITE_SERVER, INVITE_SERVER_CLOCKS, State.PROCEEDING, True),
    "server": Machine(SERVER, SERVER_CLOCKS, State.TRYING, False),
    "provisional": Machine(PROVISIONAL, PROVISIONAL_CLOCKS, State.PROCEEDING, True),
}
MACHINES = {
    (kind, reliable): _over_stream(machine) if reliable else machine
    for kind, machine in _DATAGRAM.items()
    for reliable in (False, True)
}


_ANY_EPOCH = -1


class Deadline(Struct, eq=False, gc=False):
    """When a timer of a transaction fires, if the transaction still is where it was set (`epoch`).

    Not watched by the garbage collector: tens of thousands wait at a time, and nothing they hold leads back to them.
    """

    at: float
    transaction: Transaction
    timer: Input
    epoch: int

    @property
    def void(self) -> bool:
        """Set in a state that has been left since, or the transaction is over."""
        transaction = self.transaction
        if transaction.state is State.TERMINATED:
            return True
        return self.epoch != transaction.epoch and self.epoch != _ANY_EPOCH


class Timers:
    """Deadlines, one FIFO per delay: setting and firing are cheap, and there are few delays. `now` never runs
    backwards."""

    __slots__ = ("_queues",)

    def __init__(self) -> None:
        self._queues: dict[float, deque[Deadline]] = {}

    def set(self, delay: float, now: float, transaction: Transaction, timer: Input) -> None:
        queue = self._queues.get(delay)
        if queue is None:
            queue = self._queues[delay] = deque()
        queue.append(Deadline(now + delay, transaction, timer, _ANY_EPOCH if timer in STEADY else transaction.epoch))

    def due(self) -> float | None:
        """The earliest deadline still meant; drops void ones on the way."""
        first: float | None = None
        for queue in self._queues.values():
            while queue:
                head = queue[0]
                if not head.void:
                    if first is None or head.at < first:
                        first = head.at
                    break
                queue.popleft()
        return first

    def expired(self, now: float) -> Iterator[tuple[Transaction, Input]]:
        """What is due at `now`, each queue in order of time."""
        for queue in list(self._queues.values()):
            while queue and queue[0].at <= now:
                head = queue.popleft()
                if not head.void:
                    yield head.transaction, head.timer


class Transaction:
    """One request and its answers over one hop: where it stands in its table."""

    __slots__ = ("epoch", "flow", "interval", "key", "last", "leg", "machine", "method", "state")

    def __init__(self, kind: str, key: str, method: str, flow: Flow, leg: str | None) -> None:
        self.machine = MACHINES[kind, flow.reliable]
        self.state = self.machine.start
        self.key = key
        self.method = method
        self.flow = flow
        self.leg = leg
        self.epoch = 0  # counts the states entered
        self.interval = 0.0  # of the doubling timer
        self.last = b""  # what SEND sends

    def begin(self, now: float, timers: Timers) -> None:
        """Starts the timers of the first state."""
        for timer, delay in self.machine.clocks.get(self.state, ()):
            timers.set(delay, now, self, timer)
            if timer in DOUBLES:
                self.interval = delay

    def step(self, given: Input, now: float, timers: Timers) -> tuple[Action, ...] | None:
        """Moves along the table and says what is to be done; None when the table has no such row."""
        row = self.machine.rows.get((self.state, given))
        if row is None:
            return None
        state, actions = row
        if state is not self.state:
            self.state = state
            self.epoch += 1
            self.begin(now, timers)
        elif given in DOUBLES:
            self.interval = min(2 * self.interval, DOUBLES[given])
            timers.set(self.interval, now, self, given)
        return actions

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.method} {self.state.name.lower()}>"


class ServerTransaction(Transaction):
    """A request we answer. Opaque to drivers: hand it back to `Endpoint.respond`.

    Once a final answer is out only `last` is still needed, so the request is let go.
    """

    __slots__ = ("head", "held", "merge_key", "provisional", "request", "seq", "tag")

    def __init__(self, key: str, request: Request, flow: Flow, leg: str | None, tag: str) -> None:
        super().__init__("invite server" if request.method == "INVITE" else "server", key, request.method, flow, leg)
        self.request: Request | None = request
        self.seq = request.cseq.number
        self.tag = tag  # our To tag
        self.head = answer_head(request, flow.remote)
        self.merge_key: tuple[str, str, int, str] | None = None
        self.provisional: Provisional | None = None  # our last reliable 1xx
        self.held: tuple[Said, ...] = ()  # what waits for its PRACK

    def shrink(self) -> None:
        """A final answer is out: lets go what only an answer needs."""
        self.request = None
        self.head = ""
        self.held = ()


class Said(Struct, eq=False, gc=False):
    """A response as our user worded it."""

    status: int
    reason: str
    headers: Sequence[tuple[str, str]]
    body: bytes
    content_type: str


class Provisional(Transaction):
    """A provisional response of ours that asks for a PRACK. `described`: it holds a session description."""

    __slots__ = ("described", "invite", "rseq")

    def __init__(self, invite: ServerTransaction, rseq: int, described: bool) -> None:
        super().__init__("provisional", invite.key, invite.method, invite.flow, invite.leg)
        self.invite = invite
        self.rseq = rseq
        self.described = described

    @property
    def waits(self) -> bool:
        """Its PRACK has not come, and is still needed."""
        return self.state is State.PROCEEDING


class Draft(Struct, eq=False, gc=False):
    """The parts of a request of ours which its ACK and CANCEL repeat (RFC 3261 9.1, 17.1.1.3)."""

    target: str
    head: str  # Via, Route, From, Call-ID, Max-Forwards: whole lines
    to: str
    seq: int

    def write(
        self, method: str, *, to: str = "", headers: str = "", body: bytes = b"", content_type: str = ""
    ) -> bytes:
        start = f"{method} {self.target} SIP/2.0\r\n{self.head}To: {to or self.to}\r\nCSeq: {self.seq} {method}\r\n"
        return write_message(start + headers, body, content_type)


class Asked(NamedTuple):
    """What a request of ours is made of beyond its draft, to send it again with credentials."""

    by: Authorisation
    headers: str  # whole lines
    body: bytes
    content_type: str


class Narrow(NamedTuple):
    """A request of ours as it was meant for UDP, before it went by a stream for its length."""

    flow: Flow
    draft: Draft
    data: bytes


_NONE_YET: Mapping[str, Any] = {}  # one for all: most transactions never need theirs


class ClientTransaction(Transaction):
    """A request we sent."""

    __slots__ = ("acks", "again", "asked", "cancel_headers", "dialog", "draft", "name", "narrow", "offered", "quiet",
                 "rseqs")  # fmt: skip

    def __init__(self, key: str, method: str, flow: Flow, leg: str | None, draft: Draft, dialog: Dialog | None) -> None:
        super().__init__("invite client" if method == "INVITE" else "client", key, method, flow, leg)
        self.draft = draft
        self.name = key  # what our user knows it by: that of its first try
        self.asked: Asked | None = None  # how to answer a challenge to it
        self.dialog = dialog  # of an INVITE: what its 2xx confirms
        self.acks: Mapping[str, tuple[Flow, bytes]] = _NONE_YET  # To tag of a 2xx → the ACK of its repetitions
        self.rseqs: Mapping[str, int] = _NONE_YET  # To tag of a reliable 1xx → the last one in order (RFC 3262 4)
        self.offered = False  # an INVITE that carried an offer: its 2xx is ACKed without asking
        self.again = False  # a re-INVITE
        self.cancel_headers = ""
        self.quiet = False  # nobody waits for its outcome
        self.narrow: Narrow | None = None  # what it becomes again where nobody takes the stream

    def shrink(self) -> None:
        """It was answered for good: lets go what only sending it again or giving it up needs. Its number stays: the ACK
        of another fork's 2xx has it too."""
        self.last = b""
        self.narrow = None
        self.draft = Draft("", "", "", self.draft.seq)

    def restart(self, flow: Flow, now: float, timers: Timers) -> None:
        """From the beginning, over another flow."""
        self.machine = MACHINES["invite client" if self.method == "INVITE" else "client", flow.reliable]
        self.flow, self.state = flow, self.machine.start
        self.epoch += 1
        self.begin(now, timers)
