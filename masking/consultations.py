"""Apps that are asked about a call while it waits: may it go on, and, where nobody is bound, whom does it reach?

A service's `intercept_url` is asked between the claim and the second leg, its `out_of_session_url` where nobody is
bound to (X, caller). A question is one POST in the shape of an event, signed as Standard Webhooks has it and sent no
further than `masking.post` lets it; it holds tokens, never a person's number. A receiver that answers nobody is left
alone after a few failures, so that it costs a call nothing; what happens then, as after every failure, the service
says.

What a question looks like on the wire and how its answer is read is a `Wording`; the neutral `Question` and `Answer`
are all that calls know.
"""

from __future__ import annotations

import re
from collections import Counter
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec
import structlog

from masking import services, webhooks
from masking.breakers import Breaker
from masking.callbacks import Twilio
from masking.events import moment
from masking.post import Outcome, Post
from masking.questions import Advice, Answer, Kind, Question, Verdict, Wording
from pools.redis import Unavailable

if TYPE_CHECKING:
    from masking.house import House

log = structlog.get_logger("masking.consultations")

KEEPALIVE: Final = 120.0  # seconds an idle connection is kept: a call that waits should not pay for a new one
REMEMBERED: Final = 500  # receivers a process keeps connections to
UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
REASON: Final = re.compile(r"[a-z][a-z_]{0,47}", re.ASCII)  # no digits: it never spells a number


class AppQuestion(msgspec.Struct, frozen=True, kw_only=True):
    """What an app is asked about a call that waits, signed as webhooks are. `session` is null where nobody is bound:
    then `data` has `caller`, with the `id` and the `token` that stand for whoever calls."""

    id: str
    type: Kind
    occurred_at: datetime
    service: str
    session: str | None
    data: dict[str, Any]


class AppAnswer(msgspec.Struct):
    """What an app answers with; all may be left out, and what else it says is not looked at. `reason` of a denial: up
    to 48 small letters and _. Where nobody is bound, `session`: as `POST /v1/sessions` takes it, or the id of an open
    one; and `to`: the role of whom the call is to reach."""

    action: Verdict = "allow"
    reason: Any = None
    session: dict[str, Any] | str | None = None
    to: str | None = None


class Standard:
    """Our own wording: JSON, Standard Webhooks signatures, and 403 for a denial."""

    async def write(self, house: House, question: Question) -> tuple[dict[str, str], bytes]:
        body = msgspec.json.encode(
            AppQuestion(
                id=question.id,
                type=question.type,
                occurred_at=moment(question.at),
                service=question.service.name,
                session=question.session,
                data=question.data,
            )
        )
        keys = services.webhook_keys(house, question.service)
        return webhooks.signed(keys, question.id, body, int(house.now())), body

    def read(self, question: Question, status: int, body: bytes) -> Answer | None:
        if status != 403 and not 200 <= status < 300:
            return None
        try:
            said = msgspec.json.decode(body, type=AppAnswer) if body.strip() else AppAnswer()
        except UNREADABLE:
            if status != 403:
                return None
            said = AppAnswer()
        verdict: Verdict = "deny" if status == 403 else said.action
        return Answer(verdict=verdict, reason=_usable(said.reason), session=said.session, to=said.to)


def _usable(reason: object) -> str | None:
    return reason if isinstance(reason, str) and REASON.fullmatch(reason) else None


WORDINGS: Final[dict[services.Wording, Wording]] = {"standard": Standard(), "twilio": Twilio()}


def understood(question: Question, outcome: Outcome) -> Answer | None:
    """What the app said; None where it said nothing that can be understood, however it came to be."""
    if outcome.error is not None or outcome.status is None or outcome.body is None:
        return None
    try:
        return WORDINGS[question.service.webhook_wording].read(question, outcome.status, outcome.body)
    except UNREADABLE:
        return None


class _Receiver:
    """One app's URL: its connections, and how it fared."""

    def __init__(self, post: Post) -> None:
        self.post = post
        self.breaker = Breaker()
        self.busy = 0

    def may_ask(self, now: float) -> bool:
        """One that has failed is tried by one call at a time; the others do not wait for it."""
        return self.breaker.may_send(now) and not (self.breaker.probing and self.busy)


class Consultant:
    """Asks apps on behalf of the calls of one process. `counts` are for its metrics, by (type, outcome)."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._receivers: dict[tuple[str, str], _Receiver] = {}
        self.counts: Counter[tuple[str, str]] = Counter()
        self.seconds: dict[str, float] = {}

    async def ask(self, question: Question) -> Advice:
        """Never raises for what a receiver does, and never takes longer than the question's `within`."""
        receiver = await self._receiver(question)
        if not receiver.may_ask(self._house.now()):
            return self._noted(question, Advice(None, "resting", 0.0))
        receiver.busy += 1
        try:
            outcome = await self._sent(receiver, question)
        finally:
            receiver.busy -= 1
        answer = understood(question, outcome)
        if answer is None:
            receiver.breaker.failed(self._house.now())
        else:
            receiver.breaker.succeeded()
        error = None if answer is not None else outcome.error or f"status_{outcome.status}"
        if answer is None and outcome.status is not None and 200 <= outcome.status < 300:
            error = "unreadable"
        return self._noted(question, Advice(answer, error, outcome.took))

    async def _sent(self, receiver: _Receiver, question: Question) -> Outcome:
        """Sends it; once more where a connection that was kept had ended under it."""
        try:
            headers, body = await WORDINGS[question.service.webhook_wording].write(self._house, question)
        except (LookupError, Unavailable):
            return Outcome(None, "unsigned", 0.0)
        outcome = await receiver.post.send(question.url, headers, body, question.within)
        left = question.within - outcome.took
        if outcome.error == "broken" and left > 0:
            again = await receiver.post.send(question.url, headers, body, left)
            outcome = msgspec.structs.replace(again, took=round(outcome.took + again.took, 4))
        return outcome

    def _noted(self, question: Question, advice: Advice) -> Advice:
        outcome = advice.answer.verdict if advice.answer is not None else "failed"
        self.counts[question.type, outcome] += 1
        self.seconds[question.type] = self.seconds.get(question.type, 0.0) + advice.took
        if advice.answer is None:
            log.info(
                "app_did_not_answer",
                tenant=question.tenant,
                service=question.service.id,
                question=question.type,
                error=advice.error,
            )
        return advice

    async def _receiver(self, question: Question) -> _Receiver:
        """Used last is kept longest."""
        key = (question.tenant, question.url)
        found = self._receivers.pop(key, None) or _Receiver(
            Post(self._house.config.webhooks.allow_private, keepalive=KEEPALIVE)
        )
        self._receivers[key] = found
        if len(self._receivers) > REMEMBERED:
            idle = next((one for one, receiver in self._receivers.items() if not receiver.busy), None)
            if idle is not None and idle != key:
                await self._receivers.pop(idle).post.close()
        return found

    @property
    def resting(self) -> int:
        """Receivers that are left alone just now."""
        return sum(not one.breaker.may_send(self._house.now()) for one in self._receivers.values())

    async def close(self) -> None:
        for receiver in self._receivers.values():
            await receiver.post.close()
        self._receivers.clear()
