"""Callers who must key a PIN before anybody's phone rings."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from masking import events, intents, services, sessions
from masking.pins import Pin
from masking.services import ServiceChange
from masking.sessions import Session
from recordings import keytones
from sipedge import dialogues, snapshots
from sipedge.media import g711, tones
from sipedge.media.telephone_events import KEYS, packets
from sipedge.sip.events import Acked, Answered, Ended, Failed, Invited, Progressed, Responded
from tests.edge.conftest import ACCESS, CUSTOMER, DRIVER, STRANGER, Make, Opener, Place, Stage, X, trunk
from tests.edge.phones import Address, Phone, media_of

Press = Callable[[Phone, str, str], Awaitable[None]]


class Keys:
    """A phone in a dialogue: `leg` is its call, `media` where its audio goes."""

    def __init__(self, phone: Phone, leg: str, media: Address) -> None:
        self.phone = phone
        self.leg = leg
        self.media = media
        self._sequence = 0

    def _send(self, payload: bytes, kind: int, timestamp: int) -> None:
        head = bytes([0x80, kind]) + self._sequence.to_bytes(2) + timestamp.to_bytes(4) + (4711).to_bytes(4)
        self._sequence += 1
        self.phone.rtp.sendto(head + payload, self.media)

    async def press(self, keys: str, way: str = "event") -> None:
        for key in keys:
            match way:
                case "event":
                    for payload in packets(key, frames=2):
                        self._send(payload, 101, 160 * self._sequence - self._sequence % 5 * 160)
                case "info":
                    body = f"Signal= {key}\r\nDuration= 160\r\n".encode()
                    self.phone.request(self.leg, "INFO", body, "application/dtmf-relay")
                    assert (await self.phone.expect(Responded)).status == 200
                case "tone":
                    row = next(n for n, line in enumerate(keytones.KEYS) if key in line)
                    pair = (keytones.LOW[row], keytones.HIGH[keytones.KEYS[row].index(key)])
                    sound = tones.sound(pair, 800) + array("h", bytes(2 * 800))
                    coded = g711.encode("PCMA", sound.tobytes())
                    for at in range(0, len(coded), 160):
                        self._send(coded[at : at + 160], 8, 160 * self._sequence)
            await asyncio.sleep(0.01)


async def asked(phone: Phone, edge: Address, dialled: str, **more: Any) -> Keys:
    """A call that is answered by the platform before anybody rings."""
    leg = phone.call(edge, dialled, **more)
    answered = await phone.expect(Answered)
    return Keys(phone, leg, media_of(answered.response.body))


class Street:
    """A service that lets strangers key a PIN, a session in it, and three phones."""

    def __init__(self, place: Place, phones: dict[str, Phone], session: Session) -> None:
        self.place = place
        self.customer, self.driver, self.stranger = (phones[number] for number in (CUSTOMER, DRIVER, STRANGER))
        self.session = session
        proxy = session.participants[0].proxies[0]
        self.dialled, self.pin = proxy.number, proxy.pin or ""
        self.shown = session.participants[1].proxies[0].number

    async def types(self) -> list[str]:
        return [event.type for event in await sessions.timeline(self.place.house, ACCESS, self.session.id)]

    async def loose(self) -> list[dict[str, Any]]:
        """The refusals of nobody's calls."""
        found = await events.loose_outbox(self.place.house, "0", 1000)
        return [one.counted("default", 1).data for one in found]

    async def refused(self, phone: Phone, pin: str = "", **more: Any) -> None:
        """A call that ends without anybody's phone ringing; "" keys nothing."""
        keys = await asked(phone, self.place.address, self.dialled, **more)
        for _ in range(3):
            await keys.press(pin + "#")
            await asyncio.sleep(0.05)
        await phone.expect(Ended)


