"""What `explain` says of a past moment is what a call met at that moment."""

from __future__ import annotations

import random
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

import msgspec
import pytest

from masking import amending, explaining, interactions, reopening, services, sessions
from masking.events import moment
from masking.explaining import Explanation, Question
from masking.interactions import Call, Ending
from masking.pins import Pin
from masking.refusals import Refused
from masking.routes import Challenge, Refusal, Route
from masking.services import ServiceChange
from masking.sessions import NewParticipant, Session, SessionChange
from masking.stages import Stage
from tests.courier.conftest import Round
from tests.masking.world import CUSTOMER, DRIVER, MERCHANT, MUSCOVITE, STRANGER, World, numbers_of, proxy


@dataclass
class Diary:
    """Calls as they were met, and the question about each of them later."""

    world: World
    met: list[tuple[datetime, str, str, str, str | None]] = field(default_factory=list)
    up: list[Call] = field(default_factory=list)

    async def dials(self, called: str, caller: str, expected: str, *, hangs_up: bool = True) -> None:
        """A call that meets `expected`, a second after whatever was before."""
        await self.world.later(1)
        claimed = await self.world.dial(called, caller)
        decision = "pin" if isinstance(claimed, Challenge) else claimed.decision  # type: ignore[union-attr]
        assert decision == expected
        session = claimed.session if isinstance(claimed, Route | Refusal) else None
        if isinstance(claimed, Challenge) and claimed.route is not None:
            session = claimed.route.session
        if isinstance(claimed, Route):
            call = Call.of(claimed)
            self.up.append(call)
            if hangs_up:
                await self.hang_up()
        self.met.append((moment(self.world.house.now()), called, caller, decision, session))
        await self.world.later(1)

    async def hang_up(self) -> None:
        ending = Ending(blame="caller", reason="canceled", sip_code=487)
        await interactions.ended(self.world.house, self.up.pop(), self.world.house.now() + 0.5, ending)

    async def explained(self, courier: Round) -> list[Explanation]:
        """Once all of it is long past: the same decisions, about the same sessions, and nobody's number."""
        await self.world.later(10 * 86_400)
        await courier.carry()
        await courier.sweeper.round()
        found = []
        for at, called, caller, decision, session in self.met:
            asked = Question(from_=caller, to=called, trunk="carrier-vn", at=at)
            told = await explaining.explain(self.world.house, self.world.access, asked)
            assert (told.decision, told.session, told.at) == (decision, session, at), told.steps
            text = msgspec.json.encode(told).decode()
            assert not any(person[4:] in text for person in (CUSTOMER, DRIVER, MERCHANT, MUSCOVITE, STRANGER))
            found.append(told)
        return found


@pytest.fixture
def diary(world: World) -> Diary:
    return Diary(world)


async def test_a_session_is_told_as_it_was_from_before_it_to_after_its_quarantine(
    world: World, courier: Round, diary: Diary
) -> None:
    await world.pool(1)
    before = moment(world.house.now())
    await world.later(100)
    session = await world.open(ttl=3600)
    called = proxy(session, 0, 1)
    await diary.dials(called, CUSTOMER, "routed", hangs_up=False)
    await diary.dials(called, DRIVER, "limit")
    await diary.hang_up()
    await diary.dials(called, DRIVER, "routed")
    await diary.dials(called, STRANGER, "no_binding")
    await sessions.change(world.house, world.access, session.id, SessionChange(direction="driver->customer"))
    await diary.dials(called, CUSTOMER, "direction")
    await sessions.change(world.house, world.access, session.id, SessionChange(direction="both", mode="message_only"))
    await diary.dials(called, CUSTOMER, "mode")
    await sessions.change(world.house, world.access, session.id, SessionChange(mode="voice_only"))
    await sessions.close(world.house, world.access, session.id)
    await diary.dials(called, CUSTOMER, "ended")
    await world.later(60)
    await reopening.reopen(world.house, world.access, session.id, ttl=600, expires_at=None)
    await diary.dials(called, CUSTOMER, "routed")
    await world.later(700)
    await diary.dials(called, CUSTOMER, "ended")
    await courier.sweeper.round()
    await world.later(1800)
    await diary.dials(called, CUSTOMER, "no_binding")
    told = await diary.explained(courier)
    steps = {step.step: step.found for step in told[0].steps}
    assert steps["history"] == "canceled" and steps["binding"] == "live" and steps["callee"] == "rings"
    assert told[0].sees is not None and told[0].sees.number == called
    asked = Question(from_=CUSTOMER, to=called, at=before)
    assert (await explaining.explain(world.house, world.access, asked)).decision == "no_binding"


async def test_who_came_and_went_and_which_number_was_theirs_is_looked_back_at(
    world: World, courier: Round, diary: Diary
) -> None:
    await world.pool(6)
    house, access = world.house, world.access
    session = await world.open(CUSTOMER, DRIVER, ttl=7200)
    first = proxy(session, 0, 1)
    await diary.dials(first, DRIVER, "routed")
    await amending.swap(house, access, session.id, session.participants[1].id, NewParticipant(identifier=MERCHANT))
    await diary.dials(first, DRIVER, "ended")
    await diary.dials(first, MERCHANT, "routed")
    after: Session = await amending.replace_number(house, access, session.id, first, 60)
    second = proxy(after, 0, 1)
    assert second != first
    await diary.dials(first, CUSTOMER, "routed")
    await diary.dials(second, CUSTOMER, "routed")
    await world.later(60)
    await diary.dials(first, CUSTOMER, "ended")
    await diary.dials(second, MERCHANT, "routed")
    await diary.explained(courier)


