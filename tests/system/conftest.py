"""One service for all stories of a run; its artefacts are scanned for people's numbers when the last story is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.service import Service, running
from tests.system.sipp import Phones


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The usual service (`service.usual_trunks`), with 20 numbers on its main trunk and a capture of its packets."""
    settings = {"webhooks": {"allow_private": True}}
    with running(tmp_path_factory.mktemp("service"), settings=settings) as service:
        yield service
        assert service.leaks() == []
        assert "Traceback" not in service.log()


@pytest.fixture
def phones(service: Service, tmp_path: Path) -> Phones:
    return Phones(tmp_path, service.place.edge)
