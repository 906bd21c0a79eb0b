"""Services: named defaults, and a pool of numbers each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from masking import archive, callbacks, services, shelves, sids
from masking import sessions as core
from masking.api.twilio.asked import Answer, Asked, forget, gone
from masking.api.twilio.errors import BAD_REQUEST, SERVICE_NAME, Trouble
from masking.api.twilio.found import names_of_others
from masking.api.twilio.paging import listed
from masking.callbacks import at
from masking.checks import LONGEST, SHORTEST_TTL
from masking.refusals import UniqueNameConflict
from masking.services import Service, ServiceChange

Url = Annotated[str, Meta(max_length=2048)]
OPEN: Final[tuple[core.SessionStatus, ...]] = ("open", "in_progress")
NAMES: Final = {"avoid-sticky": "avoid_sticky", "prefer-sticky": "prefer_sticky"}


class ServiceForm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="pascal"):
    """`POST` of a service; an empty URL takes it away."""

    unique_name: Annotated[str, Meta(min_length=1, max_length=191)] | UnsetType = UNSET
    default_ttl: Annotated[int, Meta(ge=0)] | UnsetType = UNSET
    callback_url: Url | UnsetType = UNSET
    intercept_callback_url: Url | UnsetType = UNSET
    out_of_session_callback_url: Url | UnsetType = UNSET
    geo_match_level: Literal["area-code", "overlay", "radius", "country"] | UnsetType = UNSET
    number_selection_behavior: Literal["avoid-sticky", "prefer-sticky"] | UnsetType = UNSET
    chat_instance_sid: str | UnsetType = UNSET


async def create(asked: Asked) -> Answer:
    form: ServiceForm = asked.form
    if form.unique_name is UNSET:
        raise Trouble(BAD_REQUEST, "UniqueName is missing.")
    # Twilio's number model: each person has a number of their own, and what a Ttl of nothing means is no end.
    change = msgspec.structs.replace(_change(form), number_model="per_party")
    if change.ttl is UNSET:
        change = msgspec.structs.replace(change, ttl=LONGEST)
    try:
        made = await services.create(asked.house, asked.tenant, change, "twilio")
    except UniqueNameConflict:
        raise _name_taken() from None
    return Answer(201, await _told(asked, made))


async def fetch(asked: Asked) -> Answer:
    return Answer(200, _shown(asked, await asked.service(), await callbacks.told_at(asked.house, asked.tenant)))


async def read(asked: Asked) -> Answer:
    rows = await services.listing(asked.house, asked.tenant)
    deleted = await gone(asked, [sids.service(service.id) for service in rows])
    told_at = await callbacks.told_at(asked.house, asked.tenant)
    shown = [_shown(asked, service, told_at) for service in rows if sids.service(service.id) not in deleted]
    return listed(asked, "services", f"{asked.base}/Services", shown)


async def update(asked: Asked) -> Answer:
    service = await asked.service()
    try:
        changed = await services.change(asked.house, asked.tenant, service.id, _change(asked.form), "twilio")
    except UniqueNameConflict:
        raise _name_taken() from None
    return Answer(200, await _told(asked, changed))


async def _told(asked: Asked, service: Service) -> dict[str, Any]:
    """The service, whose callbacks are signed with this request's key from now on, and told where its form says."""
    form: ServiceForm = asked.form
    await callbacks.sign_as(asked.house, asked.tenant, service.id, callbacks.Signer(asked.account, asked.key))
    if isinstance(form.callback_url, str):
        assert asked.house.archive is not None, "the API's house has an archive"
        async with asked.house.archive.connect() as connection:
            since = await archive.last_position(connection, asked.tenant)
        await callbacks.tell(asked.house, asked.tenant, service.id, form.callback_url or None, since)
    return _shown(asked, service, await callbacks.told_at(asked.house, asked.tenant))


async def delete(asked: Asked) -> Answer:
    """Its sessions are closed, its numbers retired; its name is free again."""
    service = await asked.service()
    if service.id == services.default_id(asked.tenant):
        raise Trouble(BAD_REQUEST, "The service `default` is always there.")
    await services.change(asked.house, asked.tenant, service.id, ServiceChange(unique_name=None))
    for status in OPEN:
        await _close_all(asked, service, status)
    last = ""
    while numbers := await asked.house.inventory.list(asked.tenant, service.id, after=last, limit=500):
        for number in numbers:
            await asked.house.inventory.set_state(asked.tenant, service.id, number.number, "retired")
        last = numbers[-1].number
    await callbacks.tell(asked.house, asked.tenant, service.id, None, 0)
    await forget(asked, sids.service(service.id))
    return Answer(204)


async def _close_all(asked: Asked, service: Service, status: core.SessionStatus) -> None:
    others, before = await names_of_others(asked, service), None
    while True:
        page = await shelves.listing(
            asked.house, asked.access, status=status, letters=sids.letters_prefix(service.id), before=before
        )
        for session in page.data:
            if session.service not in others:
                await core.close(asked.house, asked.access, session.id)
        before = page.next
        if before is None:
            return


def _name_taken() -> Trouble:
    return Trouble(SERVICE_NAME, "Another service has this UniqueName.")


def _change(form: ServiceForm) -> ServiceChange:
    if form.chat_instance_sid:
        raise Trouble(BAD_REQUEST, "ChatInstanceSid: texts and chats are not served.")
    if form.geo_match_level not in (UNSET, "country"):
        raise Trouble(BAD_REQUEST, "GeoMatchLevel: country is the level that is served.")
    change = ServiceChange()
    if form.unique_name is not UNSET:
        change = msgspec.structs.replace(change, unique_name=form.unique_name)
    if isinstance(form.default_ttl, int):
        change = msgspec.structs.replace(change, ttl=lifetime(form.default_ttl))
    if isinstance(form.intercept_callback_url, str):
        change = msgspec.structs.replace(change, intercept_url=form.intercept_callback_url or None)
    if isinstance(form.out_of_session_callback_url, str):
        change = msgspec.structs.replace(change, out_of_session_url=form.out_of_session_callback_url or None)
    if isinstance(form.number_selection_behavior, str):
        chosen = msgspec.convert(NAMES[form.number_selection_behavior], services.NumberSelection)
        change = msgspec.structs.replace(change, number_selection=chosen)
    return change


def lifetime(ttl: int) -> int:
    """A Ttl as it is served: nothing is as long as there is, and the shortest is a minute."""
    if ttl > LONGEST:
        raise Trouble(BAD_REQUEST, f"A time to live has {LONGEST} seconds (170 days) at most.")
    return max(SHORTEST_TTL, ttl) if ttl else LONGEST


def _shown(asked: Asked, service: Service, told_at: Mapping[str, str]) -> dict[str, Any]:
    sid = sids.service(service.id)
    url = f"{asked.base}/Services/{sid}"
    return {
        "sid": sid,
        "unique_name": service.unique_name or service.id,
        "account_sid": asked.account,
        "chat_instance_sid": None,
        "callback_url": told_at.get(service.id),
        "default_ttl": service.ttl,
        "number_selection_behavior": service.number_selection.replace("_", "-"),
        "geo_match_level": "country",
        "intercept_callback_url": service.intercept_url,
        "out_of_session_callback_url": service.out_of_session_url,
        "date_created": at(service.created_at),
        "date_updated": at(service.created_at),
        "url": url,
        "links": {"phone_numbers": f"{url}/PhoneNumbers", "sessions": f"{url}/Sessions"},
    }
