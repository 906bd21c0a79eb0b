"""From a session's people to leases: which virtual number each dials to reach each.

People are connected pair by pair. A pair whose home pools are one gets a *shared X* (both dial it, each sees it when
the other calls). Otherwise, when a service says `per_party`, or when no shared X is free, each side of the pair gets a
*per-party X* of its own pool: A dials X and B sees Y. The order of trying, at most `SHARDS_TRIED` shards each:

    auto       shared where the pair has one home pool, else per-party; then per-party for all
    shared     shared, in the first participant's pool
    per_party  per-party

A home pool is the pool of the person's country; with `geo_match: soft` a country without one borrows the first
participant's pool, else the service's largest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from masking.records import Line, Person
from masking.refusals import GeoUnavailable, NumberPoolExhausted
from pools.grants import Ask, Bound, Entry, Exhausted, holder_in

if TYPE_CHECKING:
    from masking.house import House
    from masking.services import GeoMatch, NumberModel, NumberSelection
    from pools.grants import Fact
    from pools.inventory import Shard

SHARDS_TRIED: Final = 3
RETRY_WITHOUT_A_DATE: Final = 60


Fields = dict[str, str | bytes | int]


class Plan(msgspec.Struct, frozen=True):
    """One way to connect the people: `lines[i]` is dialled through a number of `countries[i]`'s pool."""

    lines: tuple[Line, ...]
    countries: tuple[str, ...]


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be bound. `letters` are the session's id but for its shard, so that the same wish makes the same
    session; `random` is what they were made of."""

    tenant: str
    service: str
    people: tuple[Person, ...]
    number_model: NumberModel
    geo_match: GeoMatch
    number_selection: NumberSelection
    ttl_ms: int
    quarantine_ms: int
    random: bytes
    letters: str


# What a bind stores under a holder's id: its fields and its first events.
Write = Callable[[str, Plan], tuple[Fields, list["Fact"]]]


class Attempt(NamedTuple):
    """A plan with a choice of shards, by country. The holder lives in the shard of the plan's first line."""

    plan: Plan
    shards: dict[str, str]

    @property
    def home(self) -> str:
        return self.shards[self.plan.countries[0]]


class Ground(msgspec.Struct, frozen=True):
    """Where a wish can be bound: what to try, best first."""

    attempts: tuple[Attempt, ...]

    @classmethod
    def of(cls, plans: Sequence[Plan], shards: Mapping[str, Sequence[str]]) -> Ground:
        """`shards`: of each country's pool, in the order to try."""
        return cls(
            tuple(
                Attempt(plan, {country: _turn(shards[country], turn) for country in plan.countries})
                for plan in plans
                for turn in range(min(SHARDS_TRIED, max([len(shards[country]) for country in plan.countries])))
            )
        )

    def holders(self, letters: str) -> list[str]:
        """The ids the session may get, one per shard it could live in."""
        return [holder_in(shard, letters) for shard in dict.fromkeys([one.home for one in self.attempts])]


def _turn(shards: Sequence[str], turn: int) -> str:
    return shards[turn % len(shards)]


def survey(wish: Wish, found: Sequence[Shard]) -> Ground:
    """Draws up the plans for the service's shards; `GeoUnavailable`, or `NumberPoolExhausted` when there is none."""
    pools = by_country(found)
    if not pools:
        raise NumberPoolExhausted("The service has no phone numbers yet.", needed=1, retry_after=RETRY_WITHOUT_A_DATE)
    homes = _homes(wish, pools)
    start = int.from_bytes(wish.random[:4])
    shards = {country: _rotated([shard.name for shard in pools[country]], start) for country in set(homes.values())}
    return Ground.of(_plans(wish, homes), shards)


def by_country(shards: Sequence[Shard]) -> dict[str, list[Shard]]:
    found: dict[str, list[Shard]] = {}
    for shard in shards:
        found.setdefault(shard.country, []).append(shard)
    return found


