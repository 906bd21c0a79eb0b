"""Every command of the README is run, in its order, against a service started with the README's configuration."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import socket
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx2
import pytest

from masking.config import load
from masking.serve import running
from tests.ports import free_port

README = Path(__file__).parent.parent.parent / "README.md"
KEY = "change-me-to-a-long-random-text"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)


def requests_of(script: str) -> list[tuple[str, str, dict[str, str], str | None]]:
    """The curl commands of a block: method, URL, headers, body."""
    found = []
    words = shlex.split(script.replace("\\\n", " "), comments=True)
    starts = [index for index, word in enumerate(words) if word == "curl"]
    for start, end in pairwise([*starts, len(words)]):
        method, url, headers, body = "", "", {}, None
        options = iter(words[start + 1 : end])
        for word in options:
            match word:
                case "-s":
                    pass
                case "-o":
                    next(options)
                case "-X":
                    method = next(options)
                case "-H":
                    name, _, value = next(options).partition(": ")
                    headers[name] = value
                case "-d":
                    body = next(options)
                case _:
                    url = word
        found.append((method or ("POST" if body else "GET"), url, headers, body))
    return found


def test_the_make_targets_the_readme_names_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (README.parent / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"make ([a-z]+)", README.read_text())) <= targets


@pytest.mark.service
@pytest.mark.timeout(90)
async def test_the_first_session_of_the_readme_works_as_it_stands(tmp_path: Path) -> None:
    (configuration,) = blocks("toml")
    http, sip = free_port(), free_port(socket.SOCK_DGRAM)
    path = tmp_path / "masking.toml"
    await asyncio.to_thread(path.write_text, configuration)
    environment = {
        "MASKING_SERVICE__DATA_DIR": str(tmp_path / "var"),
        "MASKING_HTTP__LISTEN": f"127.0.0.1:{http}",
        "MASKING_SIP__LISTEN": f"udp:127.0.0.1:{sip}",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        config = await asyncio.to_thread(load, path, environment)
        async with running(config, path) as ready:
            await first_session(ready["http"])
            (program,) = blocks("python")
            names: dict[str, Any] = {}
            await asyncio.to_thread(exec, program.replace("http://127.0.0.1:8080", ready["http"]), names)
            assert names["session"].unique_name == "order-1042"


async def first_session(base: str) -> None:
    session: dict[str, Any] = {}
    commands = [request for script in blocks("sh") for request in requests_of(script)]
    assert len(commands) == 3
    async with httpx2.AsyncClient(timeout=10.0) as http:
        for method, url, headers, body in commands:
            url = url.replace("http://127.0.0.1:8080", base).replace("ses_…", session.get("id", ""))
            answer = await http.request(method, url, headers=headers, content=body)
            assert answer.status_code in (200, 201), (url, answer.text)
            if answer.json().get("id", "").startswith("ses_"):
                session = answer.json()
    assert session["status"] == "closed"
    assert json.dumps(session).count("+84901234567") == 0
