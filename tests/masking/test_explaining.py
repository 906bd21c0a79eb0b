"""What `explain` says a call would meet is what `claim` then does; and it does nothing of it itself."""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec
import pytest

from masking import amending, barring, explaining, intents, joining, opening, reopening, routes, services, sessions
from masking.events import moment
from masking.explaining import Explanation, Question
from masking.pins import Pin
from masking.refusals import Invalid
from masking.routes import Challenge, Refusal, Stranger
from masking.services import ServiceChange
from masking.sessions import NewParticipant, NewSession, Session
from pools.inventory import State
from tests.masking.world import CUSTOMER, DRIVER, MUSCOVITE, STRANGER, World, proxy


async def redis_as_it_is(world: World) -> dict[bytes, bytes]:
    return {key: await world.house.redis.command("DUMP", key) for key in await world.house.redis.command("KEYS", "*")}


async def explain(
    world: World, caller: str | None, called: str, trunk: str | None = "carrier-vn", at: datetime | None = None
) -> Explanation:
    """The explanation, which wrote nothing and told no person's number."""
    await services.get(world.house, "acme", "default")  # made at the first look
    before = await redis_as_it_is(world)
    question = Question(from_=caller, to=called, trunk=trunk, at=at)
    told = await explaining.explain(world.house, world.access, question)
    assert await redis_as_it_is(world) == before
    text = msgspec.json.encode(told).decode()
    for person in (CUSTOMER, DRIVER, STRANGER, MUSCOVITE):
        assert person[4:] not in text and str(person)[-6:] not in text
    return told


async def compared(world: World, caller: str | None, called: str) -> Explanation:
    """The explanation, once the real call has met just that."""
    told = await explain(world, caller, called)
    met = await world.dial(called, caller)
    if isinstance(met, Stranger):
        assert steps(told)["app"] == ("dispatch" if met.asked == "call.dispatch" else "asked")
        met = met.otherwise or routes.turned_away(world.house, met, "no_binding")
    if isinstance(met, Challenge):
        assert told.asks == ("extension" if met.extension else "pin")
        assert (told.session is not None) == (met.route is not None)
    elif isinstance(met, Refusal):
        assert (told.decision, told.session, told.asks) == (met.decision, met.session, None)
    else:
        assert (told.decision, told.asks, told.session) == (met.decision, None, met.session)
        assert (told.from_, told.to or "") == (met.from_participant, met.to_participant)
        assert ("app" in steps(told)) == (met.question is not None)
        assert told.sees is not None
        assert (told.sees.number, told.sees.trunk, told.sees.country) == (met.shows, met.trunk, met.country)
    return told


def steps(told: Explanation) -> dict[str, str]:
    return {step.step: step.found for step in told.steps}


async def opened(world: World, *people: str, **wishes: object) -> tuple[Session, str]:
    session = await world.open(*people, **wishes)
    return session, proxy(session, 0, 1)


@pytest.mark.parametrize("model", ["shared", "per_party"])
async def test_a_bound_caller_is_told_what_the_callee_sees(world: World, model: str) -> None:
    await world.pool(4)
    _, called = await opened(world, number_model=model)
    told = await compared(world, CUSTOMER, called)
    assert steps(told) == {
        "trunk": "carrier-vn", "spelling": "read", "number": "active", "caller": "read", "binding": "live",
        "limits": "free", "callee": "rings",
    }  # fmt: skip
    assert (await compared(world, CUSTOMER, called)).decision == "limit", "one call is up"


async def test_a_call_that_its_app_may_refuse_is_told_so(world: World) -> None:
    await world.pool(1)
    _, called = await opened(world)
    url = ServiceChange(intercept_url="https://app.example.com/calls", intercept_on_error="deny")
    await services.change(world.house, "acme", "default", url)
    assert steps(await compared(world, CUSTOMER, called))["app"] == "asked"
    await services.change(world.house, "acme", "default", ServiceChange(intercept_url=None))
    assert "app" not in steps(await compared(world, DRIVER, called))


@pytest.mark.parametrize("otherwise", ["announce", "pin"])
async def test_a_stranger_whom_the_app_may_know_is_told_so(world: World, otherwise: str) -> None:
    await world.pool(1)
    _, called = await opened(world)
    url = ServiceChange(out_of_session_url="https://app.example.com/calls", out_of_session=otherwise)  # type: ignore[arg-type]
    await services.change(world.house, "acme", "default", url)
    for caller in (STRANGER, None):
        assert steps(await compared(world, caller, called))["app"] == "asked"
    assert "app" not in steps(await compared(world, CUSTOMER, called)), "its caller is known"
    (dispatch,) = await world.pool(1)
    url = ServiceChange(intercept_url="https://app.example.com/calls", dispatch_number=dispatch)
    await services.change(world.house, "acme", "default", url)
    assert steps(await compared(world, STRANGER, dispatch))["app"] == "dispatch"