def _homes(wish: Wish, pools: dict[str, list[Shard]]) -> dict[str, str]:
    """Participant id -> the country of the pool that person dials into."""
    first = wish.people[0].country
    fallback = first if first is not None and first in pools else _largest(pools)
    homes: dict[str, str] = {}
    for person in wish.people:
        if person.country is not None and person.country in pools:
            homes[person.id] = person.country
        elif wish.geo_match == "soft":
            homes[person.id] = fallback
        elif wish.number_model != "shared" or person is wish.people[0]:
            raise GeoUnavailable(
                f"The service has no phone number in {person.country or 'the country of a participant'}.",
                country=person.country,
            )
        else:
            homes[person.id] = fallback
    return homes


def _largest(pools: dict[str, list[Shard]]) -> str:
    return max(pools, key=lambda country: (sum(shard.size for shard in pools[country]), country))


def _rotated(names: list[str], start: int) -> list[str]:
    at = start % len(names)
    return names[at:] + names[:at]


def _plans(wish: Wish, homes: dict[str, str]) -> tuple[Plan, ...]:
    first = homes[wish.people[0].id]
    if wish.number_model == "shared":
        return (_plan(wish.people, lambda a, b: first, homes),)
    per_party = _plan(wish.people, lambda a, b: None, homes)
    if wish.number_model == "per_party":
        return (per_party,)
    mixed = _plan(wish.people, lambda a, b: homes[a.id] if homes[a.id] == homes[b.id] else None, homes)
    return (mixed, per_party) if mixed != per_party else (mixed,)


def _plan(people: Sequence[Person], shared: Callable[[Person, Person], str | None], homes: dict[str, str]) -> Plan:
    """One line per pair where `shared` names a pool, two where it does not."""
    lines: list[Line] = []
    countries: list[str] = []
    for one, other in combinations(people, 2):
        there, back = (one.id, other.id), (other.id, one.id)
        country = shared(one, other)
        if country is not None:
            lines.append(Line((there, back)))
            countries.append(country)
        else:
            lines += [Line((there,)), Line((back,))]
            countries += [homes[one.id], homes[other.id]]
    return Plan(tuple(lines), tuple(countries))


async def bind(
    house: House,
    wish: Wish,
    ground: Ground,
    write: Write,
) -> tuple[Bound, Plan]:
    """Binds the first plan that finds its numbers. `write(holder, plan)` gives the holder's fields and first events.

    Raises `NumberPoolExhausted` with the fewest numbers that would have helped, and the soonest time worth a try.
    """
    parties = {person.id: person.party for person in wish.people}
    short: list[Exhausted] = []
    for attempt in ground.attempts:
        plan, chosen = attempt
        asks = [Ask(tuple(Entry(parties[way[0]], "|".join(way)) for way in line.ways)) for line in plan.lines]
        home = attempt.home
        holder = holder_in(home, wish.letters)
        fields, events = write(holder, plan)
        try:
            if set(plan.countries) == {plan.countries[0]}:
                bound = await house.leases.bind(
                    home,
                    holder,
                    asks,
                    ttl_ms=wish.ttl_ms,
                    quarantine_ms=wish.quarantine_ms,
                    fields=fields,
                    events=events,
                    policy=wish.number_selection,
                )
            else:
                placed = [(chosen[country], ask) for country, ask in zip(plan.countries, asks, strict=True)]
                bound = await house.leases.bind_across(
                    holder,
                    placed,
                    ttl_ms=wish.ttl_ms,
                    quarantine_ms=wish.quarantine_ms,
                    fields=fields,
                    events=events,
                    policy=wish.number_selection,
                )
        except Exhausted as exhausted:
            short.append(exhausted)
        else:
            return bound, plan
    waits = [one.retry_after for one in short if one.retry_after is not None]
    raise NumberPoolExhausted(
        "No virtual number is free for these participants.",
        needed=min(one.needed for one in short),
        retry_after=max(1, round(min(waits, default=RETRY_WITHOUT_A_DATE))),
    )
