"""The command line, typed as a person types it, against a running service."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from masking.config import load
from masking.serve import running
from tests.ports import free_port

KEY = "a-long-key-for-the-tests-of-the-cli"


@dataclass
class Shell:
    config: Path

    async def masking(self, *words: str, code: int = 0) -> str:
        """What the command wrote: stdout when it ended well, stderr otherwise."""
        command = [sys.executable, "-c", "from masking.cli import main; main()", *words]
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)
        out, err = await process.communicate()
        assert process.returncode == code, err.decode()
        return (err if code else out).decode()


def write_config(folder: Path) -> Path:
    path = folder / "masking.toml"
    path.write_text(
        f'[service]\ndata_dir = "{folder / "var"}"\nbootstrap_key = "{KEY}"\n'
        f'[http]\nlisten = "127.0.0.1:{free_port()}"\n[sip]\nlisten = ["tcp:127.0.0.1:{free_port()}"]\n'
        '[[trunk]]\nname = "carrier-vn"\nuri = "sip:127.0.0.1:5070"\nsources = ["127.0.0.1:5070"]\ncountry = "VN"\n'
    )
    return path


@pytest.fixture
async def shell(tmp_path: Path) -> AsyncIterator[Shell]:
    path = await asyncio.to_thread(write_config, tmp_path)
    config = await asyncio.to_thread(load, path, {})
    async with running(config, path):
        yield Shell(path)


@pytest.mark.service
async def test_numbers_are_imported_and_a_session_is_opened_shown_and_closed(shell: Shell, tmp_path: Path) -> None:
    common = ["--config", str(shell.config), "--json"]
    numbers = tmp_path / "numbers.csv"
    await asyncio.to_thread(numbers.write_text, "phone_number,trunk\n+842471000001,carrier-vn\n+842471000002,\n")
    imported = await shell.masking("numbers", "import", str(numbers), "--service", "default", *common)
    assert json.loads(imported) == {"imported": 2, "service": "default", "found": {"new": 2}, "errors": []}

    people = ["+84901234567:customer", "+84907654321:driver"]
    opened = json.loads(await shell.masking("sessions", "open", *people, "--unique-name", "order-7", *common))
    assert opened["participants"][0]["display"] == "+8490…67"
    shown = await shell.masking("sessions", "show", opened["id"], "--config", str(shell.config))
    number = opened["participants"][0]["proxies"][0]["number"]
    assert number in shown
    told = json.loads(await shell.masking("explain", people[0].partition(":")[0], number, *common))
    assert (told["decision"], told["session"]) == ("routed", opened["id"])
    table = await shell.masking("explain", "withheld", number, "--config", str(shell.config))
    assert "decision: no_binding" in table and "withheld" in table
    assert "901234567" not in shown
    closed = json.loads(await shell.masking("sessions", "close", opened["id"], *common))
    assert closed["status"] == "closed"

    table = await shell.masking("capacity", "--config", str(shell.config))
    assert "2 of 2" in table and "sure each" in table
    (pool,) = json.loads(await shell.masking("capacity", *common))["pools"]
    assert (pool["size"], pool["guaranteed"], pool["states"]["active"], pool["quarantined"]) == (2, 2, 2, 1)

    refused = await shell.masking("sessions", "open", people[0], people[0], *common, code=1)
    assert "participant_conflict" in refused and "901234567" not in refused


@pytest.mark.service
async def test_blocks_are_imported_and_drained(shell: Shell, tmp_path: Path) -> None:
    common = ["--config", str(shell.config), "--json"]
    block = await shell.masking("numbers", "import", "+842471000000-+842471000249", "--trunk", "carrier-vn", *common)
    assert json.loads(block)["imported"] == 250
    listed = tmp_path / "blocks.csv"
    await asyncio.to_thread(listed.write_text, "phone_number,trunk\n+842471000248-+842471000252,\n+842471000300,\n")
    assert json.loads(await shell.masking("numbers", "import", str(listed), *common))["imported"] == 6
    said = await shell.masking("numbers", "state", "draining", "+842471000000-+842471000219", *common[:2])
    assert said.strip() == "220 numbers of service default are draining."
    (pool,) = json.loads(await shell.masking("capacity", *common))["pools"]
    assert pool["states"] == {"active": 34, "draining": 220, "suspended": 0, "retired": 0, "resting": 0}

    wrong = ["+842471000009-+842471000001,", "+842471000400,", "12,", "+842471000401,nowhere", "", "+842471000400,x"]
    await asyncio.to_thread(listed.write_text, "\n".join(["phone_number,trunk", *wrong]))
    told = await shell.masking("numbers", "import", str(listed), *common, code=1)
    assert [line.partition(": line ")[2][:18] for line in told.strip().splitlines()] == [
        "2: phone_number is", "4: phone_number is", "5: trunk is no tru", "7: trunk is anothe",
    ]  # fmt: skip
    await asyncio.to_thread(listed.write_text, "phone_number\n+842471000400\n+842471000000\n")
    await shell.masking("numbers", "state", "retired", "+842471000001", *common)
    tried = await shell.masking("numbers", "import", str(listed), "--dry-run", *common[:2])
    assert tried.strip() == "1 numbers are new, 1 are here already, 0 come back."
    (pool,) = json.loads(await shell.masking("capacity", *common))["pools"]
    assert pool["size"] == 254, "nothing was added"
    unknown = ["state", "retired", "+842471000999"]
    assert "no number of this service" in await shell.masking("numbers", *unknown, *common, code=1)
    assert "no numbers" in await shell.masking("numbers", "state", "retired", *common, code=1)
    await asyncio.to_thread(listed.write_bytes, b"\xff\xfe\x00")
    assert "no CSV text" in await shell.masking("numbers", "import", str(listed), *common, code=1)


@pytest.mark.service
async def test_open_sessions_leave_a_block_for_other_numbers(shell: Shell) -> None:
    common = ["--config", str(shell.config), "--json"]
    await shell.masking("numbers", "import", "+842471000000-+842471000003", *common)
    people = ["+84901234567:customer", "+84907654321:driver"]
    opened = [json.loads(await shell.masking("sessions", "open", *people, *common)) for _ in range(2)]
    before = [one["participants"][0]["proxies"][0]["number"] for one in opened]
    assert before == ["+842471000000", "+842471000001"]
    said = await shell.masking("numbers", "replace", "+842471000000-+842471000001", "--overlap", "0", *common)
    assert json.loads(said) == {"drained": 2, "replaced": 2, "kept": []}
    for one in opened:
        after = json.loads(await shell.masking("sessions", "show", one["id"], *common))
        assert {proxy["number"] for who in after["participants"] for proxy in who["proxies"]} <= {
            "+842471000002",
            "+842471000003",
        }
    assert json.loads(await shell.masking("numbers", "replace", "+842471000000", *common))["replaced"] == 0
    full = json.loads(await _faulty(shell, "numbers", "replace", "+842471000002-+842471000003", *common))
    assert full["replaced"] == 0 and len(full["kept"]) == 2
    assert all(one["code"] == "number_pool_exhausted" for one in full["kept"])


@pytest.mark.service
async def test_a_key_made_on_the_command_line_opens_its_tenant_and_no_other(shell: Shell) -> None:
    config = ["--config", str(shell.config)]
    made = await shell.masking("keys", "create", "--tenant", "acme", "--scope", "sessions", *config, "--json")
    key = json.loads(made)["key"]
    people = ["+84901234567:customer", "+84907654321:driver"]
    refused = await shell.masking("sessions", "open", *people, *config, "--key", key, code=1)
    assert "number_pool_exhausted" in refused or "geo_unavailable" in refused
    assert "no such scope" in await shell.masking("keys", "create", "--tenant", "a", "--scope", "all", *config, code=1)


async def test_mistakes_are_told_in_one_line(tmp_path: Path) -> None:
    shell = Shell(tmp_path / "masking.toml")
    await asyncio.to_thread(shell.config.write_text, '[service]\nbootstrap_kee = "x"\n')
    said = await shell.masking("sessions", "show", "ses_x", "--config", str(shell.config), code=1)
    assert said.strip() == 'masking: service.bootstrap_kee: no such key; did you mean "bootstrap_key"?'
    assert "no API key" in await shell.masking("sessions", "show", "ses_x", code=1)
    nobody = f"http://127.0.0.1:{free_port()}"
    assert "is `masking serve` running?" in await shell.masking(
        "sessions", "show", "ses_x", "--url", nobody, "--key", "k", code=1
    )


@pytest.mark.service
async def test_a_second_service_on_the_same_data_is_refused(shell: Shell) -> None:
    said = await shell.masking("serve", "--config", str(shell.config), code=1)
    assert "another `masking serve` runs on" in said


@pytest.mark.service
async def test_the_evidence_is_verified_and_what_was_altered_is_named(shell: Shell, tmp_path: Path) -> None:
    common = ["recordings", "verify", "--config", str(shell.config)]
    summary = json.loads(await shell.masking(*common, "--json"))
    assert summary == {"faults": [], "entries": 0, "recordings": 0, "heads": 0}
    assert "all as it was" in await shell.masking(*common)
    archive = tmp_path / "var" / "archive.sqlite3"
    assert archive.exists()
    with sqlite3.connect(archive) as connection:
        connection.execute("INSERT INTO evidence VALUES ('default', 1, 'evt_1', 'aa')")
    connection.close()
    assert json.loads(await _faulty(shell, *common, "--json"))["faults"][0]["kind"] == "event_missing"
    assert "event_missing" in await _faulty(shell, *common)
    heads = tmp_path / "heads"
    await asyncio.to_thread(heads.write_text, "nonsense")
    assert "line 1" in await shell.masking(*common, "--heads", str(heads), code=1)


async def _faulty(shell: Shell, *words: str) -> str:
    """The stdout of a command that found something."""
    command = [sys.executable, "-c", "from masking.cli import main; main()", *words]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert process.returncode == 1
    return out.decode()
