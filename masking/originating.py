"""Calls that the app asks for: a live edge rings both people, one after the other, and connects them.

The API claims such a call as a dialled one is claimed, by the same script, with the same limits, for an owner that is
nobody yet and whose heartbeat lapses in seconds. Then a command goes on a list, from which live edges take. Whoever
takes it makes itself the call's owner, in one step and only while the owner is still nobody: so a call rings once or
never, and one that nobody took ends as every call of a dead owner does (`masking.courier.sweeper`).
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
from msgspec import Meta

from masking import extensions, interactions, records, routes, sessions
from masking.events import moment
from masking.house import Unavailable, letters
from masking.interactions import Ending, Interaction
from masking.refusals import CallRefused, Invalid, SessionClosed
from masking.routes import Attempt, Refusal, Route
from pools.inventory import CALLABLE
from pools.numbers import Number
from pools.redis import Redis

if TYPE_CHECKING:
    from masking.access import Access
    from masking.house import House
    from masking.records import Record
    from pools.inventory import PhoneNumber

ParticipantId = Annotated[str, Meta(max_length=64, description="The id of a participant, par_….")]

COMMANDS: Final = "{orders}calls"
TAKERS: Final = "{orders}takers"  # there while an edge waits for commands
WAITS: Final = 1.0  # seconds that an edge waits for a command before it says again that it waits
TAKERS_MS: Final = 3_000
UNTAKEN_MS: Final = 6_000  # until a call that no edge has taken is given up


class Wanted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who is rung first, and whom they are connected to: in a session of two the other one, if not said."""

    from_: ParticipantId = msgspec.field(name="from")
    to: ParticipantId | None = None


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """A claimed call that waits for an edge: names alone, nobody's number."""

    interaction: str
    session: str
    tenant: str
    from_: str
    to: str


class Originated(msgspec.Struct, frozen=True, kw_only=True):
    """What an edge needs to ring both: the `route` to the second person, and the first one's phones, which see
    `route.dialled`, a number that leaves by `trunk` (None: any trunk of its `country`)."""

    route: Route
    caller: tuple[Number, ...]
    trunk: str | None
    country: str


async def originate(
    house: House, access: Access, session: str, wanted: Wanted, *, token: str | None = None
) -> Interaction:
    """The call, on its way to an edge. `token` names the request: asked twice with it, it is one call.

    `CallRefused` where a dialled call would be, `SessionClosed`, `NotFound`, `Invalid` for who takes no part;
    `pools.redis.Unavailable` when no edge lives.
    """
    interaction = "int_" + letters(blake2b((token or house.token("")).encode(), digest_size=22).digest())
    if token is not None and (before := await _before(house, access, session, interaction)) is not None:
        return before
    holder, record = await sessions.held_open(house, access, session)
    source, target = _pair(record, wanted)
    dialled = holder.numbers[record.line(source, target)]
    number = await house.inventory.find(dialled)
    if number is None or number.state not in CALLABLE:
        raise CallRefused("The virtual number is out of service.", decision="unavailable", reason="unavailable")
    if not await house.redis.command("EXISTS", TAKERS):
        raise Unavailable("no edge takes calls")
    owner, at = _nobody(interaction), house.now()
    await house.leases.beat(owner, UNTAKEN_MS)
    attempt = Attempt(interaction=interaction, owner=owner, trunk="", at=at, dialled=dialled, direction="outbound")
    party = extensions.dials(house, record.person(source).party, record.extensions.get(target))
    claimed = await routes.claim_outbound(house, number, party, attempt)
    if isinstance(claimed, Refusal):
        raise _refused(session, claimed)
    command = Command(interaction=interaction, session=session, tenant=access.tenant, from_=source, to=target)
    await house.redis.command("RPUSH", COMMANDS, msgspec.json.encode(command))
    return Interaction(
        id=interaction,
        session=session,
        direction="outbound",
        from_=source,
        to=target,
        dialled=dialled,
        started_at=moment(at),
    )


