"""The client for programs on an event loop (asyncio, or whatever anyio runs on)."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

import anyio
import httpx2

from masking_client.answers import Event
from masking_client.asking import Ask
from masking_client.calls import Calls
from masking_client.patience import FIRST_PAUSE, Patience, Try, Wait, answer_of, event_of
from masking_client.requests import Part, Requests
from masking_client.server_sent import Messages

T = TypeVar("T")


class AsyncClient(Calls):
    """As `client.Client`, with every answer awaited and every list read by `async for`."""

    def __init__(
        self,
        url: str,
        key: str,
        *,
        timeout: float = 10.0,
        retries: int = 3,
        transport: httpx2.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
        chance: Callable[[], float] = random.random,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._http = httpx2.AsyncClient(transport=transport)
        self._requests = Requests(url, key, timeout, entropy)
        self._patience = Patience(retries, chance)
        self._sleep = sleep

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Gives the connections back."""
        await self._http.aclose()

    # -- how the calls are carried out ------------------------------------------------------------------------------

    async def ask(self, ask: Ask[T]) -> T:
        """Carries out a call. Raises `Problem`, `Unreachable`, `Unreadable`."""
        found: T = answer_of(ask, await self._carry(ask))
        return found

    def pages_of(self, ask: Ask[T]) -> AsyncPages[T]:
        return AsyncPages(self, ask)

    def file_of(self, ask: Ask[T]) -> AsyncDownload:
        return AsyncDownload(self, ask)

    def stream_of(self, ask: Ask[T]) -> AsyncFollowing:
        return AsyncFollowing(self, ask)

    async def open(self, ask: Ask[Any]) -> httpx2.Response:
        """The response with its body still to come; whoever opens it closes it."""
        return await self._carry(ask, stream=True)

    async def pause(self) -> None:
        """Between two connections of a stream."""
        await self._sleep(FIRST_PAUSE)

    async def _carry(self, ask: Ask[Any], *, stream: bool = False) -> httpx2.Response:
        request, flow = self._requests.of(ask), self._patience.flow(ask)
        step = next(flow)
        try:
            while True:
                match step:
                    case Wait(seconds):
                        await self._sleep(seconds)
                        step = flow.send(None)
                    case Try():
                        step = flow.send(await self._try(request, stream))
        except StopIteration as done:
            response: httpx2.Response = done.value
            return response

    async def _try(self, request: httpx2.Request, stream: bool) -> httpx2.Response | httpx2.TransportError:
        try:
            response = await self._http.send(request, stream=stream)
            if stream and not response.is_success:
                await response.aread()
            return response
        except httpx2.TransportError as error:
            return error


class AsyncPages(Generic[T]):
    """As `client.Pages`, read by `async for`."""

    def __init__(self, client: AsyncClient, ask: Ask[T]) -> None:
        self._client = client
        self._ask = ask
        self.cursor: str | None = ask.query.get("cursor")

    async def __aiter__(self) -> AsyncIterator[T]:
        while True:
            page: Any = await self._client.ask(Requests.page(self._ask, self.cursor))
            self.cursor = page.next or self.cursor
            for one in page.data:
                yield one
            if page.next is None:
                return


class AsyncDownload:
    """As `client.Download`."""

    def __init__(self, client: AsyncClient, ask: Ask[Any]) -> None:
        self._client = client
        self._ask = ask

    async def read(self) -> bytes:
        """All of it, in memory."""
        return b"".join([chunk async for chunk in self])

    async def __aiter__(self) -> AsyncIterator[bytes]:
        at, part = 0, Part(self._ask)
        while True:
            response = await self._client.open(part.ask)
            try:
                part.begun(response)
                async for chunk in response.aiter_bytes():
                    at += len(chunk)
                    yield chunk
                return
            except httpx2.TransportError as error:
                part = part.after(at, error)
            finally:
                await response.aclose()

    async def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes it to a file, which is there when it is complete, and not before."""
        target = anyio.Path(path)
        partial = target.with_name(target.name + ".part")
        async with await partial.open("wb") as file:
            async for chunk in self:
                await file.write(chunk)
        return Path(await partial.replace(target))


class AsyncFollowing:
    """As `client.Following`, read by `async for`."""

    def __init__(self, client: AsyncClient, ask: Ask[Any]) -> None:
        self._client = client
        self._ask = ask
        self.cursor: str | None = ask.query.get("cursor")

    async def __aiter__(self) -> AsyncIterator[Event]:
        while True:
            messages = Messages(self.cursor or "")
            response = await self._client.open(Requests.stream(self._ask, self.cursor))
            try:
                async for chunk in response.aiter_bytes():
                    for data in messages.feed(chunk):
                        self.cursor = messages.last_id
                        yield event_of(data)
                    self.cursor = messages.last_id or self.cursor
            except httpx2.TransportError:
                pass  # it goes on below, after the last event that came
            finally:
                await response.aclose()
            await self._client.pause()
