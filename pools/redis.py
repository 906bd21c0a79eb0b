"""A small asyncio client for Redis: what one turn of the event loop asks leaves in one write.

Errors::

    RedisError
    ├── Unavailable   refused, timed out, closed, loading, read-only, out of memory: nothing is known about the command's effect
    └── Refused       the server understood and said no (a wrong type, a script's error): ours to mend
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Any


class RedisError(Exception):
    """Any failure of a command."""


class Unavailable(RedisError):
    """Redis gave no usable answer within the budget. The command may or may not have happened; it is never sent again."""


class Refused(RedisError):
    """Redis answered with an error of our making; `code` is its first word."""


class Script:
    """A Lua script by its text; ``sha`` is what EVALSHA wants."""


class Redis:
    """One connection, shared by every caller of one event loop.

    ``url``: ``unix:///path?db=0`` or ``redis://[user:pass@]host:port/db``. ``budget``: seconds until `Unavailable`, connecting
    included. ``blocking=True``: one command at a time, each with the whole budget of its own, for ``XREAD BLOCK``.
    """

    def __init__(self, url: str, budget: float = 0.15, blocking: bool = False) -> None:
        raise NotImplementedError

    def command(self, *words: str | bytes | int | float) -> Awaitable[Any]:
        """The command's reply (bytes, int, None or a list of these)."""
        raise NotImplementedError

    async def script(self, script: Script, keys: Sequence[str | bytes], args: Sequence[str | bytes | int]) -> Any:
        """The script's reply: EVALSHA, and once EVAL when the server does not know it yet."""
        raise NotImplementedError

    async def close(self) -> None:
        """Closes the connection; whoever still waits gets `Unavailable`."""
        raise NotImplementedError
