"""A request as a handler of the face sees it, and what it answers with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from masking import services, sids
from masking.access import Access
from masking.refusals import NotFound

if TYPE_CHECKING:
    from masking.api.desk import Desk
    from masking.house import House
    from masking.services import Service


class Asked(msgspec.Struct, frozen=True):
    """`account`: whom the client calls itself (`AC…`); `base`: where it reached us, `http://host/v1`; `path`: the ids
    of the path by their collection; `form`: of the type that its row names; `key`: the API key itself, which is what
    the client holds for Twilio's auth token."""

    desk: Desk
    access: Access
    account: str
    key: str
    base: str
    path: Mapping[str, str]
    query: Mapping[str, str]
    form: Any

    def __repr__(self) -> str:
        return f"<Asked by {self.account}>"

    @property
    def house(self) -> House:
        return self.desk.house

    @property
    def tenant(self) -> str:
        return self.access.tenant

    async def service(self) -> Service:
        """The service of the path, by SID or unique_name; `NotFound`."""
        wanted = self.path["Services"]
        for service in await services.listing(self.house, self.tenant):
            if wanted in (sids.service(service.id), service.unique_name):
                if await gone(self, [sids.service(service.id)]):
                    break
                return service
        raise NotFound("The service was not found.")


class Answer(msgspec.Struct, frozen=True):
    """A status and what is sent as JSON; None: nothing."""

    status: int
    body: Any = None


# What was deleted here is shown here no more. It stays in the history that REST shows: a client cannot delete evidence.


async def forget(asked: Asked, sid: str) -> None:
    await asked.house.redis.command("SADD", _deleted(asked), sid)


async def gone(asked: Asked, names: list[str]) -> set[str]:
    """Those of the SIDs that were deleted."""
    if not names:
        return set()
    found = await asked.house.redis.command("SMISMEMBER", _deleted(asked), *names)
    return {name for name, there in zip(names, found, strict=True) if there}


def _deleted(asked: Asked) -> str:
    return f"twilio:deleted:{asked.tenant}"
