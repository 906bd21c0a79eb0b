"""The bytes of the media plane's messages (`sipedge.media.plane`): 4 bytes big-endian length, then MessagePack."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, cast

import msgspec

from sipedge.media.plane import Message, Request

MAX_FRAME: Final = 65_536


class BadFrame(Exception):
    """The peer broke the framing or sent no message; `id` is the request's where it could be read, else 0;
    `fatal`: the byte stream is lost and the connection must end."""

    def __init__(self, detail: str, id: int = 0, fatal: bool = False) -> None:
        super().__init__(detail)
        self.id = id
        self.fatal = fatal


class Frames:
    """Cuts a byte stream into frames; holds at most one unfinished frame (`MAX_FRAME` bytes)."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, data: bytes) -> Iterable[bytes]:
        """Whole frames' bodies. Raises a fatal `BadFrame` at a length over `MAX_FRAME`."""
        if not self._held and len(data) == 4 + int.from_bytes(data[:4], "big") <= 4 + MAX_FRAME:
            return (data[4:],)  # as nearly everything comes: one frame and no more
        return self._cut(data)

    def _cut(self, data: bytes) -> Iterator[bytes]:
        held = self._held
        held += data
        at = 0
        try:
            while len(held) - at >= 4:
                length = int.from_bytes(held[at : at + 4], "big")
                if length > MAX_FRAME:
                    raise BadFrame(f"frame of {length} bytes", fatal=True)
                if len(held) - at - 4 < length:
                    return
                body = bytes(held[at + 4 : at + 4 + length])
                at += 4 + length
                yield body
        finally:
            del held[:at]


_encoder = msgspec.msgpack.Encoder()
_requests = msgspec.msgpack.Decoder(Request)
_messages = msgspec.msgpack.Decoder(Message)


class _Numbered(msgspec.Struct):
    id: int
    command: Any = None


_numbered = msgspec.msgpack.Decoder(_Numbered)


def encode(message: Request | Message) -> bytes:
    """One frame, length included."""
    body = _encoder.encode(message)
    return len(body).to_bytes(4, "big") + body


def decode_request(body: bytes) -> Request:
    """A request from a frame's body; raises `BadFrame`, with the request's id where that can be read."""
    try:
        return _requests.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        try:
            id = _numbered.decode(body).id
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            id = 0
        raise BadFrame(f"not a request: {error}"[:200], id) from None


def decode_message(body: bytes) -> Message:
    """A reply or an event from a frame's body; raises `BadFrame`."""
    try:
        return cast(Message, _messages.decode(body))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadFrame(f"not a message: {error}"[:200]) from None
