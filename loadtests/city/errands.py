"""What the people of the city do, step by step, each held to what the service promises.

Every step is told to a `Report` with its name and how long it took; a promise not kept is told with what was wrong
and ends the errand. Nothing told ever holds a person's number.
"""

from __future__ import annotations

import array
import hashlib
import io
import itertools
import sys
import time
import wave
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import Queue
from typing import Any, Protocol

from loadtests.city.api import Answer, Api, NoAnswer
from loadtests.city.exchange import Call, Exchange, Expected
from loadtests.city.orders import Attempt, Manner, Order, Redial, Role
from loadtests.city.voices import TONES
from sipedge.softphone import sounds

PATIENCE = 15.0  # seconds for what is waited for in calls; nothing healthy comes near it
HEARD = 60  # packets of the other's voice that make a conversation
READABLE_WITHIN = 2.0  # seconds from a call's end to its interaction
AVAILABLE_WITHIN = 10.0  # seconds from a call's end to its recording
AGREES = 0.25  # seconds that our clock and the service's may differ over how long a call was
SAID = 0.4  # part of those pieces that have to be its own tone; where the city itself stopped, a piece is cut
PIECES = 20  # that are listened to; listening to all would cost the city more than its calls do
RATE = 8000


class Report(Protocol):
    def __call__(self, kind: str, name: str, seconds: float, problem: str | None = None) -> None: ...


class NotAsPromised(Exception):
    """What the service did instead; already reported."""


@dataclass
class Talk:
    """A recorded conversation: who called, and how long it lasted from the answer on, as the phones saw it."""

    caller: Role
    seconds: float
    ended_at: float  # time.monotonic's


@dataclass
class Closed:
    """A recorded order that is over, for the dispute desk."""

    session: str
    talks: list[Talk]
    at: float  # time.monotonic's


@dataclass
class Told:
    """What the session's interactions have to say in the end."""

    statuses: list[str] = field(default_factory=list)
    last_end: float = 0.0


@dataclass
class City:
    """What every errand is given. `slack` stretches the promised times, for a machine that does other work too; `keep`
    puts by what was wrong, under a name."""

    api: Api
    exchange: Exchange
    report: Report
    slack: float = 1.0
    keep: Callable[[str, bytes], None] = lambda name, evidence: None
    sleep: Callable[[float], None] = time.sleep
    closed: Queue[Closed] = field(default_factory=Queue)
    open_sessions: int = 0
    orders: int = 0
    abandoned: int = 0

    # -- how steps are told -----------------------------------------------------------------------------------------

    @contextmanager
    def step(self, kind: str, name: str) -> Iterator[None]:
        """Times what is done inside, and tells how it went."""
        began = time.monotonic()
        try:
            yield
        except NotAsPromised as problem:
            self.report(kind, name, time.monotonic() - began, str(problem))
            raise
        except NoAnswer as problem:
            self.report(kind, name, time.monotonic() - began, str(problem))
            raise NotAsPromised(str(problem)) from None
        self.report(kind, name, time.monotonic() - began)

    def tell(self, kind: str, name: str, seconds: float, *checks: tuple[bool, str]) -> None:
        """Tells a step that was timed elsewhere; the first check that does not hold is what was wrong."""
        problem = next((said for holds, said in checks if not holds), None)
        self.report(kind, name, seconds, problem)
        if problem is not None:
            raise NotAsPromised(problem)

    def ask(self, name: str, method: str, path: str, status: int, body: Any = None, **more: Any) -> Answer:
        """One HTTP request as one step."""
        with self.step("HTTP", name):
            answer = self.api.request(method, path, body, **more)
            if answer.status != status:
                raise NotAsPromised(f"answered {answer.status}, promised is {status}")
        return answer

    # -- an order ---------------------------------------------------------------------------------------------------

    def live(self, order: Order) -> None:
        """An order from its session to the calls that come too late."""
        self.orders += 1
        try:
            OneOrder(self, order).live()
        except NotAsPromised:
            self.abandoned += 1

    # -- the dispute desk -------------------------------------------------------------------------------------------

    def look_into(self, closed: Closed) -> None:
        """Fetches an order's recordings and listens to both sides of each."""
        try:
            for talk, recording in zip(closed.talks, self._recordings(closed), strict=True):
                self._listen(talk, recording)
        except NotAsPromised:
            self.abandoned += 1

    def _recordings(self, closed: Closed) -> list[dict[str, Any]]:
        """The recordings of the order, oldest first, once all are available."""
        ended, within = max(talk.ended_at for talk in closed.talks), AVAILABLE_WITHIN * self.slack
        while True:
            answer = self.ask("GET /v1/recordings", "GET", "/v1/recordings", 200, query={"session": closed.session})
            found = sorted(answer.json()["data"], key=lambda recording: str(recording["started_at"]))
            waited = time.monotonic() - ended
            if len(found) == len(closed.talks) and all(one["status"] == "available" for one in found):
                return found
            states = ", ".join(str(one["status"]) for one in found) or "none"
            if waited > within:
                name = "available after the call"
                self.tell("recording", name, waited, (False, f"{states}; promised {len(closed.talks)} available"))
            self.sleep(0.25)

    def _listen(self, talk: Talk, recording: dict[str, Any]) -> None:
        path = f"/v1/recordings/{recording['id']}/media"
        answer = self.ask("GET /v1/recordings/{id}/media", "GET", path, 200, headers={"X-Reason": "dispute"})
        began = time.monotonic()
        roles = [channel["role"] for channel in recording["channels"]]
        expected: list[Role] = [talk.caller, "driver" if talk.caller == "customer" else "customer"]
        digest = hashlib.sha256(answer.content).hexdigest()
        channels = channels_of(answer.content)
        heard = [said(channel, role) for channel, role in zip(channels, expected, strict=False)]
        if not all(part > SAID for part in heard):
            self.keep(f"{recording['id']}.wav", answer.content)
        self.tell(
            "recording", "both sides in it", time.monotonic() - began,
            (roles == expected, "the channels are not the caller's and the callee's"),
            (digest == recording["sha256"], "its bytes are not those of its sha256"),
            (abs(recording["duration"] - talk.seconds) < AGREES * self.slack,
             f"{recording['duration']} s long, the call was {talk.seconds:.2f} s"),
            (len(heard) == 2, f"{len(heard)} channels"),
            (all(part > SAID for part in heard), f"{recording['id']}: a voice is missing from its channel"),
        )  # fmt: skip


