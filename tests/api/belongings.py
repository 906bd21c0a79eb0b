"""One of everything that a tenant can have, for tests that hold tenants apart."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from masking.house import House
from tests.api.client import Client
from tests.api.conftest import CUSTOMER, DRIVER
from tests.api.test_interactions import call
from tests.api.test_recordings import Shelf

Here = dict[str, str]
Archived = Callable[[House, dict[str, Any], str], Awaitable[None]]


async def belongings(who: Client, house: House, shelf: Shelf, tenant: str, x: str, archived: Archived) -> Here:
    """One of everything a path can name, of one tenant; its numbers begin at `x`. `archived` sees to it that the
    interaction, whose tenant it is given, comes into the archive."""

    async def made(path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = await who.post(path, body)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    service = (await who.get("/v1/services/default")).json()["id"]
    block = [{"phone_number": f"{x[:-2]}{n:02}"} for n in range(4)]
    number = (await made("/v1/services/default/phone_numbers", {"phone_numbers": block}))["data"][0]
    people = [{"identifier": CUSTOMER, "role": "customer"}, {"identifier": DRIVER, "role": "driver"}]
    session = await made("/v1/sessions", {"unique_name": f"order of {tenant}", "participants": people})
    dialled = session["participants"][0]["proxies"][0]["number"]
    interaction = await call(house, dialled, CUSTOMER, house.now() - 60)
    (told,) = (await who.get(f"/v1/sessions/{session['id']}/interactions")).json()["data"]
    await archived(house, told, tenant)
    case = {"reason": "threats", "requested_by": "anna", "approval": "second_person"}
    dispute = await made("/v1/disputes", {"session": session["id"], **case})
    blocked = await made(
        "/v1/blocks", {"scope": "number", "who": {"identifier": "+84908887766"}, "reason": f"threats {tenant}"}
    )
    endpoint = await made("/v1/webhook_endpoints", {"url": f"https://{tenant}.example.com/events"})
    return {
        "service": service,
        "number": number["id"],
        "x": dialled,
        "session": session["id"],
        "participant": session["participants"][0]["id"],
        "interaction": interaction,
        "recording": await shelf.put(tenant, tenant=tenant),
        "dispute": dispute["id"],
        "block": blocked["id"],
        "endpoint": endpoint["id"],
    }
