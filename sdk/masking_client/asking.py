"""One call of the API as a value, and how a client gives it a method of its own.

`calls.Calls` declares every call once, as a function that makes an `Ask`. What its decorator turns it into depends on
the client it is read from: a plain method of `Client`, an awaitable one of `AsyncClient`.

    asks     one answer                  Client: T                AsyncClient: awaitable T
    pages    a list, page by page        Client: Pages[T]         AsyncClient: AsyncPages[T]
    files    bytes, as they come         Client: Download         AsyncClient: AsyncDownload
    streams  events, as they happen      Client: Following        AsyncClient: AsyncFollowing
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, overload
from urllib.parse import quote

import msgspec

if TYPE_CHECKING:
    from masking_client.async_client import AsyncClient, AsyncDownload, AsyncFollowing, AsyncPages
    from masking_client.client import Client, Download, Following, Pages

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ask(Generic[T]):
    """What is asked. `type`: what the answer is decoded into. Its repr shows neither query nor body: a body may hold
    people's numbers."""

    method: str
    path: str
    type: Any
    query: Mapping[str, Any] = field(default_factory=dict, repr=False)
    body: Mapping[str, Any] | None = field(default=None, repr=False)
    headers: Mapping[str, str | None] = field(default_factory=dict, repr=False)
    idempotency_key: str | None = None

    @property
    def parameters(self) -> dict[str, str]:
        """The query as it stands in the URL; what is None is left out."""
        return {_plain(name): _text(value) for name, value in self.query.items() if value is not None}

    @property
    def content(self) -> bytes | None:
        if self.body is None:
            return None
        return msgspec.json.encode({_plain(name): value for name, value in self.body.items()})


def place(template: str, **values: str) -> str:
    """The path of a call; ValueError for a value that would lead to another path."""
    for name, value in values.items():
        if not value or value in (".", ".."):
            raise ValueError(f"{name} must not be empty or dots")
    return template.format(**{name: quote(value, safe="") for name, value in values.items()})


def _plain(name: str) -> str:
    """`from_` stands for `from`, which Python keeps for itself."""
    return name.removesuffix("_")


def _text(value: Any) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return str(value).lower() if isinstance(value, bool) else str(value)


class _Declared(Generic[P, T]):
    """A function that makes an `Ask`; `how` names the client's method that carries it out."""

    how = ""

    def __init__(self, make: Callable[Concatenate[Any, P], Ask[T]]) -> None:
        self.make = make
        self.__doc__ = make.__doc__

    def _bound(self, client: Any) -> Any:
        if client is None:  # read from the class: for help() and for tests
            return self.make

        def method(*args: P.args, **kwargs: P.kwargs) -> Any:
            return getattr(client, self.how)(self.make(client, *args, **kwargs))

        method.__name__, method.__doc__ = self.make.__name__, self.make.__doc__
        return method


class asks(_Declared[P, T]):
    how = "ask"

    @overload
    def __get__(self, client: Client, owner: Any = None) -> Callable[P, T]: ...
    @overload
    def __get__(self, client: AsyncClient, owner: Any = None) -> Callable[P, Awaitable[T]]: ...
    def __get__(self, client: Any, owner: Any = None) -> Any:
        return self._bound(client)


class pages(_Declared[P, T]):
    how = "pages_of"

    @overload
    def __get__(self, client: Client, owner: Any = None) -> Callable[P, Pages[T]]: ...
    @overload
    def __get__(self, client: AsyncClient, owner: Any = None) -> Callable[P, AsyncPages[T]]: ...
    def __get__(self, client: Any, owner: Any = None) -> Any:
        return self._bound(client)


class files(_Declared[P, T]):
    how = "file_of"

    @overload
    def __get__(self, client: Client, owner: Any = None) -> Callable[P, Download]: ...
    @overload
    def __get__(self, client: AsyncClient, owner: Any = None) -> Callable[P, AsyncDownload]: ...
    def __get__(self, client: Any, owner: Any = None) -> Any:
        return self._bound(client)


class streams(_Declared[P, T]):
    how = "stream_of"

    @overload
    def __get__(self, client: Client, owner: Any = None) -> Callable[P, Following]: ...
    @overload
    def __get__(self, client: AsyncClient, owner: Any = None) -> Callable[P, AsyncFollowing]: ...
    def __get__(self, client: Any, owner: Any = None) -> Any:
        return self._bound(client)