async def test_people_of_two_countries_see_their_own_numbers(world: World) -> None:
    await world.pool(2)
    await world.pool(2, "RU")
    _, called = await opened(world, CUSTOMER, MUSCOVITE)
    told = await compared(world, CUSTOMER, called)
    assert told.sees is not None and (told.sees.country, told.sees.trunk) == ("RU", "carrier-ru")


@pytest.mark.parametrize("caller", [STRANGER, None, "12"])
async def test_whom_nothing_binds_reaches_nobody(world: World, caller: str | None) -> None:
    await world.pool(2)
    _, called = await opened(world)
    told = await explain(world, caller, called)
    assert (told.decision, steps(told)["binding"]) == ("no_binding", "none")
    if caller != "12":
        await compared(world, caller, called)


async def test_an_ended_session_is_told_while_its_pair_rests(world: World) -> None:
    await world.pool(2)
    session, called = await opened(world)
    await sessions.close(world.house, world.access, session.id)
    assert steps(await compared(world, CUSTOMER, called))["binding"] == "tombstone"
    await world.later(1801)
    assert (await compared(world, CUSTOMER, called)).decision == "no_binding"


async def test_a_later_moment_is_explained(world: World) -> None:
    await world.pool(2)
    _, called = await opened(world, ttl=3600)
    now = moment(world.house.now())
    for span, decision in ((3599, "routed"), (3600, "ended"), (5399, "ended"), (5400, "no_binding")):
        told = await explain(world, CUSTOMER, called, at=now + timedelta(seconds=span))
        assert (told.decision, told.at) == (decision, now + timedelta(seconds=span))
    for never in (now.replace(tzinfo=None), now + timedelta(days=171)):
        with pytest.raises(Invalid):
            await explain(world, CUSTOMER, called, at=never)


@pytest.mark.parametrize("state", ["draining", "suspended", "retired"])
async def test_the_state_of_a_number_counts(world: World, state: State) -> None:
    await world.pool(1)
    _, called = await opened(world)
    owner = (await services.get(world.house, "acme", "default")).id
    await world.house.inventory.set_state("acme", owner, called, state)
    told = await compared(world, CUSTOMER, called)
    assert told.decision == ("routed" if state == "draining" else "unavailable")


@pytest.mark.parametrize(
    ("wishes", "decision"),
    [
        ({"direction": "b_to_a"}, "direction"),
        ({"mode": "message_only"}, "mode"),
        ({"pin": Pin(policy="always")}, "pin"),
        ({"caller_trust": "verified", "pin": Pin(policy="unknown_caller")}, "pin"),
    ],
)
async def test_what_the_session_says_is_told(world: World, wishes: dict[str, object], decision: str) -> None:
    await world.pool(4)
    _, called = await opened(world, **wishes)
    assert (await compared(world, CUSTOMER, called)).decision == decision


async def test_attempts_that_are_spent_are_told(world: World) -> None:
    await world.pool(2)
    _, called = await opened(world, max_call_attempts_per_hour=1, max_concurrent_calls=5)
    assert (await compared(world, CUSTOMER, called)).decision == "routed"
    assert (await compared(world, CUSTOMER, called)).decision == "limit"


async def test_an_intent_stands_in_for_the_pin_and_is_not_used_up(world: World) -> None:
    await world.pool(4)
    session, called = await opened(world, pin=Pin(policy="always"))
    await intents.announce(world.house, world.access, session.id, session.participants[0].id)
    assert (await explain(world, CUSTOMER, called)).decision == "routed"
    assert (await compared(world, CUSTOMER, called)).decision == "routed"


async def test_strangers_may_key_a_pin_or_an_extension_where_the_service_says_so(world: World) -> None:
    await world.pool(4)
    session, called = await opened(world, pin=Pin(policy="unknown_caller"))
    await services.change(world.house, "acme", "default", ServiceChange(out_of_session="pin"))
    assert (await compared(world, STRANGER, called)).decision == "pin"
    await intents.announce(world.house, world.access, session.id, session.participants[0].id)
    assert (await compared(world, None, called)).session == session.id
    await services.change(world.house, "acme", "default", ServiceChange(number_model="extension"))
    _, shared = await opened(world, DRIVER, STRANGER)
    assert (await compared(world, DRIVER, shared)).asks == "extension"


