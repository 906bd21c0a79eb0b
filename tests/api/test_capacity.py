"""Pools, capacity and plans over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from masking import capacity
from tests.api.client import Client, problem
from tests.api.conftest import CUSTOMER, DRIVER, X

DEFAULT = "/v1/services/default"
PLAN = "/v1/services/default:plan"
PEOPLE = [{"identifier": CUSTOMER, "role": "customer"}, {"identifier": DRIVER, "role": "driver"}]


async def test_pools_count_numbers_by_state_and_sessions_by_shard(api: Client, numbers: list[str]) -> None:
    opened = [(await api.post("/v1/sessions", {"participants": PEOPLE})).json() for _ in range(3)]
    await api.post(f"/v1/sessions/{opened[0]['id']}:close")
    await api.patch(f"{DEFAULT}/phone_numbers/{X[0]}", {"state": "draining"})
    await api.patch(f"{DEFAULT}/phone_numbers/{X[1]}", {"state": "retired"})
    (pool,) = (await api.get(f"{DEFAULT}/pools")).json()["data"]
    (shard,) = pool["shards"]
    states = {"active": 38, "draining": 1, "suspended": 0, "retired": 1, "resting": 0}
    figures = {"size": 40, "states": states, "live": 2, "quarantined": 1, "unhealthy": 0}
    assert pool == {"country": "VN", **figures, "shards": [shard]}
    assert shard == {"shard": opened[0]["id"][4:10], **figures}


async def test_capacity_tells_what_every_pair_of_people_is_sure_of(api: Client, numbers: list[str]) -> None:
    for number in X[:5]:
        await api.patch(f"{DEFAULT}/phone_numbers/{number}", {"state": "suspended"})
    found = (await api.get(f"{DEFAULT}/capacity")).json()
    (pool,) = found["pools"]
    assert (found["number_model"], found["pair_quarantine"]) == ("auto", 1800)
    assert (pool["size"], pool["active"], pool["guaranteed"], pool["degree"]) == (40, 35, 35, 18)


async def test_a_plan_counts_what_rests_beside_what_lives(api: Client, numbers: list[str]) -> None:
    roles = [{"role": "customer", "concurrency": 3}, {"role": "driver", "concurrency": 4}]
    body: dict[str, Any] = {"roles": roles, "session_length": 1800, "pair_quarantine": 1800}
    found = (await api.post(PLAN, body)).json()
    assert [(one["live"], one["resting"], one["degree"]) for one in found["degrees"]] == [(3, 3, 6), (4, 4, 8)]
    assert (found["needed"], found["feasible"]) == (6 + 8 - 1, True)
    assert found["pools"] == [{"country": "VN", "guaranteed": 40, "missing": 0, "enough": True}]
    hasty = (await api.post(PLAN, body | {"session_length": 300})).json()
    assert (hasty["needed"], hasty["pools"][0]) == (
        3 * 7 + 4 * 7 - 1,
        {"country": "VN", "guaranteed": 40, "missing": 8, "enough": False},
    )
    told = [role | {"redial_degree": 0} for role in roles]
    assert (await api.post(PLAN, body | {"roles": told})).json()["needed"] == 6
    assert (await api.post(PLAN, body | {"number_model": "per_party"})).json()["needed"] == 8
    assert (await api.post(PLAN, body | {"number_model": "extension"})).json()["needed"] == 1
    many = (await api.post(PLAN, {"roles": [{"role": "driver", "concurrency": 300}], "pair_quarantine": 0})).json()
    assert (many["needed"], many["feasible"]) == (599, False)


async def test_a_plan_for_three_takes_a_number_for_each_of_the_others(api: Client) -> None:
    roles = [{"role": role, "concurrency": 1} for role in ("customer", "driver", "merchant")]
    found = (await api.post(PLAN, {"roles": roles, "pair_quarantine": 0})).json()
    assert [one["degree"] for one in found["degrees"]] == [2, 2, 2]
    assert (found["needed"], found["pools"]) == (3, [])


async def test_the_service_gives_what_a_plan_leaves_out(api: Client) -> None:
    await api.post("/v1/services", {"unique_name": "hanoi", "ttl": 900, "pair_quarantine": 2700})
    found = (await api.post("/v1/services/hanoi:plan", {"roles": [{"role": "rider", "concurrency": 1}]})).json()
    assert (found["session_length"], found["pair_quarantine"], found["needed"]) == (900, 2700, 7)


async def test_a_load_that_makes_no_sense_is_refused(api: Client) -> None:
    problem(await api.post(PLAN, {"roles": []}), 422, "invalid_request")
    problem(await api.post(PLAN, {"roles": [{"role": "a", "concurrency": 0}]}), 422, "invalid_request")
    problem(await api.post(PLAN, {"roles": 2 * [{"role": "a", "concurrency": 1}]}), 422, "invalid_request")
    problem(await api.post(PLAN, {"roles": [{"role": CUSTOMER, "concurrency": 1}]}), 422, "contains_phone_number")
    problem(await api.get("/v1/services/nowhere/pools"), 404, "not_found")


async def test_nobody_sees_another_tenants_pools(api: Client, stranger: Client, numbers: list[str]) -> None:
    ours = (await api.get(DEFAULT)).json()["id"]
    for path in ("pools", "capacity"):
        problem(await stranger.get(f"/v1/services/{ours}/{path}"), 404, "not_found")
    assert (await stranger.get(f"{DEFAULT}/pools")).json() == {"data": [], "next": None}


@pytest.mark.parametrize(
    ("shards", "sure"),
    [([7], 7), ([3, 9], 9), ([3, 9, 4], 9), ([3, 9, 4, 1], 4), ([0, 0, 0, 256], 0), ([5, 1, 1, 6, 1, 1], 5)],
)
def test_the_sure_number_is_the_worst_of_the_best_that_a_session_tries(shards: list[int], sure: int) -> None:
    assert capacity.guaranteed(shards) == sure


async def test_the_metrics_tell_of_the_pools_and_name_no_number(api: Client) -> None:
    block = {"phone_numbers": [{"phone_number": "+842471000000-+842471000001"}]}
    await api.post(f"{DEFAULT}/phone_numbers", block)
    await api.patch(f"{DEFAULT}/phone_numbers/+842471000001", {"state": "suspended"})
    service = (await api.get(DEFAULT)).json()["id"]
    place = f'country="VN",service="{service}",'
    page = (await api.get("/metrics")).text
    assert f'masking_pool_unhealthy{{{place}tenant="acme"}} 0.0' in page
    assert f'masking_pool_low{{{place}tenant="acme"}} 0.0' in page
    opened = (await api.post("/v1/sessions", {"participants": PEOPLE})).json()
    page = (await api.get("/metrics")).text
    for gauge in (
        f'numbers{{{place}state="suspended",tenant="acme"}} 1.0',
        f'sessions{{{place}tenant="acme",what="live"}} 1.0',
        f'guaranteed{{{place}tenant="acme"}} 1.0',
        f'low{{{place}tenant="acme"}} 1.0',
    ):
        assert f"masking_pool_{gauge}" in page
    assert opened["participants"][0]["proxies"][0]["number"][1:] not in page
