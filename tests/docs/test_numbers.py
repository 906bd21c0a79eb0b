"""Every command of docs/numbers.md is run, in its order, and answers as the page says."""

from __future__ import annotations

import asyncio
import re
import shlex
from pathlib import Path
from typing import Any

import httpx2
import pytest

from masking.config import load
from masking.serve import running
from tests.docs.test_readme import requests_of
from tests.ground.test_cli import KEY, Shell, write_config

PAGE = Path(__file__).parents[2] / "docs" / "numbers.md"


@pytest.mark.service
@pytest.mark.timeout(90)
async def test_the_commands_of_the_numbers_page_work_as_they_stand(tmp_path: Path) -> None:
    path = await asyncio.to_thread(write_config, tmp_path)
    config = await asyncio.to_thread(load, path, {})
    blocks = re.findall(r"^```(sh|console)\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    said: dict[str, dict[str, Any]] = {}
    told: dict[str, str] = {}
    async with running(config, path) as ready, httpx2.AsyncClient(timeout=10.0) as http:
        for kind, block in blocks:
            if kind == "console":
                words = shlex.split(block)[1:]
                told[" ".join(word for word in words[:2] if word.isalpha())] = await Shell(path).masking(
                    *words, "--config", str(path)
                )
                continue
            for method, url, headers, body in requests_of(block):
                headers["Authorization"] = headers["Authorization"].replace("$KEY", KEY)
                answer = await http.request(method, url.replace("$BASE", ready["http"]), headers=headers, content=body)
                assert answer.status_code in (200, 201), (url, answer.text)
                said[url.rpartition("/")[2]] = answer.json()
    plan = said["default:plan"]
    assert [one["degree"] for one in plan["degrees"]] == [6, 8] and plan["needed"] == 13
    assert said["pools"]["data"][0]["size"] == 30 and said["capacity"]["pools"][0]["guaranteed"] == 30
    assert "30 of 30" in told["capacity"]
    assert len(said["phone_numbers"]["data"]) == 6, "the block that was suspended"
    assert "10 numbers of service default are draining" in told["numbers state"]
    assert "3 numbers drain; 0 sessions" in told["numbers replace"]
    assert said["route:explain"]["decision"] == "no_binding" and "decision: no_binding" in told["explain"]
    assert said["route:explain"]["dialled"] == "+842471000019"
