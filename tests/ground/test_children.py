"""The supervisor's promise about each child process."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from masking.children import Child, NotReady

READY = 'import time; print(\'not json\'); print(\'{"event":"ready","port":7}\', flush=True); time.sleep(60)'
DIES = "print('no luck', flush=True); raise SystemExit(3)"


def child(code: str, patience: float = 10.0, grace: float = 10.0) -> Child:
    return Child("test", [sys.executable, "-c", code], patience=patience, grace=grace)


async def until_gone(pid: int) -> None:
    """Returns when the process is gone (reaped or a zombie of another parent); the test's time-out bounds it."""
    while True:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return
        if state == "Z":
            return
        await asyncio.sleep(0.01)


async def test_a_child_is_ready_when_it_says_so() -> None:
    started = child(READY)
    await started.start()
    try:
        assert started.ready == {"event": "ready", "port": 7}
        assert started.pid is not None
    finally:
        await started.stop()
    assert started.pid is None


async def test_a_child_that_ends_first_is_reported_with_its_exit_code() -> None:
    with pytest.raises(NotReady, match="ended with exit code 3"):
        await child(DIES).start()


async def test_a_silent_child_is_not_waited_for_forever() -> None:
    silent = child("import time; time.sleep(60)", patience=0.3)
    with pytest.raises(NotReady, match=r"not ready after 0\.3 s"):
        await silent.start()
    await silent.stop()


async def test_a_killed_child_is_back_within_two_seconds() -> None:
    kept = child(READY)
    await kept.start()
    keeper = asyncio.create_task(kept.keep_alive())
    first = kept.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    async with asyncio.timeout(2.0):
        while kept.pid in (None, first):
            await asyncio.sleep(0.01)
    await kept.stop()
    await keeper


async def test_a_child_that_ignores_sigterm_is_killed_after_its_grace() -> None:
    stubborn = child("import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" + READY, grace=0.3)
    await stubborn.start()
    await stubborn.stop()
    assert stubborn.process is not None and stubborn.process.returncode == -signal.SIGKILL


async def test_killing_the_parent_ends_the_children() -> None:
    parent_code = (
        "import asyncio, sys\n"
        "from masking.children import Child\n"
        f"ready = {READY!r}\n"
        "async def main():\n"
        "    kept = Child('test', [sys.executable, '-c', ready])\n"
        "    await kept.start()\n"
        "    print(kept.pid, flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", parent_code, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    pid = int(await parent.stdout.readline())
    parent.kill()
    await parent.wait()
    async with asyncio.timeout(5.0):
        await until_gone(pid)
