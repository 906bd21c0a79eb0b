"""No two live bindings share (X, caller), whoever creates sessions and whichever API process dies meanwhile."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator

import pytest

from tests.system.lease_run import Grant, conflicts, run
from tests.system.service import Service

pytestmark = pytest.mark.service

SEED, COUNT = 64, 3000


@pytest.fixture(scope="module")
def two_apis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with Service(tmp_path_factory.mktemp("leases"), settings={"http": {"workers": 2}}) as service:
        service.import_numbers([f"+84247{n:07d}" for n in range(100)], "vn-main")
        answer = service.call("PATCH", "/v1/services/default", {"pair_quarantine": 0})
        assert answer.status_code == 200, answer.text
        yield service


def test_no_two_live_bindings_share_a_number_and_a_caller(two_apis: Service) -> None:
    before = set(two_apis.pids_of("api"))
    assert len(before) == 2
    done = asyncio.run(run(two_apis, COUNT, SEED))
    assert conflicts(done.history) == []
    assert done.opened + done.exhausted == COUNT and done.opened > COUNT / 2
    assert done.closed > COUNT / 3
    assert len(two_apis.pids_of("api")) == 2 and set(two_apis.pids_of("api")) != before
    assert "Traceback" not in two_apis.log()
    sessions = two_apis.get("/v1/sessions", unique_name=f"run{SEED}-0")["data"]
    assert len(sessions) == 1, "asked for twice, made once"


def broken_allocator(sessions: int, dice: random.Random) -> list[Grant]:
    """Chooses a number without asking who holds it: what the checker must catch."""
    history = []
    for n in range(sessions):
        begin = dice.uniform(0, 100)
        history.append(Grant(f"x{dice.randrange(100)}", f"p{dice.randrange(400)}", f"s{n}", begin, begin + 30))
    return history


def careful_allocator(sessions: int, dice: random.Random) -> list[Grant]:
    free: dict[tuple[str, str], float] = {}
    history = []
    for n in range(sessions):
        place = f"x{dice.randrange(100)}", f"p{dice.randrange(400)}"
        begin = max(free.get(place, 0.0), dice.uniform(0, 100))
        free[place] = begin + 30
        history.append(Grant(*place, f"s{n}", begin, begin + 30))
    dice.shuffle(history)
    return history


def test_the_checker_catches_a_broken_allocator() -> None:
    assert len(conflicts(broken_allocator(3000, random.Random(1)))) > 10


def test_the_checker_finds_nothing_in_a_careful_history() -> None:
    assert conflicts(careful_allocator(3000, random.Random(1))) == []


def test_the_checker_sees_a_short_grant_inside_a_long_one() -> None:
    long, short = Grant("x", "p", "a", 0.0, 10.0), Grant("x", "p", "b", 1.0, 2.0)
    late = Grant("x", "p", "c", 5.0, 6.0)
    assert conflicts([late, short, long]) == [(long, short), (long, late)]
    assert conflicts([long, late._replace(granted=10.0, released=11.0)]) == []
