"""RFC 4475 and RFC 5118 message by message at the running service, from a trunk's address: it answers or it does not,
and goes on. What each verdict has to be is `tests/sip/test_rfc4475.py`."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.proof.story import connect, hang_up, pair
from tests.system.service import Service

pytestmark = [pytest.mark.service, pytest.mark.timeout(120)]

MESSAGES = sorted((Path(__file__).parent.parent / "sip").glob("rfc*/*.sip"))


def test_no_torture_message_disturbs_the_service(service: Service) -> None:
    place = service.place
    assert len(MESSAGES) == 60
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as trunk:
        trunk.bind((place.at(11), 0))
        for path in MESSAGES:
            trunk.sendto(path.read_bytes(), (place.edge, 5060))
    for path in MESSAGES:
        with socket.create_connection((place.edge, 5060), 3, source_address=(place.at(12), 0)) as trunk:
            data = path.read_bytes()
            for at in range(0, len(data), 500):
                trunk.sendall(data[at : at + 500])
    with pair(service, "udp", "identity") as call:
        connect(call)
        hang_up(*call.phones)
        assert service.ended_interaction(call.session)["status"] == "completed"
    assert service.metric("masking_sip_refused_total", reason="faults") == 0
    assert service.metric("masking_sip_events_total", event="faults") == 0
    assert service.metric("masking_sip_refused_total") >= 40, "they were read"
    assert "Traceback" not in service.log() and '"level":"error"' not in service.log()
