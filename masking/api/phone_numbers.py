"""Virtual numbers of a service over HTTP: added all or none, then found by id or as themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Annotated, Literal

import msgspec

from masking import number_health, numbering, quotas, replacing, services
from masking.api.identifiers import virtual_number
from masking.api.operations import Answer, Asked
from masking.api.paging import Page, Paged, cursor_for, position_in
from masking.api.problems import Declined, bad_field
from masking.blocks import spread
from masking.events import moment
from masking.number_health import Health
from masking.refusals import FieldError, NotFound
from masking.replacing import Kept
from masking.services import Service
from pools import inventory
from pools.inventory import Item, State, Taken, UnknownNumber
from pools.numbers import Number

ID = "num_"
MOST = 1000  # numbers a request
E164 = "a phone number in E.164 that could be dialled, like +842471000001"


Block = Annotated[str, msgspec.Meta(max_length=40, examples=["+842471000001", "+842471000000-+842471000099"])]


class NewPhoneNumber(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A virtual number in E.164, or a block of them (`+842471000000-+842471000099`), and the trunk it leaves by (null:
    any trunk of its country)."""

    phone_number: Block
    trunk: Annotated[str, msgspec.Meta(max_length=64)] | None = None


class NewPhoneNumbers(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The numbers to be added, 1000 with those of blocks at most: all of them or, when one cannot be, none. `dry_run`:
    nothing is added, the answer says of each what would be."""

    phone_numbers: Annotated[list[NewPhoneNumber], msgspec.Meta(min_length=1, max_length=MOST)]
    dry_run: bool = False


# `resting` is given by nobody: see a service's `number_ageing`.
GivenState = Literal["active", "draining", "suspended", "retired"]


class PhoneNumberChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`draining`: no new sessions; `suspended`: no calls either; `retired`: both, for good."""

    state: GivenState


class PhoneNumbersChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Numbers of the service and blocks of them, 1000 in all at most, and the state that all of them get. `replace`:
    the open sessions on them get other numbers, 500 sessions a request; for `overlap` seconds the old ones work on,
    where their state lets them (`draining`)."""

    phone_numbers: Annotated[list[Block], msgspec.Meta(min_length=1, max_length=MOST)]
    state: GivenState
    replace: bool = False
    overlap: Annotated[int, msgspec.Meta(ge=0, le=86_400)] = 300


class PhoneNumber(msgspec.Struct, frozen=True, kw_only=True):
    """A virtual number of a service. A `resting` one was put back after it had been retired; it is active again at
    `rests_until`."""

    id: str
    phone_number: str
    service: str
    country: str
    trunk: str | None
    state: State
    rests_until: datetime | None
    health: Health


class PhoneNumbers(msgspec.Struct, frozen=True):
    """Every number that was asked for, in that order."""

    data: list[PhoneNumber]


class CheckedPhoneNumber(msgspec.Struct, frozen=True, kw_only=True):
    """A number that could be added: it is `new`, `here` already, or was `retired` and would come back."""

    phone_number: str
    country: str
    trunk: str | None
    found: Literal["new", "here", "retired"]


class CheckedPhoneNumbers(msgspec.Struct, frozen=True):
    """Every number that was asked about, in that order."""

    data: list[CheckedPhoneNumber]


class ChangedPhoneNumbers(msgspec.Struct, frozen=True):
    """Every number that was asked for, in that order. With `replace`: how many sessions have another number, and which
    could get none. `more`: some sessions are still to be looked at; ask once more."""

    data: list[PhoneNumber]
    replaced: int = 0
    kept: list[Kept] = []
    more: bool = False


async def add_phone_numbers(asked: Asked) -> Answer:
    wish: NewPhoneNumbers = asked.body
    service = await services.get(asked.house, asked.tenant, asked.path["service"])
    fields = [f"phone_numbers[{index}].phone_number" for index in range(len(wish.phone_numbers))]
    asked_for = _spread(zip(fields, (new.phone_number for new in wish.phone_numbers), strict=True))
    trunks = dict(zip(fields, (new.trunk for new in wish.phone_numbers), strict=True))
    items = _items(asked, asked_for, trunks)
    if wish.dry_run:
        return Answer(200, await _checked(asked, service, asked_for, items))
    try:
        ageing = service.number_ageing * 1000
        added = await quotas.add_numbers(asked.house, asked.tenant, service.id, items, ageing)
    except Taken as taken:
        raise _taken([field for field, number in asked_for if number in taken.numbers]) from None
    return Answer(201, PhoneNumbers(await _shown(asked, service, added)))


def _items(asked: Asked, asked_for: Sequence[tuple[str, str]], trunks: Mapping[str, str | None]) -> list[Item]:
    """What is to be added; one refusal for everything that is wrong."""
    refused: dict[str, Declined] = {}
    items: list[Item] = []
    for field, number in asked_for:
        if field in refused:
            continue
        try:
            items.append(Item(number, _country(field, number), _trunk(asked, field, trunks[field])))
        except Declined as declined:
            refused[field] = declined
    if len(refused) > 1:
        first, *_ = refused.values()
        raise Declined(first.code, first.detail, errors=[error for one in refused.values() for error in one.errors])
    for only in refused.values():
        raise only
    return items


async def _checked(
    asked: Asked, service: Service, asked_for: Sequence[tuple[str, str]], items: Sequence[Item]
) -> CheckedPhoneNumbers:
    data, taken = [], []
    for (field, _), item in zip(asked_for, items, strict=True):
        known = await asked.house.inventory.find(item.number)
        if known is not None and (known.tenant, known.service) != (asked.tenant, service.id):
            taken.append(field)
            continue
        found: Literal["new", "here", "retired"] = "new"
        if known is not None:
            found = "retired" if known.state == "retired" else "here"
        trunk = (known.trunk if known is not None else item.trunk) or None
        data.append(CheckedPhoneNumber(phone_number=item.number, country=item.country, trunk=trunk, found=found))
    if taken:
        raise _taken(taken)
    return CheckedPhoneNumbers(data)


async def list_phone_numbers(asked: Asked) -> Answer:
    query: Paged = asked.query
    service = await services.get(asked.house, asked.tenant, asked.path["service"])
    last = position_in("phone_numbers", query.cursor, str) or ""
    rows = await asked.house.inventory.list(asked.tenant, service.id, after=last, limit=query.limit + 1)
    shown = rows[: query.limit]
    following = cursor_for("phone_numbers", shown[-1].number) if len(rows) > query.limit else None
    return Answer(200, Page(await _shown(asked, service, shown), following))


async def get_phone_number(asked: Asked) -> Answer:
    service = await services.get(asked.house, asked.tenant, asked.path["service"])
    found = await asked.house.inventory.find(_named(asked))
    if found is None or (found.tenant, found.service) != (asked.tenant, service.id):
        raise _unknown()
    return Answer(200, (await _shown(asked, service, [found]))[0])


async def change_phone_number(asked: Asked) -> Answer:
    wish: PhoneNumberChange = asked.body
    service = await services.get(asked.house, asked.tenant, asked.path["service"])
    try:
        changed = await _changed(asked, service, _named(asked), wish.state)
    except UnknownNumber:
        raise _unknown() from None
    return Answer(200, (await _shown(asked, service, [changed]))[0])


async def change_phone_numbers(asked: Asked) -> Answer:
    """Every number is known before the first is changed; asked again, it completes what was broken off."""
    wish: PhoneNumbersChange = asked.body
    if wish.replace:
        asked.access.demand("sessions")
        if wish.state == "active":
            raise bad_field("invalid_request", "replace", "makes no sense", "a state in which the numbers are left")
    service = await services.get(asked.house, asked.tenant, asked.path["service"])
    asked_for = _spread((f"phone_numbers[{index}]", text) for index, text in enumerate(wish.phone_numbers))
    numbers = [await _held(asked, service.id, field, text) for field, text in asked_for]
    changed = await asyncio.gather(*(_changed(asked, service, one, wish.state) for one in dict.fromkeys(numbers)))
    data = await _shown(asked, service, changed)
    if not wish.replace:
        return Answer(200, ChangedPhoneNumbers(data))
    left = await replacing.leave(asked.house, asked.access, [one.number for one in changed], wish.overlap)
    return Answer(200, ChangedPhoneNumbers(data, left.replaced, left.kept, left.more))


async def _changed(asked: Asked, service: Service, number: Number, state: GivenState) -> inventory.PhoneNumber:
    ageing = service.number_ageing * 1000
    return await quotas.set_state(asked.house, asked.tenant, service.id, number, state, ageing)


async def _held(asked: Asked, service: str, field: str, text: str) -> Number:
    number = virtual_number(text)
    found = await asked.house.inventory.find(number) if number is not None else None
    if number is None or found is None or (found.tenant, found.service) != (asked.tenant, service):
        raise bad_field("invalid_phone_number", field, "is, or has, no number of this service", "numbers of it")
    return number


def _spread(blocks: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Every number of the blocks, beside the field it came from."""
    found: list[tuple[str, str]] = []
    for field, text in blocks:
        try:
            found += [(field, number) for number in islice(spread(text), MOST + 1)]
        except ValueError as why:
            raise bad_field("invalid_phone_number", field, "is no block of numbers", str(why)) from None
        if len(found) > MOST:
            raise bad_field("invalid_request", "phone_numbers", "are too many", f"{MOST} numbers a request at most")
    return found


def _country(field: str, spelled: str) -> str:
    try:
        number = Number.parse(spelled)
    except ValueError:
        raise bad_field("invalid_phone_number", field, "is no E.164 number", E164) from None
    country = numbering.country_of(number)
    if country is None:
        raise bad_field("invalid_phone_number", field, "belongs to no country", E164)
    return country


def _trunk(asked: Asked, field: str, name: str | None) -> str:
    if name is not None and asked.house.config.trunk_named(name) is None:
        known = ", ".join(trunk.name for trunk in asked.house.config.trunk) or "none is configured"
        field = field.replace(".phone_number", ".trunk")
        raise bad_field("unknown_trunk", field, "is no trunk of this installation", f"one of: {known}")
    return name or ""


def _taken(fields: list[str]) -> Declined:
    errors = [
        FieldError(field, "is held by another service", "a number that is free") for field in dict.fromkeys(fields)
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


async def _shown(asked: Asked, service: Service, numbers: Sequence[inventory.PhoneNumber]) -> list[PhoneNumber]:
    healths = await number_health.of_numbers(asked.house, numbers, service.number_health)
    return [
        PhoneNumber(
            id=ID + number.number.lstrip("+"),
            phone_number=number.number,
            service=number.service,
            country=number.country,
            trunk=number.trunk or None,
            state=number.state,
            rests_until=moment(number.rests_until / 1000) if number.rests_until else None,
            health=health,
        )
        for number, health in zip(numbers, healths, strict=True)
    ]
