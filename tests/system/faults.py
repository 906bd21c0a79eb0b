"""kill -9 of one process in the middle of a recorded call, and what is left of it.

`make test` kills each process once, `make soak` many times; `broken_promises` says what the contract's small print
did not get.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from tests.system.baresip import channels, power
from tests.system.live import CUSTOMERS_SOUND, DRIVERS_SOUND, live_call
from tests.system.service import Service, eventually
from tests.system.sipp import Phones

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
            again.ended()  # new calls are served
        return Aftermath(role, back_after, pause, ended_after, settled_after, service.interactions(session), recordings,
                         sound, still_open, service.log())  # fmt: skip


def answered(service: Service, session: str, *, ended: bool = False, settled: bool = False) -> bool:
    """Whether the (first) interaction has ended, or the recording is no longer being written."""
    try:
        if ended:
            return any(found["ended_at"] for found in service.interactions(session))
        found = service.get("/v1/recordings", session=session)["data"]
        return settled and any(r["status"] in ("available", "failed") for r in found)
    except (AssertionError, httpx2.TransportError):
        return False  # the API or Redis is just coming back


def broken_promises(after: Aftermath) -> list[str]:
    """What was promised and is not so, in words."""
    role, goes_on = after.role, after.role in CALL_GOES_ON
    statuses = [recording["status"] for recording in after.recordings]
    gaps = [gap for recording in after.recordings for gap in recording["gaps"]]
    promises = {
        "a dead child is back within 2 s": after.back_after < (30 if role == "everything" else 2.5),
        "acknowledged sessions are back": after.session_open,
        "one interaction, and it has ended": len(after.interactions) == 1 and bool(after.interactions[0]["ended_at"]),
        "one recording, playable": statuses == ["available"] and min(after.sound) > 1000,
        "calls go on": not goes_on or after.media_pause < 1.0,
        "a call that goes on ends as any other": not goes_on or [
            (one["status"], one["hangup_by"]) for one in after.interactions] == [("completed", "caller")],
        "a lost call is ended within 15 s": goes_on or after.ended_after < 15.5,
        "its recording is settled within 30 s": goes_on or after.settled_after < 30.5,
        "what could not be kept is told": role not in ("relay", "everything") or bool(gaps),
        "nothing is lost where the relay lives": role in ("relay", "everything", "edge") or not gaps,
        "no traceback": "Traceback" not in after.log,
    }  # fmt: skip
    return [promise for promise, kept in promises.items() if not kept]
