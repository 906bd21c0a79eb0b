"""How a call is carried out, without a socket: try, wait, try again, and what the answer means.

`flow` is a generator. It yields `Try` (send the request; give back the response, or the error that came in its place)
and `Wait` (so many seconds), and returns the response that counts. `Client` and `AsyncClient` drive the same one.

Asking again is safe: every POST carries an Idempotency-Key, a PATCH says the same thing twice, a DELETE that finds
nothing the second time has done its work.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import httpx2
import msgspec

from masking_client.answers import Event
from masking_client.asking import Ask
from masking_client.errors import Problem, Unreachable, Unreadable, problem_of

FIRST_PAUSE = 0.25  # seconds; twice as long each time, half as long again or half as short by chance
LONGEST_PAUSE = 8.0
LONGEST_WISH = 60.0  # seconds of Retry-After; who is told to stay away for longer tells the caller
BUSY = (408, 429, 502, 503, 504)


@dataclass(frozen=True, slots=True)
class Try:
    """Send it."""


@dataclass(frozen=True, slots=True)
class Wait:
    seconds: float


Step = Try | Wait
Outcome = httpx2.Response | httpx2.TransportError | None
Flow = Generator[Step, Outcome, httpx2.Response]


@dataclass(frozen=True, slots=True)
class Patience:
    """`retries`: how often to try again. `chance`: a number from 0 to 1."""

    retries: int
    chance: Callable[[], float]

    def pause(self, tried: int, wish: float | None = None) -> float:
        """Seconds before the next try, after `tried` in vain; at least what the service wished for."""
        pause = min(FIRST_PAUSE * 2.0 ** (tried - 1), LONGEST_PAUSE) * (0.5 + self.chance())
        return max(pause, wish or 0.0)

    def flow(self, ask: Ask[Any]) -> Flow:
        """Raises `Problem` and `Unreachable`."""
        tried = 0
        while True:
            outcome = yield Try()
            tried += 1
            again = tried <= self.retries
            if isinstance(outcome, httpx2.Response):
                if outcome.is_success:
                    return outcome
                if ask.method == "DELETE" and outcome.status_code == 404 and tried > 1:
                    return outcome  # the try before has done it
                problem = problem_of(outcome.status_code, outcome.headers, outcome.content)
                if not (again and _may_pass(problem)):
                    raise problem
                yield Wait(self.pause(tried, problem.retry_after))
            elif again:
                yield Wait(self.pause(tried))
            else:
                raise Unreachable(f"{ask.method} {ask.path}: {type(outcome).__name__} ({tried} tries)") from outcome


def _may_pass(problem: Problem) -> bool:
    """Is it worth asking again? The try before may still be under way: then its answer is on its way too."""
    if problem.code == "idempotency_in_flight":
        return True
    return problem.status in BUSY and (problem.retry_after or 0.0) <= LONGEST_WISH


def answer_of(ask: Ask[Any], response: httpx2.Response) -> Any:
    """The answer as its type; `Unreadable` when it is another."""
    if ask.type is None or response.is_error:
        return None
    if ask.type is str:
        return response.text
    try:
        return msgspec.json.decode(response.content, type=ask.type)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise Unreadable(f"{ask.method} {ask.path}: {error}") from None


def event_of(data: str) -> Event:
    """The event in a message of the stream."""
    try:
        return msgspec.json.decode(data, type=Event)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise Unreadable(f"an event of the stream: {error}") from None
