"""kill -9 of edge and relay at once, in the middle of many recorded calls: is every recording playable up to the fault?

SIPp's phones talk on both legs (`rtp_stream`); `make soak ARGS="--only crowd"` runs it with two hundred calls.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx2

from tests.system.baresip import channels, power
from tests.system.service import Service, eventually
from tests.system.sipp import PCMA_STREAMED, Phones, Sipp, ack, answers, hears, invite, is_asked, plays, trying, waits

TALK = 6.0  # seconds that all of them talk, before
LISTENED_TO = 10  # recordings that are fetched and measured
SESSIONS_A_DRIVER = 20
DIALS_A_SECOND = 25
LOST_AT_MOST = 1.0  # seconds of each voice before the fault
SETTLED_WITHIN = 30.0


@dataclass
class Aftermath:
    """What became of the recordings; seconds after the kill."""

    calls: int
    settled_after: float = 0.0
    statuses: dict[str, int] = field(default_factory=dict)
    lost: list[float] = field(default_factory=list)  # seconds before the fault that are missing, of each recording
    quiet: int = 0  # of those listened to, without a voice on a channel
    wrong: list[str] = field(default_factory=list)


def run(folder: Path, calls: int) -> Aftermath:
    after = Aftermath(calls)
    with Service(folder / "service") as service:
        service.import_numbers([f"+84247103{n:04d}" for n in range(2 * SESSIONS_A_DRIVER)], "vn-main")
        with crowd(service, folder, calls):
            eventually(lambda: len(listed(service, "recording")) == calls, 90, "all calls are recorded")
            time.sleep(TALK + 4.0)  # … and the last of them has heard the notice
            killed_at, began = time.time(), time.monotonic()
            service.kill("edge")
            service.kill("relay")
            eventually(lambda: len(listed(service, "available", "failed")) == calls, 90, "all recordings are settled")
            after.settled_after = time.monotonic() - began
        judge(service, after, killed_at)
        if "Traceback" in service.log():
            after.wrong.append("a traceback in the log")
    return after


@contextmanager
def crowd(service: Service, folder: Path, calls: int) -> Iterator[None]:
    """So many customers call their drivers, and all of them talk until this ends."""
    phones, voice = Phones(folder / "sipp", service.place.edge), folder / "voice.raw"
    voice.write_bytes(bytes([0x35] * 80 + [0xB5] * 80) * 50)  # a loud square wave of 50 Hz in A-law
    drivers = [service.person("driver", service.place.callee) for _ in range(-(-calls // SESSIONS_A_DRIVER))]
    pairs = []
    for number in range(calls):
        customer = service.person("customer", service.place.caller)
        session = service.open_session(customer, drivers[number // SESSIONS_A_DRIVER], record="always")
        pairs.append((customer.number, session["participants"][0]["proxies"][0]["number"]))
    (phones.folder / "pairs.csv").write_text("SEQUENTIAL\n" + "".join(f"{one};{other}\n" for one, other in pairs))
    talk = [plays(voice, -1), waits(240_000)]
    steps = [invite(PCMA_STREAMED), trying(), hears(180, optional=True), hears(200, within=20_000), ack(), *talk]
    told = [step.replace("[service]", "[field1]").replace("[caller]", "[field0]") for step in steps]
    place, many = service.place, ["-m", str(calls), "-l", str(calls), "-buff_size", "8000000"]
    ports = ["-mp", "20000"]
    with ExitStack() as stack:
        picks_up = [is_asked("INVITE"), answers("200 OK", PCMA_STREAMED), is_asked("ACK"), *talk]
        callee = ["-i", place.callee, "-mi", place.callee, "-p", "5080", *many, *ports]
        stack.enter_context(Sipp(phones.folder, "callees", picks_up, callee))
        time.sleep(0.5)
        caller = [f"{place.edge}:5060", "-i", place.caller, "-mi", place.caller, "-p", "9000", "-inf", "pairs.csv"]
        stack.enter_context(Sipp(phones.folder, "callers", told, [*caller, "-r", str(DIALS_A_SECOND), *many, *ports]))
        yield


def listed(service: Service, *statuses: str) -> list[dict[str, Any]]:
    """The recordings with one of these statuses; none while the service cannot say."""
    found: list[dict[str, Any]] = []
    try:
        cursor = None
        while True:
            page = service.get("/v1/recordings", limit=500, **({"cursor": cursor} if cursor else {}))
            found += [one for one in page["data"] if one["status"] in statuses]
            cursor = page["next"]
            if cursor is None:
                return found
    except (AssertionError, httpx2.TransportError):
        return []


def judge(service: Service, after: Aftermath, killed_at: float) -> None:
    """Reads what is left against what was promised."""
    found = listed(service, "available", "failed")
    for one in found:
        after.statuses[one["status"]] = after.statuses.get(one["status"], 0) + 1
    available = [one for one in found if one["status"] == "available"]
    for one in available:
        began = datetime.fromisoformat(one["started_at"]).timestamp()
        missing = [gap["from"] for gap in one["gaps"]]
        after.lost.append(max(0.0, killed_at - began - min(missing)) if missing else float("inf"))
    for one in available[:: max(1, len(available) // LISTENED_TO)]:
        if min(power(channel) for channel in channels(service.media(one["id"]))) < 1000:
            after.quiet += 1
    promises = {
        f"every recording is available, not {after.statuses}": after.statuses == {"available": after.calls},
        "what was lost is told as a gap, and is a second at most": max(after.lost, default=9.0) <= LOST_AT_MOST,
        "both voices are there": after.quiet == 0,
        f"all is settled within {SETTLED_WITHIN:.0f} s": after.settled_after <= SETTLED_WITHIN,
    }
    after.wrong += [promise for promise, kept in promises.items() if not kept]
