"""Texts that an app would send into a session: this version relays none, so there are none to show."""

from __future__ import annotations

from masking import sids
from masking.api.twilio.asked import Answer, Asked
from masking.api.twilio.errors import BAD_REQUEST, Trouble
from masking.api.twilio.found import participant_of, url_of
from masking.api.twilio.paging import listed
from masking.refusals import NotFound


async def create(asked: Asked) -> Answer:
    await participant_of(asked)
    raise Trouble(BAD_REQUEST, "Texts are not relayed by this version: nothing was sent.", 501)


async def fetch(asked: Asked) -> Answer:
    await participant_of(asked)
    raise NotFound("The message interaction was not found.")


async def read(asked: Asked) -> Answer:
    service, session, one = await participant_of(asked)
    where = f"{url_of(asked, service, session)}/Participants/{sids.participant(one.id)}"
    return listed(asked, "interactions", f"{where}/MessageInteractions", [])
