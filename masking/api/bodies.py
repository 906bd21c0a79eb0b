"""The body of a request: all of it, no more than fits, and not for ever."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Any, Final

from starlette.types import Receive

from masking.api.problems import Declined

BODY_LIMIT: Final = 1 << 20  # bytes
BODY_PATIENCE: Final = 10.0  # seconds for a whole body to arrive
_LENGTH: Final = re.compile(r"\d{1,18}", re.ASCII)


async def read_body(headers: Mapping[str, str], receive: Receive) -> bytes:
    """The whole body; `Declined` for one that is too large or too slow."""
    length = headers.get("content-length", "0")
    if not _LENGTH.fullmatch(length) or int(length) > BODY_LIMIT:
        raise _too_large()
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        raw = message.get("body", b"")
    else:
        raw = await _chunks(message, receive)
    if len(raw) > BODY_LIMIT:
        raise _too_large()
    return bytes(raw)


async def _chunks(message: Any, receive: Receive) -> bytes:
    raw = bytearray()
    try:
        async with asyncio.timeout(BODY_PATIENCE):
            while True:
                if message["type"] == "http.disconnect":
                    raise Declined("malformed_request", "The request ended before its body did.")
                raw += message.get("body", b"")
                if len(raw) > BODY_LIMIT:
                    raise _too_large()
                if not message.get("more_body"):
                    return bytes(raw)
                message = await receive()
    except TimeoutError:
        raise Declined(
            "request_timeout", f"The body took over {BODY_PATIENCE:g} s to arrive.", headers={"Connection": "close"}
        ) from None


def _too_large() -> Declined:
    # The rest of the body is not read: the connection cannot be used again.
    return Declined("body_too_large", f"A body may have {BODY_LIMIT} bytes.", headers={"Connection": "close"})
