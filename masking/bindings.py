"""From a session's people to leases: which virtual number each dials to reach each.

People are connected pair by pair. A pair whose home pools are one gets a *shared X* (both dial it, each sees it when
the other calls). Otherwise, when a service says `per_party`, or when no shared X is free, each side of the pair gets a
*per-party X* of its own pool: A dials X and B sees Y. The order of trying, at most `SHARDS_TRIED` shards each:

    auto       shared where the pair has one home pool, else per-party; then per-party for all
    shared     shared, in the first participant's pool; with `degrade: [per_party]` per-party after that
    per_party  per-party
    extension  one X for all who dial in one country, told apart by extensions (`masking.extensions`)
    one_party  an X for its one participant, which anybody may call (`masking.guests`)

Whoever is alone in a session (Twilio's face opens such) has a per-party X already, and dials it to reach the partner to
come; nobody at all has none, and the session lives in the service's largest pool.

A home pool is the pool of the person's country; with `geo_match: soft` a country without one borrows the first
participant's pool, else the service's largest. With `geo_match_level: area_code` a number of the person's own area is
looked for first (softly), or alone (strictly); people without one, as most mobiles are, count by country.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations, permutations, repeat
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from masking import records
from masking.guests import ANYBODY
from masking.records import Line, Person
from masking.refusals import GeoUnavailable, NumberPoolExhausted
from pools.grants import Ask, Bound, Entry, Exhausted, holder_in

if TYPE_CHECKING:
    from masking.house import House
    from masking.services import GeoMatch, NumberModel, NumberSelection
    from pools.grants import Fact
    from pools.inventory import Pool

SHARDS_TRIED: Final = 3
RETRY_WITHOUT_A_DATE: Final = 60


Fields = dict[str, str | bytes | int]


class Plan(msgspec.Struct, frozen=True, gc=False):
    """One way to connect the people: `lines[i]` is dialled through a number of `countries[i]`'s pool."""

    lines: tuple[Line, ...]
    countries: tuple[str, ...]
    near: tuple[str, ...] = ()  # how each line's number is to begin, where that matters