async def test_a_number_that_is_not_the_tenants_is_none(world: World) -> None:
    await world.pool(2)
    (theirs,) = await world.pool(1, tenant="other")
    for called in (theirs, STRANGER):
        told = await explain(world, CUSTOMER, called)
        assert (told.decision, told.dialled, steps(told)["number"]) == ("no_binding", None, "unknown")


async def test_numbers_are_read_as_the_trunk_spells_them(world: World) -> None:
    await world.pool(2)
    _, called = await opened(world)
    national = "0" + called.removeprefix("+84")
    assert (await explain(world, "0901234567", national)).decision == "routed"
    with pytest.raises(Invalid, match="own way"):
        await explain(world, CUSTOMER, national, trunk=None)
    assert (await explain(world, CUSTOMER, called, trunk=None)).decision == "routed"
    assert steps(await explain(world, CUSTOMER, called, trunk="carrier-ru"))["trunk"] == "another"
    assert steps(await explain(world, CUSTOMER, "abc"))["spelling"] == "unreadable"
    assert (await explain(world, CUSTOMER, "113")).decision == "emergency"
    with pytest.raises(Invalid, match="no trunk"):
        await explain(world, CUSTOMER, called, trunk="nobodys")


async def test_a_person_of_several_phones_is_known_by_each(world: World) -> None:
    await world.pool(4)
    people = [NewParticipant(identifiers=[CUSTOMER, "+84905550001"]), NewParticipant(identifier=DRIVER)]
    new = NewSession(participants=people, pin=Pin(policy="always"), max_concurrent_calls=9)
    session, _ = await opening.open_session(world.house, world.access, new)
    called = proxy(session, 0, 1)
    assert (await compared(world, "+84905550001", called)).decision == "pin"
    await intents.announce(world.house, world.access, session.id, session.participants[0].id)
    assert (await compared(world, "+84905550001", called)).decision == "routed"


async def test_a_session_that_was_changed_is_told_as_it_is_now(world: World) -> None:
    await world.pool(6)
    session, called = await opened(world, max_concurrent_calls=9)
    driver, newcomer = session.participants[1].id, NewParticipant(identifier=STRANGER)
    swapped = await amending.swap(world.house, world.access, session.id, driver, newcomer)
    assert (await compared(world, CUSTOMER, called)).to == swapped.participants[1].id
    assert (await compared(world, STRANGER, proxy(swapped, 1, 0))).decision == "routed"
    assert (await compared(world, DRIVER, called)).decision == "ended"
    renumbered = await amending.replace_number(world.house, world.access, session.id, called, 300)
    fresh = proxy(renumbered, 0, 1)
    assert fresh != called
    for number in (called, fresh):
        assert (await compared(world, CUSTOMER, number)).decision == "routed"
    await world.later(301)
    assert (await compared(world, CUSTOMER, called)).decision == "ended"
    await sessions.close(world.house, world.access, session.id)
    assert (await compared(world, CUSTOMER, fresh)).decision == "ended"
    await reopening.reopen(world.house, world.access, session.id, ttl=None, expires_at=None)
    assert (await compared(world, CUSTOMER, fresh)).decision == "routed"


async def test_a_block_is_told(world: World) -> None:
    await world.pool(2)
    session, called = await opened(world, max_concurrent_calls=9)
    customer, driver = (barring.Someone(session=session.id, participant=one.id) for one in session.participants)
    block = barring.NewBlock(scope="pair", who=customer, to=driver, direction="outbound", reason="calls at night")
    await barring.create(world.house, world.access, block)
    assert steps(await compared(world, CUSTOMER, called))["limits"] == "blocked"
    assert (await compared(world, DRIVER, called)).decision == "routed"


async def test_somebody_who_waits_for_a_partner_is_told_that_nobody_is_there(world: World) -> None:
    await world.pool(4)
    new = NewSession(participants=[NewParticipant(identifier=CUSTOMER)], number_model="per_party")
    alone = (await opening.open_session(world.house, world.access, new, fewest=0))[0]
    called = alone.participants[0].proxies[0].number
    assert (await compared(world, CUSTOMER, called)).decision == "direction"
    await joining.join(world.house, world.access, alone.id, NewParticipant(identifier=DRIVER))
    assert (await compared(world, CUSTOMER, called)).decision == "routed"
