"""Every command of the command line: told by `--help` with an example, on its page, and really used once."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from cyclopts import App

from masking import access
from masking.cli import app
from masking.config import Config, load
from masking.errands import run
from masking.house import open_house
from masking.serve import running
from recordings.store import open_store
from recordings.vault import open_vault
from tests.api.test_recordings import SOUND, Shelf
from tests.ground.test_cli import write_config

PAGE = Path(__file__).parents[2] / "docs" / "commands.md"
PEOPLE = ["+84901234567:customer", "+84907654321:driver"]
# Used as processes: by every test of a service, by tests/docs/test_demo.py and by tests/system/test_moving.py.
ELSEWHERE = {"serve", "demo", "export", "import"}


def leaves(here: App, path: tuple[str, ...] = ()) -> dict[str, App]:
    """The commands that do something, by what is typed."""
    found: dict[str, App] = {}
    for name in here:
        if not name.startswith("-"):
            below = here[name]
            found |= leaves(below, (*path, name)) or {" ".join((*path, name)): below}
    return found


def type_(words: list[str]) -> Any:
    return app(words, result_action="return_value")


@pytest.mark.parametrize("command", sorted(leaves(app)))
def test_help_tells_each_command_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    type_([*command.split(), "--help"])
    said = capsys.readouterr().out
    assert f"Usage: masking {command}" in said and "--config" in said and "--json" in said
    assert "Example: " in said
    group, _, verb = command.partition(" ")
    page = PAGE.read_text()
    assert f"`masking {command}`" in page or (f"`masking {group} " in page and f"`{verb}`" in page)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_every_word(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    type_(["completion", shell])
    script = capsys.readouterr().out
    words = {word for command in leaves(app) for word in command.split()}
    assert all(word in script for word in words)
    if shell == "bash":
        ask = f"{script}\nCOMP_WORDS=(masking num); COMP_CWORD=1; _masking; echo ${{COMPREPLY[@]}}"
        done = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, check=True)
        assert done.stdout.split() == ["numbers"]


@pytest.mark.service
@pytest.mark.timeout(90)
async def test_each_command_does_its_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = await asyncio.to_thread(write_config, tmp_path)
    config = await asyncio.to_thread(load, path, {})
    used: set[str] = set()

    async def masking(*words: str) -> Any:
        """What the command says with `--json`."""
        used.update(command for command in leaves(app) if " ".join(words).startswith(command))
        capsys.readouterr()
        code = await asyncio.to_thread(type_, [*words, "--config", str(path), "--json"])
        assert not code, words
        return json.loads(capsys.readouterr().out)

    async with running(config, path):
        made = await masking("keys", "create", "--tenant", "acme", "--scope", "sessions")
        [key] = await masking("keys", "list", "--tenant", "acme")
        assert made["key"].startswith(key["id"]) and key["scopes"] == ["sessions"]
        assert (await masking("keys", "revoke", key["id"], "--tenant", "acme"))["revoked"] == key["id"]
        assert await masking("keys", "list", "--tenant", "acme") == []
        assert (await masking("keys", "rotate", "--tenant", "default"))["key"]
        assert (await masking("numbers", "import", "+842471000000-+842471000005"))["imported"] == 6
        session = await masking("sessions", "open", *PEOPLE, "--unique-name", "order-1")
        number = session["participants"][0]["proxies"][0]["number"]
        assert (await masking("numbers", "replace", number, "--overlap", "0"))["replaced"] == 1
        assert (await masking("numbers", "state", "retired", number))["changed"] == 1
        shown = await masking("sessions", "show", session["id"])
        number = shown["participants"][0]["proxies"][0]["number"]
        assert (await masking("explain", "+84901234567", number))["decision"] == "routed"
        assert (await masking("capacity"))["pools"][0]["size"] == 6
        assert (await masking("sessions", "close", session["id"]))["status"] == "closed"
        assert len(await masking("usage", "--by", "total")) == 1
        recording = await stored(config)
        got = await masking("recordings", "fetch", recording, "-o", str(tmp_path / "a.wav"), "--reason", "dispute 1")
        assert got["recording"] == recording and (tmp_path / "a.wav").read_bytes() == SOUND
        assert (await masking("recordings", "verify"))["heads"] == 0
        told = await asyncio.to_thread(lambda: list(run("masking.courier.verification", [], path, "verified")))
        assert told[0] == {"event": "progress", "what": "recordings", "done": 1, "total": 1}, "what the bar shows"
        assert "complete" in (await masking("completion", "fish"))["script"]
        assert {one["check"] for one in await masking("doctor")} > {"trunks", "clock"}
    assert used == set(leaves(app)) - ELSEWHERE


async def stored(config: Config) -> str:
    """A recording of tenant `default`."""
    async with open_house(config, now=time.time, random=os.urandom, budget=2.0) as house:
        assert house.archive is not None
        store = await open_store(config.recordings_url, lambda: os.urandom(8).hex(), **config.recordings.place)
        vault = open_vault(house.archive, store, config.keys, house.keyring.derived, os.urandom)
        return await Shelf(house, vault).put("one", tenant=access.DEFAULT_TENANT)