class Wish(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What is to be bound. `letters` are the session's id but for its shard, so that the same wish makes the same
    session; `random` is what they were made of."""

    tenant: str
    service: str
    people: tuple[Person, ...]
    number_model: NumberModel
    geo_match: GeoMatch
    degrade: bool  # per-party numbers where a shared one is not free
    number_selection: NumberSelection
    ttl_ms: int
    quarantine_ms: int
    random: bytes
    letters: str
    secrets: Mapping[tuple[str, str], str] = {}  # way -> the party that whoever keys its PIN is
    callers: Mapping[tuple[str, str], tuple[str, ...]] = {}  # way -> the parties that dial it, where not people alone
    anywhere: bool = False  # any country's number does
    areas: Mapping[str, str] = {}  # participant id -> how a number of that person's area begins
    partner: str = ""  # the id of whoever will join a person who is alone


# What a bind stores under a holder's id: its fields and its first events.
Write = Callable[[str, Plan], tuple[Fields, list["Fact"]]]


class Attempt(NamedTuple):
    """A plan with a choice of shards, by country. The holder lives in `home`, the shard of the plan's first line."""

    plan: Plan
    shards: dict[str, str]
    home: str


class Ground(msgspec.Struct, frozen=True):
    """Where a wish can be bound: the plans, best first, and the shards of each country's pool, in the order to try."""

    plans: tuple[Callable[[], Plan], ...]
    shards: Mapping[str, Sequence[str]]
    first: str  # the country of every plan's first line
    start: int = 0

    def attempts(self) -> Iterator[Attempt]:
        """What to try, best first; a plan is drawn when its turn comes, since the first one mostly does."""
        for draw in self.plans:
            plan = draw()
            countries = {*plan.countries, self.first}
            for turn in range(min(SHARDS_TRIED, max(len(self.shards[country]) for country in countries))):
                shards = {country: self._shard(country, turn) for country in countries}
                yield Attempt(plan, shards, shards[self.first])

    def holders(self, letters: str) -> list[str]:
        """The ids the session may get, one per shard it could live in."""
        turns = range(min(SHARDS_TRIED, len(self.shards[self.first])))
        return [holder_in(self._shard(self.first, turn), letters) for turn in turns]

    def _shard(self, country: str, turn: int) -> str:
        shards = self.shards[country]
        return shards[(self.start + turn) % len(shards)]


def survey(wish: Wish, pools: Mapping[str, Pool]) -> Ground:
    """Draws up the plans for the service's pools; `GeoUnavailable`, or `NumberPoolExhausted` when there is none."""
    if not pools:
        raise NumberPoolExhausted("The service has no phone numbers yet.", needed=1, retry_after=RETRY_WITHOUT_A_DATE)
    if not wish.people:
        first = _largest(pools)
        return Ground((lambda: Plan((), ()),), {first: pools[first].shards}, first, int.from_bytes(wish.random[:4]))
    homes = _homes(wish, pools)
    first = homes[wish.people[0].id]
    shards = {country: pools[country].shards for country in homes.values()}
    plans = _plans(wish, homes, first)
    if wish.areas:
        plans = tuple(nearby for plan in plans for nearby in _nearby(wish, plan, homes))
    return Ground(plans, shards, first, int.from_bytes(wish.random[:4]))


def _nearby(wish: Wish, drawn: Callable[[], Plan], homes: Mapping[str, str]) -> list[Callable[[], Plan]]:
    """The plan with numbers of the people's own areas: of the first participant's for a shared X, of each one's for a
    per-party X; and, where another area's does too, the plan as it is."""

    def area(line: Line, country: str) -> str:
        first = wish.people[0].id
        shared = len({source for source, _ in line.ways}) > 1
        whose = first if shared and homes[first] == country else line.ways[0][0]
        return wish.areas.get(whose, "")

    def near() -> Plan:
        plan = drawn()
        areas = tuple(map(area, plan.lines, plan.countries))
        return msgspec.structs.replace(plan, near=areas)

    return [near] if wish.geo_match == "strict" else [near, drawn]


def _homes(wish: Wish, pools: Mapping[str, Pool]) -> dict[str, str]:
    """Participant id -> the country of the pool that person dials into."""
    if wish.anywhere:
        return {person.id: _largest(pools) for person in wish.people}
    first = wish.people[0].country
    homes: dict[str, str] = {}
    if all(person.country in pools for person in wish.people):
        return {person.id: person.country for person in wish.people if person.country is not None}
    fallback = first if first is not None and first in pools else _largest(pools)
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


def _largest(pools: Mapping[str, Pool]) -> str:
    return max(pools, key=lambda country: (pools[country].size, country))


def _plans(wish: Wish, homes: dict[str, str], first: str) -> tuple[Callable[[], Plan], ...]:
    def all_shared() -> Plan:
        return _plan(wish.people, lambda a, b: first, homes)

    def mixed() -> Plan:
        return _plan(wish.people, lambda a, b: homes[a.id] if homes[a.id] == homes[b.id] else None, homes)

    def per_party() -> Plan:
        return _plan(wish.people, lambda a, b: None, homes)

    def one_for_all() -> Plan:
        ways: dict[str, list[tuple[str, str]]] = {}
        for one, other in permutations(wish.people, 2):
            ways.setdefault(homes[one.id], []).append((one.id, other.id))
        return Plan(tuple(Line(tuple(some)) for some in ways.values()), tuple(ways))

    def alone() -> Plan:
        return Plan((Line(((wish.people[0].id, wish.partner),)),), (first,))

    def one_party() -> Plan:
        own, guest = wish.people[0].id, wish.partner
        return Plan((Line(((own, guest), (guest, own))),), (first,))

    if wish.number_model == "one_party":
        return (one_party,)
    if len(wish.people) == 1:
        return (alone,)
    if wish.number_model == "extension":
        return (one_for_all,)
    if wish.number_model == "shared":
        return (all_shared, per_party) if wish.degrade else (all_shared,)
    # Where no two people have one home, `mixed` would be `per_party` once more.
    nothing_shared = wish.number_model == "per_party" or len(set(homes.values())) == len(homes)
    return (per_party,) if nothing_shared else (mixed, per_party)


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


def _ask(wish: Wish, line: Line, near: str, parties: Mapping[str, tuple[str, ...]]) -> Ask:
    """An X for the line: dialled by the person each way begins with, or by whoever keys its PIN."""
    entries = [Entry(party, "|".join(way)) for way in line.ways for party in wish.callers.get(way) or parties[way[0]]]
    if wish.secrets:
        entries += [Entry(wish.secrets[way], "|".join(way)) for way in line.ways]
    return Ask(tuple(entries), near)


async def bind(
    house: House,
    wish: Wish,
    ground: Ground,
    write: Write,
    noted: str = "",
) -> tuple[Bound, Plan]:
    """Binds the first plan that finds its numbers. `write(holder, plan)` gives the holder's fields and first events.
    `noted`: the session that lists know of already.

    Raises `NumberPoolExhausted` with the fewest numbers that would have helped, and the soonest time worth a try.
    """
    parties = {person.id: person.parties for person in wish.people} | {wish.partner: (ANYBODY,)}
    short: list[Exhausted] = []
    for attempt in ground.attempts():
        plan, shards, home = attempt
        placed = [
            (shards[country], _ask(wish, line, near, parties))
            for country, line, near in zip(plan.countries, plan.lines, plan.near or repeat(""), strict=False)
        ]
        holder = holder_in(home, wish.letters)
        fields, events = write(holder, plan)
        # Noted first, in the same write: a session that did not come to be is passed over where lists are made.
        noting = records.touch(house, wish.tenant, holder) if holder != noted else None
        try:
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
            if noting is not None:
                await noting
            return bound, plan
    if wish.areas and wish.geo_match == "strict" and all(one.retry_after is None for one in short):
        raise GeoUnavailable("The service has no phone number in the participants' area.", country=None)
    waits = [one.retry_after for one in short if one.retry_after is not None]
    raise NumberPoolExhausted(
        "No virtual number is free for these participants.",
        needed=min(one.needed for one in short),
        retry_after=max(1, round(min(waits, default=RETRY_WITHOUT_A_DATE))),
    )
