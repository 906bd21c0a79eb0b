"""kill -9 in the middle of recorded calls, and Redis away under live ones: what the contract's small print promises.

Each fault has a service of its own. They all run side by side, since most of their time is waiting; each test then
judges one.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.system import chaos
from tests.system.faults import NUMBERS, ROLES, Aftermath, broken_promises, one_fault
from tests.system.live import CUSTOMERS_SOUND, DRIVERS_SOUND, live_call
from tests.system.service import Service, eventually
from tests.system.sipp import Phones, hears, invite, refusal_ack, trying

pytestmark = [pytest.mark.service, pytest.mark.peer, pytest.mark.timeout(150)]


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Aftermath]]]:
    with ThreadPoolExecutor(len(ROLES)) as side_by_side:
        yield {role: side_by_side.submit(one_fault, tmp_path_factory.mktemp(role), role) for role in ROLES}


@pytest.mark.parametrize("role", ROLES)
def test_a_killed_process_costs_no_more_than_promised(faults: dict[str, Future[Aftermath]], role: str) -> None:
    assert broken_promises(faults[role].result(140)) == []


def test_whatever_dies_whenever_the_accounts_are_right(tmp_path: Path) -> None:
    accounts = chaos.run(tmp_path, seed=7, seconds=14.0, every=2.5)
    assert accounts.wrong == []
    assert sum(accounts.kills.values()) >= 3 and accounts.answered >= 3 and accounts.interactions >= 5


GOOD: dict[str, list[dict[str, Any]]] = {
    "interactions": [{"id": "int_1", "status": "completed", "conversation": 4.0}],
    "recordings": [{"id": "rec_1", "interaction": "int_1", "status": "available"}],
    "events": [
        {"seq": seq, "type": kind, "data": {"interaction": "int_1"}}
        for seq, kind in enumerate(["call.initiated", "recording.started", "call.ended"], 1)
    ],
}
WRONG: dict[str, dict[str, list[dict[str, Any]]]] = {
    "ended twice": {"events": [*GOOD["events"], GOOD["events"][2] | {"seq": 4}]},
    "never ended": {"events": GOOD["events"][:2]},
    "began twice": {"events": [*GOOD["events"], GOOD["events"][0] | {"seq": 4}]},
    "a gap in the sequence": {"events": [*GOOD["events"][:2], GOOD["events"][2] | {"seq": 4}]},
    "no interaction": {"interactions": []},
    "two interactions": {"interactions": GOOD["interactions"] * 2},
    "no recording": {"recordings": []},
    "two recordings": {"recordings": [*GOOD["recordings"], GOOD["recordings"][0] | {"id": "rec_2"}]},
    "a good call's recording failed": {"recordings": [GOOD["recordings"][0] | {"status": "failed"}]},
}


@pytest.mark.parametrize("what", WRONG)
def test_books_that_cannot_be_right_are_found_wrong(what: str) -> None:
    assert chaos.mistakes("ses_1", **GOOD) == []
    assert chaos.mistakes("ses_1", **(GOOD | WRONG[what])) != []


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


def test_a_service_that_drains_refuses_new_calls_and_lets_those_that_are_up_end(tmp_path: Path) -> None:
    service = Service(tmp_path / "service")
    phones = Phones(tmp_path / "sipp", service.place.edge)
    with service:
        service.import_numbers(NUMBERS, "vn-main")
        place = service.place
        customer, driver = service.person("customer", place.caller), service.person("driver", place.callee)
        dialled = service.open_session(customer, driver)["participants"][0]["proxies"][0]["number"]
        with live_call(service, phones, seconds=3.0) as call:
            call.bridged()
            os.kill(service.main_pid, signal.SIGTERM)
            time.sleep(0.3)
            steps = [invite(), trying(), hears(503, within=1000), refusal_ack()]
            with phones.calls(dialled, place.caller, customer.number, *steps) as refused:
                answer = refused.finish()[-2]
            assert 1 <= int(answer.header("Retry-After")) <= 5
            call.ended()
        eventually(lambda: not service.pids(), 10, "every process has ended")


def up(service: Service, session: str) -> list[dict[str, Any]]:
    """Interactions of a session that have not ended."""
    return [found for found in service.interactions(session) if not found["ended_at"]]
