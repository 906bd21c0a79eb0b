"""What `masking doctor` finds, before, beside and without a service."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import ssl
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from masking import carriers, receivers
from masking.config import load
from masking.doctor import _clock, _held, _redis_told, _stock, examine
from masking.events import moment
from masking.machine import Machine
from masking.serve import running
from masking.services import Service
from masking.symptoms import Finding
from pools.inventory import Inventory, Item
from pools.keyring import Keyring
from pools.redis import Redis
from tests.certificates import Authority
from tests.courier.receiver import receiver
from tests.ground.test_cli import Shell, write_config
from tests.ports import free_port


def findings(path: Path) -> dict[tuple[str, str], list[Finding]]:
    found: dict[tuple[str, str], list[Finding]] = {}
    for one in asyncio.run(examine(load(path, {}), time.time)):
        found.setdefault((one.check, one.state), []).append(one)
    return found


def doctor(path: Path, *words: str, code: int = 0) -> str:
    return asyncio.run(Shell(path).masking("doctor", "--config", str(path), *words, code=code))


def changed(path: Path, old: str, new: str) -> Path:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return path


def test_a_fresh_machine_has_no_fault_and_is_left_as_it_was(tmp_path: Path) -> None:
    path = write_config(tmp_path)
    said = json.loads(doctor(path, "--json"))
    assert {one["state"] for one in said} <= {"ok", "warning"}
    assert {one["check"] for one in said} == {
        "service",
        "disk",
        "keys",
        "limits",
        "ports",
        "redis",
        "archive",
        "trunks",
    }
    assert [one.name for one in tmp_path.iterdir()] == ["masking.toml"]


def test_a_taken_port_is_named_and_fails_the_command(tmp_path: Path) -> None:
    path = write_config(tmp_path)
    config = load(path, {})
    with socket.create_server(config.http.address):
        assert not doctor(path, code=1), "findings are no error text"
        [fault] = findings(path)["ports", "fault"]
    assert str(config.http.address[1]) in fault.found and "in use" in fault.found
    assert fault.mend == "end what uses it, or change http.listen"


@pytest.mark.service
async def test_a_running_service_is_looked_at_as_it_runs(tmp_path: Path) -> None:
    path = await asyncio.to_thread(write_config, tmp_path)
    config = await asyncio.to_thread(load, path, {})
    async with running(config, path):
        found = await asyncio.to_thread(findings, path)
        assert not [key for key in found if key[1] == "fault"]
        assert found["service", "ok"][0].found == "is running"
        assert len(found["ports", "ok"]) == 2 and found["clock", "ok"] and found["archive", "ok"]


def test_redis_that_cannot_be_asked_is_a_fault(tmp_path: Path) -> None:
    path = changed(write_config(tmp_path), "[http]", f'[redis]\nurl = "redis://127.0.0.1:{free_port()}"\n[http]')
    [fault] = findings(path)["redis", "fault"]
    assert fault.mend == "start Redis, or correct redis.url"


async def test_redis_that_may_forget_leases_is_a_fault(tmp_path: Path, redis: Redis, redis_url: str) -> None:
    path = await asyncio.to_thread(write_config, tmp_path)
    await asyncio.to_thread(changed, path, "[http]", f'[redis]\nurl = "{redis_url}"\n[http]')
    before: list[Any] = await redis.command("CONFIG", "GET", "maxmemory-policy")
    await redis.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    try:
        [fault] = (await asyncio.to_thread(findings, path))["redis", "fault"]
    finally:
        await redis.command("CONFIG", "SET", "maxmemory-policy", before[1])
    assert "evict" in fault.found


def test_keys_others_can_read_and_keys_that_are_gone_are_faults(tmp_path: Path) -> None:
    path = write_config(tmp_path)
    (tmp_path / "var" / "valkey").mkdir(parents=True)
    (tmp_path / "var" / "keys.json").write_text("{}")
    assert findings(path)["keys", "fault"]
    (tmp_path / "var" / "keys.json").unlink()
    (tmp_path / "var" / "valkey" / "appendonly.aof").touch()
    assert "is gone" in findings(path)["keys", "fault"][0].found


def test_a_trunk_without_an_address_is_a_fault_and_one_that_shows_all_a_warning(tmp_path: Path) -> None:
    path = write_config(tmp_path)
    changed(path, 'uri = "sip:127.0.0.1:5070"', 'uri = "sip:carrier.invalid:5070"\ncli = "any"')
    found = findings(path)
    assert "carrier.invalid" in found["trunks", "fault"][0].found
    assert "shows every number" in found["trunks", "warning"][0].found


def test_an_archive_that_does_not_answer_is_told_without_its_password(tmp_path: Path) -> None:
    path = write_config(tmp_path)
    url = f"postgresql://me:secret@127.0.0.1:{free_port()}/archive?ssl=disable"
    changed(path, "[http]", f'[archive]\nurl = "{url}"\n[http]')
    [fault] = findings(path)["archive", "fault"]
    assert "secret" not in fault.found and "127.0.0.1" in fault.found


def test_a_clock_is_judged_by_what_the_question_did_not_take() -> None:
    assert _clock(100.5, 100.0, 101.0).state == "ok"
    assert _clock(103.0, 100.0, 101.0).state == "fault"
    assert _clock(98.0, 100.0, 101.0).state == "fault"


async def test_each_url_of_an_app_is_tried_and_what_is_wrong_with_it_told(
    tmp_path: Path, redis: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receivers, "PATIENCE", 0.5)
    path = await asyncio.to_thread(write_config, tmp_path)
    heads = f'[redis]\nurl = "{redis_url}"\n[webhooks]\nallow_private = true\n[http]'
    await asyncio.to_thread(changed, path, "[http]", heads)
    await redis.command("SADD", "tenants", "acme")
    pair = await asyncio.to_thread(lambda: Authority(tmp_path).sign("127.0.0.1"))
    secure = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    await asyncio.to_thread(secure.load_cert_chain, pair.certificate, pair.key)
    stranger_to_us = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=secure)
    tls = stranger_to_us.sockets[0].getsockname()[1]
    async with receiver() as app, stranger_to_us:
        urls = {
            "svc_1": (app.url, f"http://127.0.0.1:{free_port()}/"),
            "svc_2": ("https://app.invalid/", f"https://127.0.0.1:{app.port}/"),
            "svc_3": ("http://169.254.169.254/", f"https://127.0.0.1:{tls}/"),
        }
        for name, (intercept, stranger) in urls.items():
            service = Service(
                id=name,
                unique_name=None,
                created_at=moment(0),
                intercept_url=intercept,
                out_of_session_url=stranger,
                webhook_secrets=int(name != "svc_1"),
            )
            await redis.command("HSET", "svc:acme", name, msgspec.json.encode(service))
        found = await asyncio.to_thread(findings, path)
        assert app.heard == [], "nothing is sent"
    (untold,) = found["webhooks", "warning"]
    assert "acme, intercept_url of service svc_1: nobody was told its secret" in untold.found
    assert [one.found.partition("service ")[2] for one in found["webhooks", "fault"]] == [
        f"svc_1: {urls['svc_1'][1][7:-1]} does not take connections",
        "svc_2: app.invalid has no address",
        f"svc_2: 127.0.0.1:{app.port} speaks no TLS",
        "svc_3: 169.254.169.254 leads to no public address",
        f"svc_3: 127.0.0.1:{tls} has no valid certificate",
    ]


# ---- the common mistakes, each planted -------------------------------------------------------------------------------

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"
WELL = Machine(free=lambda _: 50 << 30, files=1 << 16, kernels_ports=(61000, 65535))
TRUNK = 'uri = "sip:127.0.0.1:5070"'


def mistakes(path: Path, here: Machine = WELL) -> dict[int, Finding]:
    """Those the doctor names, by their number."""
    return {one.mistake: one for one in asyncio.run(examine(load(path, {}), time.time, here)) if one.mistake}


def written(folder: Path, *changes: tuple[str, str]) -> Path:
    path = write_config(folder)
    for old, new in changes:
        changed(path, old, new)
    return path


def in_section(name: str, line: str) -> tuple[str, str]:
    return "[http]", f"[{name}]\n{line}\n[http]"


@pytest.mark.parametrize(
    ("mistake", "change", "said"),
    [
        (7, in_section("media", 'ports = "20000-20019"'), "enough for 5 calls"),
        (8, in_section("media", 'ports = "61100-62099"'), "kernel's own range"),
        (9, ('listen = ["tcp:127.0.0.1:', 'listen = ["tcp:0.0.0.0:'), "which address carriers reach"),
        (10, in_section("redis", f'url = "redis://127.0.0.1:{free_port()}"'), "cannot"),
        (15, in_section("archive", f'url = "postgresql://127.0.0.1:{free_port()}/a?ssl=disable"'), "postgresql"),
        (17, (TRUNK, 'uri = "sip:carrier.invalid:5070"'), "carrier.invalid has no address"),
        (19, (TRUNK, TRUNK + '\ncli = "any"'), "shows every number"),
        (20, ('sources = ["127.0.0.1:5070"]', 'sources = ["0.0.0.0/0"]'), "trusts half the world"),
        (21, (TRUNK, 'uri = "sip:192.0.2.1:5070"'), "on loopback alone"),
    ],
)
def test_a_mistake_in_the_configuration_is_named(
    tmp_path: Path, mistake: int, change: tuple[str, str], said: str
) -> None:
    path = written(tmp_path, change)
    found = mistakes(path)
    assert set(found) - {mistake} <= {21}, found  # listening elsewhere and a carrier elsewhere go together
    assert said in found[mistake].found and found[mistake].mend
    assert mistakes(write_config(tmp_path)) == {}, "and without it nothing is"


def test_mistakes_of_the_machine_and_its_files_are_named(tmp_path: Path) -> None:
    path = written(tmp_path)
    full = Machine(free=lambda _: 5 << 20, files=1024, kernels_ports=(1024, 65535))
    assert set(mistakes(path, full)) == {1, 5, 8}
    config = load(path, {})
    with socket.create_server(config.http.address):
        assert str(config.http.address[1]) in mistakes(path)[6].found
    inside = f'ports = "{max(1024, config.http.address[1] - 500)}-{min(65535, config.http.address[1] + 500)}"'
    assert "which is listened on" in mistakes(changed(path, *in_section("media", inside)))[8].found
    (tmp_path / "var").write_text("no folder")
    assert "no folder that can be written" in mistakes(written(tmp_path))[2].found
    (tmp_path / "var").unlink()
    (tmp_path / "var" / "valkey").mkdir(parents=True)
    (tmp_path / "var" / "valkey" / "appendonly.aof").touch()
    assert "is gone" in mistakes(written(tmp_path))[4].found
    (tmp_path / "var" / "keys.json").write_text("{}")
    assert 3 in mistakes(written(tmp_path))


def test_certificates_that_end_and_trunks_that_are_missing_or_down_are_named(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    for expired, state in ((True, "fault"), (False, "warning")):
        pair = authority.sign("sip.example.com", expired=expired)
        tls = f'[sip.tls]\ncertificate = "{pair.certificate}"\nkey = "{pair.key}"\n[[trunk]]'
        found = mistakes(written(tmp_path, ("[[trunk]]", tls)))[22]
        assert found.state == state and "sip.tls" in found.found
    bare = tmp_path / "bare.toml"
    text = write_config(tmp_path).read_text()
    bare.write_text(text[: text.index("[[trunk]]")])
    assert "none is configured" in mistakes(bare)[16].found
    config, now = load(write_config(tmp_path), {}), moment(time.time())
    down = carriers.look(config, 'masking_sip_trunk_up{trunk="carrier-vn"} 0.0\n', now)
    assert [one.mistake for one in down] == [18]


async def test_mistakes_of_redis_and_what_it_holds_are_named(redis: Redis, keyring: Keyring, tmp_path: Path) -> None:
    told = "redis_version:5.0.7\naof_enabled:0\n"
    assert [one.mistake for one in _redis_told(told, "allkeys-lru")] == [11, 12, 13]
    assert _clock(103.0, 100.0, 101.0).mistake == 14
    config = await asyncio.to_thread(load, await asyncio.to_thread(write_config, tmp_path), {})
    keyless = msgspec.structs.replace(config, service=msgspec.structs.replace(config.service, bootstrap_key=""))
    assert [one.mistake for one in _stock(keyless, *await _held(redis))] == [23, 24]
    await redis.command("SADD", "tenants", "acme")
    await redis.command("SADD", "keys:acme", "key_1")
    inventory = Inventory(redis, keyring)
    await inventory.add("acme", "svc_1", [Item("+842471000001", "VN", "carrier-vn"), Item("+842471000002", "VN", "")])
    assert list(_stock(keyless, *await _held(redis))) == []
    await inventory.add("acme", "svc_1", [Item("+842471000003", "VN", "carrier-before")])
    [lost] = _stock(keyless, *await _held(redis))
    assert lost.mistake == 24 and "carrier-before" in lost.found
    await inventory.set_state("acme", "svc_1", "+842471000003", "retired")
    assert list(_stock(keyless, *await _held(redis))) == []


def test_every_mistake_stands_on_the_page_and_is_planted_here() -> None:
    """25 and 26, of the URLs of apps, are planted above."""
    rows = re.findall(r"^\| (\d{1,2}) \|", PAGE.read_text(), re.MULTILINE)
    assert [int(row) for row in rows] == list(range(1, 27))
    said = {int(n) for name in ("doctor", "machine", "carriers") for n in _numbers_in(name)}
    assert said == set(range(1, 27))


def _numbers_in(name: str) -> list[str]:
    source = (Path(__file__).parents[2] / "masking" / f"{name}.py").read_text()
    return re.findall(r"\b(?:fault|warning)\((\d+),", source)
