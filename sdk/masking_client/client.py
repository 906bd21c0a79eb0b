"""The client for programs that wait."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

import httpx2

from masking_client.answers import Event
from masking_client.asking import Ask
from masking_client.calls import Calls
from masking_client.patience import FIRST_PAUSE, Patience, Try, Wait, answer_of, event_of
from masking_client.requests import Part, Requests
from masking_client.server_sent import Messages

T = TypeVar("T")


class Client(Calls):
    """Every call of the API as a method, named as in /openapi.json.

    `key`: an API key. `timeout`: seconds one try may take. `retries`: how often a call is tried again when the service
    was busy (429, 503) or could not be reached; 0: never. `transport`, `sleep`, `chance` and `entropy` are for tests.
    One client serves many threads; it keeps its connections until `close`.
    """

    def __init__(
        self,
        url: str,
        key: str,
        *,
        timeout: float = 10.0,
        retries: int = 3,
        transport: httpx2.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        chance: Callable[[], float] = random.random,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._http = httpx2.Client(transport=transport)
        self._requests = Requests(url, key, timeout, entropy)
        self._patience = Patience(retries, chance)
        self._sleep = sleep

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Gives the connections back."""
        self._http.close()

    # -- how the calls are carried out ------------------------------------------------------------------------------

    def ask(self, ask: Ask[T]) -> T:
        """Carries out a call. Raises `Problem`, `Unreachable`, `Unreadable`."""
        found: T = answer_of(ask, self._carry(ask))
        return found

    def pages_of(self, ask: Ask[T]) -> Pages[T]:
        return Pages(self, ask)

    def file_of(self, ask: Ask[T]) -> Download:
        return Download(self, ask)

    def stream_of(self, ask: Ask[T]) -> Following:
        return Following(self, ask)

    def open(self, ask: Ask[Any]) -> httpx2.Response:
        """The response with its body still to come; whoever opens it closes it."""
        return self._carry(ask, stream=True)

    def pause(self) -> None:
        """Between two connections of a stream."""
        self._sleep(FIRST_PAUSE)

    def _carry(self, ask: Ask[Any], *, stream: bool = False) -> httpx2.Response:
        request, flow = self._requests.of(ask), self._patience.flow(ask)
        step = next(flow)
        try:
            while True:
                match step:
                    case Wait(seconds):
                        self._sleep(seconds)
                        step = flow.send(None)
                    case Try():
                        step = flow.send(self._try(request, stream))
        except StopIteration as done:
            response: httpx2.Response = done.value
            return response

    def _try(self, request: httpx2.Request, stream: bool) -> httpx2.Response | httpx2.TransportError:
        try:
            response = self._http.send(request, stream=stream)
            if stream and not response.is_success:
                response.read()
            return response
        except httpx2.TransportError as error:
            return error


class Pages(Generic[T]):
    """A list, fetched page by page while it is read. `cursor` is where the page after the ones read begins: keep it to
    come back later (a list of events has one even at its end)."""

    def __init__(self, client: Client, ask: Ask[T]) -> None:
        self._client = client
        self._ask = ask
        self.cursor: str | None = ask.query.get("cursor")

    def __iter__(self) -> Iterator[T]:
        while True:
            page: Any = self._client.ask(Requests.page(self._ask, self.cursor))
            self.cursor = page.next or self.cursor
            yield from page.data
            if page.next is None:
                return


class Download:
    """Bytes that are fetched when they are asked for."""

    def __init__(self, client: Client, ask: Ask[Any]) -> None:
        self._client = client
        self._ask = ask

    def read(self) -> bytes:
        """All of it, in memory."""
        return b"".join(self)

    def __iter__(self) -> Iterator[bytes]:
        at, part = 0, Part(self._ask)
        while True:
            response = self._client.open(part.ask)
            try:
                part.begun(response)
                for chunk in response.iter_bytes():
                    at += len(chunk)
                    yield chunk
                return
            except httpx2.TransportError as error:
                part = part.after(at, error)
            finally:
                response.close()

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes it to a file, which is there when it is complete, and not before."""
        target = Path(path)
        partial = target.with_name(target.name + ".part")
        with partial.open("wb") as file:
            for chunk in self:
                file.write(chunk)
        return partial.replace(target)


class Following:
    """Events as they happen, for as long as one reads. A connection that breaks is opened again where it was.

    `cursor` is where to go on after the last event read.
    """

    def __init__(self, client: Client, ask: Ask[Any]) -> None:
        self._client = client
        self._ask = ask
        self.cursor: str | None = ask.query.get("cursor")

    def __iter__(self) -> Iterator[Event]:
        while True:
            messages = Messages(self.cursor or "")
            response = self._client.open(Requests.stream(self._ask, self.cursor))
            try:
                for chunk in response.iter_bytes():
                    for data in messages.feed(chunk):
                        self.cursor = messages.last_id
                        yield event_of(data)
                    self.cursor = messages.last_id or self.cursor
            except httpx2.TransportError:
                pass  # it goes on below, after the last event that came
            finally:
                response.close()
            self._client.pause()
