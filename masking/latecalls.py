"""Late calls: what a participant meets who dials the session's number after it has ended, while it rests for them.

announce  the announcement that the trip has ended (the default)
reopen    the session goes on, as by `:reopen`, and the call is put through
forward   the call goes to a support number, which sees the virtual number that was dialled and never the caller's

A support number is kept sealed, as a participant's is, and shown to nobody. The service says what its sessions start
with; a session may say otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec
from msgspec import Meta

from masking import numbering
from masking.refusals import Invalid, InvalidPhoneNumber

if TYPE_CHECKING:
    from masking.house import House
    from pools.numbers import Number

Policy = Literal["announce", "reopen", "forward"]
E164: Final = "a mobile or fixed-line number in E.164: + and country code first"


class LateCall(msgspec.Struct, frozen=True, kw_only=True):
    """What a late caller meets; `display` is the support number as `+8424…00`."""

    policy: Policy = "announce"
    display: str | None = None


class KeptLateCall(LateCall, frozen=True, kw_only=True, omit_defaults=True):
    """The same with the support number, sealed for where it stands (`context`)."""

    sealed: str = ""

    @property
    def shown(self) -> LateCall:
        return LateCall(policy=self.policy, display=self.display)

    def number(self, house: House, place: str) -> Number:
        """The support number, for that number's own leg."""
        return house.keyring.unseal(self.sealed, context(place))


class LateCallWish(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What late callers shall meet; `forward_to` (E.164) goes with `forward`. Its repr does not show it."""

    policy: Policy
    forward_to: Annotated[str, Meta(max_length=32, description="A support number, E.164.")] | None = None

    def __repr__(self) -> str:
        return f"<LateCallWish {self.policy}>"


ANNOUNCED: Final = KeptLateCall()


def context(place: str) -> str:
    """Where a support number is sealed for: a service's id, or the letters of a session's."""
    return f"{place}|late_call"


async def kept(house: House, wish: LateCallWish, place: str) -> KeptLateCall:
    """The wish as it is kept at `place`; `Invalid` and its kin for a support number that is none, or one too many."""
    if wish.policy != "forward":
        if wish.forward_to is not None:
            raise Invalid.field("late_call.forward_to", "goes with policy forward alone", "no number")
        return KeptLateCall(policy=wish.policy)
    if wish.forward_to is None:
        raise Invalid.field("late_call.forward_to", "is missing", E164)
    number = numbering.person(wish.forward_to)
    if number is None:
        raise _no_support("is not a valid phone number")
    if await house.inventory.in_pools([house.keyring.index(number)]):
        raise _no_support("is a virtual number")
    return sealed(house, number, place)


def sealed(house: House, number: Number, place: str) -> KeptLateCall:
    """`forward` to the number."""
    box = house.keyring.seal(number, context(place))
    return KeptLateCall(policy="forward", display=str(number), sealed=box)


def moved(house: House, late: KeptLateCall, place: str, to: str) -> KeptLateCall:
    """The policy of one place (a service) as another (its session) keeps it. Without its support number (nobody is
    shown one, so no copy of a service has it) it is the announcement."""
    if late.sealed:
        return sealed(house, late.number(house, place), to)
    return ANNOUNCED if late.policy == "forward" else late


def _no_support(problem: str) -> Invalid:
    return InvalidPhoneNumber.field("late_call.forward_to", problem, E164)
