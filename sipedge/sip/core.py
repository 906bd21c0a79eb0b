"""What both sides of a user agent stand on: its settings, transactions, legs and what waits to go out.

`Core` ← `Calling` (UAC) ← `Called` (UAS) ← `Endpoint`: each layer adds its side of RFC 3261 and reaches only downwards.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from enum import IntEnum
from hashlib import blake2s

from sipedge.sip.dialogs import Dialog
from sipedge.sip.digest import Credentials
from sipedge.sip.events import Event
from sipedge.sip.flows import Flow
from sipedge.sip.messages import Request
from sipedge.sip.transactions import ClientTransaction, Draft, ServerTransaction, Timers, Transaction
from sipedge.sip.uris import Uri, hostport

Headers = Sequence[tuple[str, str]]
COOKIE = "z9hG4bK"  # RFC 3261 8.1.1.7
REL = "100rel"  # RFC 3262
_POOL = 4096
_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4 = re.compile(rf"{_OCTET}(?:\.{_OCTET}){{3}}")


def by_address(flow: Flow, uri: Uri) -> Flow:
    """The default road to a next hop: an IPv4 literal on UDP is taken at its word, all else goes back over the
    dialog's own flow."""
    if flow.reliable or _IPV4.fullmatch(uri.host) is None or uri.params.get("transport", "udp").lower() != "udp":
        return flow
    remote = uri.host, uri.port or 5060
    return flow if remote == flow.remote else Flow(flow.transport, remote, flow.local, flow.connection, flow.peer)


class Entropy:
    """Unguessable tokens from a given source of bytes, fetched in large pieces: a token costs a slice."""

    __slots__ = ("_at", "_pool", "_source")

    def __init__(self, source: Callable[[int], bytes]) -> None:
        self._source = source
        self._pool = ""
        self._at = 0

    def token(self, octets: int = 10) -> str:
        """Lower-case hexadecimal, two characters an octet."""
        at = self._at
        self._at = at + 2 * octets
        if self._at > len(self._pool):
            self._pool = self._source(_POOL).hex()
            at, self._at = 0, 2 * octets
        return self._pool[at : self._at]

    def between(self, low: int, high: int) -> int:
        """A whole number low..high."""
        return low + int(self.token(2), 16) % (high - low + 1)


class Stage(IntEnum):
    UNANSWERED = 1
    UP = 2
    ENDING = 3  # our BYE is on its way


class Leg:
    """One leg of a call: its dialog and the INVITE, ACK and BYE it is waiting for."""

    __slots__ = ("credentials", "dialog", "held_bye", "invite", "stage", "unacked", "update", "withdrawn")

    def __init__(self, dialog: Dialog, invite: Transaction | None, stage: Stage = Stage.UNANSWERED) -> None:
        self.dialog = dialog
        self.stage = stage
        self.invite = invite  # an INVITE without a final answer, from either side
        self.unacked: ServerTransaction | None = None  # our 2xx without its ACK
        self.update: ServerTransaction | None = None  # the peer's last UPDATE that held an offer
        self.held_bye: Headers | None = None  # a BYE that waits for that ACK
        self.withdrawn = False  # we gave our INVITE up
        self.credentials: Credentials | None = None  # for a peer that challenges what we ask

    def __repr__(self) -> str:
        return f"<Leg {self.dialog.leg} {self.stage.name.lower()}>"


