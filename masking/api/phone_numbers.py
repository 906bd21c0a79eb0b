"""Virtual numbers of a service over HTTP: added all or none, then found by id or as themselves."""

from __future__ import annotations

from typing import Annotated

import msgspec

from masking import numbering, services
from masking.api.identifiers import virtual_number
from masking.api.operations import Answer, Asked
from masking.api.paging import Page, Paged, cursor_for, position_in
from masking.api.problems import Declined, bad_field
from masking.refusals import FieldError, NotFound
from pools import inventory
from pools.inventory import Item, State, Taken, UnknownNumber
from pools.numbers import Number

ID = "num_"
E164 = "a phone number in E.164 that could be dialled, like +842471000001"


class NewPhoneNumber(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A virtual number in E.164, and the trunk it leaves by (null: any trunk of its country)."""

    phone_number: Annotated[str, msgspec.Meta(max_length=32, examples=["+842471000001"])]
    trunk: Annotated[str, msgspec.Meta(max_length=64)] | None = None


class NewPhoneNumbers(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The numbers to be added: all of them or, when one cannot be, none."""

    phone_numbers: Annotated[list[NewPhoneNumber], msgspec.Meta(min_length=1, max_length=1000)]


class PhoneNumberChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`draining`: no new sessions; `suspended`: no calls either; `retired`: both, for good."""

    state: State


class PhoneNumber(msgspec.Struct, frozen=True, kw_only=True):
    """A virtual number of a service."""

    id: str
    phone_number: str
    service: str
    country: str
    trunk: str | None
    state: State


class PhoneNumbers(msgspec.Struct, frozen=True):
    """Every number that was asked for, in that order."""

    data: list[PhoneNumber]


async def add_phone_numbers(asked: Asked) -> Answer:
    wish: NewPhoneNumbers = asked.body
    service = await services.get(asked.house, asked.tenant, asked.path["service"])
    items = [_item(asked, index, new) for index, new in enumerate(wish.phone_numbers)]
    try:
        added = await asked.house.inventory.add(asked.tenant, service.id, items)
    except Taken as taken:
        raise _taken(items, taken) from None
    return Answer(201, PhoneNumbers([_shown(number) for number in added]))


async def list_phone_numbers(asked: Asked) -> Answer:
    query: Paged = asked.query
    service = await services.get(asked.house, asked.tenant, asked.path["service"])
    last = position_in("phone_numbers", query.cursor, str) or ""
    rows = await asked.house.inventory.list(asked.tenant, service.id, after=last, limit=query.limit + 1)
    shown = rows[: query.limit]
    following = cursor_for("phone_numbers", shown[-1].number) if len(rows) > query.limit else None
    return Answer(200, Page([_shown(number) for number in shown], following))


async def get_phone_number(asked: Asked) -> Answer:
    service = await services.get(asked.house, asked.tenant, asked.path["service"])
    found = await asked.house.inventory.find(_named(asked))
    if found is None or (found.tenant, found.service) != (asked.tenant, service.id):
        raise _unknown()
    return Answer(200, _shown(found))


async def change_phone_number(asked: Asked) -> Answer:
    wish: PhoneNumberChange = asked.body
    service = await services.get(asked.house, asked.tenant, asked.path["service"])
    try:
        changed = await asked.house.inventory.set_state(asked.tenant, service.id, _named(asked), wish.state)
    except UnknownNumber:
        raise _unknown() from None
    return Answer(200, _shown(changed))


def _item(asked: Asked, index: int, new: NewPhoneNumber) -> Item:
    field = f"phone_numbers[{index}]"
    try:
        number = Number.parse(new.phone_number)
    except ValueError:
        raise bad_field("invalid_phone_number", f"{field}.phone_number", "is no E.164 number", E164) from None
    country = numbering.country_of(number)
    if country is None:
        raise bad_field("invalid_phone_number", f"{field}.phone_number", "belongs to no country", E164)
    if new.trunk is not None and asked.house.config.trunk_named(new.trunk) is None:
        known = ", ".join(trunk.name for trunk in asked.house.config.trunk) or "none is configured"
        raise bad_field("unknown_trunk", f"{field}.trunk", "is no trunk of this installation", f"one of: {known}")
    return Item(new.phone_number, country, new.trunk or "")


def _taken(items: list[Item], taken: Taken) -> Declined:
    errors = [
        FieldError(f"phone_numbers[{index}].phone_number", "is held by another service", "a number that is free")
        for index, item in enumerate(items)
        if item.number in taken.numbers
    ]
    return Declined("phone_number_taken", "Nothing was added: a number is held elsewhere.", errors=errors)


def _named(asked: Asked) -> Number:
    """The number in the path, by its id or as itself."""
    number = virtual_number(asked.path["number"].removeprefix(ID))
    if number is None:
        raise _unknown()
    return number


def _unknown() -> NotFound:
    return NotFound("No such phone number in this service.")


def _shown(number: inventory.PhoneNumber) -> PhoneNumber:
    return PhoneNumber(
        id=ID + number.number.lstrip("+"),
        phone_number=number.number,
        service=number.service,
        country=number.country,
        trunk=number.trunk or None,
        state=number.state,
    )
