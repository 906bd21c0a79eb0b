"""The whole service with phones in the box, as the pytest plugin gives it to an app's tests; one for a whole folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pytest_masking.service import Service, running


@pytest.fixture(scope="package")
def boxed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("boxed"), ["VN", "TH"]) as service:
        yield service


@pytest.fixture
def service(boxed: Service) -> Iterator[Service]:
    """With nothing open; what a test leaves open is closed after it."""
    yield boxed
    boxed.tidy()
