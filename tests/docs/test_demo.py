"""`make demo ONCE=1`, in an empty folder."""

from __future__ import annotations

import asyncio
import json
import sys
import wave
from pathlib import Path

import pytest


def seconds_of(path: Path) -> tuple[int, float]:
    with wave.open(str(path), "rb") as file:
        return file.getnchannels(), file.getnframes() / file.getframerate()


@pytest.mark.service
@pytest.mark.timeout(120)
async def test_the_demo_places_a_masked_call_and_says_what_is_true(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from masking.cli import main; main()", "demo", "--once"]
    pipe = asyncio.subprocess.PIPE
    demo = await asyncio.create_subprocess_exec(*command, cwd=tmp_path, stdout=pipe, stderr=pipe)
    out, err = await demo.communicate()
    assert demo.returncode == 0, err.decode()
    said = json.loads(out)
    assert set(said) == {"event", "setup_ms", "caller_saw", "callee_saw", "recording", "duration", "levels"}
    assert said["caller_saw"] == said["callee_saw"] and said["callee_saw"].startswith("+8424")
    channels, seconds = await asyncio.to_thread(seconds_of, tmp_path / said["recording"])
    assert channels == 2 and abs(seconds - said["duration"]) < 0.001
    assert min(said["levels"]) > -45.0
    assert "+84901234567" not in (out + err).decode()
