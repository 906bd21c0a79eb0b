"""Dialogs (RFC 3261 12): the state one call leg keeps between requests."""

from __future__ import annotations

from msgspec import Struct

from sipedge.sip.flows import Flow


class Dialog(Struct):
    """One leg's dialog. `msgspec.msgpack` snapshots it (about 600 bytes); it holds a person's number, so seal it at rest."""

    leg: str
    call_id: str
    local_tag: str
    remote_tag: str
    local: str  # our From/To value, without tag
    remote: str  # theirs, without tag
    target: str  # the peer's Contact URI
    flow: Flow
    routes: list[str] = []
    local_seq: int = 0
    remote_seq: int = -1
    confirmed: bool = False
