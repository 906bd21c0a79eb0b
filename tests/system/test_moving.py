"""An installation leaves as one file and arrives in other stores, and nobody can tell the difference."""

from __future__ import annotations

import json
import os
import re
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.system.leaks import Scanner
from tests.system.service import MASKING, Person, Service, eventually
from tests.system.sipp import Phones, accepts, ack, bye, hears, invite, is_asked, picks_up, trying, waits

pytestmark = [pytest.mark.service, pytest.mark.peer, pytest.mark.timeout(240)]

# GETs whose answer is another one each time, or that write: what is heard is on the audit chain.
LEFT_OUT = {
    "/metrics",
    "/docs",
    "/v1/events:stream",
    "/v1/recordings/{recording}/media",
    "/v1/disputes/{dispute}/export",
}


def named_in(path: str) -> list[str]:
    return re.findall(r"{(\w+)}", path)


def kind_of(name: str) -> str:
    """The list that tells the ids of what a path calls so."""
    return {"number": "phone_numbers", "endpoint": "webhook_endpoints"}.get(name, name + "s")


def listed(answer: Any) -> list[dict[str, Any]]:
    rows = answer.get("data") if isinstance(answer, dict) else None
    return [one for one in rows if isinstance(one, dict)] if isinstance(rows, list) else []


def everything(service: Service) -> dict[str, Any]:
    """Every GET of the OpenAPI document, with every id that a list names: path → status and answer."""
    paths = [path for path, calls in service.get("/openapi.json")["paths"].items() if "get" in calls]
    paths = [path for path in paths if path not in LEFT_OUT and not path.startswith("/v1/Services")]
    ids: dict[str, list[str]] = {}
    answers: dict[str, Any] = {}
    while paths:
        ready = [path for path in paths if all(ids.get(kind_of(name)) for name in named_in(path))]
        assert ready, f"no list gave the ids for {paths}"
        for template in ready:
            paths.remove(template)
            filled = [template]
            for name in named_in(template):
                filled = [path.replace("{" + name + "}", one) for path in filled for one in ids[kind_of(name)]]
            for path in filled:
                answer = service.call("GET", path)
                assert answer.status_code in (200, 404), f"{path}: {answer.status_code} {answer.text}"
                answers[path] = (answer.status_code, answer.content)
                for one in listed(answer.json()):
                    known = one.get("id") or one.get("phone_number")
                    if known and known not in ids.setdefault(path.rsplit("/", 1)[-1], []):
                        ids[path.rsplit("/", 1)[-1]].append(known)
    return answers


def settled(answers: dict[str, Any]) -> dict[str, Any]:
    """Without what a courier adds when it starts: the signed heads of what it finds, and the day's numbers."""
    events = json.loads(answers["/v1/events"][1])["data"]
    days = [row | {"number_days": None} for row in json.loads(answers["/v1/usage"][1])["data"]]
    happened = [event for event in events if event["type"] != "evidence.checkpoint"]
    return answers | {"/v1/events": happened, "/v1/usage": days}


