"""One-party sessions (AXN): the number of one person, which anybody may call.

In a service of `number_model: one_party` a session has one participant and an X of its own. Whoever calls X, from
whatever phone, reaches the participant, who sees X; the participant calls X and reaches whoever called it last. Neither
learns the other's number: callers have one participant's id between them, the session's *guest*, and the last one's
number is kept sealed as a participant's is. To the pools "anybody" is one more party of the ask, so an X is nobody
else's while a session of this kind has it, and rests for everybody afterwards.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from masking import consent, numbering, records
from masking.records import Person, Record

if TYPE_CHECKING:
    from masking.house import House
    from pools.numbers import Number

ANYBODY: Final = "any"  # the party that every caller is whom nothing else binds; no person's index is so short
ROLE: Final = "anyone"
TRIES: Final = 4


def guest(name: str) -> Person:
    """Whoever calls, before anybody has."""
    return Person(
        id=name, role=ROLE, friendly_name=None, language=None, country=None, display="", party=ANYBODY, sealed=""
    )


def calling(house: House, record: Record, caller: Number | None) -> Record:
    """The record while `caller` (None: withheld) is the guest: what blocks say of them holds."""
    if record.guest is None or caller is None:
        return record
    return msgspec.structs.replace(
        record,
        guest=msgspec.structs.replace(
            record.guest,
            party=house.keyring.index(caller),
            country=(country := numbering.country_of(caller)),
            state=consent.state_of(caller, country),
        ),
    )


async def remember(house: House, session: str, caller: Number) -> None:
    """Keeps who called last, for the participant to call back; the last of many at once."""
    for _ in range(TRIES):
        holder = await house.leases.read(session)
        if holder is None:
            return
        record = records.unpacked(holder.fields["record"])
        if record.guest is None:
            return
        known = msgspec.structs.replace(
            record.guest,
            party=house.keyring.index(caller),
            sealed=house.keyring.seal(caller, records.seal_context(session, record.guest.id)),
        )
        if known.party == record.guest.party:
            return
        kept: dict[str, str | bytes | int] = {"record": records.packed(msgspec.structs.replace(record, guest=known))}
        told = await house.leases.append(session, [], set_fields=kept, expect_rev=holder.rev)
        if told.outcome != "conflict":
            return
