"""Calls that wait for their app: what it is asked, what its answer does, and what its silence costs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any, NoReturn

import pytest
from standardwebhooks import Webhook

from masking import events, introductions, routes, services
from masking.house import Unavailable
from masking.services import ServiceChange
from sipedge.sip.events import Acked, Answered, Cancelled, Ended, Failed, Invited, Responded
from tests.courier.receiver import Heard, Receiver, receiver, said, status
from tests.edge.conftest import CUSTOMER, DRIVER, STRANGER, Make, Opener, Place, Scene, Stage, X, trunk
from tests.edge.phones import Phone
from tests.edge.test_refusals import refusal


@pytest.fixture
async def app() -> AsyncIterator[Receiver]:
    async with receiver() as found:
        yield found


async def asks(scene: Scene, app: Receiver, **more: object) -> str:
    """The scene's service asks the app; the secret it does so with."""
    wish = ServiceChange(intercept_url=app.url, **more)  # type: ignore[arg-type]
    await services.change(scene.place.house, "default", "default", wish)
    return (await services.rotate_secret(scene.place.house, "default", "default")).secret


async def test_an_app_that_allows_a_call_is_asked_once_in_signed_tokens(stage: Stage, app: Receiver) -> None:
    scene = await stage(unique_name="order-1042", metadata={"city": "HAN"})
    secret = await asks(scene, app)
    app.answer = lambda _: said({"action": "allow"})
    leg = scene.call()
    scene.callee.answer(await scene.callee.expect(Invited))
    await scene.callee.expect(Acked)
    await scene.caller.expect(Answered)
    scene.caller.hang_up(leg)
    await scene.callee.expect(Ended)
    told = await scene.interaction()
    assert told.status == "completed"
    (asked,) = app.heard
    assert asked.signed_with(secret) and abs(int(asked.headers["webhook-timestamp"]) - time.time()) < 5
    body = asked.event
    assert body["type"] == "call.intercept" and body["session"] == scene.session and body["service"] == "default"
    assert asked.headers["webhook-id"] == body["id"]
    assert Webhook(secret).verify(asked.body, asked.headers) == body, "by the package of the standard itself"
    data = body["data"]
    assert data["interaction"] == told.id and data["dialled"] == scene.dialled
    assert (data["from"]["participant"], data["to"]["participant"]) == (told.from_, told.to)
    assert (data["unique_name"], data["metadata"]) == ("order-1042", {"city": "HAN"})
    for person in (CUSTOMER, DRIVER):
        assert person[1:].encode() not in asked.body and person[3:].encode() not in asked.body


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (said({"action": "deny", "reason": "outside_hours"}), "intercept:outside_hours"),
        (said({"reason": "tell +84901234567"}, 403), "intercept"),  # what may be a number is no reason
        (status(403), "intercept"),
    ],
)
async def test_an_app_that_denies_a_call_gives_it_403_and_its_reason(
    stage: Stage, app: Receiver, answer: bytes, reason: str
) -> None:
    scene = await stage()
    await asks(scene, app)
    app.answer = lambda _: answer
    scene.call()
    code, _, packets = await refusal(scene.caller)
    assert code == 403 and packets > 0
    told = await scene.event("call.refused")
    assert (told["decision"], told["reason"]) == ("blocked", reason)
    interaction = await scene.interaction()
    assert (interaction.status, interaction.decision) == ("refused", "blocked")
    await scene.callee.silence(0.01)
    app.answer = lambda _: said({})
    scene.call()  # the slot of the denied one is free
    await scene.callee.expect(Invited)


@pytest.mark.parametrize("answer", [status(500), status(302, "Location: http://127.0.0.1:1/"), said(b"<html>"), None])
@pytest.mark.parametrize("on_error", ["allow", "deny"])
async def test_an_answer_that_is_none_is_what_the_service_says_it_is(
    stage: Stage, app: Receiver, answer: bytes | None, on_error: str
) -> None:
    scene = await stage()
    await asks(scene, app, intercept_on_error=on_error)
    app.answer = lambda _: answer
    scene.call()
    if on_error == "allow":
        await scene.callee.expect(Invited)
        return
    assert (await refusal(scene.caller))[0] == 403
    assert (await scene.event("call.refused"))["reason"] == "intercept_failed"


