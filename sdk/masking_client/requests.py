"""From an `Ask` to the request that leaves."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx2

from masking_client.asking import Ask
from masking_client.errors import Unreachable

VERSION = "0.1.0"
STREAM_SILENCE = 60.0  # seconds; the service says every 15 that it lives
T = TypeVar("T")


class Requests:
    """What every request of a client shares. Its repr does not show the key."""

    def __init__(self, url: str, key: str, timeout: float, entropy: Callable[[int], bytes]) -> None:
        self._base = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {key}", "User-Agent": f"masking-client/{VERSION}"}
        self._timeout = timeout
        self._entropy = entropy

    def of(self, ask: Ask[Any]) -> httpx2.Request:
        """The request; the same one is sent at every try, so a POST keeps its Idempotency-Key."""
        headers = self._headers | {name: value for name, value in ask.headers.items() if value is not None}
        if ask.method == "POST":
            headers["Idempotency-Key"] = ask.idempotency_key or self._entropy(16).hex()
        content = ask.content
        if content is not None:
            headers["Content-Type"] = "application/json"
        silence = STREAM_SILENCE if "Last-Event-ID" in ask.headers else self._timeout
        patience = httpx2.Timeout(self._timeout, read=silence).as_dict()
        return httpx2.Request(
            ask.method,
            self._base + ask.path,
            params=ask.parameters,
            headers=headers,
            content=content,
            extensions={"timeout": patience},
        )

    @staticmethod
    def page(ask: Ask[T], cursor: str | None) -> Ask[T]:
        """The page of a list that begins at `cursor`."""
        return dataclasses.replace(ask, query={**ask.query, "cursor": cursor})

    @staticmethod
    def stream(ask: Ask[T], cursor: str | None) -> Ask[T]:
        """A stream that goes on after `cursor`."""
        headers = {**ask.headers, "Last-Event-ID": cursor, "Accept": "text/event-stream"}
        return dataclasses.replace(ask, query={**ask.query, "cursor": None}, headers=headers)


@dataclass(slots=True)
class Part:
    """A download, or what is still to come of one that broke off: `ask` fetches it."""

    ask: Ask[Any]
    began: int = 0  # bytes from the start
    etag: str | None = None

    def begun(self, response: httpx2.Response) -> None:
        """Is it the part that was asked for? `Unreachable` when the file is another one by now."""
        if self.began and response.status_code != 206:
            raise Unreachable(f"{self.ask.path}: the file changed while it was fetched")
        self.etag = self.etag or response.headers.get("etag")

    def after(self, at: int, error: httpx2.TransportError) -> Part:
        """What to fetch once the connection broke after `at` bytes (RFC 9110 14.2, 13.1.5); `Unreachable` when nothing
        came since the last time, or the file cannot be fetched in parts."""
        if at == self.began or self.etag is None:
            raise Unreachable(f"{self.ask.path}: {type(error).__name__} after {at} bytes") from error
        headers = {**self.ask.headers, "Range": f"bytes={at}-", "If-Range": self.etag}
        return Part(dataclasses.replace(self.ask, headers=headers), at, self.etag)
