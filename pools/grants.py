"""What is asked of the leases and what they answer: plain values, no I/O. Times are milliseconds since 1970, UTC."""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import Final, Literal

import msgspec

# One fact for a holder's journal: type, when (None: now, by the shard's clock), data as a JSON object.
Fact = tuple[str, int | None, bytes]

Policy = Literal["avoid_sticky", "prefer_sticky"]

# routed      the caller may be connected; the call slot is claimed
# no_binding  nobody is bound to (X, caller); nothing was written
# ended       the binding has ended and its tombstone still stands
# limit       as many calls are up as the holder allows (its field `max_calls`)
# mode        the holder's field `mode` excludes this channel (`voice_only` a message, `message_only` a call)
# direction   the holder's field `denied` names this `from|to`
# blocked     the holder's field `paused` is set
# late        the binding has ended, and the holder has a word for such calls (its field `late`); or the call was to be
#             forwarded, and the binding is live; nothing was written
# forward     asked so of a binding that has ended: the call slot is claimed, and the caller goes elsewhere
Decision = Literal["routed", "no_binding", "ended", "limit", "mode", "direction", "blocked", "late", "forward"]

# How a route is asked for. Of a call that is known to be late: `forward` it, or `refuse` it whatever `late` says.
Channel = Literal["voice", "message", "forward", "refuse"]


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One side of an ask: `party` (a `Keyring.index`, or a `secret`) dials X and means `target`, participant ids as
    ``from|to``."""

    party: str
    target: str


class Ask(msgspec.Struct, frozen=True, gc=False):
    """One X, free for every entry's party. Two entries: a shared X; one entry: a per-party X. `near`: how the X is to
    begin (``+1415``), where that matters."""

    entries: tuple[Entry, ...]
    near: str = ""


class Tight(msgspec.Struct, frozen=True, gc=False):
    """How near a shard came to having no number: what the parties of an ask held or had in quarantine of it, and
    the number they got, come to `used`. Up to `size`, its open numbers, one was sure to be free."""

    shard: str
    used: int
    size: int

    @property
    def part(self) -> float:
        return self.used / max(1, self.size)


class Bound(msgspec.Struct, frozen=True, gc=False):
    """What a holder has: `numbers[i]` (E.164) answers ask i. `fresh` is False when the same holder was bound before.
    `tight`: the shard of it that came nearest to its end, when it was bound now."""

    holder: str
    numbers: tuple[str, ...]
    expires: int
    status: str
    seq: int
    rev: int
    fresh: bool
    tight: Tight | None = None


class Extended(msgspec.Struct, frozen=True):
    """`outcome`: ``extended``, or ``ended`` (closed, past its time, or unknown). `expires` as it is now."""

    outcome: Literal["extended", "ended"]
    expires: int
    seq: int


class Released(msgspec.Struct, frozen=True):
    """`outcome`: ``released`` now; nothing was written with ``already``, ``live`` (`only_lapsed`, and its time is not
    over) and ``gone`` (no such holder)."""

    outcome: Literal["released", "already", "live", "gone"]
    seq: int


class Reopened(msgspec.Struct, frozen=True):
    """`outcome`: ``reopened``; nothing was written with ``open`` (it had not ended), ``rested`` (quarantine is over:
    a number may be somebody else's by now), ``crowded`` (no room for its secrets) and ``gone`` (no such holder)."""

    outcome: Literal["reopened", "open", "rested", "crowded", "gone"]
    expires: int
    seq: int


class Grant(msgspec.Struct, frozen=True, gc=False):
    """One entry of a live holder: `party` dials an X and means the holder's target `ordinal`. Entries of one `position`
    of a shard are of one X. `shard`: "" is the holder's own."""

    position: int
    ordinal: int
    party: str
    shard: str = ""


class End(msgspec.Struct, frozen=True, gc=False):
    """A step: the entry `ordinal` ends after `ms`, and is a tombstone then."""

    ordinal: int
    ms: int = 0

    def words(self) -> list[str | int]:
        return ["end", self.ordinal, self.ms]


class Take(msgspec.Struct, frozen=True, gc=False):
    """A step: `party` dials the X of the entry `ordinal` as well, and means the target `to`."""

    ordinal: int
    to: int
    party: str

    def words(self) -> list[str | int]:
        return ["take", self.ordinal, self.to, self.party]


class Lease(msgspec.Struct, frozen=True, gc=False):
    """A step: a free X for all of `entries` (target, party), which becomes the holder's `numbers[slot]`. `wish`: the
    one they had last where it is free (``sticky``), or the one of that position and no other."""

    slot: int
    entries: tuple[tuple[int, str], ...]
    wish: int | Literal["", "sticky"] = ""

    def words(self) -> list[str | int]:
        words = [word for entry in self.entries for word in entry]
        return ["lease", self.slot, self.wish, len(self.entries), *words]


class Drop(msgspec.Struct, frozen=True, gc=False):
    """A step: `numbers[slot]`, whose entries end, is no number of the holder any more. Those behind it move up when all
    steps are done."""

    slot: int

    def words(self) -> list[str | int]:
        return ["drop", self.slot]


class Given(msgspec.Struct, frozen=True, gc=False):
    """A step in the holder's own shard: another shard has given it `number`, which becomes its `numbers[slot]`."""

    slot: int
    number: str

    def words(self) -> list[str | int]:
        return ["given", self.slot, self.number]


class Reach(msgspec.Struct, frozen=True, gc=False):
    """A step in the holder's own shard: it has leases in that `shard`, too."""

    shard: str

    def words(self) -> list[str | int]:
        return ["reach", self.shard]


class Amended(msgspec.Struct, frozen=True):
    """`outcome`: ``amended``; nothing was written with ``conflict`` (`expect_rev` is not `rev`), ``ended`` (closed,
    past its time, unknown) and ``taken`` (a party of a `Take`, or of a `Lease` that wishes for one X, has another lease
    or a tombstone on that X). `tight`: of the shards that gave an X, the one that came nearest to its end."""

    outcome: Literal["amended", "conflict", "ended", "taken"]
    numbers: tuple[str, ...] = ()
    tight: Tight | None = None


class Route(msgspec.Struct, frozen=True):
    """The answer to "who is behind (X, caller)": `source` and `target` are participant ids, `fields` those wanted.

    `repeated`: this call had claimed its slot before; nothing was written again. With ``no_binding`` all else is empty.
    """

    decision: Decision
    holder: str = ""
    source: str = ""
    target: str = ""
    expires: int = 0
    seq: int = 0
    repeated: bool = False
    fields: dict[str, bytes] = {}


class Standing(msgspec.Struct, frozen=True):
    """What binds a party to an X: live until `expires`, then a tombstone until `until` (ms). `ordinal` picks the
    holder's target."""

    holder: str
    ordinal: int
    expires: int
    until: int


class Appended(msgspec.Struct, frozen=True):
    """`outcome`: ``appended``; nothing was written with ``gone`` (no such holder), ``conflict`` (`expect_rev` is not
    `rev`), ``ended`` (that call had ended before) and ``kept`` (the call has another owner than `only_owner`)."""

    outcome: Literal["appended", "gone", "conflict", "ended", "kept"]
    seq: int
    rev: int


class Holder(msgspec.Struct, frozen=True):
    """A holder as stored: what pools keeps about it, and in `fields` what its owner wrote (``record`` and so on)."""

    holder: str
    status: str
    reason: str
    expires: int
    until: int
    rev: int
    seq: int
    calls: int
    numbers: tuple[str, ...]
    targets: tuple[str, ...]
    shards: tuple[str, ...]  # the other ones it has leases in
    grants: tuple[Grant, ...]  # in its own shard
    fields: dict[str, bytes]


class JournalEntry(msgspec.Struct, frozen=True):
    """One entry of a holder's journal; `seq` starts at 1 and has no gap."""

    seq: int
    type: str
    at: int
    data: bytes


class OutboxEntry(msgspec.Struct, frozen=True):
    """One journal entry as the courier meets it; `id` is its place in the shard's outbox."""

    id: str
    shard: str
    holder: str
    seq: int
    type: str
    at: int
    data: bytes


class LiveCall(msgspec.Struct, frozen=True):
    """A call that holds a slot: `owner` beats for it, `since` when it claimed, `facts` are the owner's."""

    call: str
    holder: str
    owner: str
    since: int
    facts: bytes


class LeaseError(Exception):
    """A bind that cannot be done."""


class Exhausted(LeaseError):
    """No X is free for these parties; nothing was written.

    `needed`: how many more numbers the shard would have to have. `retry_after`: seconds until what is in the way
    has lapsed, None when there is nothing to wait for.
    """

    def __init__(self, shard: str, needed: int, retry_after: float | None) -> None:
        super().__init__(f"shard {shard} has {needed} numbers too few for these parties")
        self.shard = shard
        self.needed = needed
        self.retry_after = retry_after


_HOLDER: Final = re.compile(r"ses_([a-z0-9]{6})[A-Za-z0-9]{16,32}", re.ASCII)
_ALPHABET: Final = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_LETTERS: Final = (_ALPHABET * 5)[:256].encode()  # one letter or digit for each byte


def secret(digits: int, index: str) -> str:
    """The party that whoever keys a secret of so many digits is; `index` stands for the secret, as for a person's
    number."""
    return f"k{digits}.{index}"


def shard_of(holder: str) -> str:
    """The shard a holder's id names: ``ses_``, six lower-case letters or digits, then 16 to 32 letters or digits.

    ValueError, which does not repeat the text, when it names none.
    """
    found = _HOLDER.fullmatch(holder)
    if found is None:
        raise ValueError("not a session's id")
    return found[1]


def holder_id(shard: str, random: bytes) -> str:
    """A new holder's id in `shard` out of 17 or more random bytes: 22 letters and digits made of them, always the same
    of the same."""
    return holder_in(shard, letters_of(random))


def letters_of(random: bytes) -> str:
    """The part of a holder's id that is the same in every shard."""
    if len(random) < 17:
        raise ValueError("an id needs 17 random bytes")
    return blake2b(random, digest_size=22).digest().translate(_LETTERS).decode()


def holder_in(shard: str, letters: str) -> str:
    """The id with these letters in `shard`; ValueError when it is none."""
    holder = f"ses_{shard}{letters}"
    shard_of(holder)
    return holder
