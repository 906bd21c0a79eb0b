"""One SIP user agent, without sockets, clocks or luck of its own.

Feed it (`receive`, `timeout`, `transport_failed`, `disconnected`), then do all three of: send everything in `take_sends()`, handle
everything in `take_events()`, and call `timeout(now)` when `due()` says so. `now` is any clock in seconds that never runs backwards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sipedge.sip.dialogs import Dialog
from sipedge.sip.events import Event
from sipedge.sip.flows import Flow
from sipedge.sip.transactions import ServerTransaction
from sipedge.sip.uris import Uri

Headers = Sequence[tuple[str, str]]


class Endpoint:
    """A UAC and UAS core over the transaction tables.

    `entropy(n)` gives n unpredictable bytes (os.urandom). `advertise(flow)` is the "host:port" our Via and Contact show to that peer
    (default: the flow's local address). `route(flow, uri)` says which flow reaches `uri`, the next hop of an in-dialog request
    (default: an address literal on UDP, else the dialog's own flow). `methods`, `extensions` (option tags for Require/Supported) and
    `accept` (body types) are what the UAS side takes; the rest gets 405, 420 and 415. `Refused` events are only made when
    `report_refusals` is set.
    """

    refusing: bool  # set while draining or overloaded: new calls get 503 with Retry-After 1..5, before anything is parsed deeply

    def __init__(
        self,
        *,
        entropy: Callable[[int], bytes],
        advertise: Callable[[Flow], str] | None = None,
        route: Callable[[Flow, Uri], Flow] | None = None,
        methods: Sequence[str] = ("INVITE", "ACK", "BYE", "CANCEL", "OPTIONS", "INFO", "UPDATE"),
        extensions: Sequence[str] = (),
        accept: Sequence[str] = ("application/sdp", "application/dtmf-relay", "application/dtmf"),
        max_transactions: int = 100_000,
        report_refusals: bool = False,
    ) -> None:
        raise NotImplementedError

    # -- in ---------------------------------------------------------------------------------------------------------

    def receive(self, data: bytes, flow: Flow, now: float) -> None:
        """Takes one datagram, or any piece of a stream. Never raises on what a peer sent."""
        raise NotImplementedError

    def timeout(self, now: float) -> None:
        """Runs every timer that is due at `now`."""
        raise NotImplementedError

    def transport_failed(self, flow: Flow, now: float) -> None:
        """The last message to this flow could not be sent (refused, unreachable): waiting requests fail at once."""
        raise NotImplementedError

    def disconnected(self, flow: Flow, now: float) -> None:
        """A stream closed: forgets its half message. Calls go on; their next request opens a new connection."""
        raise NotImplementedError

    # -- out --------------------------------------------------------------------------------------------------------

    def due(self) -> float | None:
        """When `timeout` wants to be called next; None: not at all."""
        raise NotImplementedError

    def take_sends(self) -> list[tuple[Flow, bytes]]:
        """What is to be sent now, in order; empties the list."""
        raise NotImplementedError

    def take_events(self) -> list[Event]:
        """What happened, in order; empties the list."""
        raise NotImplementedError

    # -- a call we were invited to ----------------------------------------------------------------------------------

    def respond(
        self,
        transaction: ServerTransaction,
        status: int,
        now: float,
        *,
        reason: str = "",
        headers: Headers = (),
        body: bytes = b"",
        content_type: str = "application/sdp",
    ) -> bool:
        """Answers `Invited` or `Requested`. Via, From, To with tag, Call-ID, CSeq, Record-Route and Contact are put by us.

        False: nothing was sent, because a final answer already went out (a CANCEL crossed). A 2xx to an INVITE is resent until
        `Acked` or `AckMissing`; a final ≥ 300 ends the leg of an `Invited`.
        """
        raise NotImplementedError

    # -- a call we make ---------------------------------------------------------------------------------------------

    def invite(
        self,
        flow: Flow,
        uri: str,
        now: float,
        *,
        from_: str,
        to: str,
        headers: Headers = (),
        body: bytes = b"",
        content_type: str = "application/sdp",
        max_forwards: int = 70,
    ) -> str:
        """Sends an INVITE and returns its leg. `from_` and `to` are name-addr values without tag, e.g. `<sip:+84…@host>`."""
        raise NotImplementedError

    def cancel(self, leg: str, now: float, *, headers: Headers = ()) -> None:
        """Gives up an unanswered INVITE. Before any 1xx the CANCEL is held back and the INVITE no longer resent (RFC 3261 9.1).

        `Failed` follows in every case.
        """
        raise NotImplementedError

    def acknowledge(self, leg: str, body: bytes, now: float, *, content_type: str = "application/sdp") -> None:
        """ACKs the 2xx of an INVITE we sent without an offer; `body` is our answer."""
        raise NotImplementedError

    # -- inside a call ----------------------------------------------------------------------------------------------

    def bye(self, leg: str, now: float, *, headers: Headers = ()) -> str | None:
        """Ends an answered leg and returns the transaction. Held until ACK where our 2xx still waits for it (RFC 3261 15.1.1): None."""
        raise NotImplementedError

    def request(
        self, leg: str, method: str, now: float, *, headers: Headers = (), body: bytes = b"", content_type: str = ""
    ) -> str:
        """Sends a request inside an answered leg (INFO, UPDATE, re-INVITE, …); `Responded` brings the answer to the transaction returned."""
        raise NotImplementedError

    def dialog(self, leg: str) -> Dialog | None:
        """The leg's dialog: its snapshot for another worker. None once the leg is over."""
        raise NotImplementedError

    def restore(self, dialog: Dialog) -> None:
        """Takes over an answered leg from a snapshot."""
        raise NotImplementedError

    # -- outside any dialog -----------------------------------------------------------------------------------------

    def send_request(
        self,
        flow: Flow,
        method: str,
        uri: str,
        now: float,
        *,
        from_: str,
        to: str,
        headers: Headers = (),
        body: bytes = b"",
        content_type: str = "",
        max_forwards: int = 70,
    ) -> str:
        """Sends OPTIONS, REGISTER, … and returns the transaction; `Responded(leg=None)` brings the answer."""
        raise NotImplementedError
