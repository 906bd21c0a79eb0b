"""Callers whom nobody is bound to, as their app may know them: by a handle and by a token, never by their number.

A handle (`clr_…`) is the same for every call of one phone within a tenant, and opens nothing: an app asks once for the
handles of the people it knows, keeps them beside them, and so recognises who calls. A token (`clt_…`) stands for the
number of one call's caller in a session that is opened within a minute, once.
"""

from __future__ import annotations

import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
from msgspec import UNSET, Meta

from masking import numbering
from masking.checks import E164
from masking.house import letters
from masking.refusals import FieldError, Invalid, InvalidPhoneNumber, Refused
from masking.sessions import Identifier

if TYPE_CHECKING:
    from masking.house import House
    from masking.sessions import NewParticipant, NewSession
    from pools.numbers import Number

LASTS: Final = 60  # seconds in which a token can be used


class Lookup(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose handle is asked for. Its repr does not show it."""

    identifier: Identifier

    def __repr__(self) -> str:
        return "<Lookup>"


class Caller(msgspec.Struct, frozen=True):
    """How the person is named when they call and nobody is bound to them."""

    caller: Annotated[str, Meta(description="A handle, clr_….")]


def handle(house: House, tenant: str, number: Number) -> str:
    """The caller's handle within the tenant."""
    key = house.keyring.derived("caller handles")
    return "clr_" + letters(hmac.digest(key, f"{tenant} {house.keyring.index(number)}".encode(), "sha256")[:22])


def look_up(house: House, tenant: str, asked: Lookup) -> Caller:
    """`InvalidPhoneNumber` for what no person can have."""
    number = numbering.person(asked.identifier)
    if number is None:
        error = FieldError("identifier", "is not a valid phone number", E164)
        raise InvalidPhoneNumber("identifier is not a valid phone number.", [error])
    return Caller(handle(house, tenant, number))


async def token(house: House, tenant: str, number: Number) -> str:
    """A fresh token that stands for the number in one session of the tenant's."""
    made = house.token("clt_")
    await house.redis.command("SET", _key(tenant, made), house.keyring.seal(number, made), "EX", LASTS)
    return made


@asynccontextmanager
async def redeemed(house: House, tenant: str, new: NewSession) -> AsyncIterator[NewSession]:
    """The session to open, with what its participants' tokens stand for in their place; `Invalid`. The tokens are used
    up, unless it is refused."""
    if not any([person.caller_token for person in new.participants]):
        yield new
        return
    people = [await _known(house, tenant, one, place) for place, one in enumerate(new.participants)]
    try:
        yield msgspec.structs.replace(new, participants=people)
    except Refused:
        for before, after in zip(new.participants, people, strict=True):
            await _give_back(house, tenant, before.caller_token, after)
        raise


async def _give_back(house: House, tenant: str, token: str | None, known: NewParticipant) -> None:
    if token is not None and known.caller_token is None and isinstance(known.identifier, str):
        sealed = house.keyring.seal(numbering.Number.parse(known.identifier), token)
        await house.redis.command("SET", _key(tenant, token), sealed, "EX", LASTS, "NX")


async def _known(house: House, tenant: str, person: NewParticipant, place: int) -> NewParticipant:
    if person.caller_token is None or person.identifier is not UNSET or person.identifiers is not None:
        return person
    key = _key(tenant, person.caller_token)
    sealed = await house.redis.command("GETDEL", key)
    if sealed is None:
        field = f"participants[{place}].caller_token"
        raise Invalid.field(field, "is unknown, used, or too old", f"one of the last {LASTS} seconds, once")
    number = house.keyring.unseal(sealed.decode(), person.caller_token)
    # Into the place where the app would have said it.
    return msgspec.structs.replace(person, caller_token=None, identifier=number.reveal())


def _key(tenant: str, token: str) -> str:
    return f"caller:{{{tenant}}}:{token}"
