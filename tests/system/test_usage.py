"""Usage of real calls is what their interactions say and what was heard of them on the wire."""

from __future__ import annotations

import json
import math
import subprocess
from typing import Any

import pytest

from tests.system.live import live_call
from tests.system.service import KEY, MASKING, Service, eventually
from tests.system.sipp import Phones

pytestmark = [pytest.mark.service, pytest.mark.peer, pytest.mark.timeout(90)]
SERVICE = "counted"
TICK = 0.02  # seconds: a packet's length, within which a recording is as long as its call


def test_usage_of_real_calls_reconciles_with_interactions_and_recordings(service: Service, phones: Phones) -> None:
    service.post("/v1/services", {"unique_name": SERVICE, "record": "always"}, 201)
    service.import_numbers(["+842471000090", "+842471000091"], "vn-main", SERVICE)
    told: list[dict[str, Any]] = []
    heard: list[dict[str, Any]] = []
    people = service.person("customer", service.place.caller), service.person("driver", service.place.callee)
    for length in (4.0, 4.7):
        session = service.open_session(*people, service=SERVICE, record="always")
        with live_call(service, phones, seconds=length, session=session, people=people) as call:
            call.ended()
        told.append(service.ended_interaction(session["id"]))
        heard.append(service.recording(session["id"]))

    def used() -> dict[str, Any] | None:
        rows = service.get("/v1/usage", by="service")["data"]
        return next((row for row in rows if row["service"] == SERVICE and row["recordings"] == 2), None)

    row = eventually(used, 5, "two recordings in the usage")
    billable = [one["billable"] for one in told]
    assert (row["sessions"], row["calls"], row["number_days"]) == (2, 2, 0)
    assert row["call_seconds"] == pytest.approx(sum(billable), abs=1e-9)
    assert row["billed_seconds"] == sum(map(math.ceil, billable))
    assert row["recording_seconds"] == pytest.approx(sum(one["duration"] for one in heard), abs=0.001)
    # The relay counted RTP packets, the edge looked at its clock.
    assert row["recording_seconds"] == pytest.approx(row["call_seconds"], abs=2 * TICK)
    for one, length in zip(told, (4.0, 4.7), strict=True):
        assert length <= one["billable"] < length + 1.5, "the caller's own clock"

    command = [MASKING, "usage", "--config", service.config_path, "--key", KEY, "--url", service.ready["http"]]
    said = subprocess.run([*command, "--by", "service", "--json"], capture_output=True, check=True, text=True).stdout
    assert row["call_seconds"] in [one["call_seconds"] for one in json.loads(said)]
    lines = subprocess.run([*command, "--csv"], capture_output=True, check=True, text=True).stdout.splitlines()
    assert lines[0].startswith("from,to,service,sessions,calls") and len(lines) == 2
    table = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    assert "billed" in table and row["from"][:8] in table
