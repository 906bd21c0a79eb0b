"""One row of the API: what is asked, who may ask, what is answered.

`routes.TABLE` is made of these, and both the running service (`endpoints`) and its OpenAPI document (`openapi`) are
read off the same rows, so that neither can say what the other does not.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from masking.access import Access, Scope
from masking.api.problems import Declined

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from masking.api.desk import Desk
    from masking.house import House


class NoQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """No query parameters."""


class Asked(msgspec.Struct, frozen=True):
    """A request as its handler sees it: checked, decoded, and known to come from `access`'s tenant.

    `body` and `query` are of the types the operation names; `headers` are lower-case; `client` is the peer's
    address; `token` is the request's identity under its Idempotency-Key (None without one): the same for every retry of
    the same request.
    """

    desk: Desk
    method: str
    access: Access
    path: Mapping[str, str]
    query: Any
    body: Any
    headers: Mapping[str, str]
    client: str = ""
    token: str | None = None

    @property
    def house(self) -> House:
        return self.desk.house

    @property
    def archive(self) -> AsyncEngine:
        assert self.desk.house.archive is not None, "the API's house has an archive"
        return self.desk.house.archive

    @property
    def tenant(self) -> str:
        return self.access.tenant


class Answer(msgspec.Struct, frozen=True):
    """What goes back: a Struct (sent as JSON), bytes, or chunks of bytes."""

    status: int
    body: msgspec.Struct | bytes | AsyncIterator[bytes] | None
    headers: Mapping[str, str] = {}
    media_type: str = "application/json"


Method = Literal["GET", "POST", "PATCH", "DELETE"]
Handler = Callable[[Asked], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Header:
    """A header a request may carry, or an answer carries, beyond the usual ones."""

    name: str
    about: str
    required: bool = False


@dataclass(frozen=True, slots=True)
class Said:
    """One success an operation may answer with."""

    about: str
    type: Any = None
    media_type: str = "application/json"
    headers: tuple[Header, ...] = ()
    or_media_types: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Operation:
    """One method on one path. `handler` None: the contract names it, this version answers 501 `not_implemented`.

    `scopes`: the key needs one of them; empty: any key. `public`: no key. `problems`: codes of its own, beyond those
    its shape implies. `not_built`: body fields of the contract this version refuses by name.
    `shareable`: a share link's token in `?grant=` stands for a key. `endless`: the answer lasts until its reader is
    gone.
    """

    method: Method
    path: str
    about: str
    handler: Handler | None = None
    answers: Mapping[int, Said] = field(default_factory=dict)
    body: Any = None
    query: type[msgspec.Struct] = NoQuery
    scopes: tuple[Scope, ...] = ()
    public: bool = False
    body_required: bool = True
    problems: tuple[str, ...] = ()
    headers: tuple[Header, ...] = ()
    not_built: frozenset[str] = frozenset()
    endless: bool = False
    shareable: bool = False
    tag: str = "tools"

    @property
    def name(self) -> str:
        return self.handler.__name__ if self.handler is not None else ""


@dataclass(frozen=True, slots=True)
class Push:
    """Something we POST to somebody else, and what is understood of the answer (None: its status alone)."""

    name: str
    about: str
    body: Any
    answer: Any = None


async def not_built_yet(asked: Asked) -> Answer:
    """The handler of every operation the contract names and this version does not serve."""
    raise Declined("not_implemented", "The contract names this call; this version does not serve it yet.")
