"""The proof proves something: a service that passes one header on, or writes one down, is caught."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.proof.conftest import fill, found_in_artefacts, open_service
from tests.proof.phones import RawPhone
from tests.proof.story import connect, hang_up, pair

pytestmark = [pytest.mark.service, pytest.mark.timeout(120)]

# Read by the interpreter of every process of the service; in the edge it makes of our B2BUA a careless one.
CARELESS = """
import sys

if "sipedge" in sys.orig_argv:
    import structlog
    from sipedge.sip.endpoint import Endpoint
    from sipedge.sip.messages import parse

    receive, invite, respond = Endpoint.receive, Endpoint.invite, Endpoint.respond
    last = {}

    def hears(self, data, flow, now):
        message = parse(data)
        for name in ("subject", "server"):
            if message.header(name):
                last[name] = message.header(name)
        if message.header("subject") and data.startswith(b"INVITE"):
            structlog.get_logger("sipedge").info("heard", subject=message.header("subject"))
        return receive(self, data, flow, now)

    def calls(self, flow, uri, now, *, headers=(), **more):
        return invite(self, flow, uri, now, headers=[*headers, ("Subject", last["subject"])], **more)

    def answers(self, transaction, status, now, *, headers=(), **more):
        if status == 200 and "server" in last:
            headers = [*headers, ("Server", last["server"])]
        return respond(self, transaction, status, now, headers=headers, **more)

    Endpoint.receive, Endpoint.invite, Endpoint.respond = hears, calls, answers
"""


def test_a_service_that_passes_a_header_on_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text(CARELESS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with open_service(tmp_path / "service") as service:
        fill(service)
        with pair(service, "udp", "others") as call:
            connect(call)
            hang_up(*call.phones)
            heard_in_invite = leaked(call.callee, call.caller)
            heard_in_answer = leaked(call.caller, call.callee)
        assert "Subject of INVITE" in heard_in_invite
        assert any(what.startswith("Server of ") for what in heard_in_answer)
        in_log = [hits for where, hits in found_in_artefacts(service) if where == "service.log"]
        assert in_log and "plain" in in_log[0]


def leaked(hearer: RawPhone, other: RawPhone) -> set[str]:
    """What of the other stands in what this one heard."""
    return {what for message in hearer.heard for what in other.bird.found(message)}
