"""Cursors: opaque, of one list, and steady while entries come."""

from __future__ import annotations

import base64

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from masking.api.paging import cursor_for, position_in
from masking.api.problems import Declined
from tests.api.client import Client, problem
from tests.api.conftest import X


@given(position=st.tuples(st.floats(allow_nan=False), st.text()))
def test_a_cursor_gives_its_position_back(position: tuple[float, str]) -> None:
    assert position_in("list", cursor_for("list", position), tuple[float, str]) == position


@given(text=st.text(max_size=60))
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(Declined) as caught:
        position_in("list", text, tuple[float, str])
    assert (caught.value.code, caught.value.status) == ("invalid_cursor", 400)


def test_a_cursor_of_another_list_or_kind_is_refused() -> None:
    for cursor in (
        cursor_for("other", (1.0, "a")),
        cursor_for("list", "a"),
        cursor_for("list", None),
        cursor_for("list", (1.0, "a"))[:-1],
        "c" + base64.urlsafe_b64encode(msgspec.msgpack.encode(["list", [1.0, "a"]])).decode(),
    ):
        with pytest.raises(Declined):
            position_in("list", cursor, tuple[float, str])


async def walk(api: Client, path: str, limit: int) -> list[list[dict[str, object]]]:
    pages, query = [], f"?limit={limit}"
    while True:
        page = (await api.get(path + query)).json()
        pages.append(page["data"])
        if page["next"] is None:
            return pages
        query = f"?limit={limit}&cursor={page['next']}"


async def test_pages_hold_every_number_once(api: Client, numbers: list[str]) -> None:
    pages = await walk(api, "/v1/services/default/phone_numbers", 7)
    assert [len(page) for page in pages] == [7, 7, 7, 7, 7, 5]
    assert [row["phone_number"] for page in pages for row in page] == X


async def test_a_page_that_is_just_full_is_the_last(api: Client, numbers: list[str]) -> None:
    assert [len(page) for page in await walk(api, "/v1/services/default/phone_numbers", 20)] == [20, 20]


async def test_entries_that_come_meanwhile_move_nothing(api: Client) -> None:
    for name in ("a", "b", "c", "d"):
        await api.post("/v1/services", {"unique_name": name})
    first = (await api.get("/v1/services?limit=3")).json()
    await api.post("/v1/services", {"unique_name": "e"})
    second = (await api.get(f"/v1/services?limit=3&cursor={first['next']}")).json()
    seen = [row["unique_name"] for row in first["data"] + second["data"]]
    assert seen[0] == "default"
    assert len(seen) == len(set(seen))
    assert {"a", "b", "c", "d"} < set(seen)


async def test_a_cursor_that_is_none_of_ours_is_400(api: Client, numbers: list[str]) -> None:
    cursor = (await api.get("/v1/services/default/phone_numbers?limit=1")).json()["next"]
    for path in ("/v1/services", "/v1/sessions", "/v1/events", "/v1/recordings"):
        problem(await api.get(f"{path}?cursor={cursor}"), 400, "invalid_cursor")
        problem(await api.get(f"{path}?cursor=nonsense"), 400, "invalid_cursor")
    problem(await api.get(f"/v1/services?cursor={'c' * 513}"), 400, "invalid_parameter")
