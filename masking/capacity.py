"""What a service's pools hold, what they can still carry, and how many numbers a load needs.

A *degree* is how many numbers of a shard one person holds or has in quarantine, the session being opened included. One
number serves any number of people, but no person twice: what two people hold blocks at most (Da - 1) + (Db - 1) numbers
for a new session of theirs. So a shard with Da + Db - 1 numbers open to new leases always has one left (shared X), and
one with max(Da, Db) does where each side has a number of its own (per-party X). `tests/pools/test_bound.py` holds the
leases to it. A session tries so many shards (`bindings.SHARDS_TRIED`), one after the other; one of them suffices.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import msgspec
from msgspec import Meta

from masking import checks, services
from masking.bindings import SHARDS_TRIED
from masking.refusals import Invalid
from masking.services import NumberModel, PairQuarantine
from pools.inventory import SHARD_SIZE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from masking.house import House
    from masking.services import Service
    from pools.inventory import Figures, State

STATES: Final[tuple[State, ...]] = ("active", "draining", "suspended", "retired", "resting")


class NumberStates(msgspec.Struct, frozen=True, kw_only=True):
    """How many numbers are in each state; `active` ones alone take new sessions. `resting` ones were put back after
    they had been retired, and serve again when they have been out of service for long enough (`number_ageing`)."""

    active: int = 0
    draining: int = 0
    suspended: int = 0
    retired: int = 0
    resting: int = 0


class ShardLoad(msgspec.Struct, frozen=True, kw_only=True):
    """At most 256 numbers that are decided on together. `live`: sessions with numbers of it; `quarantined`: ended ones
    whose pairs still rest on theirs; `unhealthy`: active numbers that others go before."""

    shard: str
    size: int
    states: NumberStates
    live: int
    quarantined: int
    unhealthy: int


class PoolLoad(msgspec.Struct, frozen=True, kw_only=True):
    """A service's numbers in one country."""

    country: str
    size: int
    states: NumberStates
    live: int
    quarantined: int
    unhealthy: int
    shards: list[ShardLoad]


class Capacity(msgspec.Struct, frozen=True, kw_only=True):
    """What a country's pool is sure to carry: a session of two people finds a shared number while the numbers that they
    hold or have in quarantine, this session's included, come to `guaranteed` + 1 at most, as they do while neither has
    more than `degree`."""

    country: str
    size: int
    active: int
    live: int
    quarantined: int
    guaranteed: int
    degree: int


class Capacities(msgspec.Struct, frozen=True, kw_only=True):
    """What each country's pool of the service can carry."""

    service: str
    number_model: NumberModel
    pair_quarantine: PairQuarantine
    pools: list[Capacity]


