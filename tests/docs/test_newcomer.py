"""docs/first-call.md, followed to the letter by somebody with a stopwatch; `make newcomer` clones and installs too."""

from __future__ import annotations

import asyncio
import json
import os
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
    # A make that runs the tests tells the page's make about itself, and that one then says which folder it leaves.
    alone = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    command = [sys.executable, str(SCRIPT), "--quick"]
    newcomer = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe, env=alone)
    out, err = await newcomer.communicate()
    assert newcomer.returncode == 0, err.decode()
    said = json.loads(out)
    assert [step["step"] for step in said["steps"]] == ["Get it", "Configure it", "Run it", "Call"]
    assert said["shown"].startswith("+84247100000") and said["program_lines"] == 10
    if shutil.which("curl") is None:
        missing_peer("curl")
    assert said["session"].startswith("ses_")
