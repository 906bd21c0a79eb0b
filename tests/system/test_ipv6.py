"""A masked call whose every packet is IPv6: signalling and media over ::1, against SIPp (RFC 3261 25.1, RFC 5118)."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest

from tests.ports import free_port
from tests.system.service import Service, Trunk, eventually
from tests.system.sipp import (
    PCMA,
    Sipp,
    accepts,
    ack,
    answers,
    bye,
    hears,
    invite,
    is_asked,
    trying,
    waits,
)

pytestmark = [pytest.mark.service, pytest.mark.peer, pytest.mark.timeout(120)]

HOST = "::1"
SDP = PCMA.replace("IN IP4", "IN IP6")


def taken(port: int) -> bool:
    """Does anybody hold that UDP port?"""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((HOST, port))
        except OSError:
            return True
    return False


def sipp(folder: Path, name: str, steps: list[str], port: int, *more: str) -> Sipp:
    media = str(free_port(socket.SOCK_DGRAM, HOST))
    own = ["-i", HOST, "-mi", HOST, "-mp", media, "-p", str(port), "-m", "1", "-timeout", "60", "-timeout_error"]
    return Sipp(folder, name, steps, [*more, *own])


def test_a_masked_call_over_ipv6(tmp_path: Path) -> None:
    edge, callers, callees = (free_port(socket.SOCK_DGRAM, HOST) for _ in range(3))
    trunk = Trunk("six", f"sip:[{HOST}]:{callees}", [f"{HOST}/128"])
    settings = {"sip": {"listen": [f"udp:[{HOST}]:{edge}", f"tcp:[{HOST}]:{edge}"]}}
    with Service(tmp_path / "service", trunks=[trunk], settings=settings) as service:
        service.import_numbers([f"+8424720000{n:02d}" for n in range(4)], "six")
        people = service.person("customer", f"{HOST}:{callers}"), service.person("driver", f"{HOST}:{callees}")
        session = service.open_session(*people)
        dialled = session["participants"][0]["proxies"][0]["number"]
        rings = [is_asked("INVITE"), answers("180 Ringing"), answers("200 OK", SDP, options='retrans="500"'),
                 is_asked("ACK"), is_asked("BYE"), accepts()]  # fmt: skip
        talks = [invite(SDP), trying(), hears(180), hears(200), ack(), waits(300), bye(), hears(200)]
        with sipp(tmp_path, "callee", rings, callees) as callee:
            eventually(lambda: taken(callees), 5, "the callee's port")
            remote = f"[{HOST}]:{edge}"
            with sipp(
                tmp_path, "caller", talks, callers, remote, "-s", dialled, "-key", "caller", people[0].number
            ) as c:
                heard = c.finish()
                callee.finish()
        asked = callee.received("INVITE")[0]
        assert asked.start == f"INVITE sip:{people[1].number}@[{HOST}]:{callees} SIP/2.0"
        assert f"[{HOST}]:{edge}" in asked.header("Via") and f"[{HOST}]:{edge}" in asked.header("Contact")
        for message in (asked, next(m for m in heard if m.start.startswith("SIP/2.0 200") and m.body)):
            assert re.search(rf"(?m)^c=IN IP6 {HOST}$", message.body) and "IP4" not in message.body
        assert service.ended_interaction(session["id"])["status"] == "completed"
        assert service.leaks() == []