class RoleLoad(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many sessions one person of a role has at once at most. `redial_degree`: how many ended ones are to be kept
    apart besides; null: as many as end within the quarantine when each is followed by the next."""

    role: Annotated[str, Meta(min_length=1, max_length=64)]
    concurrency: Annotated[int, Meta(ge=1, le=10_000)]
    redial_degree: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None


class Expected(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A load to plan for. One role: people of one kind among themselves; several: one of each in a session.
    `session_length`: seconds; what is null is the service's."""

    roles: Annotated[list[RoleLoad], Meta(min_length=1, max_length=8)]
    session_length: Annotated[int, Meta(ge=1, le=checks.LONGEST, description="Seconds.")] | None = None
    pair_quarantine: PairQuarantine | None = None
    number_model: NumberModel | None = None


class Degree(msgspec.Struct, frozen=True, kw_only=True):
    """The numbers that one person of the role holds (`live`) and has in quarantine (`resting`) at most."""

    role: str
    live: int
    resting: int
    degree: int


class PoolPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Does a country's pool carry the load? `missing`: how many active numbers more would do, in one shard."""

    country: str
    guaranteed: int
    missing: int
    enough: bool


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How many numbers of each country the load needs in a shard, so that no session is ever refused for want of one.
    `feasible`: a shard holds as many."""

    service: str
    number_model: NumberModel
    session_length: int
    pair_quarantine: int
    degrees: list[Degree]
    needed: int
    feasible: bool
    pools: list[PoolPlan]


async def pools(house: House, tenant: str, service: str) -> list[PoolLoad]:
    """The service's pools, by country; `NotFound`."""
    found = await services.get(house, tenant, service)
    return [_pool(country, shards) for country, shards in (await _by_country(house, found, tenant)).items()]


async def capacity(house: House, tenant: str, service: str) -> Capacities:
    """What they can carry; `NotFound`."""
    found = await services.get(house, tenant, service)
    return Capacities(
        service=found.id,
        number_model=found.number_model,
        pair_quarantine=found.pair_quarantine,
        pools=[_capacity(*one) for one in (await _by_country(house, found, tenant)).items()],
    )


async def plan(house: House, tenant: str, service: str, load: Expected) -> Plan:
    """What the load needs, and whether the pools have it; `NotFound`, `Invalid`."""
    found = await services.get(house, tenant, service)
    checks.texts(house, [(f"roles[{place}].role", one.role) for place, one in enumerate(load.roles)], ())
    if len({one.role for one in load.roles}) < len(load.roles):
        raise Invalid.field("roles", "names a role twice", "each role once")
    model = load.number_model or found.number_model
    length = load.session_length or found.ttl
    quarantine = found.pair_quarantine if load.pair_quarantine is None else load.pair_quarantine
    others = max(1, len(load.roles) - 1)  # a session takes a number from a person for each of the others
    degrees = [_degree(one, others, length, quarantine) for one in load.roles]
    needed = numbers_needed([one.degree for one in degrees], model)
    return Plan(
        service=found.id,
        number_model=model,
        session_length=length,
        pair_quarantine=quarantine,
        degrees=degrees,
        needed=needed,
        feasible=needed <= SHARD_SIZE,
        pools=[
            PoolPlan(country=country, guaranteed=sure, missing=max(0, needed - sure), enough=needed <= sure)
            for country, shards in (await _by_country(house, found, tenant)).items()
            for sure in [guaranteed([one.open for one in shards])]
        ],
    )


def _degree(load: RoleLoad, others: int, length: int, quarantine: int) -> Degree:
    # Of sessions that follow each other at once, this many have ended within the last `quarantine` seconds.
    follow = load.concurrency * -(-quarantine // length)
    live = load.concurrency * others
    resting = (follow if load.redial_degree is None else load.redial_degree) * others
    return Degree(role=load.role, live=live, resting=resting, degree=live + resting)


def numbers_needed(degrees: Sequence[int], model: NumberModel) -> int:
    """Numbers that a shard needs so that people of these degrees never exhaust it. Alone, a role is its own other
    side. Where extensions tell people apart, one number is enough for all; where sessions have one party, each has a
    number of its own, and a role's `concurrency` is that of all its people together."""
    if model == "one_party":
        return sum(degrees)
    if model == "extension":
        return 1
    first, second = sorted([*degrees, *degrees] if len(degrees) == 1 else degrees)[-2:]
    return second if model == "per_party" else first + second - 1


def guaranteed(shards: Sequence[int]) -> int:
    """Of shards with so many numbers open each, what the best of those that a session tries is sure to have: it begins
    anywhere and goes on to the next."""
    turns = range(min(SHARDS_TRIED, len(shards)))
    return min(max(shards[(start + turn) % len(shards)] for turn in turns) for start in range(len(shards)))


async def _by_country(house: House, service: Service, tenant: str) -> dict[str, list[Figures]]:
    """The shards in the order in which sessions try them, by country."""
    found: dict[str, list[Figures]] = {}
    for figures in await house.inventory.figures(tenant, service.id, house.now_ms):
        found.setdefault(figures.shard.country, []).append(figures)
    return dict(sorted(found.items()))


def _states(shards: Sequence[Figures]) -> NumberStates:
    closed = {state: sum(one.closed.get(state, 0) for one in shards) for state in STATES[1:]}
    return NumberStates(active=sum(one.open for one in shards), **closed)


def _pool(country: str, shards: Sequence[Figures]) -> PoolLoad:
    return PoolLoad(
        country=country,
        size=sum(one.shard.size for one in shards),
        states=_states(shards),
        live=sum(one.live for one in shards),
        quarantined=sum(one.quarantined for one in shards),
        unhealthy=sum(one.ailing for one in shards),
        shards=[
            ShardLoad(
                shard=one.shard.name,
                size=one.shard.size,
                states=_states([one]),
                live=one.live,
                quarantined=one.quarantined,
                unhealthy=one.ailing,
            )
            for one in shards
        ],
    )


def _capacity(country: str, shards: Sequence[Figures]) -> Capacity:
    whole, sure = _pool(country, shards), guaranteed([one.open for one in shards])
    return Capacity(
        country=country,
        size=whole.size,
        active=whole.states.active,
        live=whole.live,
        quarantined=whole.quarantined,
        guaranteed=sure,
        degree=(sure + 1) // 2,
    )
