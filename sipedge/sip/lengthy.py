"""Requests too long for a datagram: they go by a stream instead (RFC 3261 18.1.1)."""

from __future__ import annotations

from msgspec.structs import replace

from sipedge.sip.flows import Flow
from sipedge.sip.transactions import Draft, Narrow

LONGEST = 1300  # bytes that surely arrive in one piece where nobody knows the path's limit


def moved(narrow: Narrow, wide: Flow, shown: str, shows: str) -> tuple[Draft, bytes]:
    """The same request for the flow `wide`: Via and Contact name it, and what we show there (`shows`, not `shown`)."""
    via = f"Via: SIP/2.0/UDP {shown};", f"Via: SIP/2.0/{wide.transport.upper()} {shows};"
    draft = replace(narrow.draft, head=narrow.draft.head.replace(*via, 1))
    start, contact, rest = narrow.data.replace(via[0].encode(), via[1].encode(), 1).partition(b"\r\nContact: ")
    rest = rest.replace(f"@{shown}>".encode(), f"@{shows};transport={wide.transport}>".encode(), 1)
    return draft, start + contact + rest
