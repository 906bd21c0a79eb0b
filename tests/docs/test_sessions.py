"""Every command of docs/sessions.md is run, in its order, and answers as the page says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx2

from masking import originating
from masking.house import House
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
from tests.docs.test_readme import requests_of

PAGE = Path(__file__).parents[2] / "docs" / "sessions.md"


async def test_the_commands_of_the_sessions_page_work_as_they_stand(
    api: Client,  # noqa: F811
    house: House,  # noqa: F811
    numbers: list[str],  # noqa: F811
) -> None:
    await house.redis.command("SET", originating.TAKERS, 1)  # as an edge does that takes calls
    scripts = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    said: dict[str, dict[str, Any]] = {}
    words = {"SESSION": "", "CUSTOMER": "", "DRIVER": "", "NUMBER": ""}
    for script in scripts:
        for method, url, headers, body in requests_of(script):
            path = re.sub(r"\$([A-Z]+)", lambda found: words.get(found[1], ""), url)
            body = re.sub(r"\$([A-Z]+)", lambda found: words[found[1]], body) if body else body
            kept = {name: value for name, value in headers.items() if name != "Authorization"}
            answer: httpx2.Response = await api(method, path, headers=kept, content=body)
            assert answer.status_code in (200, 201, 202), (url, answer.text)
            said[re.sub(r"^\$BASE/v1/sessions", "", url)] = found = answer.json()
            if "participants" in found:
                words["SESSION"] = found["id"]
                words["CUSTOMER"], words["DRIVER"] = (one["id"] for one in found["participants"][:2])
                words["NUMBER"] = found["participants"][0]["proxies"][0]["number"]
    assert said[""]["ttl_mode"] == "sliding"
    assert said["/$SESSION:close"]["status"] == "closed" and said["/$SESSION:reopen"]["status"] == "open"
    swapped, renumbered = said["/$SESSION:swap_participant"], said["/$SESSION:replace_number"]
    assert [one["display"] for one in swapped["participants"]] == ["+8490…67", "+8498…21"]
    assert swapped["participants"][0]["proxies"][0]["number"] != renumbered["participants"][0]["proxies"][0]["number"]
    called = said["/$SESSION:call"]
    assert (called["direction"], called["from"], called["to"]) == ("outbound", words["CUSTOMER"], words["DRIVER"])
    assert [one["reason"] for one in said["$BASE/v1/blocks"]["data"]] == ["calls at night"]
    assert [item["status"] for item in said[":batch"]["data"]] == [201, 422]
    assert len(said[":search"]["data"]) == 3
