"""Webhook endpoints as their owner sees them."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import httpx2
import msgspec
import pytest

from masking import access, archive, webhooks
from masking.api.app import App
from masking.api.desk import Desk
from masking.config import WebhooksSection
from masking.events import LOOSE_OUTBOX, moment
from masking.house import House
from tests.api.client import Client, problem
from tests.api.conftest import key_of
from tests.api.test_events import happen

URL = "https://hooks.example.com/masking"


@pytest.fixture
async def lenient(desk: Desk, house: House) -> Client:
    """The same tenant where receivers on private addresses are allowed."""
    config = msgspec.structs.replace(house.config, webhooks=WebhooksSection(allow_private=True))
    desk.house = replace(house, config=config)
    return Client(httpx2.ASGITransport(App(desk)), await key_of(house, "acme"))


async def test_an_endpoint_is_made_shown_changed_and_removed_and_its_secret_told_once(api: Client) -> None:
    made = (await api.post("/v1/webhook_endpoints", {"url": URL, "events": ["call.ended", "session.*"]})).json()
    assert made["secret"].startswith("whsec_") and made["status"] == "enabled"
    path = f"/v1/webhook_endpoints/{made['id']}"
    shown = (await api.get(path)).json()
    assert "secret" not in shown and shown["events"] == ["call.ended", "session.*"]
    changed = (await api.patch(path, {"status": "disabled", "description": "staging"})).json()
    assert (changed["status"], changed["description"], changed["url"]) == ("disabled", "staging", URL)
    assert (await api.get("/v1/webhook_endpoints")).json()["data"] == [changed]
    assert (await api("DELETE", path)).status_code == 204
    problem(await api.get(path), 404, "not_found")
    problem(await api("DELETE", path), 404, "not_found")


async def test_a_secret_is_never_stored(api: Client, house: House) -> None:
    made = (await api.post("/v1/webhook_endpoints", {"url": URL})).json()
    held = await house.redis.command("HGETALL", "hooks:acme")
    assert made["secret"].removeprefix("whsec_").encode() not in b" ".join(held)


async def test_a_rotated_secret_is_another_one(api: Client) -> None:
    made = (await api.post("/v1/webhook_endpoints", {"url": URL})).json()
    rotated = (await api.post(f"/v1/webhook_endpoints/{made['id']}:rotate_secret")).json()
    assert rotated["secret"] != made["secret"] and rotated["id"] == made["id"]


async def test_another_tenants_endpoint_is_as_unknown_as_any(api: Client, stranger: Client) -> None:
    made = (await api.post("/v1/webhook_endpoints", {"url": URL})).json()
    path = f"/v1/webhook_endpoints/{made['id']}"
    for answer in (
        await stranger.get(path),
        await stranger.patch(path, {"status": "disabled"}),
        await stranger("DELETE", path),
        await stranger.post(f"{path}:test"),
        await stranger.post(f"{path}:rotate_secret"),
        await stranger.get(f"{path}/deliveries"),
        await stranger.post("/v1/events:replay", {"endpoint": made["id"], "only_dead": True}),
    ):
        problem(answer, 404, "not_found")
    assert (await stranger.get("/v1/webhook_endpoints")).json()["data"] == []


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example.com/",
        "ftp://hooks.example.com/",
        "hooks.example.com",
        "https://",
        "https://user:secret@hooks.example.com/",
        "https://hooks.example.com/#here",
        "https://hooks.example.com:99999/",
        "https://127.0.0.1/",
        "https://10.1.2.3/",
        "https://169.254.169.254/latest/meta-data",
        "https://[::1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://[fd00::1]/",
        "https://[64:ff9b::a00:1]/",
        "https://0.0.0.0/",
        "https://224.0.0.1/",
        "https://100.64.0.1/",
    ],
)
async def test_a_url_that_leads_nowhere_good_is_refused(api: Client, url: str) -> None:
    found = problem(await api.post("/v1/webhook_endpoints", {"url": url}), 422, "invalid_request")
    assert found["errors"][0]["field"] == "url"


async def test_a_phone_number_may_stand_in_no_url_and_no_description(api: Client) -> None:
    for body in (
        {"url": "https://hooks.example.com/%2B84901234567"},
        {"url": "https://hooks.example.com/?who=%2B84901234567"},
        {"url": URL, "description": "ring +84901234567"},
    ):
        answer = await api.post("/v1/webhook_endpoints", body)
        problem(answer, 422, "contains_phone_number")
        assert "901234567" not in answer.text


async def test_an_event_nobody_knows_is_refused_with_those_there_are(api: Client) -> None:
    found = problem(await api.post("/v1/webhook_endpoints", {"url": URL, "events": ["call.x"]}), 422, "invalid_request")
    assert found["errors"][0]["field"] == "events[0]" and "call.ended" in found["errors"][0]["expected"]


async def test_private_receivers_need_the_operators_word_and_metadata_services_stay_out(lenient: Client) -> None:
    for url in ("http://127.0.0.1:9000/hook", "http://10.0.0.7/", "http://localhost:9000/"):
        assert (await lenient.post("/v1/webhook_endpoints", {"url": url})).status_code == 201
    answer = await lenient.post("/v1/webhook_endpoints", {"url": "http://169.254.169.254/"})
    problem(answer, 422, "invalid_request")


async def test_a_tenant_has_twenty_endpoints_at_most(api: Client) -> None:
    for n in range(webhooks.MOST):
        assert (await api.post("/v1/webhook_endpoints", {"url": f"{URL}/{n}"})).status_code == 201
    problem(await api.post("/v1/webhook_endpoints", {"url": URL}), 409, "conflict")
    first = (await api.get("/v1/webhook_endpoints?limit=12")).json()
    rest = (await api.get(f"/v1/webhook_endpoints?limit=12&cursor={first['next']}")).json()
    assert len(first["data"]) + len(rest["data"]) == webhooks.MOST and rest["next"] is None


async def test_a_test_event_goes_out_as_any_other(api: Client, house: House) -> None:
    made = (await api.post("/v1/webhook_endpoints", {"url": URL})).json()
    assert (await api.post(f"/v1/webhook_endpoints/{made['id']}:test")).status_code == 202
    (entry,) = await house.redis.command("XRANGE", LOOSE_OUTBOX, "-", "+")
    assert b"webhook.test" in entry[1] and made["id"].encode() in b" ".join(entry[1])


async def test_a_disabled_endpoint_is_neither_tested_nor_replayed_to(api: Client) -> None:
    made = (await api.post("/v1/webhook_endpoints", {"url": URL})).json()
    await api.patch(f"/v1/webhook_endpoints/{made['id']}", {"status": "disabled"})
    problem(await api.post(f"/v1/webhook_endpoints/{made['id']}:test"), 409, "conflict")
    problem(await api.post("/v1/events:replay", {"endpoint": made["id"], "only_dead": True}), 409, "conflict")


async def test_a_replay_says_what_and_counts_it(api: Client, house: House) -> None:
    made = (await api.post("/v1/webhook_endpoints", {"url": URL})).json()
    await happen(house, "acme", 3)
    wish = {"endpoint": made["id"], "from": "2026-11-22T00:00:00Z", "to": "2026-11-23T00:00:00Z"}
    assert (await api.post("/v1/events:replay", wish)).json() == {"endpoint": made["id"], "events": 3}
    assert (await api.post("/v1/events:replay", wish | {"session": "ses_y"})).json()["events"] == 0
    problem(await api.post("/v1/events:replay", {"endpoint": made["id"]}), 422, "invalid_request")
    held = await house.redis.command("LRANGE", webhooks.REPLAYS, 0, -1)
    assert len(held) == 2


async def test_the_log_of_deliveries_is_read_by_the_page_and_by_the_state(api: Client, house: House) -> None:
    made = (await api.post("/v1/webhook_endpoints", {"url": URL})).json()
    await happen(house, "acme", 3)
    assert house.archive is not None
    async with house.archive.begin() as connection:
        for position, row in enumerate(await archive.events_after(connection, "acme", 0, 10)):
            event = msgspec.json.decode(row[1])
            await connection.execute(
                archive.webhook_deliveries.insert().values(
                    endpoint=made["id"],
                    event=event["id"],
                    position=row[0],
                    lane="ses_x",
                    type=event["type"],
                    state="dead" if position == 1 else "delivered",
                    attempts=1,
                    first_at=1_800_000_000.0,
                    last_at=1_800_000_000.5,
                    status=500 if position == 1 else 204,
                    took=0.5,
                )
            )
    path = f"/v1/webhook_endpoints/{made['id']}/deliveries"
    first = (await api.get(f"{path}?limit=2")).json()
    rest = (await api.get(f"{path}?limit=2&cursor={first['next']}")).json()
    assert [one["status"] for one in first["data"] + rest["data"]] == [204, 500, 204] and rest["next"] is None
    (dead,) = (await api.get(f"{path}?state=dead")).json()["data"]
    assert dead["session"] == "ses_x" and dead["duration"] == 0.5
    assert dead["first_attempt_at"] == moment(1_800_000_000.0).isoformat().replace("+00:00", "Z")


async def test_a_stream_tells_what_happens_and_goes_on_where_it_was_left(desk: Desk, house: House) -> None:
    token = await key_of(house, "acme")
    await happen(house, "acme", 2)
    heard = _Reader(desk, token, {"last-event-id": ""})
    async with asyncio.timeout(20):
        async with heard:
            await happen(house, "acme", 2, start=3)
            seen = [await heard.event() for _ in range(2)]
        assert [one["seq"] for _, one in seen] == [3, 4]
        async with _Reader(desk, token, {"last-event-id": seen[0][0]}) as again:
            assert (await again.event())[1]["seq"] == 4
    assert desk.streams == 0


async def test_only_so_many_streams_are_held(desk: Desk, api: Client) -> None:
    desk.streams = 100
    found = problem(await api.get("/v1/events:stream"), 429, "rate_limited")
    assert found["retry_after"] == 5
    problem(await api.get("/v1/events:stream?cursor=nonsense"), 400, "invalid_cursor")


class _Reader:
    """A reader of the event stream over bare ASGI, who leaves when the block ends."""

    def __init__(self, desk: Desk, token: str, headers: dict[str, str]) -> None:
        self._app = App(desk)
        given = {"authorization": f"Bearer {token}", **headers}
        self._headers = [(name.encode(), value.encode()) for name, value in given.items() if value]
        self._gone = asyncio.Event()
        self._heard: asyncio.Queue[bytes] = asyncio.Queue()

    async def __aenter__(self) -> _Reader:
        scope = {
            "type": "http",
            "method": "GET",
            "path": "/v1/events:stream",
            "query_string": b"",
            "headers": self._headers,
            "client": ("127.0.0.1", 1),
        }
        self._running = asyncio.create_task(self._app(scope, self._receive, self._send))
        assert (await self._heard.get()).startswith(b": welcome\nid: c")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._gone.set()
        await self._running

    async def _receive(self) -> dict[str, object]:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: object) -> None:
        assert isinstance(message, dict)
        if message.get("body"):
            self._heard.put_nowait(message["body"])

    async def event(self) -> tuple[str, dict[str, object]]:
        """The next message: its id and its data."""
        lines = dict(line.split(": ", 1) for line in (await self._heard.get()).decode().strip().split("\n"))
        return lines["id"], msgspec.json.decode(lines["data"])


async def test_a_key_without_the_scope_may_not_touch_endpoints(house: House, transport: httpx2.ASGITransport) -> None:
    reader = Client(transport, (await access.create_key(house, "acme", ["sessions"]))[1])
    problem(await reader.post("/v1/webhook_endpoints", {"url": URL}), 403, "insufficient_scope")