@pytest.fixture
async def street(open_edge: Opener, phones: Make, redis_url: str) -> Callable[..., Awaitable[Street]]:
    async def set_(out_of_session: str = "pin", **session: Any) -> Street:
        made = {number: phones(number) for number in (CUSTOMER, DRIVER, STRANGER)}
        driver = made[DRIVER]
        place = await open_edge(trunk("callers", made[CUSTOMER], made[STRANGER]), trunk("callees", driver))
        await services.change(
            place.house,
            "default",
            "default",
            ServiceChange(out_of_session=out_of_session),  # type: ignore[arg-type]
        )
        await place.numbers(*X[:2], trunk="callees")
        wish: dict[str, Any] = {"pin": {"policy": "unknown_caller"}} | session
        wish["pin"] = Pin(**wish["pin"])
        return Street(place, made, await place.session(CUSTOMER, DRIVER, **wish))

    return set_


Set = Callable[..., Awaitable[Street]]


async def through(street: Street, keys: Keys) -> Invited:
    """The driver rings, sees the number it knows, and answers; both are bridged."""
    invited = await street.driver.expect(Invited)
    assert invited.request.uri.digits == DRIVER and invited.request.from_.uri.digits == street.shown
    street.driver.respond(invited, 180)
    street.driver.answer(invited)
    await street.driver.expect(Acked)
    async with asyncio.timeout(5.0):
        while not any(call.state == "bridged" for call in street.place.edge.exchange.calls.values()):
            await asyncio.sleep(0.01)
    return invited


@pytest.mark.parametrize("way", ["event", "info", "tone"])
async def test_a_stranger_who_keys_the_pin_is_connected(street: Set, way: str) -> None:
    scene = await street()
    keys = await asked(scene.stranger, scene.place.address, scene.dialled)
    await keys.press(scene.pin + "#", way)
    await through(scene, keys)
    scene.stranger.hang_up(keys.leg)
    await scene.driver.expect(Ended)
    told = await scene.place.interaction(scene.session.id)
    assert (told.decision, told.status, told.answered_by, told.hangup_by) == ("pin", "completed", "callee", "caller")
    assert told.from_ == scene.session.participants[0].id
    assert told.billable > told.conversation > 0
    assert told.ringing_at is not None and told.answered_at is not None and told.answered_at < told.ringing_at
    assert not any(STRANGER.encode() in heard or scene.pin.encode() in heard for heard in scene.driver.heard)


async def test_a_pin_without_its_hash_is_taken_after_a_pause(street: Set, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialogues, "NEXT_KEY", 0.1)
    scene = await street()
    keys = await asked(scene.stranger, scene.place.address, scene.dialled)
    await keys.press(scene.pin)
    await through(scene, keys)


async def test_a_withheld_caller_and_one_without_a_description_may_key_it_too(street: Set) -> None:
    scene = await street()
    leg = scene.stranger.call(
        scene.place.address, scene.dialled, body=b"", from_="<sip:anonymous@anonymous.invalid>", content_type=""
    )
    answered = await scene.stranger.expect(Answered)
    scene.stranger.endpoint.acknowledge(leg, scene.stranger.sdp(codecs="8 101"), scene.stranger.loop.time())
    scene.stranger.drive()
    await asyncio.sleep(0.1)
    keys = Keys(scene.stranger, leg, media_of(answered.response.body))
    await keys.press(scene.pin + "#")
    await through(scene, keys)


@pytest.mark.parametrize("pin", ["", "1", "99999999", "00000000000000"])
async def test_wrong_pins_end_in_the_plain_refusal(street: Set, pin: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialogues, "FIRST_KEY", 8.0 if pin else 0.1)
    scene = await street()
    await scene.refused(scene.stranger, pin if pin != scene.pin else "88888888")
    await scene.place.idle()
    assert "call.initiated" not in await scene.types()
    refused = (await scene.loose())[-1]
    assert (refused["decision"], refused["reason"]) == ("pin", "pin")
    await scene.driver.silence(0.05)


async def test_who_hangs_up_in_the_dialogue_is_one_refusal(street: Set) -> None:
    scene = await street()
    keys = await asked(scene.stranger, scene.place.address, scene.dialled)
    before = len(await scene.loose())
    scene.stranger.hang_up(keys.leg)
    await scene.place.idle()
    assert [one["decision"] for one in (await scene.loose())[before:]] == ["pin"]


