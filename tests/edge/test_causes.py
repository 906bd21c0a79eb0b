"""Q.850 and SIP codes, both ways (RFC 3398, RFC 3326), and what of them reaches the other leg."""

from __future__ import annotations

import pytest

from sipedge import causes
from sipedge.sip.events import Acked, Answered, Cancelled, Ended, Failed, Invited, Progressed
from sipedge.sip.messages import Request, parse
from tests.edge.conftest import Stage
from tests.edge.phones import Phone


@pytest.mark.parametrize(
    ("status", "cause"),
    [(404, 1), (486, 17), (480, 18), (603, 21), (484, 28), (502, 38), (503, 41), (504, 102), (433, 41), (608, 21),
     (302, 31), (599, 41), (200, None)],
)  # fmt: skip
def test_rfc_3398_8_2_6_1_a_code_stands_for_a_cause(status: int, cause: int | None) -> None:
    assert causes.cause_of(status) == cause


@pytest.mark.parametrize(
    ("cause", "status"),
    [(1, 404), (16, None), (17, 486), (18, 408), (19, 480), (22, 410), (27, 502), (28, 484), (34, 503), (42, 503),
     (65, 488), (79, 501), (102, 504), (127, 500), (99, 500)],
)  # fmt: skip
def test_rfc_3398_7_2_4_1_a_cause_stands_for_a_code(cause: int, status: int | None) -> None:
    assert causes.status_of(cause) == status


def test_a_code_that_went_through_the_tables_and_back_still_means_the_same() -> None:
    for status in (404, 410, 484, 486, 501, 503, 504, 603):
        cause = causes.cause_of(status)
        assert cause is not None and causes.status_of(cause) == status


@pytest.mark.parametrize("cause", range(1, 128))
def test_only_a_persons_cause_makes_a_failing_gateway_a_persons_answer(cause: int) -> None:
    meant = causes.human(503, cause)
    assert meant == ({17: 486, 19: 480, 20: 480, 21: 603}.get(cause, 503))
    assert causes.human(484, cause) == 484


def reasons(phone: Phone, start: bytes) -> list[str]:
    """The Reason headers of what a phone heard that begins so."""
    heard = [parse(data) for data in phone.heard if data.startswith(start)]
    return [message.header("reason") or "" for message in heard]


def with_reason(value: str) -> list[tuple[str, str]]:
    return [("Reason", value)]


async def test_the_cause_of_a_hanging_up_crosses_and_its_text_does_not(stage: Stage) -> None:
    scene = await stage()
    scene.call()
    scene.callee.answer(await scene.callee.expect(Invited))
    await scene.caller.expect(Answered)
    acked = await scene.callee.expect(Acked)
    scene.callee.endpoint.bye(acked.leg, 0.0, headers=with_reason('Q.850;cause=31;text="+84907654321 gone"'))
    scene.callee.drive()
    await scene.caller.expect(Ended)
    assert reasons(scene.caller, b"BYE ") == ["Q.850;cause=31"]
    told = await scene.interaction()
    assert [leg.q850 for leg in told.legs] == [31, 31]


@pytest.mark.parametrize(
    ("code", "said", "heard", "cause"),
    [
        (480, 'Q.850;cause=20;text="absent"', 480, 20),
        (404, None, 404, 1),
        (403, None, 480, 21),
        (503, "Q.850;cause=17", 486, 17),
        (500, "SIP;cause=486, Q.850;cause=21", 603, 21),
    ],
)
async def test_the_cause_of_a_refusal_reaches_the_caller(
    stage: Stage, code: int, said: str | None, heard: int, cause: int
) -> None:
    scene = await stage()
    scene.call()
    invited = await scene.callee.expect(Invited)
    scene.callee.endpoint.respond(invited.transaction, code, 0.0, headers=with_reason(said) if said else [])
    scene.callee.drive()
    assert (await scene.caller.expect(Failed)).status == heard
    assert reasons(scene.caller, b"SIP/2.0 4" if heard < 600 else b"SIP/2.0 6") == [f"Q.850;cause={cause}"]
    told = await scene.interaction()
    assert told.legs[1].sip_code == code
    assert told.legs[1].q850 == cause


async def test_a_caller_who_gives_up_is_told_to_the_callee_with_the_cause_alone(stage: Stage) -> None:
    scene = await stage()
    leg = scene.call()
    scene.callee.respond(await scene.callee.expect(Invited), 180)
    await scene.caller.expect(Progressed)
    scene.caller.endpoint.cancel(leg, 0.0, headers=with_reason('Q.850;cause=31;text="tired of waiting"'))
    scene.caller.drive()
    cancelled = await scene.callee.expect(Cancelled)
    assert isinstance(cancelled.request, Request)
    assert cancelled.request.headers["reason"] == ["Q.850;cause=31"]
    told = await scene.interaction()
    assert [(one.sip_code, one.q850) for one in told.legs] == [(487, 31), (487, 31)]


async def test_when_every_trunk_has_failed_the_caller_hears_the_last_ones_cause(stage: Stage) -> None:
    scene = await stage()
    scene.call()
    for phone, said in ((scene.callee, "Q.850;cause=38"), (scene.caller, "Q.850;cause=34")):  # both of one carrier
        invited = await phone.expect(Invited)
        phone.endpoint.respond(invited.transaction, 503, 0.0, headers=with_reason(said))
        phone.drive()
    assert (await scene.caller.expect(Failed)).status == 480
    assert reasons(scene.caller, b"SIP/2.0 4") == ["Q.850;cause=34"]
