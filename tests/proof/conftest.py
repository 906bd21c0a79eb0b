"""One service for the proof: a trunk for each transport, and every artefact of it searched at the end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.certificates import Authority
from tests.proof.canaries import CALLEE, CALLER, Bird
from tests.proof.lines import PORTS, TRANSPORTS, Tls
from tests.proof.story import EARLY, HOSTS
from tests.system.service import Place, Service, Trunk, take_place
from tests.system.stores import postgres_texts, redis_texts


def trunks(place: Place) -> list[Trunk]:
    return [
        Trunk(
            f"over-{transport}",
            f"sip:{place.at(callee)}:5080;transport={transport}",
            [place.at(caller), place.at(callee)],
            more={"max_cps": 2_000} | ({"early_media": "pass"} if transport in EARLY else {}),
        )
        for transport, (caller, callee) in HOSTS.items()
        if transport in TRANSPORTS
    ]


def open_service(root: Path) -> Service:
    """Not started yet."""
    place = take_place()
    (root / "certificates").mkdir(parents=True)
    if not hasattr(Tls, "authority"):  # one for all services of a run: phones know no other
        Tls.authority = Authority(root / "certificates")
    authority = Tls.authority
    own = authority.sign(place.edge)
    settings: dict[str, dict[str, Any]] = {
        "sip": {"listen": [f"{transport}:{place.edge}:{PORTS[transport]}" for transport in TRANSPORTS]},
        "sip.tls": {"certificate": own.certificate, "key": own.key, "authorities": authority.bundle},
    }
    return Service(root, place=place, trunks=trunks(place), settings=settings)


def fill(service: Service) -> None:
    """A service of sessions and a few numbers for each transport."""
    for n, transport in enumerate(TRANSPORTS):
        service.post("/v1/services", {"unique_name": f"over-{transport}"}, 201)
        numbers = [f"+842471{n:02d}00{m:02d}" for m in range(8)]
        service.import_numbers(numbers, f"over-{transport}", f"over-{transport}")


def artefacts(service: Service) -> Iterator[tuple[str, bytes]]:
    """Everything the service wrote or told: where and what."""
    service.call("GET", "/metrics")
    service.call("GET", "/v1/events")
    yield from redis_texts(service.redis_url)
    for path in sorted((service.root / "data").rglob("*")):
        yield f"name of {path.parent.name}/*", path.name.encode()
        if path.is_file():
            yield str(path), path.read_bytes()
    if service.archive:
        yield from postgres_texts(service.archive)
    yield "service.log", service.log().encode()
    for exchange in service.exchanges:
        yield "a URL", exchange.url.encode()
        yield "an HTTP answer", exchange.answer


def found_in_artefacts(service: Service) -> list[tuple[str, list[str]]]:
    """Words of either phone in what the service kept or told."""
    birds = Bird(CALLER), Bird(CALLEE)
    return [(where, hits) for where, data in artefacts(service) for bird in birds if (hits := bird.found(data))]


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with open_service(tmp_path_factory.mktemp("proof")) as service:
        fill(service)
        yield service
        assert found_in_artefacts(service) == []
        assert service.leaks() == []
        assert "Traceback" not in service.log()
