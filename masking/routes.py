"""Who is reached when a participant dials a virtual number: one question, one Redis round trip.

`claim` asks the shard of the dialled number which session binds the caller there, takes the session's call slot and
writes `call.initiated` (or `call.refused`) in the same script. "No binding", "another tenant's", "wrong caller",
"unknown number" and "withheld caller" are one answer, at one price.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import msgspec

from masking import records, services
from masking.access import DEFAULT_TENANT, tenants
from masking.events import append_loose, fact, filled
from pools import grants
from pools.numbers import Number

if TYPE_CHECKING:
    from masking.house import House
    from pools.inventory import PhoneNumber

RefusedBy = Literal["no_binding", "ended", "limit", "mode", "direction", "blocked", "unavailable"]

WANTED: Final = ("record", "numbers")
CALLABLE: Final = frozenset({"active", "draining"})


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the edge needs for the second leg. `callee` cannot print itself; all else may be logged."""

    interaction: str
    session: str
    tenant: str
    service: str
    owner: str
    dialled: str  # the X the caller dialled, E.164
    from_participant: str
    to_participant: str
    from_role: str | None
    to_role: str | None
    callee: Number
    shows: str  # the X the callee sees, and dials to call back
    trunk: str | None  # the trunk `shows` leaves by; None: any trunk of its country
    country: str  # of `shows`
    record: bool
    recording: str | None  # the id its recording will have, when recorded
    ring_timeout: int
    call_time_limit: int
    warning_at: int
    caller_language: str | None
    callee_language: str | None


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Why there is no call. Its `call.refused` is on its way already: in the session's stream, or, when nobody is bound
    to (number, caller) and `session` is None, among the events of no session."""

    interaction: str
    decision: RefusedBy
    tenant: str | None = None
    session: str | None = None


async def claim(
    house: House,
    *,
    called: Number,
    caller: Number | None,
    interaction: str,
    owner: str,
    trunk: str,
    at: float,
) -> Route | Refusal:
    """The route from `caller` over `called`, with the call slot taken for `owner` (an edge's heartbeat name).

    `interaction` is the caller's own fresh `int_…` id, so a repeated claim is the same claim. Raises
    `pools.redis.Unavailable` when Redis cannot answer: the caller gets 503, nobody is routed unmasked.
    """
    number = await house.inventory.find(called)
    if number is None:
        return _stranger(house, interaction, "no_binding", None, None, trunk, at)
    if number.state not in CALLABLE:
        return _stranger(house, interaction, "unavailable", number.tenant, number.number, trunk, at)
    # A withheld caller asks as the dialled number itself, which nobody can be: the same question at the same price.
    party = house.keyring.index(caller if caller is not None else called)
    common = {"interaction": interaction, "dialled": number.number, "from": filled("from"), "to": filled("to")}
    found = await house.leases.route(
        number,
        party,
        interaction,
        owner,
        msgspec.json.encode({"tenant": number.tenant, "trunk": trunk, "at": at}),
        fact("call.initiated", at, common | {"direction": "inbound", "trunk": trunk}),
        fact("call.refused", at, common | {"decision": filled("decision"), "reason": filled("decision"), "legs": []}),
        want=WANTED,
    )
    if found.decision == "no_binding":
        return _stranger(house, interaction, "no_binding", number.tenant, number.number, trunk, at)
    if found.decision != "routed":
        return Refusal(interaction=interaction, decision=found.decision, tenant=number.tenant, session=found.holder)
    return await _route(house, number, found, interaction, owner)


def _stranger(
    house: House,
    interaction: str,
    decision: RefusedBy,
    tenant: str | None,
    dialled: str | None,
    trunk: str,
    at: float,
) -> Refusal:
    """Nobody is bound here. What an unknown number was is not kept: it may be a person's."""
    data = {"interaction": interaction, "decision": decision, "reason": decision, "dialled": dialled, "trunk": trunk}
    append_loose(house, tenant, "call.refused", at, data)
    return Refusal(interaction=interaction, decision=decision, tenant=tenant)


async def _route(house: House, number: PhoneNumber, found: grants.Route, interaction: str, owner: str) -> Route:
    record = records.unpacked(found.fields["record"])
    caller, callee = record.person(found.source), record.person(found.target)
    shows = found.fields["numbers"].decode().split()[record.line(callee.id, caller.id)]
    shown = number if shows == number.number else await house.inventory.find(shows)
    recorded = record.record == "always"
    return Route(
        interaction=interaction,
        session=found.holder,
        tenant=record.tenant,
        service=record.service,
        owner=owner,
        dialled=number.number,
        from_participant=caller.id,
        to_participant=callee.id,
        from_role=caller.role,
        to_role=callee.role,
        callee=records.unseal(house, found.holder, callee),
        shows=shows,
        trunk=(shown.trunk or None) if shown else None,
        country=shown.country if shown else number.country,
        record=recorded,
        recording="rec_" + interaction.removeprefix("int_") if recorded else None,
        ring_timeout=record.ring_timeout,
        call_time_limit=record.call_time_limit,
        warning_at=record.warning_at,
        caller_language=caller.language,
        callee_language=callee.language,
    )


async def tenant_of_trunk(house: House, trunk: str) -> str:
    """Whose numbers leave by the trunk: the tenant of an event that belongs to no session; `default` when nobody's do.

    It walks the inventory, so it is for rare events (an emergency number dialled), after the caller has its answer.
    """
    for tenant in await tenants(house):
        for service in await services.listing(house, tenant):
            last = ""
            while page := await house.inventory.list(tenant, service.id, after=last, limit=500):
                if any(number.trunk == trunk for number in page):
                    return tenant
                last = page[-1].number
    return DEFAULT_TENANT
