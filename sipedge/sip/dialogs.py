"""Dialogs (RFC 3261 12): the state one call leg keeps between requests."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from sipedge.sip.flows import Flow
from sipedge.sip.grammar import Malformed, remembered
from sipedge.sip.messages import Request, Response
from sipedge.sip.uris import NameAddr, Uri


class Dialog(Struct, gc=False):
    """One leg's dialog. `msgspec.msgpack` snapshots it (about 600 bytes); it holds a person's number, so seal it at
    rest."""

    leg: str  # the opaque token that names the leg, and is the user part of our Contact
    call_id: str
    local_tag: str
    remote_tag: str  # "" until the peer has named one
    local: str  # our From/To value, without tag
    remote: str  # theirs, without tag
    target: str  # the URI their requests come from: where ours go (RFC 3261 12.2.1.1)
    flow: Flow
    routes: tuple[str, ...] = ()  # Route values for our requests, in order
    local_seq: int = 0
    remote_seq: int = -1  # -1: they have sent no request yet
    confirmed: bool = False

    @classmethod
    def called(cls, leg: str, request: Request, local_tag: str, flow: Flow) -> Dialog:
        """The called side's dialog, from an INVITE (RFC 3261 12.1.1). Raises `Malformed`."""
        contact = request.contact
        if contact is None:
            raise Malformed(400, "no Contact")
        _check_path(contact, request.record_routes)
        return cls(
            leg=leg,
            call_id=request.call_id,
            local_tag=local_tag,
            remote_tag=request.from_.tag,
            local=f"<{request.to.text}>",
            remote=f"<{request.from_.text}>",
            target=contact.text,
            flow=flow,
            routes=tuple(request.record_routes),
            remote_seq=request.cseq.number,
        )

    def learn(self, response: Response) -> None:
        """Takes the peer's side from a response to the INVITE that opens this dialog (RFC 3261 12.1.2).

        A 2xx must be ACKed whatever else it says: where its Contact or routes cannot be read, requests go where the
        INVITE went.
        """
        self.remote_tag = response.to.tag
        try:
            contact, routes = response.contact, tuple(response.record_routes[::-1])
            if contact is not None and contact.text == self.target and routes == self.routes:
                return  # the 2xx mostly repeats what the 180 said
            _check_path(contact, routes)
        except Malformed:
            return
        self.routes = routes
        self.refresh(contact)

    def refresh_from(self, response: Response) -> None:
        """Target refresh from the 2xx of a re-INVITE; one whose Contact cannot be read refreshes nothing."""
        try:
            _check_path(response.contact, ())
            self.refresh(response.contact)
        except Malformed:
            return

    def refresh(self, contact: NameAddr | None) -> None:
        """Target refresh (RFC 3261 12.2.1.2, 12.2.2) from a Contact that was checked."""
        if contact is not None:
            self.target = contact.text

    def fork(self, response: Response) -> Dialog:
        """The same call as another phone answered it."""
        other = replace(self)
        other.learn(response)
        return other

    def next_seq(self) -> int:
        self.local_seq += 1
        return self.local_seq

    @property
    def from_(self) -> str:
        return f"{self.local};tag={self.local_tag}"

    @property
    def to(self) -> str:
        return f"{self.remote};tag={self.remote_tag}" if self.remote_tag else self.remote

    def path(self) -> tuple[str, Sequence[str], Uri]:
        """Request-URI, Route values and next hop of a request of ours (RFC 3261 12.2.1.1)."""
        if not self.routes:
            return self.target, (), Uri.parse(self.target)
        first, loose = _read_hop(self.routes[0])
        if loose:
            return self.target, self.routes, first.uri
        # A strict router wants to stand in the Request-URI itself, and the target at the end of the Route.
        return first.text, [*self.routes[1:], f"<{self.target}>"], first.uri


def _check_path(contact: NameAddr | None, routes: Sequence[str]) -> None:
    """Reads once what `path` will read later, so that no request of ours can fail on a peer's words."""
    if contact is not None:
        _ = contact.uri.params
    for route in routes:
        _ = _read_hop(route)


@remembered(1_024)
def _read_hop(route: str) -> tuple[NameAddr, bool]:
    """A Route value, and whether it is a loose router; the proxies of trunks are few."""
    hop = NameAddr.parse(route)
    return hop, "lr" in hop.uri.params