async def test_a_silent_app_is_waited_for_as_long_as_the_service_says_and_then_left_alone(
    stage: Stage, app: Receiver
) -> None:
    scene = await stage()
    await asks(scene, app, intercept_timeout_ms=150)
    app.held = asyncio.Event()
    for turn in range(6):
        began = time.monotonic()
        leg = scene.call()
        await scene.callee.expect(Invited)
        took = time.monotonic() - began
        assert turn == 5 or took > 0.13, turn
        scene.caller.cancel(leg)
        await scene.callee.expect(Cancelled)
        await scene.caller.expect(Failed)
        await scene.place.idle()
    assert len(app.heard) == 5, "after five failures a call does not wait for it any more"
    app.held.set()


async def test_a_caller_who_gives_up_while_the_app_thinks_is_gone_at_once(stage: Stage, app: Receiver) -> None:
    scene = await stage()
    await asks(scene, app, intercept_timeout_ms=5000)
    app.held = asyncio.Event()
    leg = scene.call()
    async with asyncio.timeout(3.0):
        while not app.heard:
            await asyncio.sleep(0.01)
    assert scene.place.edge.admission.opening == 0, "a call that waits for an app holds no place at the door"
    scene.caller.cancel(leg)
    assert (await scene.caller.expect(Failed)).status == 487
    assert not app.held.is_set(), "while it still thinks"
    assert (await scene.interaction()).status == "canceled"
    await scene.callee.silence(0.01)
    app.held.set()


class Doorstep:
    """A stranger's phone, a driver's, a number that nobody uses, and an app that is asked about strangers."""

    def __init__(self, place: Place, stranger: Phone, driver: Phone, app: Receiver) -> None:
        self.place = place
        self.stranger = stranger
        self.driver = driver
        self.app = app

    def call(self, **more: Any) -> str:
        return self.stranger.call(self.place.address, X[0], **more)

    async def reasons(self) -> list[str]:
        found = await events.loose_outbox(self.place.house, "0", 1000)
        return [one.counted("default", 1).data["reason"] for one in found if one.type == "call.refused"]


@pytest.fixture
async def doorstep(open_edge: Opener, phones: Make, app: Receiver) -> Doorstep:
    stranger, driver = phones(STRANGER), phones(DRIVER)
    place = await open_edge(trunk("callers", stranger), trunk("callees", driver))
    await place.numbers(*X[:3], trunk="callees")
    url = ServiceChange(out_of_session_url=app.url, out_of_session_timeout_ms=1000)
    await services.change(place.house, "default", "default", url)
    return Doorstep(place, stranger, driver, app)


def opens(asked: Heard, **more: Any) -> bytes:
    """An app's answer that connects whoever calls with the driver."""
    token = asked.event["data"]["caller"]["token"]
    people = [{"caller_token": token, "role": "customer"}, {"identifier": DRIVER, "role": "driver"}]
    return said({"session": {"participants": people, "record": "never", **more}})


async def test_a_stranger_whom_the_app_knows_is_connected_over_a_session_opened_while_it_waits(
    doorstep: Doorstep, app: Receiver
) -> None:
    app.answer = lambda asked: opens(asked, unique_name="order-7")
    leg = doorstep.call()
    invited = await doorstep.driver.expect(Invited)
    shown = invited.request.from_.uri.digits
    assert invited.request.uri.digits == DRIVER and shown in X[:3]
    doorstep.driver.answer(invited)
    await doorstep.driver.expect(Acked)
    await doorstep.stranger.expect(Answered)
    doorstep.stranger.hang_up(leg)
    await doorstep.driver.expect(Ended)
    (asked,) = app.heard
    assert asked.event["type"] == "call.out_of_session" and asked.event["session"] is None
    assert STRANGER[3:].encode() not in asked.body
    assert not any(STRANGER.encode() in heard for heard in doorstep.driver.heard)
    await doorstep.place.idle()
    await doorstep.stranger.expect(Responded)  # its BYE's 200
    doorstep.stranger.call(doorstep.place.address, str(shown))  # the number of its session now: nobody is asked
    await doorstep.driver.expect(Invited)
    assert len(app.heard) == 1


