"""A small asyncio client for Redis: what one turn of the event loop asks leaves in one write.

There is no pool of connections and no retry. Commands queue in the order they were asked, before a connection is up as
well; replies come in that order. So one queue of (future, deadline) is the whole state, its head is always the oldest,
and one timer watches it. A command that was written and not answered in time may still happen: whoever asked must be
ready for that.

Errors::

    RedisError
    ├── Unavailable   refused, timed out, closed, loading, read-only, out of memory: the command's effect is unknown
    └── Refused       the server understood and said no (a wrong type, a script's error): ours to mend
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple, cast
from urllib.parse import parse_qsl, unquote, urlsplit

import hiredis

Word = str | bytes | int | float

# Error words that mean "not this server, not now": the caller fails closed and asks again later.
_NOT_NOW: Final = frozenset(
    "LOADING READONLY MASTERDOWN CLUSTERDOWN TRYAGAIN BUSY OOM MISCONF NOREPLICAS NOAUTH WRONGPASS NOPERM".split()
)
_CODES: Final = re.compile(r"\b[A-Z]{3,}\b")
_LONG_DIGITS: Final = re.compile(r"\+?\d{7,}")
# A busy loop wakes late and finds the deadline past and the answer in the socket: one more turn lets it be read first.
_LAST_TURN: Final = 0.002
_pack: Final[Callable[[Any], bytes]] = hiredis.pack_command  # its stub knows only tuples of one


class RedisError(Exception):
    """Any failure of a command."""


class Unavailable(RedisError):
    """Redis gave no usable answer within the budget. The command may have happened or not; it is never sent again."""


class Refused(RedisError):
    """Redis answered with an error of our making; `code` is its first word. Long digit runs are cut out of the text."""

    def __init__(self, text: str) -> None:
        super().__init__(_LONG_DIGITS.sub("…", text))
        self.code = text.partition(" ")[0]


def _error_of(text: str) -> RedisError:
    """What an error reply means to the caller. Redis 6.2 wraps a script's inner error in an ERR of its own."""
    words = _CODES.findall(text) if text.startswith("ERR Error running script") else [text.partition(" ")[0]]
    for code in words:
        if code in _NOT_NOW:
            return Unavailable(f"Redis answers {code}")
    return Refused(text)


class Script:
    """A Lua script by its text; `sha` is what EVALSHA wants."""

    __slots__ = ("name", "sha", "text")

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text
        # The name that the protocol gives a script; no secret hangs on it.
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    def __repr__(self) -> str:
        return f"<Script {self.name} {self.sha[:8]}>"


class Target(NamedTuple):
    """Where a URL points. Never printed whole: it may hold a password."""

    host: str
    port: int
    path: str
    greeting: tuple[tuple[Word, ...], ...]
    tls: bool

    @classmethod
    def parse(cls, url: str) -> Target:
        """``unix:///path?db=N`` or ``redis://[[user]:pass@]host[:port][/N]``, ``rediss`` over TLS; else ValueError."""
        try:
            parts = urlsplit(url)
            query = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
            local = parts.scheme == "unix"
            database = int(query.pop("db", "0") if local else parts.path.strip("/") or "0")
            port = parts.port or 6379
            known = parts.scheme in ("unix", "redis", "rediss") and not query and database >= 0
            if not known or not (parts.path if local else parts.hostname):
                raise ValueError
        except ValueError:
            raise ValueError("a Redis URL is unix:///path?db=0 or redis://[user:password@]host:port/0") from None
        greeting: list[tuple[Word, ...]] = []
        if parts.password is not None:
            user = [unquote(parts.username)] if parts.username else []
            greeting.append(("AUTH", *user, unquote(parts.password)))
        if database:
            greeting.append(("SELECT", database))
        path = unquote(parts.path) if local else ""
        return cls(parts.hostname or "", port, path, tuple(greeting), parts.scheme == "rediss")


