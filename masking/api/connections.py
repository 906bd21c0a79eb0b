"""One HTTP connection, on uvicorn's protocol, with what that leaves open: a head has a size and a time.

Without these a peer could hold connections that never ask anything, or send a header without an end.
"""

from __future__ import annotations

import asyncio

import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from masking.api.problems import MEDIA_TYPE, Declined

HEAD_LIMIT = 64 << 10  # bytes of a request line with its headers
HEAD_PATIENCE = 10.0  # seconds from a request's first byte, or from the connection, to the end of its head


class Connection(HttpToolsProtocol):
    """A connection that cannot be held, or filled, for nothing."""

    _patience: asyncio.TimerHandle | None = None
    _in_head = True
    _head = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._be_patient()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_is_whole()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if self._patience is None and (self.cycle is None or self.cycle.response_complete):
            self._be_patient()
        super().data_received(data)
        if self._in_head and not self.transport.is_closing():
            # A chunk that ends the head may hold a body as well, so only those before it are counted.
            self._head += len(data)
            if self._head > HEAD_LIMIT:
                self._refuse(Declined("head_too_large", f"The headers may have {HEAD_LIMIT} bytes."))

    def on_message_begin(self) -> None:
        self._in_head, self._head = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._head_is_whole()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(Declined("malformed_request", "This is not HTTP as RFC 9112 has it."))

    def _refuse(self, declined: Declined) -> None:
        body = msgspec.json.encode(declined.problem())
        lines = (f"content-type: {MEDIA_TYPE}", f"content-length: {len(body)}", "connection: close", "", "")
        self.transport.write(STATUS_LINE[declined.status] + "\r\n".join(lines).encode() + body)
        self.transport.close()

    def _be_patient(self) -> None:
        self._head_is_whole()
        self._patience = self.loop.call_later(HEAD_PATIENCE, self.transport.close)

    def _head_is_whole(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
