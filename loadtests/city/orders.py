"""What will happen in the city: when orders arrive, and what becomes of each. Everything is drawn beforehand from a
given source of chance, so a seed tells a run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from random import Random
from typing import Literal

Role = Literal["customer", "driver"]

RECORDED = 0.15  # part of the orders whose calls carry sound and are recorded
SHORTEST_TTL = 60  # seconds; what the API takes at least
FORGOTTEN_NEEDS = SHORTEST_TTL + 15  # seconds an order that nobody closes needs until it was seen to expire


class Manner(Enum):
    """What the phone that is called does."""

    ANSWERS = "completed"  # the values: how the interaction has to end
    BUSY = "busy"
    DECLINES = "declined"
    SILENT = "canceled"  # rings until the caller gives up


@dataclass(frozen=True)
class Attempt:
    """One call of an order: who calls, what the other phone does, when (seconds after what came before), for how
    long."""

    caller: Role
    manner: Manner
    after: float
    ring: float
    talk: float
    caller_hangs_up: bool

    @property
    def callee(self) -> Role:
        return "driver" if self.caller == "customer" else "customer"


@dataclass(frozen=True)
class Redial:
    """A call to a session that is over. `describes`: its INVITE carries SDP, so it is told why by an announcement."""

    caller: Role
    after: float
    describes: bool


@dataclass(frozen=True)
class Order:
    """One order's whole life. `numbers`: of its people, E.164."""

    name: str
    numbers: dict[Role, str]
    recorded: bool
    attempts: tuple[Attempt, ...]
    redials: tuple[Redial, ...]
    stranger: str  # somebody who dials the order's number without being of it; "": nobody
    closed_in_call: bool  # closed while its last call is up
    forgotten: bool  # nobody closes it: it has to expire

    @property
    def ttl(self) -> int:
        return SHORTEST_TTL if self.forgotten else 3600


@dataclass(frozen=True)
class Demand:
    """Orders a second over a run of `seconds`: `usual`, and in the middle third up to `peak` times as many."""

    usual: float
    peak: float
    seconds: float

    def at(self, when: float) -> float:
        """Orders a second at that second of the run."""
        through = 3 * when / self.seconds - 1  # 0..1 within the middle third
        swell = (1 - math.cos(2 * math.pi * through)) / 2 if 0 < through < 1 else 0.0
        return self.usual * (1 + (self.peak - 1) * swell)

    @property
    def expected(self) -> float:
        """Orders of the whole run, on average: the swell is half its height, for a third of the time."""
        return self.usual * self.seconds * (1 + (self.peak - 1) / 6)

    def arrivals(self, dice: Random) -> Iterator[float]:
        """When orders arrive: a Poisson process, thinned from its highest rate."""
        highest = self.usual * max(self.peak, 1.0)
        when = dice.expovariate(highest)
        while when < self.seconds:
            if dice.random() * highest < self.at(when):
                yield when
            when += dice.expovariate(highest)


class Population:
    """Customers and drivers. A driver has several orders at a time now and then, and so has a customer."""

    def __init__(self, orders: float, dice: Random) -> None:
        self._dice = dice
        self._customers = max(40, round(orders / 2))
        self._drivers = max(20, round(orders / 6))
        self._count = 0

    def order(self, seconds_left: float) -> Order:
        """The next order. `seconds_left`: of the run; an order that has to expire needs some."""
        dice = self._dice
        self._count += 1
        numbers: dict[Role, str] = {
            "customer": f"+84902{dice.randrange(self._customers):06d}",
            "driver": f"+84903{dice.randrange(self._drivers):06d}",
        }
        recorded = dice.random() < RECORDED
        attempts = tuple(self._attempts(recorded))
        answered = attempts[-1].manner is Manner.ANSWERS
        forgotten = seconds_left > FORGOTTEN_NEEDS and dice.random() < 0.1
        return Order(
            name=f"city-{self._count}",
            numbers=numbers,
            recorded=recorded,
            attempts=attempts,
            redials=tuple(self._redials()),
            stranger=f"+84909{dice.randrange(1_000_000):06d}" if dice.random() < 0.1 else "",
            closed_in_call=answered and not forgotten and dice.random() < 0.1,
            forgotten=forgotten,
        )

    def _attempts(self, recorded: bool) -> Iterator[Attempt]:
        """The customer calls; in half of the orders the driver calls back; now and then there is one call more."""
        dice = self._dice
        callers: list[Role] = ["customer"] if dice.random() < 0.7 else ["driver"]
        while len(callers) < 3 and dice.random() < 0.5:
            callers.append("driver" if callers[-1] == "customer" else "customer")
        for index, caller in enumerate(callers):
            manners = list(Manner) if not (recorded and index == 0) else [Manner.ANSWERS]
            yield Attempt(
                caller=caller,
                manner=dice.choices(manners, [80, 7, 6, 7][: len(manners)])[0],
                after=dice.uniform(0.3, 2.0),
                ring=dice.uniform(0.1, 1.0),
                talk=dice.uniform(0.5, 4.0),
                caller_hangs_up=dice.random() < 0.6,
            )

    def _redials(self) -> Iterator[Redial]:
        dice = self._dice
        for _ in range(dice.choice((0, 1, 1, 2))):
            yield Redial(dice.choice(("customer", "driver")), dice.uniform(0.1, 3.0), dice.random() < 0.5)
