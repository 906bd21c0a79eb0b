"""docs/first-call.md, followed to the letter by somebody with a stopwatch; `make newcomer` clones and installs too."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from pathlib import Path

import pytest

from tests.conftest import missing_peer

SCRIPT = Path(__file__).parents[2] / "scripts" / "newcomer"


@pytest.mark.service
@pytest.mark.timeout(90)
async def test_a_newcomer_who_does_what_the_page_says_has_a_masked_call() -> None:
    pipe = asyncio.subprocess.PIPE
    newcomer = await asyncio.create_subprocess_exec(sys.executable, SCRIPT, "--quick", stdout=pipe, stderr=pipe)
    out, err = await newcomer.communicate()
    assert newcomer.returncode == 0, err.decode()
    said = json.loads(out)
    assert [step["step"] for step in said["steps"]] == ["Get it", "Configure it", "Run it", "Call"]
    assert said["shown"].startswith("+84247100000") and said["program_lines"] == 10
    if shutil.which("curl") is None:
        missing_peer("curl")
    assert said["session"].startswith("ses_")