async def test_after_five_wrong_pins_the_right_one_is_not_asked_for(street: Set) -> None:
    scene = await street()
    await scene.refused(scene.stranger, "000000")
    await scene.refused(scene.stranger, "000000")  # two of its three tries are left
    scene.stranger.call(scene.place.address, scene.dialled)
    assert (await scene.stranger.expect(Progressed)).status == 183
    assert (await scene.stranger.expect(Failed)).status == 404


async def test_a_number_whose_session_has_ended_asks_all_the_same(street: Set) -> None:
    scene = await street()
    await sessions.close(scene.place.house, ACCESS, scene.session.id)
    await scene.refused(scene.stranger, scene.pin)
    await scene.place.idle()
    assert "call.refused" not in await scene.types()


async def test_without_the_services_word_nobody_is_asked(street: Set) -> None:
    scene = await street("announce")
    scene.stranger.call(scene.place.address, scene.dialled)
    assert (await scene.stranger.expect(Progressed)).status == 183
    assert (await scene.stranger.expect(Failed)).status == 404


@pytest.mark.parametrize("length", [4, 8])
async def test_a_known_phone_keys_four_digits_where_everybody_is_asked(street: Set, length: int) -> None:
    scene = await street("announce", pin={"policy": "always", "length": length})
    assert len(scene.pin) == length
    keys = await asked(scene.customer, scene.place.address, scene.dialled)
    await keys.press(scene.pin[:4])
    invited = await through(scene, keys)
    scene.driver.hang_up(invited.leg)
    await scene.customer.expect(Ended)
    told = await scene.place.interaction(scene.session.id)
    assert (told.decision, told.status) == ("pin", "completed")


async def test_a_known_phone_that_keys_wrong_is_refused_on_its_session(street: Set) -> None:
    scene = await street("announce", pin={"policy": "always", "retries": 0})
    keys = await asked(scene.customer, scene.place.address, scene.dialled)
    await keys.press("0000#" if scene.pin[:4] != "0000" else "1111#")
    await scene.customer.expect(Ended)
    told = await scene.place.interaction(scene.session.id)
    assert (told.decision, told.status, told.reason, told.billable) == ("pin", "refused", "pin", 0)
    assert (await scene.types()).count("call.refused") == 1 and "call.ended" not in await scene.types()


async def test_a_known_phone_that_hangs_up_while_asked_gave_up(street: Set) -> None:
    scene = await street("announce", pin={"policy": "always"})
    keys = await asked(scene.customer, scene.place.address, scene.dialled)
    scene.customer.hang_up(keys.leg)
    told = await scene.place.interaction(scene.session.id)
    assert (told.status, told.hangup_by) == ("canceled", "caller")
    await scene.driver.silence(0.05)


async def test_another_edge_could_hang_up_on_who_is_being_asked(street: Set) -> None:
    scene = await street("announce", pin={"policy": "always"})
    keys = await asked(scene.customer, scene.place.address, scene.dialled)
    house, found = scene.place.house, None
    async with asyncio.timeout(3.0):
        while found is None or not found[1]:
            (live,) = await house.leases.live_calls(scene.session.id[4:10])
            found = snapshots.read(house, live.call, live.facts)
            await asyncio.sleep(0.01)
    assert len(found[1]) == 1 and found[0].trunk == "callers"
    scene.customer.hang_up(keys.leg)
    assert (await scene.place.interaction(scene.session.id)).status == "canceled"


