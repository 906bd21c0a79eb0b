"""What docs/webhooks.md says of signatures is true of those that are sent, its app connects callers, and its commands
work."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from masking import callers, introductions, routes, services, webhooks
from masking.api import openapi
from masking.callers import Lookup
from masking.config import WebhooksSection
from masking.consultations import Consultant
from masking.house import House
from masking.routes import Refusal, Route, Stranger
from masking.services import ServiceChange
from masking.webhooks import NewWebhookEndpoint
from pools.keyring import Keyring
from pools.numbers import Number
from pools.redis import Redis
from tests.api.client import Client
from tests.api.conftest import (  # noqa: F401 (fixtures)
    api,
    config,
    desk,
    house,
    numbers,
    store,
    transport,
    vault,
)
from tests.courier.receiver import Receiver, receiver, said
from tests.docs.test_readme import requests_of
from tests.masking.world import CUSTOMER, DRIVER, STRANGER, World, proxy

DOCUMENT = Path(__file__).parents[2] / "docs" / "webhooks.md"


@pytest.fixture
async def world(redis: Redis, keyring: Keyring, tmp_path: Path) -> World:
    found = await World.make(redis, keyring, tmp_path)
    reaching = msgspec.structs.replace(found.house.config, webhooks=WebhooksSection(allow_private=True))
    found.house = replace(found.house, config=reaching)
    return found


@pytest.fixture
async def app() -> AsyncIterator[Receiver]:
    async with receiver() as found:
        yield found


@pytest.fixture
async def consultant(world: World) -> AsyncIterator[Consultant]:
    found = Consultant(world.house)
    yield found
    await found.close()


def pasted() -> dict[str, Any]:
    """The page's Python that asks nobody, as a reader would paste it; `test_pages` does what the rest asks."""
    names: dict[str, Any] = {}
    for code in re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL):
        if "client" not in code:
            exec(code, names)
    return names


async def test_the_pages_own_verifier_knows_our_signature_from_another(world: World) -> None:
    is_ours = pasted()["is_ours"]
    made = await webhooks.create(world.house, "acme", NewWebhookEndpoint(url="https://example.com/"), since=0)
    kept = await webhooks.get(world.house, "acme", made.id)
    headers = webhooks.headers(world.house, kept, "evt_1", b"{}", 1_800_000_000)
    assert is_ours(made.secret, headers, b"{}")
    assert not is_ours(made.secret, headers, b"{ }")
    await webhooks.rotate_secret(world.house, "acme", made.id)
    both = webhooks.headers(world.house, await webhooks.get(world.house, "acme", made.id), "evt_1", b"{}", 1)
    assert is_ours(made.secret, both, b"{}") and both["webhook-signature"].count("v1,") == 2


async def test_the_pages_app_connects_the_callers_it_knows_and_refuses_those_whose_shift_is_over(
    world: World, app: Receiver, consultant: Consultant
) -> None:
    page = pasted()
    app.answer = lambda heard: said(*reversed(page["answer"](heard.event)))
    secrets = [(await services.rotate_secret(world.house, "acme", "default")).secret for _ in range(2)]
    urls = ServiceChange(out_of_session_url=app.url, intercept_url=app.url)
    await services.change(world.house, "acme", "default", urls)
    (dialled, *_) = await world.pool(3)
    page["DRIVERS"][callers.look_up(world.house, "acme", Lookup(CUSTOMER)).caller] = DRIVER
    for caller, known in ((CUSTOMER, True), (STRANGER, False), (None, False)):
        met = await world.dial(dialled, caller)
        assert isinstance(met, Stranger)
        advice = await consultant.ask(await introductions.question(world.house, met))
        claimed = await introductions.introduced(world.house, met, advice)
        assert isinstance(claimed, Route if known else Refusal)
        assert not known or claimed.callee == Number.parse(DRIVER)  # type: ignore[union-attr]
    over = await world.open(STRANGER, DRIVER, metadata={"shift": "over"})
    route = await world.call(proxy(over, 0, 1), STRANGER)
    assert isinstance(route, Route) and route.question is not None
    refused = await routes.advised(world.house, route, await consultant.ask(route.question), world.house.now())
    assert refused is not None and (refused.decision, refused.reason) == ("blocked", "intercept:shift_over")
    fields = openapi.document()["components"]["schemas"]["AppQuestion"]["required"]
    for heard in app.heard:
        assert list(heard.event) == fields, "as openapi.json has it"
        assert all(page["is_ours"](secret, heard.headers, heard.body) for secret in secrets)
        assert not any(person[3:].encode() in heard.body for person in (CUSTOMER, DRIVER, STRANGER))


async def test_the_commands_about_calls_that_wait_work_as_they_stand(
    api: Client,  # noqa: F811
    numbers: list[str],  # noqa: F811
    house: House,  # noqa: F811
) -> None:
    told: list[dict[str, Any]] = []
    waiting = DOCUMENT.read_text().partition("## Your app decides")[2]
    for script in re.findall(r"^```sh\n(.*?)^```", waiting, re.MULTILINE | re.DOTALL):
        for method, url, headers, body in requests_of(script):
            kept = {name: value for name, value in headers.items() if name != "Authorization"}
            answer = await api(method, url.removeprefix("$BASE"), headers=kept, content=body)
            assert answer.status_code == 200, (url, answer.text)
            told.append(answer.json())
    service, secret, caller, dispatch = told
    assert service["intercept_on_error"] == "allow" and service["intercept_timeout_ms"] == 700
    assert secret["secret"].startswith("whsec_") and caller["caller"].startswith("clr_")
    assert dispatch["dispatch_number"] == "+842471000009"
    found = await house.inventory.find(dispatch["dispatch_number"])
    assert found is not None and found.state == "draining"
