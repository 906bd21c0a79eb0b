"""The same key and the same request: the same answer, whoever races, whatever crashes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from masking import services
from masking.api.desk import Desk
from masking.api.idempotency import CLAIM_MS, KEEP_MS, Held
from masking.api.operations import Answer
from masking.api.problems import Declined
from masking.house import House
from pools.redis import Unavailable
from tests.api.client import Client, problem

KEY = {"Idempotency-Key": "k-1"}


async def created(house: House, tenant: str = "acme") -> int:
    """Services beyond `default`."""
    return len(await services.listing(house, tenant)) - 1


async def test_a_repeated_request_gets_the_first_answer_and_does_nothing(api: Client, house: House) -> None:
    first = await api.post("/v1/services", {"unique_name": "hanoi"}, headers=KEY)
    again = await api.post("/v1/services", {"unique_name": "hanoi"}, headers=KEY)
    assert first.status_code == again.status_code == 201
    assert first.content == again.content
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert await created(house) == 1


async def test_a_refusal_is_an_answer_too(api: Client) -> None:
    await api.post("/v1/services", {"unique_name": "hanoi"})
    first = await api.post("/v1/services", {"unique_name": "hanoi"}, headers=KEY)
    again = await api.post("/v1/services", {"unique_name": "hanoi"}, headers=KEY)
    problem(first, 409, "unique_name_conflict")
    assert (again.status_code, again.content) == (409, first.content)


async def test_another_body_under_the_same_key_is_refused(api: Client, house: House) -> None:
    await api.post("/v1/services", {"unique_name": "hanoi"}, headers=KEY)
    problem(await api.post("/v1/services", {"unique_name": "hue"}, headers=KEY), 422, "idempotency_conflict")
    assert await created(house) == 1


async def test_another_path_under_the_same_key_is_refused(api: Client) -> None:
    await api.post("/v1/services", {"unique_name": "hanoi"}, headers=KEY)
    numbers = {"phone_numbers": [{"phone_number": "+842471000001"}]}
    answer = await api.post("/v1/services/hanoi/phone_numbers", numbers, headers=KEY)
    problem(answer, 422, "idempotency_conflict")


async def test_keys_of_two_tenants_do_not_meet(api: Client, stranger: Client, house: House) -> None:
    ours = await api.post("/v1/services", {"unique_name": "hanoi"}, headers=KEY)
    theirs = await stranger.post("/v1/services", {"unique_name": "hanoi"}, headers=KEY)
    assert ours.json()["id"] != theirs.json()["id"]
    assert await created(house) == await created(house, "other") == 1


async def test_of_racing_requests_one_acts_and_the_others_wait_their_turn(api: Client, house: House) -> None:
    answers = await asyncio.gather(
        *(api.post("/v1/services", {"friendly_name": "raced"}, headers=KEY) for _ in range(16))
    )
    done = [answer for answer in answers if answer.status_code == 201]
    assert done
    for answer in answers:
        if answer.status_code != 201:
            problem(answer, 409, "idempotency_in_flight")
            assert answer.headers["retry-after"] == "1"
    assert len({answer.content for answer in done}) == 1
    assert await created(house) == 1


async def test_a_claim_whose_process_died_lapses(api: Client, desk: Desk, house: House) -> None:
    held = await desk.idempotency.claim("acme", "k-1", b"")
    assert isinstance(held, Held)
    left = await house.redis.command("PTTL", held.place)
    assert 0 < left <= CLAIM_MS
    await house.redis.command("PEXPIRE", held.place, 1)
    while await house.redis.command("EXISTS", held.place):
        await asyncio.sleep(0.001)
    assert (await api.post("/v1/services", {"unique_name": "hanoi"}, headers=KEY)).status_code == 201


async def test_an_answer_is_kept_for_a_day(api: Client, house: House) -> None:
    await api.post("/v1/services", {"unique_name": "hanoi"}, headers=KEY)
    (place,) = await house.redis.command("KEYS", "i:acme:*")
    assert KEEP_MS - 60_000 < await house.redis.command("PTTL", place) <= KEEP_MS


async def test_the_token_of_a_request_is_the_same_after_a_crash(desk: Desk, house: House) -> None:
    first = await desk.idempotency.claim("acme", "k", b"request")
    assert isinstance(first, Held)
    await house.redis.command("DEL", first.place)
    again = await desk.idempotency.claim("acme", "k", b"request")
    other = await desk.idempotency.claim("acme", "l", b"request")
    assert isinstance(again, Held) and isinstance(other, Held)
    assert first.token == again.token != other.token


async def test_who_lost_his_claim_changes_nothing(desk: Desk, house: House) -> None:
    lost = await desk.idempotency.claim("acme", "k", b"first")
    assert isinstance(lost, Held)
    await house.redis.command("DEL", lost.place)
    held = await desk.idempotency.claim("acme", "k", b"second")
    assert isinstance(held, Held)
    await desk.idempotency.settle(lost, Answer(201, b"lost"))
    await desk.idempotency.release(lost)
    await desk.idempotency.settle(held, Answer(201, b"kept"))
    kept = await desk.idempotency.claim("acme", "k", b"second")
    assert isinstance(kept, Answer) and kept.body == b"kept"


async def test_a_request_that_came_to_nothing_may_be_made_again(
    api: Client, monkeypatch: pytest.MonkeyPatch, house: House
) -> None:
    async def gone(*_: Any) -> services.Service:
        raise Unavailable("gone")

    with monkeypatch.context() as broken:
        broken.setattr(services, "create", gone)
        answer = await api.post("/v1/services", {"unique_name": "hanoi"}, headers=KEY)
        problem(answer, 503, "unavailable")
    assert (await api.post("/v1/services", {"unique_name": "hanoi"}, headers=KEY)).status_code == 201
    assert await created(house) == 1


async def test_a_key_has_a_length(api: Client) -> None:
    for key in ("", "k" * 256):
        answer = await api.post("/v1/services", {}, headers={"Idempotency-Key": key})
        problem(answer, 400, "invalid_parameter")


async def test_a_key_is_no_place_where_a_number_is_kept(api: Client, house: House) -> None:
    await api.post("/v1/services", {}, headers={"Idempotency-Key": "+84901234567"})
    for place in await house.redis.command("KEYS", "*"):
        assert b"84901234567" not in place


async def test_a_get_takes_no_notice_of_a_key(api: Client) -> None:
    first = await api.get("/v1/services", headers=KEY)
    await api.post("/v1/services", {"unique_name": "hanoi"})
    second = await api.get("/v1/services", headers=KEY)
    assert len(second.json()["data"]) == len(first.json()["data"]) + 1


async def test_while_a_request_is_under_way_another_body_is_refused_as_such(desk: Desk) -> None:
    await desk.idempotency.claim("acme", "k", b"a body")
    with pytest.raises(Declined) as caught:
        await desk.idempotency.claim("acme", "k", b"another body")
    assert caught.value.code == "idempotency_conflict"
