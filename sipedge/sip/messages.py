"""SIP messages: a lazy, bounded parser and writers that build from scratch (RFC 3261 7, 20)."""

from __future__ import annotations

from sipedge.sip.uris import NameAddr, Uri


class Malformed(Exception):
    """The peer broke the protocol. `status` is the answer it deserves, None when none may be given. Never quotes the message."""

    def __init__(self, status: int | None, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class CSeq:
    number: int
    method: str


class Via:
    transport: str
    host: str
    port: int
    params: dict[str, str]
    branch: str


class Message:
    """What requests and responses share. Typed fields are read on first use, cached, and raise `Malformed` when unreadable."""

    headers: dict[str, list[str]]  # lower-case long names → raw values, in order
    body: bytes
    via: Via  # the topmost
    from_: NameAddr
    to: NameAddr
    call_id: str
    cseq: CSeq
    contact: NameAddr | None
    record_routes: list[str]
    content_type: str  # lower case, parameters cut; "" when absent
    supported: frozenset[str]
    require: frozenset[str]
    identities: list[NameAddr]  # P-Asserted-Identity; values that cannot be read are left out
    privacy: frozenset[str]
    session_expires: int | None
    retry_after: int | None
    cause: int | None  # Q.850 cause of the Reason header (RFC 3326)

    def header(self, name: str) -> str | None:
        """The first raw value of a header by its lower-case long name."""
        raise NotImplementedError


class Request(Message):
    method: str
    uri: Uri  # the Request-URI
    max_forwards: int  # 70 when absent


class Response(Message):
    status: int
    reason: str


def parse(data: bytes) -> Request | Response:
    """Indexes the header lines once. Raises `Malformed`."""
    raise NotImplementedError
