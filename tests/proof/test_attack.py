"""Scanners find nothing: whoever no trunk names gets not one byte back over any transport, whatever it sends."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import missing_peer
from tests.proof.lines import PORTS, TRANSPORTS
from tests.system.service import Service

pytestmark = [pytest.mark.service, pytest.mark.timeout(120)]

ASKED = (
    "{method} sip:+842471000000@{edge} SIP/2.0\r\n"
    "Via: SIP/2.0/{transport} {host}:{port};branch=z9hG4bK{method};rport\r\n"
    "Max-Forwards: 70\r\nFrom: <sip:100@{edge}>;tag=x\r\nTo: <sip:+842471000000@{edge}>\r\nCall-ID: {method}\r\n"
    "CSeq: 1 {method}\r\nContact: <sip:100@{host}:{port}>\r\nContent-Length: 0\r\n\r\n"
)
METHODS = ("OPTIONS", "INVITE", "REGISTER", "BYE", "CANCEL", "SUBSCRIBE", "MESSAGE", "FOO")


class Ear:
    """Every packet from the edge to one address, as the kernel carries it over loopback."""

    def __init__(self, sniffer: socket.socket, edge: str, stranger: str) -> None:
        self._sniffer, self._ends = sniffer, (socket.inet_aton(edge), socket.inet_aton(stranger))

    def told(self) -> int:
        """Bytes of UDP and TCP content that went that way since this was last asked."""
        octets = 0
        while True:
            try:
                packet = self._sniffer.recv(65535)
            except BlockingIOError:
                return octets
            if (packet[12:16], packet[16:20]) != self._ends:
                continue
            start = (packet[0] & 15) * 4
            if packet[9] == socket.IPPROTO_TCP:
                start += (packet[start + 12] >> 4) * 4
            elif packet[9] == socket.IPPROTO_UDP:
                start += 8
            octets += struct.unpack_from("!H", packet, 2)[0] - start


@contextmanager
def ear(service: Service) -> Iterator[Ear]:
    """Needs root, as everything that listens to others does."""
    if os.geteuid() != 0:
        pytest.skip("only root may listen to the loopback interface")
    every_ip = socket.htons(0x0800)
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, every_ip) as sniffer:  # type: ignore[attr-defined,unused-ignore]
        sniffer.bind(("lo", 0))
        sniffer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        sniffer.setblocking(False)
        yield Ear(sniffer, service.place.edge, service.place.stranger)


def test_the_ear_hears(service: Service) -> None:
    """What a trunk is told is heard, so that silence means something."""
    place = service.place
    with ear(service) as listening, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as trunk:
        trunk.bind((place.at(11), 0))
        trunk.settimeout(3.0)
        host, port = trunk.getsockname()
        asked = ASKED.format(method="OPTIONS", edge=place.edge, transport="UDP", host=host, port=port)
        trunk.sendto(asked.encode(), (place.edge, 5060))
        answer = trunk.recv(65535)
        assert Ear(listening._sniffer, place.edge, place.at(11)).told() == len(answer)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_stranger_gets_no_byte(service: Service, transport: str) -> None:
    place = service.place
    before = service.metric("masking_sip_wire_total")
    kind = socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM
    with ear(service) as listening:
        for method in METHODS:
            with socket.socket(socket.AF_INET, kind) as stranger:
                stranger.bind((place.stranger, 0))
                host, port = stranger.getsockname()
                asked = ASKED.format(method=method, edge=place.edge, transport=transport.upper(), host=host, port=port)
                attempt(stranger, (place.edge, PORTS[transport]), transport, asked.encode())
        assert listening.told() == 0
    assert service.metric("masking_sip_wire_total") - before >= len(METHODS), "and each was counted"


def attempt(stranger: socket.socket, edge: tuple[str, int], transport: str, asked: bytes) -> None:
    """Says it, over TLS with a handshake first, and waits for whatever comes."""
    stranger.settimeout(0.3)
    try:
        stranger.connect(edge)
        if transport == "tls":
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            stranger = context.wrap_socket(stranger)
        stranger.send(asked)
        assert stranger.recv(65535) == b""
    except (TimeoutError, OSError):
        return  # no answer, or no polite end: just as silent


SCANS = [
    ["svmap", "-p5060"],  # for devices
    ["svmap", "-p5060", "-m", "INVITE"],
    ["svmap", "-p5060", "-m", "REGISTER"],
    ["svwar", "-e100-140", "--force"],  # for extensions, even where its first question found nobody
    ["svwar", "-e842471000000-842471000020", "-m", "INVITE", "--force"],
    ["svwar", "-e100-120", "-m", "OPTIONS", "--force"],
    ["svcrack", "-u100", "-r1000-1040", "--maximumtime=3"],  # for passwords
]


@pytest.mark.peer
def test_sipvicious_finds_nothing_and_gets_no_byte(service: Service, tmp_path: Path) -> None:
    if shutil.which("svmap") is None:
        missing_peer("sipvicious")
    place = service.place
    before = service.metric("masking_sip_wire_total", event="stranger_datagrams")
    with ear(service) as listening:
        scanners = [
            subprocess.Popen(
                [program, "-b", place.stranger, "-x", place.stranger, "-t", "0.005", *words, place.edge],
                cwd=tmp_path, env={"HOME": str(tmp_path), "PATH": os.environ["PATH"]}, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            )
            for program, *words in SCANS
        ]  # fmt: skip
        said = [scanner.communicate(timeout=60)[0] for scanner in scanners]
        assert listening.told() == 0
    for command, found in zip(SCANS, said, strict=True):
        assert "found nothing" in found, (command, found)
    asked = service.metric("masking_sip_wire_total", event="stranger_datagrams") - before
    assert asked >= len(SCANS), "each did ask"
