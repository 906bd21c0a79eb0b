"""Sessions over HTTP: what a client may rely on, as the contract says it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from masking.house import House
from tests.api.client import Client, problem
from tests.api.conftest import CUSTOMER, DRIVER, THIRD, X

PEOPLE = [{"identifier": CUSTOMER, "role": "customer"}, {"identifier": DRIVER, "role": "driver"}]


def order(name: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"participants": PEOPLE, "ttl": 3600} | ({"unique_name": name} if name else {}) | fields


async def opened(api: Client, name: str | None = None, **fields: Any) -> dict[str, Any]:
    answer = await api.post("/v1/sessions", order(name, **fields))
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


pytestmark = pytest.mark.usefixtures("numbers")


async def test_a_session_gives_each_person_a_number_to_dial(api: Client) -> None:
    session = await opened(api, "order-1042", metadata={"city": "HAN"})
    assert session["service"] == "default"
    assert session["status"] == "open"
    assert session["metadata"] == {"city": "HAN"}
    customer, driver = session["participants"]
    assert (customer["display"], customer["role"]) == ("+8490…67", "customer")
    (way,) = customer["proxies"]
    assert way["to"] == driver["id"]
    assert way["number"] in X
    assert (way["extension"], way["pin"]) == (None, None)


async def test_no_answer_carries_a_persons_number(api: Client) -> None:
    session = await opened(api, "order-1042")
    path = f"/v1/sessions/{session['id']}"
    for answer in [
        await api.get(path),
        await api.get("/v1/sessions"),
        await api.get(f"{path}/events"),
        await api.patch(path, {"metadata": {"a": "b"}}),
        await api.post(f"{path}:close"),
    ]:
        for spelled in (CUSTOMER[1:], DRIVER[1:], CUSTOMER[3:], DRIVER[3:]):
            assert spelled not in answer.text


async def test_the_same_order_again_is_the_same_session(api: Client) -> None:
    first = await opened(api, "order-1042")
    again = await api.post("/v1/sessions", order("order-1042"))
    assert (again.status_code, again.json()["id"]) == (200, first["id"])


async def test_other_people_under_the_same_name_are_refused(api: Client) -> None:
    first = await opened(api, "order-1042")
    other = [{"identifier": CUSTOMER}, {"identifier": THIRD}]
    found = problem(
        await api.post("/v1/sessions", order("order-1042", participants=other)), 409, "unique_name_conflict"
    )
    assert found["session"] == first["id"]


async def test_a_retry_with_a_key_opens_one_session(api: Client) -> None:
    answers = await asyncio.gather(
        *(api.post("/v1/sessions", order(), headers={"Idempotency-Key": "o-1"}) for _ in range(8))
    )
    ids = {answer.json()["id"] for answer in answers if answer.status_code == 201}
    assert len(ids) == 1
    again = await api.post("/v1/sessions", order(), headers={"Idempotency-Key": "o-1"})
    assert (again.status_code, again.json()["id"]) == (201, ids.pop())


async def test_a_retry_after_a_crash_finds_the_session_it_had_opened(api: Client, house: House) -> None:
    first = await api.post("/v1/sessions", order(), headers={"Idempotency-Key": "o-1"})
    # The process died after the session was there and before the answer was kept.
    (place,) = await house.redis.command("KEYS", "i:acme:*")
    await house.redis.command("DEL", place)
    again = await api.post("/v1/sessions", order(), headers={"Idempotency-Key": "o-1"})
    assert again.json()["id"] == first.json()["id"]


async def test_one_person_twice_is_refused(api: Client) -> None:
    people = [{"identifier": CUSTOMER}, {"identifier": "+84 90 123 45 67"}]
    answer = await api.post("/v1/sessions", order(participants=people))
    found = problem(answer, 409, "participant_conflict")
    assert found["errors"][0]["field"] == "participants[1].identifier"


@pytest.mark.parametrize(
    "identifier", ["0901234567", "+84", "113", "112", "+84113", "driver", "+8490123456789012", "", "+1900555"]
)
async def test_what_is_no_persons_number_is_refused(api: Client, identifier: str) -> None:
    people = [{"identifier": CUSTOMER}, {"identifier": identifier}]
    found = problem(await api.post("/v1/sessions", order(participants=people)), 422, "invalid_phone_number")
    assert found["errors"][0]["field"] == "participants[1].identifier"


async def test_a_virtual_number_is_no_person(api: Client, stranger: Client) -> None:
    people = [{"identifier": CUSTOMER}, {"identifier": X[0]}]
    for client in (api, stranger):
        answer = await client.post("/v1/sessions", order(participants=people))
        problem(answer, 422, "invalid_phone_number")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("unique_name", f"order {CUSTOMER}"),
        ("metadata", {"phone": CUSTOMER}),
        ("metadata", {CUSTOMER: "phone"}),
        ("metadata", {"phone": "0901234567"}),
        ("participants", [{"identifier": CUSTOMER, "friendly_name": f"call {DRIVER}"}, {"identifier": DRIVER}]),
    ],
)
async def test_a_number_in_a_free_text_is_refused(api: Client, field: str, value: Any) -> None:
    answer = await api.post("/v1/sessions", order(**{field: value}))
    problem(answer, 422, "contains_phone_number")
    assert CUSTOMER[1:] not in answer.text and DRIVER[1:] not in answer.text


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("announcements", {"trip_ended": "nowhere"}),
        ("announcements", {"trip_ended": "Über"}),
        ("ttl", 59),
        ("ttl", 170 * 86400 + 1),
        ("ttl", 10**30),
        ("ttl", 3600.0),
        ("ttl", "3600"),
        ("ring_timeout", 4),
        ("call_time_limit", 14401),
        ("pair_quarantine", -1),
        ("record", "sometimes"),
        ("expires_at", "2020-01-01T00:00:00Z"),
        ("expires_at", "2099-01-01T00:00:00Z"),
        ("expires_at", "2026-12-24"),
        ("metadata", {"k" * 41: "v"}),
        ("metadata", {"k": "v" * 257}),
        ("metadata", {f"k{n}": "v" for n in range(17)}),
        ("metadata", {"k": 7}),
        ("unique_name", ""),
        ("unique_name", "a\x00b"),
        ("unique_name", "a\nb"),
        ("participants", PEOPLE[:1]),
        ("participants", PEOPLE * 5),
        ("participants", None),
    ],
)
async def test_a_value_out_of_bounds_is_named(api: Client, field: str, value: Any) -> None:
    found = problem(await api.post("/v1/sessions", order(**{field: value})), 422, "invalid_request")
    assert found["errors"]
    assert all(error["expected"] for error in found["errors"])


async def test_expires_at_wins_over_ttl(api: Client) -> None:
    wanted = (datetime.now(UTC) + timedelta(hours=5)).replace(microsecond=0)
    session = await opened(api, expires_at=wanted.isoformat(), ttl=60)
    left = datetime.fromisoformat(session["expires_at"]) - wanted
    assert abs(left) < timedelta(seconds=2)


async def test_an_unknown_service_is_not_found(api: Client) -> None:
    problem(await api.post("/v1/sessions", order(service="nowhere")), 404, "not_found")


async def test_a_session_is_found_by_its_name_status_and_number(api: Client) -> None:
    first = await opened(api, "order-1")
    second = await opened(api, "order-2")
    number = first["participants"][0]["proxies"][0]["number"]

    async def found(**query: str) -> list[str]:
        return [row["id"] for row in (await api.get("/v1/sessions", params=query)).json()["data"]]

    assert set(await found()) == {first["id"], second["id"]}
    assert await found(unique_name="order-1") == [first["id"]]
    assert await found(number=number) == [first["id"]]
    assert set(await found(status="open")) == {first["id"], second["id"]}
    await api.post(f"/v1/sessions/{first['id']}:close")
    assert await found(status="closed") == [first["id"]]
    assert await found(status="open") == [second["id"]]


async def test_a_session_ends_once(api: Client) -> None:
    session = await opened(api, "order-1")
    path = f"/v1/sessions/{session['id']}"
    for _ in range(2):
        closed = await api.post(f"{path}:close", {})
        assert (closed.status_code, closed.json()["status"], closed.json()["closed_reason"]) == (200, "closed", "api")
    problem(await api.post(f"{path}:extend", {"ttl": 60}), 409, "session_closed")
    problem(await api.patch(path, {"metadata": {}}), 409, "session_closed")
    assert (await api.get(path)).json()["status"] == "closed"
    problem(await api.post(f"{path}:close", {"reason": "x"}), 422, "unknown_field")


async def test_the_end_can_be_moved(api: Client) -> None:
    session = await opened(api)
    later = await api.post(f"/v1/sessions/{session['id']}:extend", {"ttl": 7200})
    assert later.status_code == 200
    assert later.json()["expires_at"] > session["expires_at"]
    changed = await api.patch(f"/v1/sessions/{session['id']}", {"ttl": 9000})
    assert changed.json()["expires_at"] > later.json()["expires_at"]
    problem(await api.post(f"/v1/sessions/{session['id']}:extend", {"ttl": 59}), 422, "invalid_request")


async def test_what_is_changed_is_changed_alone(api: Client) -> None:
    session = await opened(api, metadata={"a": "1", "b": "2"})
    path = f"/v1/sessions/{session['id']}"
    changed = (await api.patch(path, {"metadata": {"b": None, "c": "3"}, "ring_timeout": 30})).json()
    assert changed["metadata"] == {"a": "1", "c": "3"}
    assert changed["ring_timeout"] == 30
    assert changed["participants"] == session["participants"]
    problem(await api.patch(path, {"pin": {}}), 422, "not_implemented")
    problem(await api.patch(path, {"metadat": {}}), 422, "unknown_field")
    problem(await api.patch(path, {"metadata": {"a": DRIVER}}), 422, "contains_phone_number")


async def test_a_session_tells_its_events_in_order(api: Client) -> None:
    session = await opened(api)
    path = f"/v1/sessions/{session['id']}"
    await api.patch(path, {"metadata": {"a": "1"}})
    await api.post(f"{path}:close")
    events = (await api.get(f"{path}/events")).json()["data"]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert events[0]["type"] == "session.opened"
    assert events[-1]["type"] in ("session.closed", "number.released")
    page = (await api.get(f"{path}/events?limit=1")).json()
    rest = (await api.get(f"{path}/events?cursor={page['next']}")).json()
    assert page["data"] + rest["data"] == events


async def test_when_no_number_is_free_it_says_how_many_are_needed(api: Client) -> None:
    await api.post("/v1/services", {"unique_name": "small"})
    body = {"phone_numbers": [{"phone_number": "+842499000001"}]}
    assert (await api.post("/v1/services/small/phone_numbers", body)).status_code == 201
    assert (await api.post("/v1/sessions", order("one", service="small"))).status_code == 201
    answer = await api.post("/v1/sessions", order("two", service="small"))
    found = problem(answer, 409, "number_pool_exhausted")
    assert found["needed"] >= 1
    assert found["retry_after"] >= 1
    assert answer.headers["retry-after"] == str(found["retry_after"])


async def test_without_a_number_of_the_country_a_strict_session_is_refused(api: Client) -> None:
    people = [{"identifier": "+66812345678"}, {"identifier": "+66898765432"}]
    problem(await api.post("/v1/sessions", order(participants=people, geo_match="strict")), 409, "geo_unavailable")


async def test_tenants_never_see_each_others_sessions(api: Client, stranger: Client) -> None:
    session = await opened(api, "order-1")
    path = f"/v1/sessions/{session['id']}"
    for answer in [
        await stranger.get(path),
        await stranger.patch(path, {"metadata": {}}),
        await stranger.post(f"{path}:close"),
        await stranger.post(f"{path}:extend", {"ttl": 60}),
        await stranger.get(f"{path}/events"),
        await stranger.get(f"{path}/interactions"),
    ]:
        problem(answer, 404, "not_found")
    assert (await stranger.get("/v1/sessions?unique_name=order-1")).json()["data"] == []
    assert (await stranger.get("/v1/sessions")).json()["data"] == []
    assert (await stranger.get("/v1/events")).json()["data"] == []
    assert (await api.get(path)).json()["status"] == "open"


async def test_the_same_name_may_be_used_by_another_tenant(api: Client, stranger: Client) -> None:
    ours = await opened(api, "order-1")
    numbers = {"phone_numbers": [{"phone_number": "+842499000009"}]}
    await stranger.post("/v1/services/default/phone_numbers", numbers)
    theirs = await opened(stranger, "order-1")
    assert ours["id"] != theirs["id"]


async def test_an_id_that_is_none_is_not_found(api: Client) -> None:
    for name in ("ses_x", "order-1", "%00", "ses_" + "a" * 500, "..", "%2e%2e", "\u202e", CUSTOMER):
        answer = await api.get(f"/v1/sessions/{name}")
        assert answer.status_code == 404, name
    problem(await api.get("/v1/interactions/int_nothing"), 404, "not_found")
    problem(await api.get("/v1/interactions/%00"), 404, "not_found")


async def test_a_pin_is_shown_to_who_opened_the_session_and_in_no_list(api: Client) -> None:
    shown = await opened(api, pin={"policy": "always", "length": 6}, direction="customer->driver")
    pins = [proxy["pin"] for person in shown["participants"] for proxy in person["proxies"]]
    assert len(set(pins)) == 2 and all(len(pin) == 6 and pin.isdigit() for pin in pins)
    assert shown["pin"] == {"policy": "always", "length": 6, "retries": 2}
    again = (await api.get(f"/v1/sessions/{shown['id']}")).json()
    assert again["participants"] == shown["participants"]
    events = (await api.get(f"/v1/sessions/{shown['id']}/events")).text
    listed = (await api.get("/v1/sessions")).text
    assert not any(f'"{pin}"' in text for pin in pins for text in (events, listed))
    problem(await api.post("/v1/sessions", order(pin={"policy": "always", "length": 3})), 422, "invalid_request")
    problem(await api.post("/v1/sessions", order(pin={"length": 5})), 422, "invalid_request")
    problem(await api.post("/v1/sessions", order(direction="sideways")), 422, "invalid_request")


async def test_the_app_says_that_a_participant_is_about_to_call(api: Client) -> None:
    shown = await opened(api, pin={"policy": "always"})
    customer, driver = shown["participants"]
    answer = await api.post(f"/v1/sessions/{shown['id']}:intend", {"participant": customer["id"], "to": driver["id"]})
    assert answer.status_code == 200
    told = answer.json()
    assert told["participant"] == customer["id"] and told["numbers"] == [customer["proxies"][0]["number"]]
    found = problem(
        await api.post(f"/v1/sessions/{shown['id']}:intend", {"participant": "par_x"}), 422, "invalid_request"
    )
    assert found["errors"][0]["field"] == "participant"
    await api.post(f"/v1/sessions/{shown['id']}:close")
    closed = await api.post(f"/v1/sessions/{shown['id']}:intend", {"participant": customer["id"]})
    problem(closed, 409, "session_closed")
    problem(await api.post("/v1/sessions/ses_nobody:intend", {"participant": customer["id"]}), 404, "not_found")


async def test_what_becomes_of_a_call_at_the_end_is_shown_and_changed(api: Client) -> None:
    shown = await opened(api, on_expiry_in_call="hangup")
    assert shown["on_expiry_in_call"] == "hangup"
    changed = await api.patch(f"/v1/sessions/{shown['id']}", {"on_expiry_in_call": "finish"})
    assert changed.json()["on_expiry_in_call"] == "finish"
    problem(await api.post("/v1/sessions", order(on_expiry_in_call="wait")), 422, "invalid_request")


async def test_stages_are_shown_with_the_one_of_the_moment_and_may_be_replaced(api: Client) -> None:
    stages = [{"name": "offer", "until": "2099-12-24T18:00:00Z", "direction": "customer->driver"}, {"name": "active"}]
    shown = await opened(api, stages=stages)
    blank: dict[str, Any] = {"until": None, "direction": "both", "record": None}
    assert shown["stages"] == [blank | stage for stage in stages] and shown["stage"] == "offer"
    told = (await api.get(f"/v1/sessions/{shown['id']}/events")).json()["data"][0]["data"]
    assert (told["stages"], told["stage"]) == (shown["stages"], "offer")
    changed = (await api.patch(f"/v1/sessions/{shown['id']}", {"stages": [{"name": "active"}]})).json()
    assert (changed["stage"], changed["expires_at"]) == ("active", shown["expires_at"])
    for wrong in ([{"name": ""}], [{"name": "a"}] * 2, [{"name": "a"}] * 9, [{"until": None}]):
        problem(await api.post("/v1/sessions", order(stages=wrong)), 422, "invalid_request")
        problem(await api.patch(f"/v1/sessions/{shown['id']}", {"stages": wrong}), 422, "invalid_request")


async def test_late_calls_go_where_the_session_says_and_its_number_is_not_shown(api: Client) -> None:
    shown = await opened(api, late_call={"policy": "forward", "forward_to": "+842473009999"})
    assert shown["late_call"] == {"policy": "forward", "display": "+8424…99"}
    changed = await api.patch("/v1/services/default", {"late_call": {"policy": "reopen"}})
    assert changed.json()["late_call"] == {"policy": "reopen", "display": None}
    for late_call in (
        {"policy": "forward"},
        {"policy": "reopen", "forward_to": "+842473009999"},
        {"policy": "hang_up"},
    ):
        problem(await api.post("/v1/sessions", order(late_call=late_call)), 422, "invalid_request")
    wish = {"policy": "forward", "forward_to": "113"}
    problem(await api.patch(f"/v1/sessions/{shown['id']}", {"late_call": wish}), 422, "invalid_phone_number")
    problem(await api.patch("/v1/services/default", {"late_call": wish}), 422, "invalid_phone_number")


async def test_an_answer_that_is_kept_for_a_retry_hides_its_pins(api: Client, house: House) -> None:
    body, key = order(pin={"policy": "always"}), {"Idempotency-Key": "k-1"}
    first = await api.post("/v1/sessions", body, headers=key)
    pin = first.json()["participants"][0]["proxies"][0]["pin"]
    kept = [await house.redis.command("GET", name) for name in await house.redis.command("KEYS", "i:*")]
    assert kept and not any(pin.encode() in one for one in kept)
    assert (await api.post("/v1/sessions", body, headers=key)).content == first.content


async def test_a_service_says_what_strangers_meet(api: Client) -> None:
    assert (await api.get("/v1/services/default")).json()["out_of_session"] == "announce"
    changed = await api.patch("/v1/services/default", {"out_of_session": "pin"})
    assert changed.status_code == 200 and changed.json()["out_of_session"] == "pin"
    problem(await api.patch("/v1/services/default", {"out_of_session": "connect"}), 422, "invalid_request")


async def test_a_limit_beyond_all_measure_is_refused(api: Client, numbers: list[str]) -> None:
    people = [{"identifier": CUSTOMER}, {"identifier": DRIVER}]
    for most in (10**6 + 1, 10**30):
        wish = {"participants": people, "max_call_attempts_per_hour": most}
        problem(await api.post("/v1/sessions", wish), 422, "invalid_request")
