"""Fixtures that give an app's own tests a masked service on loopback, with phones in the box.

    def test_the_customer_reaches_the_driver(masking):
        session = masking.client.open_session(participants=[{"identifier": CUSTOMER}, {"identifier": DRIVER}])
        call = masking.phone(CUSTOMER).call(session.participants[0].proxies[0].number)
        ringing = masking.phone(DRIVER).answer()
        call.answered()
        assert ringing.shown != CUSTOMER
        call.hang_up()
        assert masking.webhooks.wait("call.ended").session == session.id

pytest loads this in every run of the environment it is installed in, so it imports nothing until a test asks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_masking.service import Service

COUNTRIES = "VN TH ID SG RU"


def pytest_addoption(parser: pytest.Parser) -> None:
    about = "countries (ISO 3166, with spaces between) in which the service of the fixture `masking` has numbers"
    parser.addini("masking_countries", about, default=COUNTRIES)


@pytest.fixture(scope="session")
def masking_service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The service itself: one tree of processes for the whole run. Tests take `masking`."""
    try:
        from pytest_masking.service import running
    except ImportError as missing:
        raise pytest.UsageError(
            f"the fixture masking needs the packages masking and masking-client: {missing}"
        ) from None
    countries = str(request.config.getini("masking_countries")).split()
    with running(tmp_path_factory.mktemp("masking"), countries) as service:
        yield service


@pytest.fixture
def masking(masking_service: Service) -> Iterator[Service]:
    """The service for one test: `client`, `phone(number)`, `webhooks`. Afterwards its calls and sessions are ended."""
    yield masking_service
    masking_service.tidy()
