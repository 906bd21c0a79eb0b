"""What an endpoint tells its driver: one vocabulary for both sides of a call.

Every event of one call leg carries the same `leg`, an opaque token the endpoint minted (`Invited.leg`, or the
return value of `Endpoint.invite`). A leg's story, as seen by whoever drives it:

    called   Invited → (Cancelled | PrackMissing | Acked | AckMissing) … Requested* … Ended
    calling  Progressed* → (Answered | Failed) … Requested*, Responded* … Ended

`leg` is None for requests outside any dialog. Events carry whole messages, which hold people's numbers: never log them.
"""

from __future__ import annotations

from enum import IntEnum

from msgspec import Struct

from sipedge.sip.flows import Flow
from sipedge.sip.messages import Request, Response
from sipedge.sip.transactions import ServerTransaction


class Cause(IntEnum):
    """Who decided how a request of ours ended."""

    RESPONSE = 1  # the peer answered; `response` is its answer
    TIMEOUT = 2  # nobody answered in 64*T1 (status 408)
    TRANSPORT = 3  # it could not be sent (status 503)
    CANCELLED = 4  # a 2xx crossed our CANCEL; the endpoint has ACKed it and sent BYE (status 487)


class Invited(Struct, eq=False):
    """A new call for us. 100 Trying has already been sent. Answer with `Endpoint.respond(event.transaction, …)`."""

    leg: str
    transaction: ServerTransaction
    request: Request
    flow: Flow


class Cancelled(Struct, eq=False):
    """The caller gave up before our final answer (CANCEL, or BYE in the early dialog). 200 and 487 have been sent;
    the leg is over."""

    leg: str
    request: Request


class Acked(Struct, eq=False):
    """Our 2xx to an INVITE was acknowledged. `request` is the ACK (its body is the answer to a delayed offer)."""

    leg: str
    request: Request


class AckMissing(Struct, eq=False):
    """Our 2xx was resent for 64*T1 and never acknowledged (RFC 3261 13.3.1.4). The leg still stands: send BYE."""

    leg: str


class Requested(Struct, eq=False):
    """A request that waits for `Endpoint.respond(event.transaction, …)`: re-INVITE, UPDATE, INFO, OPTIONS, …

    `leg` is None when it came outside any dialog.
    """

    leg: str | None
    transaction: ServerTransaction
    request: Request
    flow: Flow


class Ended(Struct, eq=False):
    """The peer sent BYE. 200 has been sent; the leg is over."""

    leg: str
    request: Request


class Progressed(Struct, eq=False):
    """A provisional response (100..199) to our INVITE."""

    leg: str
    status: int
    response: Response


class PrackMissing(Struct, eq=False):
    """Our reliable response was resent for 64*T1 and never acknowledged (RFC 3262 3). 504 has been sent; the leg is
    over."""

    leg: str


class Answered(Struct, eq=False):
    """The first 2xx to our INVITE. ACK has been sent, unless the INVITE carried no offer: then call
    `Endpoint.acknowledge`.

    Further 2xx of other forks are ACKed and ended with BYE by the endpoint and never shown.
    """

    leg: str
    response: Response


class Failed(Struct, eq=False):
    """Our INVITE came to nothing: a final ≥ 300 (already ACKed), or see `cause`. The leg is over."""

    leg: str
    status: int
    cause: Cause
    response: Response | None


class Responded(Struct, eq=False):
    """The final answer to a request of ours other than the first INVITE (BYE, INFO, OPTIONS, re-INVITE, …).

    `transaction` is what `Endpoint.request`, `Endpoint.bye` or `Endpoint.send_request` returned. `leg` is None
    outside a dialog.
    """

    leg: str | None
    transaction: str
    method: str
    status: int
    cause: Cause
    response: Response | None


class Refused(Struct, eq=False):
    """The endpoint itself answered (or dropped, `status` None) a request: for counting. `reason` never quotes the
    message; `request` where it could be read."""

    status: int | None
    reason: str
    flow: Flow
    request: Request | None = None


class Disconnect(Struct, eq=False):
    """The driver should close this stream: its peer cannot be framed, or held half a message too long."""

    flow: Flow
    reason: str


Event = (
    Invited
    | Cancelled
    | Acked
    | AckMissing
    | PrackMissing
    | Requested
    | Ended
    | Progressed
    | Answered
    | Failed
    | Responded
    | Refused
    | Disconnect
)
