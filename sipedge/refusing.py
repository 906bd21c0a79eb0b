"""No call: what a caller hears instead, and the code that follows.

A refusal the contract speaks is one announcement, then the code: as early media (183), after an answer of our own where
the carrier mutes that, or in the dialogue that the caller was answered for. Whoever can hear nothing gets the code at
once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import structlog

from masking import interactions
from masking.access import DEFAULT_TENANT
from masking.routes import Refusal
from sipedge import announcements, dialogues
from sipedge.circuits import Over
from sipedge.media.plane import PlaneError
from sipedge.media.spoken import Asset

if TYPE_CHECKING:
    from sipedge.calls import IncomingCall

log = structlog.get_logger("sipedge.calls")


async def refuse(call: IncomingCall, refusal: Refusal) -> NoReturn:
    """What the core has refused, and told."""
    call.exchange.counts[f"refused_{refusal.decision}"] += 1
    call.begun = False  # it is told, and its slot is free
    if refusal.decision == "limit" and refusal.reason is None:
        over = Over("platform", "limit", 486)
        if call.ahead_at is not None:
            await dialogues.say_why(call, over)
        raise over
    call.chosen = refusal.announcements
    situation, code = announcements.SPOKEN[refusal.decision]
    if refusal.session is not None:
        call.facts = interactions.Call(
            interaction=call.id,
            session=refusal.session,
            tenant=refusal.tenant or DEFAULT_TENANT,
            owner=call.exchange.owner,
        )
    await _announce(call, call.sentence(situation), refusal.decision, code)


async def emergency(call: IncomingCall) -> NoReturn:
    """Never masked, and told so before anything else is asked: hang up and dial it yourself."""
    call.exchange.counts["refused_emergency"] += 1
    call.refused("emergency", dialled=call.caller.request.uri.digits)
    await _announce(call, announcements.emergency(call.trunk.country), "emergency", 403)


async def _announce(call: IncomingCall, asset: Asset | None, why: str, code: int) -> NoReturn:
    """One announcement, then the code; the code alone where nothing can be heard."""
    call.opened()  # what is left is the relay's to speak: seconds of it are no crowd at the door
    circuit, way = call.circuit, call.trunk.config.announce
    if call.ahead_at is not None and asset is not None:
        try:
            await circuit.speak((asset,))
        except PlaneError as problem:
            log.warning("announcement_not_spoken", interaction=call.id, problem=problem.code)
    elif asset is not None and circuit.offer is not None and way != "none":
        call.state = "announcing"
        try:
            await circuit.open(legs=1)
        except Over:
            raise Over("platform", why, code) from None
        try:
            await (_answer(call) if way == "answer" else _progress(call))
            await circuit.speak((asset,))
        except PlaneError as problem:
            log.warning("announcement_not_spoken", interaction=call.id, problem=problem.code)
    raise Over("platform", why, code)


async def _progress(call: IncomingCall) -> None:
    """183: early media, no charge."""
    if not call.caller.progress(call.circuit.our_answer()):
        raise Over("caller", "canceled", 487)


async def _answer(call: IncomingCall) -> None:
    """For carriers that mute early media: 200, and the interaction says that the platform answered."""
    call.circuit.answer_caller()
    await call.circuit.acked()
    if call.facts is not None:
        call.tell(interactions.answered_fact, "platform")
