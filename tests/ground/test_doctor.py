"""What `masking doctor` finds, before, beside and without a service."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from masking import receivers
from masking.config import load
from masking.doctor import Finding, _clock, examine
from masking.events import moment
from masking.serve import running
from masking.services import Service
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
    assert {one["check"] for one in said} == {"service", "disk", "keys", "ports", "redis", "archive", "trunks"}
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
