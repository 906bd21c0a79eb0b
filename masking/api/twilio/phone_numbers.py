"""The virtual numbers of a service. A reserved one is draining: it is given to nobody who does not name it."""

from __future__ import annotations

from typing import Any

import msgspec

from masking import archive, numbering, quotas, sids
from masking.api.paging import cursor_for, position_in
from masking.api.twilio.asked import Answer, Asked
from masking.api.twilio.errors import BAD_REQUEST, Trouble
from masking.api.twilio.paging import led, wanted
from masking.refusals import InvalidPhoneNumber, NotFound
from pools.inventory import Item, PhoneNumber, State, Taken
from pools.numbers import Number


class NumberForm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="pascal"):
    """`POST` of a number: itself, or a SID that this face gave out."""

    sid: str | None = None
    phone_number: str | None = None
    is_reserved: bool | None = None


class NumberChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="pascal"):
    """`POST` to a number."""

    is_reserved: bool | None = None


async def create(asked: Asked) -> Answer:
    form: NumberForm = asked.form
    service = await asked.service()
    spelled = form.phone_number or (sids.number_of(form.sid) if form.sid else None)
    if spelled is None:
        raise Trouble(BAD_REQUEST, "PhoneNumber is missing: E.164, or a Sid of a number of this installation.")
    try:
        country = numbering.country_of(Number.parse(spelled))
    except ValueError:
        country = None
    if country is None:
        raise InvalidPhoneNumber("PhoneNumber: expected a phone number in E.164 that could be dialled.")
    try:
        (added,) = await quotas.add_numbers(
            asked.house, asked.tenant, service.id, [Item(spelled, country)], service.number_ageing * 1000
        )
    except Taken:
        raise Trouble(80601, "The number belongs to another service.") from None
    if form.is_reserved is not None:
        added = await _set(asked, added, _state(form.is_reserved))
    return Answer(201, await _shown(asked, added))


async def fetch(asked: Asked) -> Answer:
    return Answer(200, await _shown(asked, await _number(asked)))


async def read(asked: Asked) -> Answer:
    service = await asked.service()
    page = wanted(asked)
    last = position_in("twilio numbers", page.token, str) or ""
    rows = await asked.house.inventory.list(asked.tenant, service.id, after=last, limit=page.size + 1)
    following = cursor_for("twilio numbers", rows[page.size - 1].number) if len(rows) > page.size else None
    shown = [await _shown(asked, number) for number in rows[: page.size] if number.state != "retired"]
    url = f"{asked.base}/Services/{sids.service(service.id)}/PhoneNumbers"
    return led("phone_numbers", url, page, shown, following)


async def update(asked: Asked) -> Answer:
    form: NumberChange = asked.form
    number = await _number(asked)
    if form.is_reserved is not None:
        number = await _set(asked, number, _state(form.is_reserved))
    return Answer(200, await _shown(asked, number))


async def delete(asked: Asked) -> Answer:
    await _set(asked, await _number(asked), "retired")
    return Answer(204)


def _state(reserved: bool) -> State:
    return "draining" if reserved else "active"


async def _set(asked: Asked, number: PhoneNumber, state: State) -> PhoneNumber:
    return await quotas.set_state(asked.house, asked.tenant, number.service, number.number, state)


async def _number(asked: Asked) -> PhoneNumber:
    service = await asked.service()
    found = await in_service(asked, service.id, asked.path["PhoneNumbers"])
    if found is None:
        raise NotFound("The number was not found.")
    return found


async def in_service(asked: Asked, service: str, named: str) -> PhoneNumber | None:
    """The service's number, by its SID or as itself; None where it is none that was not deleted."""
    spelled = named if named.startswith("+") else sids.number_of(named)
    try:
        found = await asked.house.inventory.find(spelled) if spelled is not None else None
    except ValueError:
        return None
    if found is None or (found.tenant, found.service) != (asked.tenant, service) or found.state == "retired":
        return None
    return found


async def _shown(asked: Asked, number: PhoneNumber) -> dict[str, Any]:
    assert asked.house.archive is not None, "the API's house has an archive"
    async with asked.house.archive.connect() as connection:
        in_use = await archive.open_sessions_on(connection, asked.tenant, number.number, asked.house.now())
    sid, service = sids.number(number.number), sids.service(number.service)
    return {
        "sid": sid,
        "account_sid": asked.account,
        "service_sid": service,
        "date_created": None,
        "date_updated": None,
        "phone_number": number.number,
        "friendly_name": number.number,
        "iso_country": number.country,
        "capabilities": {"voice_inbound": True, "voice_outbound": True, "sms_inbound": False, "sms_outbound": False},
        "url": f"{asked.base}/Services/{service}/PhoneNumbers/{sid}",
        "is_reserved": number.state != "active",
        "in_use": in_use,
    }