class _Link(asyncio.Protocol):
    """One connection: greets (AUTH, SELECT), then hands every reply to the client it belongs to."""

    def __init__(self, redis: Redis, greeting: Sequence[Sequence[Word]]) -> None:
        self._redis: Redis | None = redis
        self._greeting = greeting
        self._ungreeted = len(greeting)
        self._reader = hiredis.Reader(replyError=_error_of)
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Another loop's transports (uvloop's) have the methods, not the base class.
        self._transport = cast(asyncio.Transport, transport)
        if self._redis is None:
            self._transport.abort()
        elif self._greeting:
            self.write(b"".join(_pack(tuple(words)) for words in self._greeting))
        else:
            self._redis._up(self)

    def write(self, data: bytes) -> None:
        assert self._transport is not None
        self._transport.write(data)

    def data_received(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
            while self._redis is not None and (reply := self._reader.gets()) is not False:
                if self._ungreeted:
                    self._greeted(self._redis, reply)
                else:
                    self._redis._answer(reply)
        except hiredis.ProtocolError:
            self.connection_lost(None)

    def _greeted(self, redis: Redis, reply: Any) -> None:
        self._ungreeted -= 1
        if isinstance(reply, RedisError):
            redis._fail(f"Redis refuses the greeting: {reply}")
        elif not self._ungreeted:
            redis._up(self)

    def connection_lost(self, why: Exception | None) -> None:
        if self._redis is not None:
            self._redis._fail("Redis closed the connection")

    def drop(self) -> None:
        """Forgets the client at once and closes; what still arrives is nobody's."""
        self._redis = None
        if self._transport is not None:
            self._transport.abort()


class Redis:
    """One connection, shared by every caller of one event loop.

    `url` as `Target.parse` reads it. `budget`: seconds until `Unavailable`, connecting included. `blocking=True`: one
    command at a time, each with a whole budget of its own, for ``XREAD BLOCK``.
    """

    def __init__(self, url: str, budget: float = 0.15, blocking: bool = False) -> None:
        self.budget = budget
        self._target = Target.parse(url)
        self._turn = asyncio.Lock() if blocking else None
        self._queue: deque[tuple[asyncio.Future[Any], float]] = deque()
        self._unsent: list[bytes] = []
        self._link: _Link | None = None
        self._live: _Link | None = None
        self._attempt: asyncio.Task[None] | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._overdue: asyncio.Future[Any] | None = None
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None  # known from the first command on

    def __repr__(self) -> str:
        return f"<Redis {'up' if self._live else 'down'}, {len(self._queue)} waiting>"

    def command(self, *words: Word) -> Awaitable[Any]:
        """The command's reply: bytes, int, None or a list of these."""
        return self._ask(words) if self._turn is None else self._in_turn(words)

    async def script(self, script: Script, keys: Sequence[str | bytes], args: Sequence[Word]) -> Any:
        """The script's reply. NOSCRIPT means that nothing ran: then, and only then, it is sent again, with its text."""
        until = self._now() + self.budget
        try:
            return await self.command("EVALSHA", script.sha, len(keys), *keys, *args)
        except Refused as no:
            if no.code != "NOSCRIPT":
                raise
        try:
            async with asyncio.timeout_at(until):
                return await self.command("EVAL", script.text, len(keys), *keys, *args)
        except TimeoutError:
            raise Unavailable("Redis did not answer in time") from None

    async def close(self) -> None:
        """Closes for good; whoever still waits, and whoever asks later, gets `Unavailable`."""
        self._closed = True
        attempt = self._attempt
        self._fail("the Redis client is closed")
        # One turn for the transport to close its socket, and the attempt to end.
        await asyncio.wait([attempt]) if attempt is not None else await asyncio.sleep(0)

    async def _in_turn(self, words: tuple[Word, ...]) -> Any:
        assert self._turn is not None
        async with self._turn:
            return await self._ask(words)

    def _now(self) -> float:
        loop = self._loop = self._loop or asyncio.get_running_loop()
        return loop.time()

    def _ask(self, words: tuple[Word, ...]) -> asyncio.Future[Any]:
        loop = self._loop = self._loop or asyncio.get_running_loop()
        answer = loop.create_future()
        if self._closed:
            answer.set_exception(Unavailable("the Redis client is closed"))
            return answer
        self._unsent.append(_pack(words))
        deadline = loop.time() + self.budget
        self._queue.append((answer, deadline))
        if len(self._unsent) == 1:
            loop.call_soon(self._flush)
        if self._watch is None:
            self._watch = loop.call_at(deadline, self._check)
        return answer

    def _flush(self) -> None:
        """Writes what this turn of the loop asked; without a connection, makes one (one attempt at a time)."""
        if self._live is not None:
            data = b"".join(self._unsent)
            self._unsent.clear()
            self._live.write(data)
        elif self._link is None and self._unsent:
            self._link = _Link(self, self._target.greeting)
            self._attempt = asyncio.get_running_loop().create_task(self._connect(self._link))

    async def _connect(self, link: _Link) -> None:
        loop = asyncio.get_running_loop()
        target = self._target
        try:
            if target.path:
                await loop.create_unix_connection(lambda: link, target.path)
            else:
                tls = ssl.create_default_context() if target.tls else None
                await loop.create_connection(lambda: link, target.host, target.port, ssl=tls)
        except OSError as why:
            self._attempt = None
            self._fail(f"Redis cannot be reached: {type(why).__name__}")
        else:
            self._attempt = None

    def _up(self, link: _Link) -> None:
        self._live = link
        self._flush()

    def _answer(self, reply: Any) -> None:
        answer, _ = self._queue.popleft()
        if answer.done():  # its caller was cancelled
            return
        if isinstance(reply, RedisError):
            answer.set_exception(reply)
        else:
            answer.set_result(reply)

    def _check(self) -> None:
        """Watches the oldest command. Overdue, it gets one more turn of the loop; then the connection is given up."""
        self._watch = None
        if not self._queue:
            return
        loop = asyncio.get_running_loop()
        answer, deadline = self._queue[0]
        if loop.time() < deadline:
            self._watch = loop.call_at(deadline, self._check)
        elif answer is not self._overdue:
            self._overdue = answer
            self._watch = loop.call_later(_LAST_TURN, self._check)
        else:
            self._fail("Redis did not answer in time")

    def _fail(self, why: str) -> None:
        """Gives the connection up. Everybody who waits learns it now; the next command connects anew."""
        link, self._link, self._live = self._link, None, None
        if link is not None:
            link.drop()
        if self._attempt is not None:
            self._attempt.cancel()
            self._attempt = None
        self._overdue = None
        self._unsent.clear()
        waiting, self._queue = self._queue, deque()
        for answer, _ in waiting:
            if not answer.done():
                answer.set_exception(Unavailable(why))
