"""Every command of docs/tenants.md is run, in its order, and answers as the page says."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import httpx2
import pytest

from masking.config import load
from masking.serve import running
from tests.docs.test_readme import requests_of
from tests.ground.test_cli import KEY, Shell, write_config

PAGE = Path(__file__).parents[2] / "docs" / "tenants.md"


@pytest.mark.service
@pytest.mark.timeout(90)
async def test_the_commands_of_the_tenants_page_work_as_they_stand(tmp_path: Path) -> None:
    path = await asyncio.to_thread(write_config, tmp_path)
    blocks = re.findall(r"^```(sh|console|toml|json)\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    written = "\n".join(block for kind, block in blocks if kind == "toml")
    assert tomllib.loads(written)["tenant"][0]["guaranteed_channels"] == {"carrier-vn": 50}
    await asyncio.to_thread(path.write_text, path.read_text() + written)
    config = await asyncio.to_thread(load, path, {})
    told: dict[str, str] = {}
    rows: list[dict[str, Any]] = []
    async with running(config, path) as ready, httpx2.AsyncClient(timeout=10.0) as http:
        for kind, block in blocks:
            if kind == "console":
                for line in block.splitlines():
                    told[line] = await Shell(path).masking(*shlex.split(line)[1:], "--config", str(path))
            elif kind == "sh":
                for method, url, headers, _ in requests_of(block):
                    headers["Authorization"] = headers["Authorization"].replace("$KEY", KEY)
                    answer = await http.request(method, url.replace("$BASE", ready["http"]), headers=headers)
                    assert answer.status_code == 200, answer.text
                    rows += answer.json()["data"]
            elif kind == "json":
                shown = json.loads(block)["data"][0]
                total = await http.get(f"{ready['http']}/v1/usage", headers={"Authorization": f"Bearer {KEY}"})
                assert set(shown) == set(total.json()["data"][0])
    assert rows == [], "nothing was used"
    key = next(text for line, text in told.items() if "keys create" in line)
    listed = next(text for line, text in told.items() if "keys list" in line)
    assert key.partition(".")[0] in listed and key.strip() not in listed
    assert any(text.startswith("from,to,service") for text in told.values())
