"""Is a webhook ours? Signatures as Standard Webhooks has them, for whatever framework received it.

    endpoint = Receiver("whsec_…")                    # during a rotation: Receiver("whsec_new", "whsec_old")

    event = endpoint.verify(request.headers, body)    # the body's bytes as they came, before anybody read them
    if event.id not in seen: …                        # at least once: throw away what you had

NotGenuine: answer 400 and do nothing. Any 2xx within 15 s says that you have it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, TypeVar

import msgspec

from masking_client.answers import Event
from masking_client.errors import NotGenuine

TOLERANCE = 300.0  # seconds
T = TypeVar("T")
Headers = Mapping[str, str] | Iterable[tuple[str, str] | tuple[bytes, bytes]]


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What the service asks while a caller waits: `call.intercept`, `call.out_of_session` or `call.dispatch`."""

    id: str
    type: str
    occurred_at: datetime
    service: str
    session: str | None
    data: dict[str, Any]


class Receiver:
    """One endpoint of yours. `secrets`: what it was told at creation and at `:rotate_secret`; one that fits is enough.

    `tolerance`: seconds between our clock and yours, either way. Its repr does not show the secrets.
    """

    def __init__(self, *secrets: str, tolerance: float = TOLERANCE, clock: Callable[[], float] = time.time) -> None:
        if not secrets:
            raise ValueError("a webhook endpoint has at least one secret")
        self._keys = [_key(secret) for secret in secrets]
        self._tolerance = tolerance
        self._clock = clock

    def verify(self, headers: Headers, body: bytes) -> Event:
        """The event, once it is known to be ours and fresh; `NotGenuine` otherwise. `headers`: a mapping, or pairs as
        ASGI has them; upper or lower case is the same."""
        return self._read(headers, body, Event)

    def question(self, headers: Headers, body: bytes) -> Question:
        """As `verify`, of a call that waits for your answer; the secret is the service's (`rotate_service_secret`)."""
        return self._read(headers, body, Question)

    def _read(self, headers: Headers, body: bytes, kind: type[T]) -> T:
        self._check(headers, body)
        try:
            return msgspec.json.decode(body, type=kind)
        except (msgspec.DecodeError, msgspec.ValidationError):
            raise NotGenuine("the body is no event" if kind is Event else "the body is no question") from None

    def _check(self, headers: Headers, body: bytes) -> None:
        """Every signature is compared with every secret, in constant time, so that the time taken tells nothing of
        which one fits."""
        said = _lower(headers)
        try:
            name, at, signatures = said["webhook-id"], said["webhook-timestamp"], said["webhook-signature"].split(" ")
        except KeyError as missing:
            raise NotGenuine(f"the header {missing.args[0]} is missing") from None
        if not (at.isascii() and at.isdigit() and len(at) < 16) or abs(self._clock() - int(at)) > self._tolerance:
            raise NotGenuine("webhook-timestamp is not within the tolerance")
        signed = f"{name}.{at}.".encode() + body
        wanted = ["v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode() for key in self._keys]
        fits = [hmac.compare_digest(one.encode(), ours.encode()) for one in signatures for ours in wanted]
        if not any(fits):
            raise NotGenuine("no signature fits")


def _key(secret: str) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error:
        key = b""
    if not key:
        raise ValueError("a webhook secret is whsec_ and base64")
    return key


def _lower(headers: Headers) -> dict[str, str]:
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    return {_text(name).lower(): _text(value) for name, value in pairs}


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value
