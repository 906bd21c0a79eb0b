"""Creators in parallel through several API processes, and the history of who held which number for whom.

`run` is what `make test` runs small and `make soak` at 50,000 sessions; `overlaps` judges the history. It is kept
apart from how the history came about, so that a deliberately broken allocator can be judged too.
"""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from tests.pools.history import Tenure
from tests.system.service import KEY, Service


@contextmanager
def two_apis(folder: Path) -> Iterator[Service]:
    """A service with two API processes, 100 numbers, and no quarantine: what one session leaves the next may take."""
    with Service(folder, settings={"http": {"workers": 2}}) as service:
        service.import_numbers([f"+84247{n:07d}" for n in range(100)], "vn-main")
        answer = service.call("PATCH", "/v1/services/default", {"pair_quarantine": 0})
        assert answer.status_code == 200, answer.text
        yield service


@dataclass
class Run:
    """What a run did, and its history."""

    opened: int
    closed: int
    exhausted: int
    retried: int
    history: list[Tenure]
    seconds: float


async def run(
    service: Service, count: int, seed: int, *, creators: int = 64, people: int = 400, kill_at: float = 0.5
) -> Run:
    """`count` sessions opened by `creators` at once; each closes some of its own; one API process dies midway.

    An answer that never came is asked for again with the same Idempotency-Key and the same `unique_name`: whatever the
    dead process had done, the answer must be that session.
    """
    dice = random.Random(seed)
    parties = [f"+8490773{n:04d}" for n in dice.sample(range(1000, 9999), people)]
    state = Run(0, 0, 0, 0, [], time.monotonic())
    limits = httpx2.Limits(max_connections=creators, max_keepalive_connections=creators)
    headers = {"Authorization": f"Bearer {KEY}"}
    left = iter(range(count))
    killed = False

    async def creator(api: httpx2.AsyncClient, own: random.Random) -> None:
        nonlocal killed
        mine: list[list[Tenure]] = []
        for number in left:
            if number >= count * kill_at and not killed:
                killed = True
                service.kill("api", signal.SIGKILL)
            pair = own.sample(parties, 2)
            if (grants := await open_one(api, f"run{seed}-{number}", pair, state)) is not None:
                mine.append(grants)
            while mine and (len(mine) > 12 or own.random() < 0.3):
                await close_one(api, mine.pop(own.randrange(len(mine))), state)
        state.history += [grant for grants in mine for grant in grants]

    async with httpx2.AsyncClient(base_url=service.ready["http"], headers=headers, limits=limits, timeout=20) as api:
        async with asyncio.TaskGroup() as tasks:
            for n in range(creators):
                tasks.create_task(creator(api, random.Random(seed * 1000 + n)))
    state.seconds = time.monotonic() - state.seconds
    return state


async def asked(api: httpx2.AsyncClient, state: Run, path: str, body: Any, key: str) -> httpx2.Response:
    """A POST, repeated with its Idempotency-Key until it is answered."""
    for _ in range(300):
        try:
            answer = await api.post(path, json=body, headers={"Idempotency-Key": key})
            if answer.status_code not in (409, 503) or answer.json()["code"] == "number_pool_exhausted":
                return answer
        except httpx2.TransportError:
            pass
        state.retried += 1
        await asyncio.sleep(0.1)
    raise AssertionError(f"POST {path}: no answer after 300 tries")


async def open_one(api: httpx2.AsyncClient, name: str, pair: list[str], state: Run) -> list[Tenure] | None:
    """Opens a session; None when every number is taken for this pair."""
    participants = [{"identifier": pair[0], "role": "customer"}, {"identifier": pair[1], "role": "driver"}]
    body = {"unique_name": name, "participants": participants, "ttl": 7200, "record": "never"}
    answer = await asked(api, state, "/v1/sessions", body, f"open-{name}")
    if answer.status_code == 409:
        state.exhausted += 1
        return None
    assert answer.status_code in (200, 201), f"open: {answer.status_code} {answer.text}"
    session, now = answer.json(), time.monotonic()
    state.opened += 1
    return [
        Tenure(proxy["number"], party, session["id"], now, float("inf"))
        for party, participant in zip(pair, session["participants"], strict=True)
        for proxy in participant["proxies"]
    ]


async def close_one(api: httpx2.AsyncClient, grants: list[Tenure], state: Run) -> None:
    session, now = grants[0].holder, time.monotonic()
    answer = await asked(api, state, f"/v1/sessions/{session}:close", None, f"close-{session}")
    assert answer.status_code == 200, f"close: {answer.status_code} {answer.text}"
    state.closed += 1
    state.history += [grant._replace(end=now) for grant in grants]
