"""A session's own words, and silence, in the place of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from masking import services, sessions
from masking.interactions import Notice
from masking.sentences import Announcements, Voice
from masking.services import ServiceChange
from sipedge import announcements
from sipedge.sip.events import Acked, Answered, Ended, Failed, Invited, Progressed, Responded
from tests.edge.conftest import ACCESS, Stage
from tests.edge.test_outgoing import Set, office
from tests.masking.test_sentences import spoken

__all__ = ["office"]


def test_a_chosen_sentence_speaks_the_leg_s_language_else_any_else_ours() -> None:
    voices = {(language, "hello"): Voice(Path(language), "0", 1.0) for language in ("en", "vi", "fr")}
    only = {("fr", "hello"): voices["fr", "hello"]}
    chosen = Announcements(connecting="hello", no_answer=None, no_binding="not_allowed", trip_ended="gone")
    for told, country, held, expected in (
        ("vi-VN", "US", voices, "vi/hello"),
        (None, "VN", voices, "vi/hello"),
        ("de", "VN", voices, "en/hello"),
        ("vi", "VN", only, "fr/hello"),
        ("vi", "VN", {}, "vi/connecting"),
    ):
        asset = announcements.sentence(chosen, held, "connecting", told, country)
        assert asset is not None and asset.id == expected
    assert announcements.sentence(chosen, voices, "no_answer", "vi", "VN") is None
    for situation, expected in (("no_binding", "vi/not_allowed"), ("trip_ended", "vi/trip_ended")):
        asset = announcements.sentence(chosen, voices, situation, "vi", "VN")
        assert asset is not None and asset.id == expected


async def test_a_session_s_own_notice_is_the_one_that_is_proved(stage: Stage, tmp_path: Path) -> None:
    spoken(tmp_path, "vi/our_notice.wav")
    own = Announcements(recording_notice="our_notice", trip_ended=None)
    scene = await stage(record="always", media={"voices": str(tmp_path)}, announcements=own)
    leg = scene.call()
    invited = await scene.callee.expect(Invited)
    scene.callee.answer(invited)
    await scene.callee.expect(Acked)
    await scene.caller.expect(Answered)
    await scene.bridged()
    scene.caller.hang_up(leg)
    await scene.callee.expect(Ended)
    await scene.interaction()
    notices = [Notice(**one) for one in (await scene.event("call.bridged"))["notices"]]
    assert {(one.asset, one.leg) for one in notices} == {("vi/our_notice", 1), ("vi/our_notice", 2)}
    shown = await sessions.get(scene.place.house, ACCESS, scene.session)
    assert shown.announcements == own

    await sessions.close(scene.place.house, ACCESS, scene.session)
    assert (await scene.caller.expect(Responded)).status == 200
    scene.call()
    assert (await scene.caller.expect(Failed)).status == 404, "and nothing is said before"


async def test_a_service_s_words_are_heard_by_strangers(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoken(tmp_path, "vi/no_such_order.wav")
    scene = await stage(media={"voices": str(tmp_path)})
    plane, heard = scene.place.edge.plane, list[str]()
    play = plane.play

    async def overheard(call: str, leg: Literal[1, 2], asset: str, *, repeat: bool = False) -> int:
        heard.append(Path(asset).stem)
        return await play(call, leg, asset, repeat=repeat)

    monkeypatch.setattr(plane, "play", overheard)
    for words in ("no_such_order", None):
        change = ServiceChange(announcements=Announcements(no_binding=words))
        await services.change(scene.place.house, "default", "default", change)
        scene.callee.call(scene.place.address, scene.dialled, from_="<sip:+84911222333@phone.example>")
        if words is not None:
            assert (await scene.callee.expect(Progressed)).status == 183
        assert (await scene.callee.expect(Failed)).status == 404
    assert heard == ["no_such_order"]


@pytest.mark.parametrize("silent", [True, False])
async def test_a_call_of_the_app_s_connects_without_a_word_where_it_wants_so(office: Set, silent: bool) -> None:
    scene = await office(announcements=Announcements(connecting=None, callee_busy=None) if silent else None)
    await scene.call()
    first = await scene.customer.expect(Invited)
    scene.customer.answer(first)
    await scene.customer.expect(Acked)
    scene.driver.respond(await scene.driver.expect(Invited), 486)
    await scene.customer.expect(Ended)
    told = await scene.place.interaction(scene.session)
    assert told.status == "busy" and (told.billable < 0.5) == silent
