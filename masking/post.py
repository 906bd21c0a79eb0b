"""One POST to somebody else's server: to the address that was checked, no further than there, and not for long.

A receiver's URL is a stranger's wish (SSRF): names are looked up here, each address they lead to is held against
`webhooks.may_reach`, and the connection goes to the very address that was checked, so that a name which changes its
mind in between gains nothing. Redirects are not followed, answers are read to 16 KiB.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import Any, Final

import anyio
import httpcore2
import msgspec

from masking.webhooks import may_reach

CONNECT: Final = 5.0  # seconds
WHOLE: Final = 15.0  # seconds for a whole delivery
READ: Final = 16 * 1024  # bytes of an answer; a longer one costs its connection
KEEPALIVE: Final = 20.0  # seconds an idle connection is kept
AT_ONCE: Final = 32  # connections to one receiver
LOOKERS: Final = 32  # names looked up at the same time
NAMES: Final = 30.0  # seconds for which a receiver's addresses are remembered


class Outcome(msgspec.Struct, frozen=True):
    """What came of an attempt: the answer's status, or the word for why there was none; seconds it took. `body`: what
    was answered; None when it was too long to be read."""

    status: int | None
    error: str | None
    took: float
    body: bytes | None = None

    @property
    def delivered(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


class Forbidden(httpcore2.ConnectError):
    """The name leads to no address that may be reached."""


@cache
def trusted() -> ssl.SSLContext:
    """Who may say whose certificate is whose, as the system has it. Read from files, once: ask first where nothing
    waits."""
    return httpcore2.default_ssl_context()


@cache
def _lookers() -> ThreadPoolExecutor:
    """Threads of their own: silent name servers of a few receivers keep nobody else's lookup waiting."""
    return ThreadPoolExecutor(LOOKERS, "names")


class _Names:
    """What a receiver's name leads to. Asked once for all who want to know, however soon each of them gives up: a name
    server that is silent holds one thread."""

    def __init__(self) -> None:
        self._asked: dict[tuple[str, int], tuple[float, asyncio.Future[list[str]]]] = {}

    async def addresses(self, host: str, port: int) -> list[str]:
        at, found = self._asked.get((host, port), (0.0, None))
        if found is None or (found.done() and (found.exception() or anyio.current_time() - at >= NAMES)):
            found = asyncio.ensure_future(self._look_up(host, port))
            found.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._asked = {(host, port): (anyio.current_time(), found)}
        return await asyncio.shield(found)

    async def _look_up(self, host: str, port: int) -> list[str]:
        ask = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        try:
            found = await asyncio.get_running_loop().run_in_executor(_lookers(), ask)
        except (OSError, UnicodeError) as unknown:
            raise httpcore2.ConnectError("no such name") from unknown
        return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class _Guarded(httpcore2.AsyncNetworkBackend):
    """Connects to checked addresses only."""

    def __init__(self, allow_private: bool) -> None:
        self._allow_private = allow_private
        self._names = _Names()
        self._inner = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        found = await self._names.addresses(host, port)
        allowed = [one for one in found if may_reach(one, self._allow_private)]
        if not allowed:
            raise Forbidden("no address that may be reached")
        for address in allowed[:-1]:
            try:
                return await self._inner.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                continue
        return await self._inner.connect_tcp(allowed[-1], port, timeout, local_address, socket_options)

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)


class Post:
    """The connections to one receiver: a slow one keeps nobody else's."""

    def __init__(self, allow_private: bool, keepalive: float = KEEPALIVE) -> None:
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=trusted(),
            max_connections=AT_ONCE,
            keepalive_expiry=keepalive,
            network_backend=_Guarded(allow_private),
        )

    async def send(self, url: str, headers: Mapping[str, str], body: bytes, within: float | None = None) -> Outcome:
        """POSTs `body`, JSON unless `headers` say otherwise; never raises for what the receiver or the network does.
        `within`: seconds for all of it."""
        began = anyio.current_time()
        whole = WHOLE if within is None else within
        status: int | None = None
        error: str | None = None
        said: bytes | None = None
        try:
            with anyio.fail_after(whole):
                status, said = await self._send(url, headers, body, whole)
        except (TimeoutError, httpcore2.TimeoutException):
            error = "timeout"
        except Forbidden:
            error = "forbidden_address"
        except httpcore2.ConnectError as failed:
            error = "tls" if _is_tls(failed) else "unreachable"
        except (httpcore2.NetworkError, httpcore2.ProtocolError, OSError):
            error = "broken"
        if status is not None and 300 <= status < 400:
            error = "redirect"
        return Outcome(status, error, round(anyio.current_time() - began, 4), said)

    async def _send(self, url: str, headers: Mapping[str, str], body: bytes, whole: float) -> tuple[int, bytes | None]:
        timeout = {"connect": min(CONNECT, whole), "read": whole, "write": whole, "pool": whole}
        common = {"content-type": "application/json", "user-agent": "masking-webhooks"}
        sent: list[tuple[bytes | str, bytes | str]] = list((common | dict(headers)).items())
        async with self._pool.stream(
            "POST", url, headers=sent, content=body, extensions={"timeout": timeout}
        ) as answer:
            said = b""
            async for chunk in answer.aiter_stream():
                said += chunk
                if len(said) > READ:
                    return answer.status, None
            return answer.status, said

    async def close(self) -> None:
        await self._pool.aclose()


def _is_tls(failed: BaseException | None) -> bool:
    while failed is not None:
        if isinstance(failed, ssl.SSLError):
            return True
        failed = failed.__cause__ or failed.__context__
    return False
