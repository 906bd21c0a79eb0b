"""What a peer asks to change on its leg of a call that stands: hold, resume, another address, another codec.

Each leg is answered by us, by itself (RFC 3261 14.2, RFC 3311 5.2, RFC 3264 8): the other one is neither asked nor
disturbed, and a recording goes on, with silence where nobody speaks. What cannot be done is 488, and leaves everything
as it was. Glare and overlap (491, 500) never come here: the endpoint answers them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sipedge import session_timers
from sipedge.legs import Agreed, Leg
from sipedge.media import sdp
from sipedge.media.plane import AddressRefused, PlaneError
from sipedge.sip.events import Acked, Requested
from sipedge.sip.messages import Message

if TYPE_CHECKING:
    from sipedge.circuits import Circuit


async def answer(circuit: Circuit, event: Requested) -> None:
    """Answers a re-INVITE, an UPDATE, or a PRACK that holds an offer."""
    leg, request = circuit.leg(event.leg), event.request
    headers: session_timers.Headers = []
    if leg is None or leg.over:
        status, body = 481, b""  # of a trunk that was passed over
    elif request.description:
        status, body = await _accept(circuit, leg, request)
    elif request.method == "INVITE":
        # Without an offer ours goes out in the 200, and the ACK brings the answer (RFC 3261 14.2).
        status, body = 200, leg.describe(lambda origin: circuit.our_offer(leg.number, origin))
        leg.asks = True
    else:
        status, body = 200, b""  # a sign of life
    if leg is not None and status == 200 and request.method != "PRACK":
        headers, leg.timer = session_timers.granted(request, circuit.loop.time())
    circuit.respond(event, status, headers, body)


async def confirm(circuit: Circuit, leg: Leg, acked: Acked) -> None:
    """The answer to the offer in our 200. One that cannot be used changes nothing: the call goes on as it was."""
    leg.asks = False
    try:
        await _turn(circuit, leg, acked.request, sdp.EVENTS_PAYLOAD)
    except (sdp.BadSdp, PlaneError):
        circuit.exchange.counts["renegotiations_failed"] += 1


async def follow(circuit: Circuit, leg: Leg, response: Message) -> None:
    """The answer to a re-INVITE of ours, which repeated what we last said: a peer may move in it."""
    ours = sdp.parse(leg.description).audio
    try:
        await _turn(circuit, leg, response, ours.events if ours is not None else None)
    except (sdp.BadSdp, PlaneError):
        circuit.exchange.counts["renegotiations_failed"] += 1


async def _accept(circuit: Circuit, leg: Leg, request: Message) -> tuple[int, bytes]:
    try:
        agreed = await _turn(circuit, leg, request, None)
    except (sdp.BadSdp, AddressRefused):
        return 488, b""
    except PlaneError:
        return 500, b""
    host, port = circuit.media_address(leg.number)
    return 200, leg.describe(lambda origin: sdp.answer(agreed.description, origin, host, port, agreed.codec))


async def _turn(circuit: Circuit, leg: Leg, message: Message, events_in: int | None) -> Agreed:
    """Turns the leg's media to a description; raises `BadSdp` or `PlaneError` with the media as it was."""
    before = leg.agreed
    wanted = circuit.read(message, leg.trunk, events_in, before)
    if wanted is None or before is None:
        raise sdp.BadSdp("no description")
    if wanted.terms != before.terms:  # a mere refresh is not heard
        try:
            await circuit.plane.connect(circuit.id, leg.number, wanted.terms)
        except AddressRefused:
            await circuit.plane.connect(circuit.id, leg.number, before.terms)
            raise
    leg.agreed, leg.codec = wanted, wanted.codec.name
    return wanted
