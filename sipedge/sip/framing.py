"""Cutting a byte stream into SIP messages (RFC 3261 18.3), whatever pieces it arrives in."""

from __future__ import annotations

import re

from sipedge.sip.messages import MAX_MESSAGE

_LENGTH = re.compile(rb"\r\n(?:content-length|l)[ \t]*:[ \t]*([0-9]{1,6})[ \t]*(?=\r\n)", re.IGNORECASE)
_END = b"\r\n\r\n"


class Framer:
    """One stream's unfinished bytes. `broken` says why the stream can no longer be trusted; it never recovers."""

    __slots__ = ("_buffer", "_needed", "_searched", "broken", "pings")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._searched = 0  # no end of headers begins before here
        self._needed = 0  # length of the message at the front once known
        self.broken = ""
        self.pings = 0  # double CRLFs between messages not yet answered by a single one (RFC 5626 4.4.1)

    @property
    def unfinished(self) -> bool:
        """True while part of a message is held."""
        return bool(self._buffer) and not _END.startswith(self._buffer)

    def feed(self, data: bytes) -> list[bytes]:
        """Takes a piece and gives the messages it completed."""
        messages: list[bytes] = []
        self._buffer += data
        while not self.broken:
            message = self._next()
            if message is None:
                break
            messages.append(message)
        return messages

    def _next(self) -> bytes | None:
        buffer = self._buffer
        if not self._needed:
            self._skip_line_ends()
            if not buffer or not self._measure():
                return None
        if len(buffer) < self._needed:
            return None
        message = bytes(buffer[: self._needed])
        del buffer[: self._needed]
        self._searched = self._needed = 0
        return message

    def _skip_line_ends(self) -> None:
        """Takes away the line ends before a message, counting pings."""
        buffer = self._buffer
        while buffer.startswith(b"\r\n"):
            if buffer.startswith(_END):
                self.pings += 1
                del buffer[:4]
            elif _END.startswith(buffer):
                return  # may yet become a ping
            else:
                del buffer[:2]

    def _measure(self) -> bool:
        """Finds how long the message at the front is; False when more bytes are needed or the stream is broken."""
        buffer = self._buffer
        end = buffer.find(_END, self._searched)
        if end < 0:
            if len(buffer) > MAX_MESSAGE:
                self.broken = "headers too long"
            self._searched = max(0, len(buffer) - 3)
            return False
        lengths = _LENGTH.findall(buffer, 0, end + 2)
        if len(lengths) != 1:
            self.broken = "no single Content-Length"
            return False
        self._needed = end + 4 + int(lengths[0])
        if self._needed > MAX_MESSAGE:
            self.broken = "message too long"
            return False
        return True