async def test_stages_attempts_and_pins_of_then_count(world: World, courier: Round, diary: Diary) -> None:
    await world.pool(4)
    now = world.house.now()
    stages = [
        Stage(name="offer", until=moment(now + 600), direction="driver->customer"),
        Stage(name="active", until=moment(now + 1200)),
    ]
    staged = await world.open(stages=stages)
    await diary.dials(proxy(staged, 0, 1), CUSTOMER, "direction")
    guarded = await world.open(MERCHANT, DRIVER, pin=Pin(policy="always", length=4))
    await diary.dials(proxy(guarded, 0, 1), MERCHANT, "pin")
    few = await world.open(CUSTOMER, MERCHANT, max_call_attempts_per_hour=2)
    for decision in ("routed", "routed", "limit", "limit"):
        await diary.dials(proxy(few, 0, 1), CUSTOMER, decision)
    await world.later(600)
    await diary.dials(proxy(staged, 0, 1), CUSTOMER, "routed")
    await world.later(700)
    await diary.dials(proxy(staged, 0, 1), CUSTOMER, "ended")
    await diary.explained(courier)


async def test_people_of_two_countries_and_strangers_are_told_as_the_service_takes_them(
    world: World, courier: Round, diary: Diary
) -> None:
    await world.pool(2)
    await world.pool(2, "RU")
    session = await world.open(CUSTOMER, MUSCOVITE)
    await diary.dials(proxy(session, 0, 1), CUSTOMER, "routed")
    told = await diary.explained(courier)
    assert told[0].sees is not None and (told[0].sees.country, told[0].sees.trunk) == ("RU", "carrier-ru")
    await services.change(world.house, "acme", "default", ServiceChange(out_of_session="pin"))
    asked = Question(from_=None, to=proxy(session, 0, 1), at=diary.met[0][0])
    found = await explaining.explain(world.house, world.access, asked)
    assert (found.decision, found.asks) == ("pin", "pin")


WORDS = "open call call call call hang close extend reopen swap replace patch wait wait carry".split()


@pytest.mark.parametrize("seed", [6, 14, 37, 41])
async def test_any_history_is_told_as_it_was(world: World, courier: Round, diary: Diary, seed: int) -> None:
    dice = random.Random(seed)
    numbers = await world.pool(4)
    opened: list[Session] = []
    for _ in range(80):
        await world.later(dice.choice([1, 5, 100]))
        what = dice.choice(WORDS)
        if what == "call":
            known = {number for session in opened[-2:] for number in numbers_of(session)}
            called = dice.choice([*sorted(known) * 3, *numbers])
            caller = dice.choice([CUSTOMER, DRIVER, MERCHANT] * 3 + [STRANGER])
            claimed = await world.call(called, caller)
            if isinstance(claimed, Route):
                diary.up.append(Call.of(claimed))
            diary.met.append((moment(world.house.now()), called, caller, claimed.decision, claimed.session))
        elif what == "carry":
            await courier.carry()
        elif what == "wait":
            await world.later(dice.choice([50, 400]))
            await courier.sweeper.round()
        else:
            with suppress(Refused):
                await something(world, dice, what, opened)
        while diary.up and dice.random() < 0.3:
            await diary.hang_up()
    await diary.explained(courier)
    assert len({decision for _, _, _, decision, _ in diary.met}) >= 4, "the history was worth telling"


async def something(world: World, dice: random.Random, what: str, opened: list[Session]) -> None:
    """Opens a session, or changes one of those that were."""
    house, access = world.house, world.access
    if what == "open":
        wishes = {"ttl": dice.choice([60, 600, 3600]), "pair_quarantine": dice.choice([0, 300, 1800])}
        opened.append(await world.open(*dice.sample([CUSTOMER, DRIVER, MERCHANT], 2), **wishes))
    elif opened:
        session = dice.choice(opened).id
        now = await sessions.get(house, access, session)
        if what == "close":
            await sessions.close(house, access, session)
        elif what == "extend":
            await sessions.change(house, access, session, SessionChange(ttl=dice.choice([60, 900])))
        elif what == "reopen":
            await reopening.reopen(house, access, session, ttl=300, expires_at=None)
        elif what == "swap":
            newcomer = NewParticipant(identifier=dice.choice([CUSTOMER, DRIVER, MERCHANT, STRANGER]))
            await amending.swap(house, access, session, dice.choice(now.participants).id, newcomer)
        elif what == "replace":
            number = now.participants[0].proxies[0].number
            await amending.replace_number(house, access, session, number, dice.choice([0, 200]))
        elif what == "patch":
            wish = SessionChange(
                direction=dice.choice(["both", "none"]), mode=dice.choice(["voice_only", "message_only"])
            )
            await sessions.change(house, access, session, wish)
