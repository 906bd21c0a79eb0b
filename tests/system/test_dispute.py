"""A dispute as it goes: the call, what the app's webhook heard of it, the grant, the hearing, and the proof."""

from __future__ import annotations

import base64
import hmac
import io
import json
import subprocess
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.system.leaks import Scanner
from tests.system.service import MASKING, Service, eventually
from tests.system.sipp import Phones, accepts, ack, bye, hears, invite, is_asked, picks_up, trying, waits

pytestmark = [pytest.mark.service, pytest.mark.peer, pytest.mark.timeout(90)]


@contextmanager
def receiver() -> Iterator[tuple[str, list[tuple[dict[str, str], bytes]]]]:
    """The app's own server: its URL, and the deliveries it was sent (headers, body)."""
    heard: list[tuple[dict[str, str], bytes]] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            heard.append(({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/masking", heard
    finally:
        server.shutdown()
        server.server_close()


def test_a_disputed_call_is_told_heard_under_a_grant_and_proven(
    service: Service, phones: Phones, tmp_path: Path
) -> None:
    customer = service.person("customer", service.place.caller)
    driver = service.person("driver", service.place.callee)
    with receiver() as (url, heard):
        endpoint = service.post("/v1/webhook_endpoints", {"url": url}, 201)
        session = service.open_session(customer, driver, unique_name="order-disputed", record="always")
        dialled = str(session["participants"][0]["proxies"][0]["number"])
        ends = [is_asked("BYE"), accepts()]
        with phones.waits_for_call(service.place.callee, is_asked("INVITE"), *picks_up(), *ends) as callee:
            story = [invite(), trying(), hears(180), hears(200), ack(), waits(300), bye(), hears(200)]
            with phones.calls(dialled, service.place.caller, customer.number, *story) as caller:
                caller.finish(), callee.finish()
        recording = service.recording(session["id"])

        def mine() -> list[dict[str, Any]]:
            events = [json.loads(body) for _, body in heard]
            return [event for event in events if event["session"] == session["id"]]

        def kinds() -> list[str]:
            return [event["type"] for event in mine()]

        eventually(lambda: "recording.available" in kinds(), 10, "the webhook hears of the recording")
        assert [event["seq"] for event in mine()] == list(range(1, len(mine()) + 1)), "in order, nothing missing"
        assert {"session.opened", "call.initiated", "call.ringing", "call.answered", "call.ended"} <= set(kinds())
        key = base64.b64decode(endpoint["secret"].removeprefix("whsec_"))
        scanner = Scanner({"customer": customer.number, "driver": driver.number})
        for headers, body in heard:
            signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
            expected = base64.b64encode(hmac.new(key, signed, "sha256").digest()).decode()
            assert headers["webhook-signature"] == f"v1,{expected}"
            assert scanner.scan(body, "webhook") == []
    service.call("DELETE", f"/v1/webhook_endpoints/{endpoint['id']}")
    case = {"unique_name": "order-disputed", "reason": "rider felt threatened", "requested_by": "anna"}
    dispute = service.post("/v1/disputes", case, 201)
    path = f"/v1/recordings/{recording['id']}/media"
    answer = service.call("GET", f"{path}?grant={dispute['grant']}")
    assert answer.status_code == 200 and answer.content[:4] == b"RIFF"

    def chained() -> set[str]:
        entries = service.get("/v1/audit", limit=500)["data"]
        return {one["event"]["type"] for one in entries if one["event"]["data"].get("dispute") == dispute["id"]}

    eventually(lambda: chained() == {"dispute.opened", "recording.accessed"}, 5, "case and hearing are on the chain")
    exported = service.call("GET", f"/v1/disputes/{dispute['id']}/export")
    assert exported.status_code == 200, exported.text
    folder = tmp_path / "case"
    with zipfile.ZipFile(io.BytesIO(exported.content)) as archive:
        assert archive.testzip() is None
        archive.extractall(folder)
    assert (folder / "recordings" / f"{recording['id']}.wav").read_bytes() == answer.content
    assert Scanner({"customer": customer.number, "driver": driver.number}).scan(exported.content, "case") == []
    words = [str(MASKING), "recordings", "verify", "--config", str(service.config_path), "--json"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["recordings"] >= 1
