"""Texts that arrive on a trunk: none is relayed (405), and the session they were meant for is told of each once."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from masking import records
from masking.budgets import Budget
from masking.events import fact

if TYPE_CHECKING:
    from masking.house import House
    from masking.interactions import Decision
    from pools.numbers import Number

REPEATS: Final = 64  # seconds in which a sender repeats an unanswered request (RFC 3261 17.1.2.2), and twice that


async def refused(house: House, *, called: Number, caller: Number, trunk: str, request: str, at: float) -> str | None:
    """Tells the session that binds (`called`, `caller`) of a text that was turned away: the interaction's id, None
    when nobody is bound or it was told before. `request` is the same for every repetition of one request."""
    number = await house.inventory.find(called)
    bound = await house.leases.bound(number, house.keyring.index(caller), house.now_ms) if number is not None else None
    if number is None or bound is None:
        return None
    session, ordinal = bound
    holder = await house.leases.read(session)
    if holder is None or "record" not in holder.fields:
        return None
    once = Budget(f"text:{blake2b(request.encode(), digest_size=16).hexdigest()}", 1, REPEATS)
    if not await once.spend(house):
        return None
    record = records.unpacked(holder.fields["record"])
    decision: Decision = "mode" if record.mode == "voice_only" else "unavailable"
    source, target = holder.targets[ordinal].split("|")
    interaction = house.token("int_")
    data = {
        "interaction": interaction,
        "decision": decision,
        "reason": "text",
        "from": source,
        "to": target,
        "dialled": number.number,
        "trunk": trunk,
        "legs": [{"trunk": trunk, "sip_code": 405}],
    }
    await house.leases.append(session, [fact("message.refused", at, data)])
    return interaction