def channels_of(media: bytes) -> list[bytes]:
    """The channels of a WAV of 16-bit PCM at 8 kHz; none when it is no such file."""
    try:
        with wave.open(io.BytesIO(media)) as file:
            if (file.getsampwidth(), file.getframerate()) != (2, RATE):
                return []
            samples, count = array.array("h", file.readframes(file.getnframes())), file.getnchannels()
    except (wave.Error, EOFError):
        return []
    if sys.byteorder == "big":
        samples.byteswap()
    return [samples[index::count].tobytes() for index in range(count)]


def said(channel: bytes, role: Role) -> float:
    """Which part of the channel's last pieces of 40 ms with sound is that person's tone; 0 when there are few."""
    size = 2 * RATE // 25
    pieces = (channel[at : at + size] for at in range(len(channel) - size, -1, -size))
    sound = list(itertools.islice((piece for piece in pieces if any(piece)), PIECES))
    own = sum(1 for piece in sound if sounds.power(piece, TONES[role]) > 0.8)
    return own / PIECES if len(sound) == PIECES else 0.0


class OneOrder:
    """One order while it lives."""

    def __init__(self, city: City, order: Order) -> None:
        self._city, self._order = city, order
        self._told = Told()
        self._talks: list[Talk] = []
        self._id = ""
        self._open = False
        self._proxies: dict[Role, str] = {}  # the number each dials, and is rung by, for the other

    def live(self) -> None:
        city, order = self._city, self._order
        self._begin()
        try:
            if order.stranger:
                self._stranger()
            for attempt in order.attempts:
                city.sleep(attempt.after)
                self._attempt(attempt, close=order.closed_in_call and attempt is order.attempts[-1])
            if order.forgotten:
                self._expire()
        finally:
            if self._open:
                self._close()
        for redial in order.redials:
            city.sleep(redial.after)
            self._redial(redial)
        self._interactions()
        if order.recorded and self._talks:
            city.closed.put(Closed(self._id, self._talks, time.monotonic()))

    def _begin(self) -> None:
        order = self._order
        people = [{"identifier": number, "role": role} for role, number in order.numbers.items()]
        body = {"unique_name": order.name, "participants": people, "ttl": order.ttl,
                "record": "always" if order.recorded else "never"}  # fmt: skip
        answer = self._city.ask("POST /v1/sessions", "POST", "/v1/sessions", 201, body)
        self._opened_at = time.monotonic()
        session = answer.json()
        self._id, self._open = session["id"], True
        self._city.open_sessions += 1
        self._proxies = {one["role"]: one["proxies"][0]["number"] for one in session["participants"]}
        names = [number.lstrip("+").encode() for number in order.numbers.values()]
        self._city.tell(
            "promise", "no person's number in the session", 0.0,
            (not any(name in answer.content for name in names), "the answer shows a person's number"),
        )  # fmt: skip

    def _close(self) -> None:
        self._open = False
        self._city.open_sessions -= 1
        answer = self._city.ask("POST /v1/sessions/{id}:close", "POST", f"/v1/sessions/{self._id}:close", 200)
        status = answer.json()["status"]
        self._city.tell("promise", "closed when closed", 0.0, (status == "closed", f"status {status}"))

    def _expire(self) -> None:
        """Nobody closes it: past its time it is closed all the same."""
        self._city.sleep(max(0.0, self._opened_at + self._order.ttl + 1.0 - time.monotonic()))
        self._open = False
        self._city.open_sessions -= 1
        session = self._city.ask("GET /v1/sessions/{id}", "GET", f"/v1/sessions/{self._id}", 200).json()
        said = session["status"], session["closed_reason"]
        self._city.tell("promise", "expired when its time is up", 0.0, (said == ("closed", "expired"), f"{said}"))

    # -- calls ------------------------------------------------------------------------------------------------------

    def _attempt(self, attempt: Attempt, *, close: bool) -> None:
        exchange, order = self._city.exchange, self._order
        caller, callee = order.numbers[attempt.caller], order.numbers[attempt.callee]
        shown = self._proxies[attempt.callee]
        speaks = order.recorded and attempt.manner is Manner.ANSWERS
        expected = exchange.expect(
            callee, shown, caller, attempt.manner, attempt.ring, attempt.callee if speaks else None
        )
        call = exchange.dial(
            caller, self._proxies[attempt.caller], callee, speaks_as=attempt.caller if speaks else None
        )
        try:
            self._ringing(call, expected, shown)
            if attempt.manner is Manner.ANSWERS:
                self._conversation(attempt, call, expected, close)
            elif attempt.manner is Manner.SILENT:
                self._give_up(attempt, call, expected)
            else:
                self._refused(attempt, call)
        finally:
            exchange.forget(callee, shown)
            if not call.over.is_set():
                exchange.hang_up(call)
        self._told.statuses.append(attempt.manner.value)
        self._told.last_end = time.monotonic()

    def _ringing(self, call: Call, expected: Expected, shown: str) -> None:
        """The INVITE gets to the right phone, showing the number that phone knows, and nothing else."""
        came = expected.came.wait(PATIENCE)
        leg = expected.call
        seconds = (leg.began if leg is not None else time.monotonic()) - call.began
        self._city.tell(
            "SIP", "INVITE reaches the callee", seconds,
            (came, f"it did not; the caller got {call.status or call.codes}"),
            (leg is not None and leg.asserted == [shown], "the callee was shown another identity"),
            (leg is not None and not leg.leaked, "the callee's leg shows the caller's number"),
        )  # fmt: skip
        if expected.manner is not Manner.BUSY:
            rang = call.rang.wait(PATIENCE)
            self._city.tell("SIP", "INVITE to ringing", call.rang_at - call.began, (rang, f"got {call.codes}"))

    def _conversation(self, attempt: Attempt, call: Call, expected: Expected, close: bool) -> None:
        leg = expected.call
        settled = call.settled.wait(PATIENCE)
        assert leg is not None
        added = (leg.began - call.began) + (call.answered_at - leg.answered_at)
        self._city.tell(
            "SIP", "set-up added by the service", added if call.answered_at else 0.0,
            (settled and call.status == 200, f"the callee answered, the caller got {call.status}"),
            (not call.leaked, "the caller's leg shows the callee's number"),
        )  # fmt: skip
        if close:
            self._close()
        if call.voice is not None:
            self._hear(call, leg)
        self._city.sleep(attempt.talk)
        ours, theirs = (call, leg) if attempt.caller_hangs_up else (leg, call)
        began = time.monotonic()
        self._city.exchange.hang_up(ours)
        over = theirs.over.wait(PATIENCE)
        ended = theirs.over_at or time.monotonic()
        self._city.tell("SIP", "BYE reaches the other", ended - began, (over, "it did not"))
        answered = ours.over.wait(PATIENCE)
        self._city.tell("SIP", "BYE is answered", ours.over_at - began, (answered, "it was not"))
        if call.voice is not None:
            self._talks.append(Talk(attempt.caller, began - call.answered_at, began))

    def _hear(self, call: Call, leg: Call) -> None:
        """Both hear each other once the notice has been played to both."""
        deadline = time.monotonic() + PATIENCE
        voices = [voice for voice in (call.voice, leg.voice) if voice is not None]
        while min(voice.heard for voice in voices) < HEARD and time.monotonic() < deadline:
            self._city.sleep(0.1)
        heard, notices = min(voice.heard for voice in voices), min(voice.other for voice in voices)
        self._city.tell(
            "RTP", "answer to hearing each other", time.monotonic() - call.answered_at,
            (heard >= HEARD, f"{heard} packets of the other's voice in {PATIENCE:g} s"),
            (notices > HEARD, "no notice that the call is recorded"),
        )  # fmt: skip

    def _refused(self, attempt: Attempt, call: Call) -> None:
        began = call.rang_at or call.began
        settled = call.settled.wait(PATIENCE)
        wanted = 486 if attempt.manner is Manner.BUSY else 603
        got = call.status if settled else "nothing"
        name = f"{attempt.manner.value}: {wanted}"
        self._city.tell("SIP", name, call.over_at - began, (got == wanted, f"the caller got {got}"))

    def _give_up(self, attempt: Attempt, call: Call, expected: Expected) -> None:
        self._city.sleep(attempt.ring)
        began = time.monotonic()
        self._city.exchange.hang_up(call)
        leg = expected.call
        settled = call.over.wait(PATIENCE)
        stopped = leg is not None and leg.over.wait(PATIENCE)
        self._city.tell(
            "SIP", "caller gives up: 487", time.monotonic() - began,
            (settled and call.status == 487, f"the caller got {call.status}"),
            (stopped, "the callee's phone rings on"),
        )  # fmt: skip

    def _stranger(self) -> None:
        self._turned_away(self._order.stranger, "stranger: 404", describes=True)

    def _redial(self, redial: Redial) -> None:
        """The pair's session is over: an announcement and 404, whoever else holds the number by now."""
        self._turned_away(
            self._order.numbers[redial.caller], "late redial: 404", describes=redial.describes,
            dialled=self._proxies[redial.caller],
        )  # fmt: skip
        self._told.statuses.append("refused")
        self._told.last_end = time.monotonic()

    def _turned_away(self, caller: str, name: str, *, describes: bool, dialled: str = "") -> None:
        order = self._order
        call = self._city.exchange.dial(
            caller, dialled or self._proxies["customer"], order.numbers["driver"], describes=describes
        )
        settled = call.over.wait(PATIENCE)
        if not settled:
            self._city.exchange.hang_up(call)
        told = 183 in call.codes
        self._city.tell(
            "SIP", name if describes else f"{name}, no SDP", (call.over_at or time.monotonic()) - call.began,
            (settled and call.status == 404, f"the caller got {call.status or call.codes}"),
            (told == describes, "no announcement" if describes else "an announcement to nobody"),
        )  # fmt: skip

    # -- afterwards -------------------------------------------------------------------------------------------------

    def _interactions(self) -> None:
        """One interaction per call, with how it ended, readable within 2 s of the last one's end."""
        wanted, within = sorted(self._told.statuses), READABLE_WITHIN * self._city.slack
        while True:
            path = f"/v1/sessions/{self._id}/interactions"
            answer = self._city.ask("GET /v1/sessions/{id}/interactions", "GET", path, 200)
            found = [one for one in answer.json()["data"] if one["ended_at"]]
            said = sorted(str(one["status"]) for one in found)
            waited = time.monotonic() - self._told.last_end
            if said == wanted or waited > within:
                break
            self._city.sleep(0.1)
        self._city.tell(
            "promise", "interactions tell how calls ended", waited, (said == wanted, f"{said}, promised {wanted}")
        )
