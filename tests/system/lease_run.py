"""Creators in parallel through several API processes, and the history of who held which number for whom.

`run` is what `make test` runs small and `make soak` at 50,000 sessions; `conflicts` judges the history. It is kept
apart from how the history came about, so that a deliberately broken allocator can be judged too.
"""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import httpx2

from tests.system.service import KEY, Service


class Grant(NamedTuple):
    """A number that was a party's from the acknowledged opening of a session until its close was asked for."""

    number: str
    party: str
    session: str
    granted: float
    released: float


def conflicts(history: Iterable[Grant]) -> list[tuple[Grant, Grant]]:
    """Pairs of grants of one (number, party) that were live at the same time, as seen by those who held them."""
    held: defaultdict[tuple[str, str], list[Grant]] = defaultdict(list)
    for grant in history:
        held[grant.number, grant.party].append(grant)
    found = []
    for grants in held.values():
        grants.sort(key=lambda grant: grant.granted)
        last = grants[0]
        for grant in grants[1:]:
            if grant.granted < last.released and grant.session != last.session:
                found.append((last, grant))
            last = max(last, grant, key=lambda g: g.released)
    return found


@dataclass
class Run:
    """What a run did, and its history."""

    opened: int
    closed: int
    exhausted: int
    retried: int
    history: list[Grant]
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
        mine: list[list[Grant]] = []
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


async def open_one(api: httpx2.AsyncClient, name: str, pair: list[str], state: Run) -> list[Grant] | None:
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
        Grant(proxy["number"], party, session["id"], now, float("inf"))
        for party, participant in zip(pair, session["participants"], strict=True)
        for proxy in participant["proxies"]
    ]


async def close_one(api: httpx2.AsyncClient, grants: list[Grant], state: Run) -> None:
    session, now = grants[0].session, time.monotonic()
    answer = await asked(api, state, f"/v1/sessions/{session}:close", None, f"close-{session}")
    assert answer.status_code == 200, f"close: {answer.status_code} {answer.text}"
    state.closed += 1
    state.history += [grant._replace(released=now) for grant in grants]
