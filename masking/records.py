"""A session as Redis holds it: the record the core wrote, beside what the pools keep about its leases.

The record knows its people by id, blind index and sealed number; which X answers which of its *lines* the pools say.
"""

from __future__ import annotations

from collections.abc import Awaitable
from itertools import permutations
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from masking.consent import EVERYWHERE, ConsentPolicy
from masking.events import Event
from masking.latecalls import ANNOUNCED, KeptLateCall
from masking.pins import NOBODY, Pin, Way
from masking.refusals import NotFound
from masking.sentences import OURS, Announcements
from masking.stages import Stage
from pools.grants import Holder, shard_of
from pools.numbers import Number

if TYPE_CHECKING:
    from masking.house import House

JOURNAL_PAGE: Final = 500
RECENT_MS: Final = 15_000  # how long a change is looked for in Redis, while the archive may not have it yet

# Whose word about a caller is enough: the trunk's, or only one that STIR verified (`sipedge.stir`).
CallerTrust = Literal["any", "verified"]
# Must whoever answers press a key before the caller is let in? A voicemail never does.
AnswerConfirm = Literal["none", "keypress"]
# Are people told of a recording where nobody has to be?
RecordingNotice = Literal["spoken", "none"]
# What becomes of a call that is up when its session ends.
OnExpiryInCall = Literal["finish", "hangup"]


class Person(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A participant. `party` is the blind index, `sealed` opens under `seal_context`, `display` is `+8490…67`: all
    three of the phone that rings first. `others` are the indexes of further phones of theirs; `next` are those of them
    that ring in turn, sealed alike. `state`: where in their `country`, if laws differ within it (`masking.consent`)."""

    id: str
    role: str | None
    friendly_name: str | None
    language: str | None
    country: str | None
    display: str
    party: str
    sealed: str
    others: tuple[str, ...] = ()
    next: tuple[str, ...] = ()
    state: str | None = None

    @property
    def parties(self) -> tuple[str, ...]:
        """Every phone they may call from, the one that rings first."""
        return (self.party, *self.others)


class Line(msgspec.Struct, frozen=True, gc=False):
    """One ask, thus one X: for whom it stands, as (from, to) participant ids. Two of them: a shared X."""

    ways: tuple[tuple[str, str], ...]


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a session was opened with, and what PATCH changed since. `created_at` is seconds since 1970; `pins` are the
    ways' own PINs, sealed (`masking.pins`)."""

    tenant: str
    service: str
    service_name: str
    unique_name: str | None
    created_at: float
    mode: str
    direction: str
    record: str
    pair_quarantine: int
    ring_timeout: int
    call_time_limit: int
    warning_at: int
    max_concurrent_calls: int
    metadata: dict[str, str]
    people: tuple[Person, ...]
    lines: tuple[Line, ...]
    guest: Person | None = None  # of one party: whoever calls (`masking.guests`)
    pin: Pin = NOBODY
    pins: bytes = b""
    extensions: dict[str, str] = {}  # by who is reached
    caller_trust: CallerTrust = "any"
    max_call_attempts_per_hour: int = 0
    answer_confirm: AnswerConfirm = "none"
    on_expiry_in_call: OnExpiryInCall = "finish"
    stages: tuple[Stage, ...] = ()
    announcements: Announcements = OURS
    late_call: KeptLateCall = ANNOUNCED  # sealed for the session's letters
    consent: ConsentPolicy = EVERYWHERE
    recording_notice: RecordingNotice = "spoken"
    sliding: int = 0  # seconds it lives on after each call; 0: its end stays where it was put

    @property
    def everybody(self) -> tuple[Person, ...]:
        """Its people, and whoever calls."""
        return self.people if self.guest is None else (*self.people, self.guest)

    @property
    def ways(self) -> list[Way]:
        """Everybody to everybody else, as (from, to)."""
        return list(permutations([person.id for person in self.people], 2))

    @property
    def has_pins(self) -> bool:
        """Is there a caller of this session who would be asked for a PIN?"""
        return self.pin.policy != "none" or self.caller_trust != "any"

    @property
    def parties(self) -> list[str]:
        """The blind indexes of its people's numbers."""
        return [party for person in self.people for party in person.parties]

    @property
    def parties_of(self) -> dict[str, tuple[str, ...]]:
        """Of each participant, the blind indexes of its phones."""
        return {person.id: person.parties for person in self.people}

    def person(self, participant: str) -> Person:
        return next(person for person in self.everybody if person.id == participant)

    def line(self, source: str, target: str) -> int:
        """Which ask is dialled by `source` to reach `target`."""
        return next(index for index, line in enumerate(self.lines) if (source, target) in line.ways)


_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(Record)


def packed(record: Record) -> bytes:
    return _ENCODER.encode(record)


def unpacked(raw: bytes) -> Record:
    return _DECODER.decode(raw)


def late(record: Record) -> str:
    """The holder's field `late`, which the pools' route reads: has the session a word for late calls?"""
    return "" if record.late_call.policy == "announce" else record.late_call.policy


def seal_context(session: str, participant: str) -> str:
    """Where a person's sealed number stands: copied elsewhere it does not open. The session is named without its shard,
    which is chosen after the sealing."""
    return f"{session[-22:]}|{participant}"


def phones(house: House, session: str, person: Person) -> tuple[Number, ...]:
    """The numbers that ring for the person, in their order, for their own legs."""
    context = seal_context(session, person.id)
    return tuple([house.keyring.unseal(sealed, context) for sealed in (person.sealed, *person.next)])


def recent(tenant: str) -> str:
    """The key of the tenant's sessions that changed in the last seconds; in one slot with its names."""
    return f"recent:{{{tenant}}}"


def touch(house: House, tenant: str, session: str) -> Awaitable[Any]:
    """Notes a change that lists must show before the archive has it. It is on its way when this returns; await it to
    know that it arrived."""
    now = house.now_ms
    house.ahead("ZREMRANGEBYSCORE", recent(tenant), "-inf", now - RECENT_MS)
    return house.ahead("ZADD", recent(tenant), now, session)


async def held(house: House, tenant: str, session: str) -> tuple[Holder, Record] | None:
    """The session while Redis holds it; None when it is gone, unknown or another tenant's."""
    try:
        shard_of(session)
    except ValueError:
        return None
    holder = await house.leases.read(session)
    if holder is None or "record" not in holder.fields:
        return None
    record = unpacked(holder.fields["record"])
    return (holder, record) if record.tenant == tenant else None


async def events_of(house: House, tenant: str, session: str) -> list[Event]:
    """A session's events in `seq` order, from Redis while it is there, else from the archive; `NotFound`."""
    if await held(house, tenant, session) is not None:
        found: list[Event] = []
        while page := await house.leases.journal(session, found[-1].seq if found else 0, JOURNAL_PAGE):
            found.extend(Event.of(session, entry) for entry in page)
            if len(page) < JOURNAL_PAGE:
                break
        return found
    if house.archive is not None:
        from masking import archive

        async with house.archive.connect() as connection:
            bodies = await archive.events_of(connection, tenant, session)
        if bodies:
            return [msgspec.json.decode(body, type=Event) for body in bodies]
    raise NotFound("No such session.")
