"""The API keeps to its own document, whatever is asked, and to each tenant what is that tenant's."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system.schema_run import run
from tests.system.service import Service

pytestmark = [pytest.mark.service, pytest.mark.timeout(150)]

SEED, EXAMPLES = 5, 2


def test_schemathesis_faults_nothing_and_no_tenant_reads_what_is_anothers(tmp_path: Path) -> None:
    with Service(tmp_path / "service") as service:
        done = run(service, tmp_path / "schemathesis", examples=EXAMPLES, seed=SEED)
        assert done.clean, done.said
        assert done.cases > 2000, done.said
        assert "Traceback" not in service.log() and "internal_error" not in service.log()