@pytest.mark.parametrize(
    ("said", "status", "asset"),
    [(486, "busy", "callee_busy"), (603, "declined", "callee_busy"), (404, "failed", "not_connected")],
)
async def test_what_the_second_leg_says_is_spoken_and_kept(
    street: Set, monkeypatch: pytest.MonkeyPatch, said: int, status: str, asset: str
) -> None:
    scene = await street()
    keys = await asked(scene.stranger, scene.place.address, scene.dialled)
    played: list[str] = []
    circuit = next(iter(scene.place.edge.exchange.calls.values())).circuit
    speak = circuit.speak

    async def heard(assets: Any) -> None:
        played.extend(one.id for one in assets)
        await speak(assets)

    monkeypatch.setattr(circuit, "speak", heard)
    await keys.press(scene.pin + "#")
    invited = await scene.driver.expect(Invited)
    scene.driver.respond(invited, said)
    ended = await scene.stranger.expect(Ended)
    assert ended.request.cause is not None
    told = await scene.place.interaction(scene.session.id)
    assert [leg.sip_code for leg in told.legs] == [200, said]
    assert (told.status, told.decision, told.answered_by) == (status, "pin", "platform")
    assert told.billable > 0.2 and told.conversation == 0
    assert played == [f"vi/{asset}"]


async def test_the_caller_hears_our_ring_back_while_the_second_leg_rings(street: Set) -> None:
    scene = await street()
    keys = await asked(scene.stranger, scene.place.address, scene.dialled)
    await keys.press(scene.pin + "#")
    invited = await scene.driver.expect(Invited)
    await asyncio.sleep(0.1)
    scene.stranger.audio.clear()
    await asyncio.sleep(0.1)
    assert not scene.stranger.audio, "nothing before it rings"
    scene.driver.respond(invited, 183, body=scene.driver.sdp())
    await asyncio.sleep(0.3)
    assert len(scene.stranger.audio) > 10
    assert not any(b"180 Ringing" in heard for heard in scene.stranger.heard)


async def test_a_recording_begins_with_the_callees_answer(street: Set) -> None:
    scene = await street(record="always")
    keys = await asked(scene.stranger, scene.place.address, scene.dialled)
    await keys.press(scene.pin + "#")
    await through(scene, keys)
    scene.stranger.hang_up(keys.leg)
    told = await scene.place.interaction(scene.session.id)
    timeline = await sessions.timeline(scene.place.house, ACCESS, scene.session.id)
    started = next(event for event in timeline if event.type == "recording.started")
    assert told.recordings and told.ringing_at is not None and started.occurred_at >= told.ringing_at
    assert not any(scene.pin in str(event.data) for event in timeline)


async def test_where_one_number_leads_to_many_an_extension_says_to_whom(street: Set) -> None:
    scene = await street("announce", pin={"policy": "always"})
    place = scene.place
    await services.change(place.house, "default", "default", ServiceChange(number_model="extension"))
    session = await place.session(CUSTOMER, DRIVER, pin=Pin(policy="always"))
    way = session.participants[0].proxies[0]
    keys = await asked(scene.customer, place.address, way.number)
    await keys.press((way.extension or "") + "#")
    await asyncio.sleep(0.1)
    await scene.driver.silence(0.05)
    await keys.press((way.pin or "")[:4])
    invited = await scene.driver.expect(Invited)
    assert invited.request.from_.uri.digits == session.participants[1].proxies[0].number
    scene.driver.answer(invited)
    await scene.driver.expect(Acked)
    scene.driver.hang_up(invited.leg)
    await scene.customer.expect(Ended)
    told = await place.interaction(session.id)
    assert (told.decision, told.status) == ("pin", "completed")
    assert (await scene.driver.expect(Responded)).status == 200
    keys = await asked(scene.customer, place.address, way.number)
    await keys.press((way.extension or "") + "#")
    await asyncio.sleep(0.1)
    await keys.press((way.pin or "")[:4])
    scene.driver.respond(await scene.driver.expect(Invited), 486)
    await scene.customer.expect(Ended)
    await place.idle()
    missed = [e for e in await sessions.timeline(place.house, ACCESS, session.id) if e.type == "call.missed"]
    back = session.participants[1].proxies[0]
    assert [one.data["call_back"] for one in missed] == [{"number": back.number, "extension": back.extension}]
    stranger = await asked(scene.stranger, place.address, way.number)
    for _ in range(3):
        await stranger.press((way.extension or "") + "#")
        await asyncio.sleep(0.05)
    await scene.stranger.expect(Ended)