def masking(service: Service, *words: str, code: int = 0) -> str:
    """What the command said: of one that failed, its last word."""
    command = [str(MASKING), *words, "--config", str(service.config_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stderr if code else done.stdout


def talk(phones: Phones, service: Service, caller: Person, dialled: str) -> None:
    """A call with an answer and a goodbye."""
    with phones.waits_for_call(
        service.place.callee, is_asked("INVITE"), *picks_up(), is_asked("BYE"), accepts()
    ) as callee:
        story = [invite(), trying(), hears(180), hears(200), ack(), waits(300), bye(), hears(200)]
        with phones.calls(dialled, service.place.caller, caller.number, *story) as there:
            there.finish(), callee.finish()


def dials(session: dict[str, Any], of: int = 0) -> str:
    return str(session["participants"][of]["proxies"][0]["number"])


def meets(service: Service, caller: Person, dialled: str) -> Any:
    met = service.post("/v1/route:explain", {"from": caller.number, "to": dialled, "trunk": "vn-main"})
    return met | {"at": None}


def other_stores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Services made from now on have the stores that those before had not."""
    embedded = os.environ.get("MASKING_TEST_REDIS", "embedded") == "embedded"
    monkeypatch.setenv("MASKING_TEST_REDIS", "system" if embedded else "embedded")
    sqlite = os.environ.get("MASKING_TEST_ARCHIVE", "sqlite") == "sqlite"
    monkeypatch.setenv("MASKING_TEST_ARCHIVE", "postgresql" if sqlite else "sqlite")


def test_an_installation_moves_to_other_stores_and_answers_as_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = Service(tmp_path / "old")
    parcel = tmp_path / "all.zip"
    with old:
        old.import_numbers([f"+8424710000{n:02d}" for n in range(20)], "vn-main")
        old.import_numbers(["+74957770001", "+74957770002"], "ru")
        old.call("PATCH", "/v1/services/default/phone_numbers/+842471000019", {"state": "suspended"})
        endpoint = old.post("/v1/webhook_endpoints", {"url": "https://example.com/hook"}, 201)
        old.call("PATCH", f"/v1/webhook_endpoints/{endpoint['id']}", {"status": "disabled"})
        customer = old.person("customer", old.place.caller)
        driver = old.person("driver", old.place.callee)
        moscow = old.person("moscow", old.place.moscow, country="RU")
        phones = Phones(tmp_path, old.place.edge)
        talked = old.open_session(customer, driver, unique_name="order-talked", record="always")
        talk(phones, old, customer, dials(talked))
        recording = old.recording(talked["id"])
        across = old.open_session(customer, moscow, number_model="per_party")
        assert dials(across)[:3] != dials(across, 1)[:3], "two shards"
        asks = old.open_session(customer, driver, unique_name="order-pin", pin={"policy": "always"})
        rests = old.open_session(driver, old.person("merchant", old.place.callee))
        old.post(f"/v1/sessions/{rests['id']}:close")
        block = {"participant": customer.number, "blocked": moscow.number, "reason": "asked for peace"}
        old.call("POST", "/v1/blocks", block)
        old.post("/v1/disputes", {"unique_name": "order-talked", "reason": "threats", "requested_by": "anna"}, 201)
        eventually(lambda: len(old.get("/v1/audit", limit=500)["data"]) >= 2, 5, "the case is on the chain")
        heard = old.media(recording["id"])
        eventually(lambda: "recording.accessed" in json.dumps(old.get("/v1/audit", limit=500)), 5, "so is the hearing")
        other = masking(old, "keys", "create", "--tenant", "acme", "--scope", "sessions").strip()
        routes = [(customer, dials(talked)), (customer, dials(across)), (customer, dials(asks)), (driver, dials(rests))]
        met = [meets(old, *route) for route in routes]
        assert [one["decision"] for one in met][3] == "ended"
        before = everything(old)
        assert "stop" in masking(old, "export", "-o", str(parcel), code=1) and not parcel.exists()

    if old._redis is not None:
        old._redis.start()
    told = json.loads(masking(old, "export", "-o", str(parcel), "--json"))
    if old._redis is not None:
        old._redis.stop()
    assert told["recordings"] == 1 and parcel.stat().st_mode & 0o077 == 0
    keys = old.root / "data" / "keys.json"
    scanner = Scanner(old.people)
    with zipfile.ZipFile(parcel) as whole:
        for name in whole.namelist():
            assert scanner.scan(whole.read(name), name) == [], "people leave sealed"
            assert not name.endswith("keys.json")

    other_stores(monkeypatch)
    new = Service(tmp_path / "new", place=old.place)
    if new._redis is not None:
        new._redis.start()
    assert "never in it" in masking(new, "import", str(parcel), code=1)
    stranger = (
        new.root / "data" / "recordings" / next(n for n in told_names(parcel) if n.startswith("recordings/"))[11:]
    )
    stranger.parent.mkdir(parents=True)
    stranger.write_bytes(b"somebody else's")
    assert "another recording" in masking(new, "import", str(parcel), "--keys", str(keys), code=1)
    assert "did not end" in masking(new, "serve", code=1)
    stranger.unlink()
    again = json.loads(masking(new, "import", str(parcel), "--json"))
    assert {**again, "event": "exported"} == told
    assert "not empty" in masking(new, "import", str(parcel), code=1)

    with new:
        assert settled(everything(new)) == settled(before)
        assert [meets(new, *route) for route in routes] == met
        assert new.media(recording["id"]) == heard
        theirs = new.call("GET", "/v1/sessions", headers={"Authorization": f"Bearer {other}"})
        assert (theirs.status_code, theirs.json()["data"]) == (200, []), "another tenant's key opens its own alone"
        taken = {dials(one) for one in (talked, asks, across)}
        assert dials(new.open_session(customer, driver)) not in taken, "its people hold what they held"
        talk(phones, new, customer, dials(talked))
        assert new.recording(talked["id"])["status"] == "available"
        assert json.loads(masking(new, "recordings", "verify", "--json"))["faults"] == []
        assert "Traceback" not in new.log()


def told_names(parcel: Path) -> list[str]:
    with zipfile.ZipFile(parcel) as whole:
        return whole.namelist()
