"""kill -9 in the middle of recorded calls, and Redis away under live ones: what the contract's small print promises.

Each fault has a service of its own. They all run side by side, since most of their time is waiting; each test then
judges one.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.system.baresip import channels, power
from tests.system.live import CUSTOMERS_SOUND, DRIVERS_SOUND, live_call
from tests.system.service import Service, eventually
from tests.system.sipp import Phones, hears, invite, refusal_ack, trying

pytestmark = [pytest.mark.service, pytest.mark.peer, pytest.mark.timeout(150)]

NUMBERS = [f"+8424710100{n:02d}" for n in range(5)]
ROLES = ["edge", "relay", "courier", "api", "valkey", "everything"]
# The call lives on: its signalling (edge) or its media (relay) did not stand on what died.
CALL_GOES_ON = {"courier", "api", "valkey"}
TALK = 12.0


@dataclass
class Aftermath:
    """What was left after one fault. Times in seconds after the kill."""

    role: str
    back_after: float
    media_pause: float
    ended_after: float
    settled_after: float
    interactions: list[dict[str, Any]]
    recordings: list[dict[str, Any]]
    sound: list[float]  # mean power of each channel of the recording
    session_open: bool
    next_call: bool
    log: str


def one_fault(root: Path, role: str) -> Aftermath:
    service = Service(root)
    phones = Phones(root / "sipp", service.place.edge)
    with service:
        service.import_numbers(NUMBERS, "vn-main")
        with live_call(service, phones, seconds=TALK, record="always") as call:
            call.bridged()
            time.sleep(1.5)
            dead, killed = [service.main_pid] if role == "everything" else service.pids_of(role), time.monotonic()
            if role == "everything":
                service.kill_all()
                service.start()
            else:
                service.kill(role)
            back = eventually(
                lambda: role == "everything" or set(service.pids_of(role)) - set(dead), 10, f"{role} is back"
            )
            assert back
            back_after = time.monotonic() - killed
            pause = 0.0
            if role != "everything" and role != "relay":
                time.sleep(2.0)
                pause = max(call.callee_voice.longest_pause(CUSTOMERS_SOUND, killed),
                            call.caller_voice.longest_pause(DRIVERS_SOUND, killed))  # fmt: skip
            if role in CALL_GOES_ON:
                call.ended()
                killed = time.monotonic()  # from here on it is the ordinary end of a call
            session = call.session["id"]
            eventually(lambda: answered(service, session, ended=True), 40, f"{role}: the interaction's end")
            ended_after = time.monotonic() - killed
            eventually(lambda: answered(service, session, settled=True), 40, f"{role}: the recording")
            settled_after = time.monotonic() - killed
        recordings = service.get("/v1/recordings", session=session)["data"]
        sound = [0.0]
        if recordings and recordings[0]["status"] == "available":
            sound = [power(channel) for channel in channels(service.media(recordings[0]["id"]))]
        still_open = service.get(f"/v1/sessions/{session}")["status"] in ("open", "in_progress")
        with live_call(service, phones, seconds=0.3, record="never") as again:
            again.ended()
        return Aftermath(role, back_after, pause, ended_after, settled_after, service.interactions(session), recordings,
                         sound, still_open, True, service.log())  # fmt: skip


def answered(service: Service, session: str, *, ended: bool = False, settled: bool = False) -> bool:
    """Whether the (first) interaction has ended, or the recording is no longer being written."""
    try:
        if ended:
            return any(found["ended_at"] for found in service.interactions(session))
        found = service.get("/v1/recordings", session=session)["data"]
        return settled and any(r["status"] in ("available", "failed") for r in found)
    except (AssertionError, OSError):
        return False  # the API or Redis is just coming back


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Aftermath]]]:
    with ThreadPoolExecutor(len(ROLES)) as side_by_side:
        yield {role: side_by_side.submit(one_fault, tmp_path_factory.mktemp(role), role) for role in ROLES}


@pytest.mark.parametrize("role", ROLES)
def test_a_killed_process_costs_no_more_than_promised(faults: dict[str, Future[Aftermath]], role: str) -> None:
    after = faults[role].result(140)
    assert after.back_after < (30 if role == "everything" else 2.5), "a dead child is back within 2 s"
    assert after.session_open, "acknowledged sessions are back"
    assert after.next_call, "new calls are served"
    assert len(after.interactions) == 1 and len(after.recordings) == 1
    assert after.interactions[0]["status"] in ("completed", "failed") and after.interactions[0]["ended_at"]
    recording = after.recordings[0]
    assert recording["status"] == "available" and min(after.sound) > 1000, "what was said before is playable"
    if role in CALL_GOES_ON:
        assert after.media_pause < 1.0, "calls go on"
        assert after.interactions[0]["status"] == "completed" and after.interactions[0]["hangup_by"] == "caller"
    else:
        assert after.ended_after < 15.5 and after.settled_after < 30.5
    if role == "edge":
        assert after.media_pause < 16, "the relay outlives the edge"
    if role in ("relay", "everything"):
        assert recording["gaps"], "what could not be kept is told"
    else:
        assert role == "edge" or recording["gaps"] == []
    assert "Traceback" not in after.log


def test_redis_away_is_503_for_new_calls_and_nothing_for_those_that_are_up(tmp_path: Path) -> None:
    """SIGSTOP: connections stay open and nothing answers, the worst of ways to be away."""
    service = Service(tmp_path / "service")
    phones = Phones(tmp_path / "sipp", service.place.edge)
    with service:
        service.import_numbers(NUMBERS, "vn-main")
        place = service.place
        caller, driver = service.person("customer", place.caller), service.person("driver", place.callee)
        waiting = service.open_session(caller, driver)
        with live_call(service, phones, seconds=11.0) as call:
            call.bridged()
            service.kill("valkey", signal.SIGSTOP)
            stopped = time.monotonic()
            for _ in range(3):
                asked = time.monotonic()
                steps = [invite(), trying(), hears(503, within=1000), refusal_ack()]
                dialled = waiting["participants"][0]["proxies"][0]["number"]
                with phones.calls(dialled, place.caller, caller.number, *steps) as refused:
                    heard = refused.finish()
                assert time.monotonic() - asked < 1.5
                answer = next(m for m in heard if m.start.startswith("SIP/2.0 503"))
                assert 1 <= int(answer.header("Retry-After")) <= 5
            body = {"unique_name": "while-away", "participants": [{"identifier": caller.number, "role": "customer"}]}
            asked = time.monotonic()
            body["participants"] += [{"identifier": "+84907739999", "role": "driver"}]  # type: ignore[operator]
            answer_of_api = service.call("POST", "/v1/sessions", body)
            assert answer_of_api.status_code == 503 and time.monotonic() - asked < 2
            assert service.call("GET", "/readyz").status_code == 503
            service.kill("valkey", signal.SIGCONT)
            pause = max(call.callee_voice.longest_pause(CUSTOMERS_SOUND, stopped),
                        call.caller_voice.longest_pause(DRIVERS_SOUND, stopped))  # fmt: skip
            assert pause < 0.5, "calls that are up go on"
            call.ended()
        assert service.ended_interaction(call.session["id"], 5)["status"] == "completed"
        assert service.get("/v1/sessions", unique_name="while-away")["data"] == [], "nothing half-written"
        # A claim that Redis took after the caller had its 503 holds no slot for long.
        eventually(lambda: not up(service, waiting["id"]), 15, "no call holds the slot")
        with live_call(service, phones, seconds=0.3, session=waiting, people=(caller, driver)) as again:
            again.ended()
        assert service.ended_interaction(waiting["id"])["status"] == "completed"
        assert "Traceback" not in service.log()


def up(service: Service, session: str) -> list[dict[str, Any]]:
    """Interactions of a session that have not ended."""
    return [found for found in service.interactions(session) if not found["ended_at"]]
