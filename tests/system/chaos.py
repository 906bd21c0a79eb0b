"""Recorded calls in every state while one process after the other is killed -9, and the accounts afterwards.

Whatever died, every call that began has exactly one interaction and it has ended, every recording is settled, and
every session can be called again.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from tests.system.rough import Callee, Caller
from tests.system.service import Service, eventually

ROLES = ["edge", "relay", "courier", "api", "valkey"]
ENDS = {"call.ended", "call.refused"}
SETTLED = 30.0  # seconds after the last kill


@dataclass
class Accounts:
    """What a run left."""

    kills: Counter[str] = field(default_factory=Counter)
    answered: int = 0
    failed: int = 0
    interactions: int = 0
    recordings: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


def run(folder: Path, seed: int, *, seconds: float = 25.0, callers: int = 4, every: float = 4.0) -> Accounts:
    """`callers` call at once; a random process dies every `every` seconds."""
    dice = random.Random(seed)
    accounts = Accounts()
    with Service(folder) as service:
        place = service.place
        service.import_numbers([f"+8424710200{n:02d}" for n in range(10)], "vn-main")
        sessions = []
        for _ in range(2 * callers):
            customer, driver = service.person("customer", place.caller), service.person("driver", place.callee)
            sessions.append((customer.number, service.open_session(customer, driver, record="always")))
        pairs = [(number, str(one["participants"][0]["proxies"][0]["number"])) for number, one in sessions]
        with ExitStack() as phones:
            phones.enter_context(Callee(place.callee))
            rough = [
                phones.enter_context(Caller(place.caller, place.edge, pairs[2 * n : 2 * n + 2], seed + n))
                for n in range(callers)
            ]
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                time.sleep(dice.uniform(0.2, 2 * every))
                role = dice.choice(ROLES)
                eventually(lambda role=role: service.pids_of(role), 10, f"{role} is back")  # type: ignore[misc]
                service.kill(role)
                accounts.kills[role] += 1
            time.sleep(3.0)  # everything is back, and calls go well again
        accounts.answered = sum(one.answered for one in rough)
        accounts.failed = sum(one.failed for one in rough)
        audit(service, [str(one["id"]) for _, one in sessions], accounts)
        if "Traceback" in service.log():
            accounts.wrong.append("a traceback in the log")
    return accounts


def audit(service: Service, sessions: list[str], accounts: Accounts) -> None:
    """Waits until all is settled, then reads the books."""
    deadline = time.monotonic() + SETTLED
    while (open_ends := unsettled(service, sessions)) and time.monotonic() < deadline:
        time.sleep(0.5)
    accounts.wrong += open_ends
    for session in sessions:
        interactions = service.get(f"/v1/sessions/{session}/interactions", limit=500)["data"]
        recordings = service.get("/v1/recordings", session=session, limit=500)["data"]
        events = service.get(f"/v1/sessions/{session}/events", limit=500)["data"]
        accounts.interactions += len(interactions)
        accounts.recordings.update(one["status"] for one in recordings)
        accounts.wrong += mistakes(session, interactions, recordings, events)


def unsettled(service: Service, sessions: list[str]) -> list[str]:
    found: list[str] = []
    try:
        for session in sessions:
            calls = service.get(f"/v1/sessions/{session}/interactions", limit=500)["data"]
            found += [f"{one['id']} is {one['status']} and has not ended" for one in calls if not one["ended_at"]]
            kept = service.get("/v1/recordings", session=session, limit=500)["data"]
            found += [f"{r['id']} is still {r['status']}" for r in kept if r["status"] in ("recording", "processing")]
    except (AssertionError, httpx2.TransportError) as away:
        return [f"the API does not answer: {away}"]
    return found


def mistakes(
    session: str, interactions: list[dict[str, Any]], recordings: list[dict[str, Any]], events: list[dict[str, Any]]
) -> list[str]:
    """What the books of one session say that cannot be."""
    wrong = []
    begun = Counter(e["data"]["interaction"] for e in events if e["type"] == "call.initiated")
    ended = Counter(e["data"]["interaction"] for e in events if e["type"] in ENDS)
    wrong += [f"{call} began {count} times" for call, count in begun.items() if count > 1]
    wrong += [f"{call} ended {ended[call]} times" for call in begun if ended[call] != 1]
    if sorted(event["seq"] for event in events) != list(range(1, len(events) + 1)):
        wrong.append(f"{session}: the sequence of its events has gaps or doubles")
    if len({one["id"] for one in interactions}) != len(interactions) or len(interactions) != len(
        set(begun) | set(ended)
    ):
        wrong.append(f"{session}: {len(interactions)} interactions of {len(set(begun) | set(ended))} calls")
    per_call = Counter(one["interaction"] for one in recordings)
    wrong += [f"{call} has {count} recordings" for call, count in per_call.items() if count > 1]
    heard = {one["id"] for one in interactions if one["status"] == "completed" and one["conversation"] > 1.5}
    wrong += [
        f"{r['id']} of a good call failed" for r in recordings if r["status"] == "failed" and r["interaction"] in heard
    ]
    started = {e["data"]["interaction"] for e in events if e["type"] == "recording.started"}
    wrong += [f"{call} was recorded and has no recording" for call in started - set(per_call)]
    return wrong
