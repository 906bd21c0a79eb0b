"""No two live bindings share (X, caller), whoever creates sessions and whichever API process dies meanwhile."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.pools.history import overlaps
from tests.system.lease_run import run, two_apis

pytestmark = [pytest.mark.service, pytest.mark.timeout(150)]

SEED, COUNT = 64, 3000


def test_no_two_live_bindings_share_a_number_and_a_caller(tmp_path: Path) -> None:
    with two_apis(tmp_path) as service:
        before = set(service.pids_of("api"))
        assert len(before) == 2
        done = asyncio.run(run(service, COUNT, SEED))
        assert overlaps(done.history) == []
        assert done.opened + done.exhausted == COUNT and done.opened > COUNT / 2
        assert done.closed > COUNT / 3 and len(done.history) == 2 * done.opened
        after = set(service.pids_of("api"))
        assert len(after) == 2 and len(after & before) == 1, "one died and is back"
        assert done.retried > 0, "it died with requests in its hands"
        assert "Traceback" not in service.log()
        sessions = service.get("/v1/sessions", unique_name=f"run{SEED}-0")["data"]
        assert len(sessions) == 1, "asked for twice, made once"
