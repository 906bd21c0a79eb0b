"""A receiver of webhooks: a real HTTP server that answers as the test wants, and writes down what it heard."""

from __future__ import annotations

import asyncio
import base64
import hmac
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec

OK = b"HTTP/1.1 204 No Content\r\n\r\n"


def status(code: int, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {code} So", "Content-Length: 0", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def said(body: Any, code: int = 200) -> bytes:
    """An answer with a body, JSON unless it is bytes."""
    raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return f"HTTP/1.1 {code} So\r\nContent-Length: {len(raw)}\r\n\r\n".encode() + raw


@dataclass
class Heard:
    """One delivery as it came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> dict[str, Any]:
        found: dict[str, Any] = msgspec.json.decode(self.body)
        return found

    def signed_with(self, secret: str) -> bool:
        """As a receiver checks it by the Standard Webhooks text, without any code of the sender's."""
        key = base64.b64decode(secret.removeprefix("whsec_"))
        signed = f"{self.headers['webhook-id']}.{self.headers['webhook-timestamp']}.".encode() + self.body
        wanted = "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode()
        return wanted in self.headers["webhook-signature"].split(" ")


@dataclass
class Receiver:
    """`answer` is asked for every delivery; None hangs up without a word. While `held` is unset nobody is answered."""

    port: int = 0
    held: asyncio.Event | None = None
    heard: list[Heard] = field(default_factory=list)
    answer: Callable[[Heard], bytes | None] = lambda _: OK

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    @property
    def seqs(self) -> list[int]:
        return [one.event["seq"] for one in self.heard]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in head[1:-2])}
                body = await reader.readexactly(int(headers["content-length"]))
                one = Heard(head[0].split(" ")[1], headers, body)
                self.heard.append(one)
                if self.held is not None:
                    await self.held.wait()
                answer = self.answer(one)
                if answer is None:
                    return
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver on a free port of loopback."""
    found = Receiver()
    server = await asyncio.start_server(found.serve, "127.0.0.1", 0)
    found.port = server.sockets[0].getsockname()[1]
    try:
        yield found
    finally:
        server.close()