class Core:
    """The state an endpoint keeps, and its smallest moves."""

    def __init__(
        self,
        *,
        entropy: Callable[[int], bytes],
        advertise: Callable[[Flow], str] | None,
        route: Callable[[Flow, Uri], Flow] | None,
        methods: Sequence[str],
        widen: Callable[[Flow], Flow | None] | None,
    ) -> None:
        self.methods = frozenset(methods)
        self.extensions: frozenset[str] = frozenset()
        self.accept: frozenset[str] = frozenset()
        self.max_transactions = 0
        self.refusing = False
        self._admit: Callable[[Request, float], bool] | None = None
        self._allow = ", ".join(methods)
        self._entropy = Entropy(entropy)
        self._secret = entropy(16)
        self._advertise = advertise or _local_address
        self._route = route or by_address
        self._widen = widen or (lambda _: None)
        self._timers = Timers()
        self._servers: dict[str, ServerTransaction] = {}
        self._held: Counter[str] = Counter()  # how many of them each source has
        self._clients: dict[str, ClientTransaction] = {}
        self._merges: dict[tuple[str, str, int, str], str] = {}  # RFC 3261 8.2.2.2: request → its transaction
        self._legs: dict[str, Leg] = {}
        self._dialogs: dict[tuple[str, str], Leg] = {}  # (Call-ID, our tag)
        self._sends: list[tuple[Flow, bytes]] = []
        self._events: list[Event] = []

    def statistics(self) -> dict[str, int]:
        """How much is held now."""
        return {
            "legs": len(self._legs),
            "server_transactions": len(self._servers),
            "client_transactions": len(self._clients),
        }

    def _send(self, flow: Flow, data: bytes) -> None:
        self._sends.append((flow, data))

    def _open(self, leg: Leg) -> None:
        dialog = leg.dialog
        self._legs[dialog.leg] = leg
        self._dialogs[dialog.call_id, dialog.local_tag] = leg

    def _drop(self, dialog: Dialog) -> None:
        self._legs.pop(dialog.leg, None)
        self._dialogs.pop((dialog.call_id, dialog.local_tag), None)

    def _contact(self, dialog: Dialog, flow: Flow) -> str:
        if flow.transport == "tls" and dialog.target[:5].lower() == "sips:":  # RFC 3261 8.1.1.8, 12.1.1
            return f"Contact: <sips:{dialog.leg}@{self._advertise(flow)}>\r\n"
        return f"Contact: <sip:{dialog.leg}@{self._advertise(flow)}{_transport_param(flow)}>\r\n"

    def _draft(
        self,
        flow: Flow,
        branch: str,
        target: str,
        routes: Sequence[str],
        from_: str,
        to: str,
        call_id: str,
        seq: int,
        hops: int,
    ) -> Draft:
        route = "".join([f"Route: {value}\r\n" for value in routes])
        head = (
            f"Via: SIP/2.0/{flow.transport.upper()} {self._advertise(flow)};branch={branch};rport\r\n{route}"
            f"Max-Forwards: {hops}\r\nFrom: {from_}\r\nCall-ID: {call_id}\r\n"
        )
        return Draft(target, head, to, seq)

    def _draft_inside(self, dialog: Dialog, seq: int) -> tuple[Flow, str, Draft]:
        """A request within a dialog (RFC 3261 12.2.1.1): where it goes, its branch, its head."""
        target, routes, hop = dialog.path()
        flow = self._route(dialog.flow, hop)
        branch = COOKIE + self._entropy.token()
        draft = self._draft(flow, branch, target, routes, dialog.from_, dialog.to, dialog.call_id, seq, 70)
        return flow, branch, draft

    def _supported(self, reliable: bool = True) -> str:
        """The Supported header: the extensions we take, 100rel only where it can be (`reliable`)."""
        tags = ", ".join(sorted(self.extensions if reliable else self.extensions - {REL}))
        return f"Supported: {tags}\r\n" if tags else ""

    def _stateless_tag(self, branch: str, call_id: str) -> str:
        """A To tag that comes out the same for a repeated request without keeping anything (RFC 3261 8.2.7)."""
        return blake2s(f"{branch} {call_id}".encode(), key=self._secret, digest_size=8).hexdigest()


def _local_address(flow: Flow) -> str:
    return hostport(flow.local)


def _transport_param(flow: Flow) -> str:
    return f";transport={flow.transport}" if flow.reliable else ""