async def _before(house: House, access: Access, session: str, interaction: str) -> Interaction | None:
    """What became of the call when it was asked for before, unless it still waits for an edge."""
    found = interactions.fold(await records.events_of(house, access.tenant, session))
    return next((one for one in found if one.id == interaction and one.ended_at is not None), None)


def _pair(record: Record, wanted: Wanted) -> tuple[str, str]:
    people = [person.id for person in record.people]
    if wanted.from_ not in people:
        raise Invalid.field("from", "is no participant of the session", "the id of one, par_…")
    reached = [target for line in record.lines for source, target in line.ways if source == wanted.from_]
    target = wanted.to or (reached[0] if len(reached) == 1 else None)
    if target is None:
        raise Invalid.field("to", "is not said, and there are several", "the id of another participant, par_…")
    if target not in reached:
        raise Invalid.field("to", "is nobody whom `from` can call in the session", "the id of another, par_…")
    return wanted.from_, target


def _refused(session: str, refusal: Refusal) -> SessionClosed | CallRefused:
    if refusal.decision in ("ended", "no_binding"):
        return SessionClosed("The session is closed.", session=session)
    return CallRefused(
        "A call between the two is not let through now.",
        decision=refusal.decision,
        reason=refusal.reason or refusal.decision,
        interaction=refusal.interaction,
    )


def _nobody(interaction: str) -> str:
    """The owner of a call that no edge has taken."""
    return f"nobody.{interaction}"


class Orders:
    """Where an edge waits for calls; one an edge."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._waiting = Redis(house.config.redis_url, budget=3 * WAITS, blocking=True)

    async def next(self) -> Command | None:
        """A command, which nobody else has; None when none came for a while. Raises `pools.redis.Unavailable`."""
        await self._house.redis.command("SET", TAKERS, 1, "PX", TAKERS_MS)
        found = await self._waiting.command("BLPOP", COMMANDS, WAITS)
        try:
            return msgspec.json.decode(found[1], type=Command) if found is not None else None
        except msgspec.MsgspecError:  # written by another version of this service
            return None

    async def put_back(self, command: Command) -> None:
        """For another edge."""
        await self._house.redis.command("LPUSH", COMMANDS, msgspec.json.encode(command))

    async def close(self) -> None:
        await self._waiting.close()


async def take(house: House, command: Command, owner: str) -> Originated | None:
    """Makes `owner` the call's, and says whom to ring; None when the call is over, or somebody else's."""
    facts = msgspec.json.encode({"tenant": command.tenant, "trunk": "", "at": house.now()})
    taken = await house.leases.append(
        command.session,
        [],
        call_facts=(command.interaction, owner, facts),
        only_owner=_nobody(command.interaction),
    )
    if taken.outcome != "appended":
        return None
    found = await records.held(house, command.tenant, command.session)
    number = None
    if found is not None:
        holder, record = found
        way = (command.from_, command.to)
        number = await _dialled(house, record, holder.numbers, way)
    if found is None or number is None:  # they were parted meanwhile
        call = interactions.Call(
            interaction=command.interaction, session=command.session, tenant=command.tenant, owner=owner
        )
        await interactions.ended(house, call, house.now(), Ending(blame="platform", reason="parted", sip_code=480))
        return None
    attempt = Attempt(
        interaction=command.interaction,
        owner=owner,
        trunk="",
        at=house.now(),
        dialled=number.number,
        direction="outbound",
    )
    return Originated(
        route=await routes.route_of(house, number, command.session, holder.numbers, way, record, attempt),
        caller=records.phones(house, command.session, record.person(command.from_)),
        trunk=number.trunk or None,
        country=number.country,
    )


async def _dialled(house: House, record: Record, numbers: tuple[str, ...], way: tuple[str, str]) -> PhoneNumber | None:
    """The virtual number that the first person dials to reach the second; None when they are parted."""
    line = next((place for place, one in enumerate(record.lines) if way in one.ways), None)
    return await house.inventory.find(numbers[line]) if line is not None else None