async def test_a_stranger_whom_the_app_does_not_know_meets_what_every_stranger_meets(
    doorstep: Doorstep, app: Receiver
) -> None:
    withheld = "Anonymous <sip:anonymous@anonymous.invalid>"
    answers = [
        (said({}), None, "no_binding"),
        (said({"action": "deny", "reason": "not_ours"}), None, "out_of_session:not_ours"),
        (status(500), None, "no_binding"),
        (said({"session": {"participants": []}}), None, "out_of_session_failed"),
        (said({"session": "ses_x"}), withheld, "out_of_session_failed"),
    ]
    for answer, from_, reason in answers:
        app.answer = lambda _, answer=answer: answer  # type: ignore[misc]
        doorstep.stranger.audio.clear()
        doorstep.call(from_=from_)
        code, cause, packets = await refusal(doorstep.stranger)
        assert (code, cause) == (404, 1) and 13 <= packets <= 17
        assert (await doorstep.reasons())[-1] == reason
    await doorstep.driver.silence(0.01)


async def test_a_stranger_who_gives_up_while_the_app_thinks_has_one_ending(doorstep: Doorstep, app: Receiver) -> None:
    app.held = asyncio.Event()
    leg = doorstep.call()
    async with asyncio.timeout(3.0):
        while not app.heard:
            await asyncio.sleep(0.01)
    doorstep.stranger.cancel(leg)
    assert (await doorstep.stranger.expect(Failed)).status == 487
    await doorstep.place.idle()
    assert await doorstep.reasons() == ["no_binding"]
    app.held.set()


async def test_one_apps_silence_delays_no_other_tenants_calls(stage: Stage, app: Receiver) -> None:
    """Forty calls wait for an app that never answers; calls of another service go through at once meanwhile."""
    scene = await stage(max_concurrent_calls=100)
    await asks(scene, app, intercept_timeout_ms=5000)
    app.held = asyncio.Event()
    await services.create(scene.place.house, "default", ServiceChange(unique_name="other"))
    await scene.place.numbers(*X[4:6], trunk="callees", service="other")
    other = await scene.place.session(CUSTOMER, DRIVER, service="other")
    waiting = [scene.call() for _ in range(40)]
    async with asyncio.timeout(5.0):
        while len(app.heard) < 32:  # as many as one receiver's connections
            await asyncio.sleep(0.01)
    leg = scene.caller.call(scene.place.address, other.participants[0].proxies[0].number)
    await scene.callee.expect(Invited)
    assert len(scene.place.edge.exchange.calls) == 41, "while the forty wait"
    for one in (*waiting, leg):
        scene.caller.cancel(one)
    await scene.place.idle()
    app.held.set()


async def test_nobody_is_connected_when_redis_is_away_by_the_time_the_app_has_answered(
    doorstep: Doorstep, app: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> NoReturn:
        raise Unavailable("gone")

    with monkeypatch.context() as broken:
        broken.setattr(introductions, "introduced", away)
        doorstep.call()
        failed = await doorstep.stranger.expect(Failed)
        assert failed.status == 503 and len(app.heard) == 1
        assert doorstep.place.edge.exchange.unsure, "its slot may have been taken: the sweep looks"
    await services.change(doorstep.place.house, "default", "default", ServiceChange(intercept_url=app.url))
    session = await doorstep.place.session(STRANGER, DRIVER)
    monkeypatch.setattr(routes, "advised", away)
    doorstep.stranger.call(doorstep.place.address, session.participants[0].proxies[0].number)
    assert (await doorstep.stranger.expect(Failed)).status == 503
    await doorstep.driver.silence(0.01)
