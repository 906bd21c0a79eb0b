"""What the transport of a request changes in it (RFC 3261 8.1.1.8, 18.1.1)."""

from __future__ import annotations

import os
import re

import pytest

from sipedge.sip.endpoint import Endpoint
from sipedge.sip.flows import Flow


@pytest.mark.parametrize(
    ("scheme", "contact"), [("sips", r"<sips:\w+@here:5061>"), ("sip", r"<sip:\w+@here:5061;transport=tls>")]
)
def test_who_is_called_by_sips_is_told_to_answer_by_it(scheme: str, contact: str) -> None:
    endpoint = Endpoint(entropy=os.urandom, advertise=lambda _: "here:5061")
    flow = Flow("tls", ("10.0.0.1", 5061), ("10.0.0.2", 5061), 1)
    endpoint.invite(flow, f"{scheme}:b@there", 0.0, from_="<sip:a@here>", to="<sip:b@there>")
    ((_, data),) = endpoint.take_sends()
    assert re.search(rf"\r\nContact: {contact}\r\n", data.decode()) and b"\r\nVia: SIP/2.0/TLS here:5061;" in data