async def test_an_intent_stands_in_for_the_pin_once(street: Set) -> None:
    scene = await street()
    customer = scene.session.participants[0].id
    await intents.announce(scene.place.house, ACCESS, scene.session.id, customer)
    leg = scene.stranger.call(scene.place.address, scene.dialled, from_="<sip:anonymous@anonymous.invalid>")
    invited = await scene.driver.expect(Invited)
    scene.driver.answer(invited)
    await scene.stranger.expect(Answered)
    await scene.driver.expect(Acked)
    scene.stranger.hang_up(leg)
    told = await scene.place.interaction(scene.session.id)
    assert (told.decision, told.from_) == ("routed", customer)
    await scene.driver.expect(Ended)
    await scene.stranger.expect(Responded)
    keys = await asked(scene.stranger, scene.place.address, scene.dialled)
    scene.stranger.hang_up(keys.leg)


def test_a_phone_that_tells_its_keys_twice_is_believed_once() -> None:
    entry = dialogues.Entry(10, lambda digits: False)
    for key in "12":
        entry.press(key, "tone")
        entry.press(key, "event")
    assert entry.digits == "12", "a tone yields to whatever tells the key better"
    entry = dialogues.Entry(10, lambda digits: False)
    for key in "12":
        entry.press(key, "info")
        entry.press(key, "event")
    assert entry.digits == "12"


def test_an_entry_ends_with_its_hash_at_its_length_or_when_it_is_right() -> None:
    entry = dialogues.Entry(4, lambda digits: digits == "12")
    entry.press("#", "event")
    assert not entry.whole, "nothing was keyed yet"
    for key in "9*12":
        assert not entry.whole
        entry.press(key, "event")
    assert entry.whole and entry.digits == "12"
    entry = dialogues.Entry(4, lambda digits: False)
    for key in KEYS[1:5]:
        entry.press(key, "event")
    assert entry.whole and entry.digits == "1234"


@pytest.mark.parametrize("way", ["event", "info", "tone"])
async def test_a_callee_who_presses_a_key_takes_the_call(stage: Stage, way: str) -> None:
    scene = await stage(answer_confirm="keypress")
    leg = scene.call()
    invited = await scene.callee.expect(Invited)
    scene.callee.respond(invited, 180)
    assert (await scene.caller.expect(Progressed)).status == 180
    scene.callee.answer(invited)
    await scene.callee.expect(Acked)
    await scene.caller.silence(0.1)
    assert scene.callee.audio, "it is told to press a key"
    await Keys(scene.callee, invited.leg, media_of(invited.request.body)).press("5", way)
    answered = await scene.caller.expect(Answered)
    await scene.bridged()
    scene.caller.speak(media_of(answered.response.body), 17)
    await asyncio.sleep(0.1)
    assert scene.callee.heard_marker(17)
    scene.caller.hang_up(leg)
    told = await scene.interaction()
    assert (told.status, told.answered_by) == ("completed", "callee")


async def test_a_voicemail_presses_no_key_and_is_no_answer(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialogues, "FIRST_KEY", 0.1)
    scene = await stage(answer_confirm="keypress", record="always")
    scene.call()
    invited = await scene.callee.expect(Invited)
    scene.callee.answer(invited)
    await scene.callee.expect(Acked)
    assert (await scene.caller.expect(Failed)).status == 480
    await scene.callee.expect(Ended)
    told = await scene.interaction()
    assert (told.status, told.billable, told.recordings) == ("no_answer", 0, [])
    assert [one.sip_code for one in told.legs] == [480, 200]


async def test_a_caller_who_gives_up_meanwhile_ends_the_callees_call(stage: Stage) -> None:
    scene = await stage(answer_confirm="keypress")
    leg = scene.call()
    scene.callee.answer(await scene.callee.expect(Invited))
    await scene.callee.expect(Acked)
    scene.caller.cancel(leg)
    await scene.callee.expect(Ended)
    assert (await scene.interaction()).status == "canceled"
