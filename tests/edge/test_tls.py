"""TLS: who is shown which certificate, whose is asked for, and what happens to whoever is not who he has to be."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from masking.config import BadConfig, CertificateSection, SipSection, TlsSection, TrunkTlsSection
from sipedge import connections
from sipedge import tls as tls_of_edge
from sipedge.sip.events import Invited
from sipedge.targets import Hop
from sipedge.targets import Place as Machines
from sipedge.tls import Credentials, identities, proves
from sipedge.trunks import TrunkTable
from tests.certificates import Authority, Pair
from tests.edge.conftest import CUSTOMER, DRIVER, Make, Opener, Place, X, trunk
from tests.edge.test_trunks import section
from tests.edge.test_wire import options, read


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """The service runs on uvloop, whose TLS is its own."""
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def edge_pair(authority: Authority) -> Pair:
    return authority.sign("edge.example")


@pytest.fixture
def ours(authority: Authority, edge_pair: Pair) -> TlsSection:
    return TlsSection(certificate=edge_pair.certificate, key=edge_pair.key, authorities=authority.bundle)


def client(authority: Authority, own: Pair | None = None) -> ssl.SSLContext:
    """What a peer connects with: it knows the authority, and checks the name that it asks for."""
    context = ssl.create_default_context(cafile=authority.bundle)
    if own is not None:
        context.load_cert_chain(own.certificate, own.key)
    return context


def make_old(context: ssl.SSLContext) -> None:
    """It speaks TLS 1.1 and no other."""
    with pytest.warns(DeprecationWarning):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")


def tls_port(place: Place) -> int:
    return next(one.port for one in place.edge.driver.wire.listeners if one.transport == "tls")


async def connect(place: Place, context: ssl.SSLContext, name: str = "edge.example") -> Any:
    return await asyncio.open_connection("127.0.0.1", tls_port(place), ssl=context, server_hostname=name)


# ---- a carrier that is called ---------------------------------------------------------------------------------------

Heard = asyncio.Queue[tuple[bytes, ssl.SSLObject]]
Carrier = Callable[..., Awaitable[tuple[int, Heard]]]


@pytest.fixture
async def carrier() -> AsyncIterator[Carrier]:
    """Opens a TLS listener that keeps what it hears, and the name it was asked for as `asked` on the connection."""
    servers: list[asyncio.Server] = []

    async def open_(own: Pair, authority: Authority | None = None, old: bool = False) -> Any:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(own.certificate, own.key)
        if old:
            make_old(context)
        if authority is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(authority.bundle)
        context.sni_callback = lambda connection, name, _: setattr(connection, "asked", name)
        heard: Heard = asyncio.Queue()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                while data := await reader.read(65536):
                    heard.put_nowait((data, writer.get_extra_info("ssl_object")))
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
        servers.append(server)
        return server.sockets[0].getsockname()[1], heard

    yield open_
    for server in servers:
        server.close()


async def called(
    open_edge: Opener, phones: Make, ours: TlsSection, uri: str, settings: TrunkTlsSection | None = None
) -> tuple[Place, Any, Any]:
    """A call that leaves by a trunk of that `uri`, and by another over UDP when that one fails."""
    caller, spare = phones(CUSTOMER), phones(DRIVER)
    place = await open_edge(
        trunk("callers", caller, carrier="callers"),
        trunk("secure", to=uri, sources=["127.0.0.9"], tls=settings or TrunkTlsSection()),
        trunk("spare", spare, priority=2),
        listen=("udp", "tls"),
        tls=ours,
    )
    targets = place.edge.trunks.named["secure"].targets
    targets.learn([Machines((), 0, (Hop("tls", "127.0.0.1", int(re.findall(r":(\d+)", uri)[-1])),))])
    await place.numbers(X[0], trunk="secure")
    await place.session(CUSTOMER, DRIVER)
    caller.call(place.address, X[0])
    return place, caller, spare


@pytest.mark.parametrize("scheme", ["sips", "sip"])
async def test_a_call_leaves_over_tls_by_the_name_in_the_trunks_uri(
    open_edge: Opener, phones: Make, authority: Authority, ours: TlsSection, carrier: Carrier, scheme: str
) -> None:
    port, heard = await carrier(authority.sign("sip:sbc.example"))
    uri = f"sips:sbc.example:{port}" if scheme == "sips" else f"sip:sbc.example:{port};transport=tls"
    place, caller, _ = await called(open_edge, phones, ours, uri)
    async with asyncio.timeout(2.0):
        data, connection = await heard.get()
    start, _, rest = data.decode().partition("\r\n")
    assert start == f"INVITE {scheme}:{DRIVER}@sbc.example:{port} SIP/2.0"
    assert f"Via: SIP/2.0/TLS 127.0.0.1:{tls_port(place)};" in rest
    contact = next(line for line in rest.split("\r\n") if line.startswith("Contact: "))
    where = f"127.0.0.1:{tls_port(place)}"
    assert contact.startswith(f"Contact: <{scheme}:")
    assert contact.endswith(f"@{where}>" if scheme == "sips" else f"@{where};transport=tls>")
    assert vars(connection)["asked"] == "sbc.example" and connection.version() == "TLSv1.3"
    caller.cancel(next(iter(caller.endpoint._legs)))
    await place.idle()


@pytest.mark.parametrize(
    ("names", "common", "why"),
    [
        (("other.example",), "sbc.example", "another domain, whatever its common name"),
        (("*.example",), "nobody", "a wildcard (RFC 5922 7.2)"),
        (("sip:other.example", "sbc.example"), "nobody", "a SIP URI rules out the DNS names (RFC 5922 7.1)"),
        (("sip:person@sbc.example",), "nobody", "a person's certificate"),
    ],
)
async def test_a_carrier_with_the_wrong_certificate_is_passed_over_at_once_and_told_nothing(
    open_edge: Opener, phones: Make, authority: Authority, ours: TlsSection, carrier: Carrier,
    names: tuple[str, ...], common: str, why: str,
) -> None:  # fmt: skip
    port, heard = await carrier(authority.sign(*names, common=common))
    began = time.monotonic()
    place, _, spare = await called(open_edge, phones, ours, f"sips:sbc.example:{port}")
    await spare.expect(Invited, 1.5)
    assert time.monotonic() - began < 1.5
    assert heard.empty(), why
    assert place.edge.driver.wire.counts["tls_wrong_peer"] == 1


@pytest.mark.parametrize("fault", ["expired", "unknown authority", "old", "refused", "plain", "silent"])
async def test_a_handshake_that_fails_is_a_failed_trunk(
    open_edge: Opener, phones: Make, authority: Authority, ours: TlsSection, carrier: Carrier, tmp_path: Path,
    fault: str, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(connections, "CONNECT_SECONDS", 0.4)
    signed_by = Authority(tmp_path, "stranger") if fault == "unknown authority" else authority
    pair = signed_by.sign("sbc.example", expired=fault == "expired")
    server = None
    if fault in ("plain", "silent", "refused"):

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if fault == "plain":
                writer.write(b"SIP/2.0 400 Bad Request\r\n\r\n")
            with contextlib.suppress(OSError):
                while await reader.read(65536):
                    continue
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port, heard = server.sockets[0].getsockname()[1], Heard()
        if fault == "refused":
            server.close()
    else:
        port, heard = await carrier(pair, old=fault == "old")
    place, _, spare = await called(open_edge, phones, ours, f"sip:sbc.example:{port};transport=tls")
    await spare.expect(Invited, 1.5)
    assert heard.empty() and place.edge.driver.wire.counts["tls_unreachable"] == 1
    if server is not None:
        server.close()


async def test_a_carrier_that_wants_our_certificate_is_shown_the_one_for_it(
    open_edge: Opener, phones: Make, authority: Authority, ours: TlsSection, carrier: Carrier
) -> None:
    port, heard = await carrier(authority.sign("127.0.0.1"), authority)
    own = authority.sign("sip:customer-7.example")
    settings = TrunkTlsSection(certificate=own.certificate, key=own.key)
    place, caller, _ = await called(open_edge, phones, ours, f"sips:127.0.0.1:{port}", settings)
    async with asyncio.timeout(2.0):
        _, connection = await heard.get()
    shown = connection.getpeercert()
    assert shown is not None and identities(shown) == {"customer-7.example"}
    caller.cancel(next(iter(caller.endpoint._legs)))
    await place.idle()


async def test_two_trunks_at_one_address_never_share_a_connection(
    open_edge: Opener, phones: Make, authority: Authority, ours: TlsSection, carrier: Carrier
) -> None:
    port, heard = await carrier(authority.sign("one.example", "two.example"))
    caller = phones(CUSTOMER)
    place = await open_edge(trunk("all", caller), listen=("udp", "tls"), tls=ours)
    wire_ = place.edge.driver.wire
    named = place.edge.trunks.named
    for name in ("one", "two"):
        named[name] = type(named["all"])(section(name, "10.0.0.1", uri=f"sips:{name}.example:{port}"))
        wire_.send(wire_.flow_to("tls", "127.0.0.1", port, name), options("TLS"))
    async with asyncio.timeout(2.0):
        first, second = await heard.get(), await heard.get()
    assert first[1] is not second[1] and {vars(c)["asked"] for _, c in (first, second)} == {
        "one.example",
        "two.example",
    }
    assert wire_.flow_to("tls", "127.0.0.1", port, "one") != wire_.flow_to("tls", "127.0.0.1", port, "two")


# ---- who connects to us ---------------------------------------------------------------------------------------------


async def test_a_known_source_is_served_over_tls_and_by_the_name_it_asks_for(
    open_edge: Opener, phones: Make, authority: Authority, ours: TlsSection, edge_pair: Pair
) -> None:
    other = authority.sign("sip.other.example")
    names = {"sip.other.example": CertificateSection(certificate=other.certificate, key=other.key)}
    section_ = TlsSection(
        certificate=edge_pair.certificate, key=edge_pair.key, authorities=authority.bundle, names=names
    )
    place = await open_edge(trunk("all", phones(CUSTOMER), sources=["127.0.0.1"]), listen=("udp", "tls"), tls=section_)
    for name in ("edge.example", "sip.other.example"):
        reader, writer = await connect(place, client(authority), name)  # which checks that name itself
        assert identities(writer.get_extra_info("ssl_object").getpeercert()) == {name}
        writer.write(options("TLS"))
        answer = await read(reader)
        assert answer.startswith(b"SIP/2.0 200 ") and b"Via: SIP/2.0/TLS " in answer
        writer.write(b"\r\n\r\n")
        assert await read(reader) == b"\r\n"  # RFC 5626 4.4.1
        writer.close()


async def test_a_stranger_gets_no_byte_and_no_handshake(
    open_edge: Opener, phones: Make, authority: Authority, ours: TlsSection
) -> None:
    place = await open_edge(trunk("all", phones(CUSTOMER)), listen=("udp", "tls"), tls=ours)
    with pytest.raises(OSError):  # no answer to its ClientHello
        await connect(place, client(authority))
    reader, writer = await asyncio.open_connection("127.0.0.1", tls_port(place))
    assert await read(reader) == b""
    writer.close()
    assert place.edge.driver.wire.counts["stranger_connections"] == 2


async def test_nobody_is_served_below_tls_1_2(
    open_edge: Opener, phones: Make, authority: Authority, ours: TlsSection
) -> None:
    place = await open_edge(trunk("all", phones(CUSTOMER), sources=["127.0.0.1"]), listen=("udp", "tls"), tls=ours)
    old = client(authority)
    make_old(old)
    with pytest.raises(OSError):
        await connect(place, old)


async def test_half_a_handshake_is_cut_off_and_counts_as_a_connection(
    open_edge: Opener, phones: Make, authority: Authority, ours: TlsSection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HANDSHAKE_SECONDS", 0.3)
    monkeypatch.setattr(connections, "MAX_PER_SOURCE", 2)
    place = await open_edge(trunk("all", phones(CUSTOMER), sources=["127.0.0.1"]), listen=("udp", "tls"), tls=ours)
    halves = [await asyncio.open_connection("127.0.0.1", tls_port(place)) for _ in range(2)]
    for _, writer in halves:
        writer.write(b"\x16\x03\x01\x02\x00\x01")  # the beginning of a ClientHello
    await asyncio.sleep(0.05)
    with pytest.raises(OSError):
        await connect(place, client(authority))
    assert place.edge.driver.wire.counts["connections_over_limit"] == 1
    assert await read(halves[0][0]) == b"" and await read(halves[1][0]) == b""
    reader, writer = await connect(place, client(authority))
    writer.write(options("TLS"))
    assert (await read(reader)).startswith(b"SIP/2.0 200 ")
    for _, each in [*halves, (reader, writer)]:
        each.close()


async def test_a_trunk_that_must_prove_itself_is_served_with_its_certificate_alone(
    open_edge: Opener, phones: Make, authority: Authority, ours: TlsSection, tmp_path: Path
) -> None:
    settings = TrunkTlsSection(mutual=True, identity="carrier.example")
    caller = phones(CUSTOMER)
    place = await open_edge(
        trunk("all", caller, sources=["127.0.0.1"], tls=settings), listen=("udp", "tcp", "tls"), tls=ours
    )
    caller.send(options(), place.address)  # an address alone proves nothing
    tcp = next(one.port for one in place.edge.driver.wire.listeners if one.transport == "tcp")
    reader, writer = await asyncio.open_connection("127.0.0.1", tcp)
    assert await read(reader) == b""
    writer.close()
    reader, writer = await connect(place, client(authority, authority.sign("sip:carrier.example")))
    writer.write(options("TLS"))
    assert (await read(reader)).startswith(b"SIP/2.0 200 ")
    writer.close()
    stranger = Authority(tmp_path, "stranger").sign("sip:carrier.example")
    for own in (None, authority.sign("sip:other.example"), stranger):
        with contextlib.suppress(OSError):  # TLS 1.3 clients hear of it after their own handshake
            reader, writer = await connect(place, client(authority, own))
            writer.write(options("TLS"))
            assert await read(reader) == b""
            writer.close()
    counts = place.edge.driver.wire.counts
    assert (counts["tls_wrong_peer"], counts["tls_handshakes_failed"]) == (2, 1)
    assert caller.heard == []


async def test_of_two_trunks_behind_one_address_the_certificate_says_which(
    open_edge: Opener, phones: Make, authority: Authority, ours: TlsSection
) -> None:
    """Its call belongs to the trunk it proved: the numbers it dials are read as that trunk's country spells them."""
    callee = phones(DRIVER)
    both = [
        trunk(name, callee, sources=["127.0.0.1"], country=country, countries=["VN", "RU"], cli="any",
              tls=TrunkTlsSection(mutual=True, identity=f"{name}.example"))
        for name, country in (("ru", "RU"), ("vn", "VN"))
    ]  # fmt: skip
    place = await open_edge(*both, trunk("out", callee), listen=("udp", "tls"), tls=ours)
    await place.numbers(X[0], trunk="out")
    await place.session(CUSTOMER, DRIVER)
    reader, writer = await connect(place, client(authority, authority.sign("sip:vn.example")))
    host, port = writer.get_extra_info("sockname")
    body = callee.sdp()
    national = "0" + X[0].removeprefix("+84")  # a Vietnamese spelling
    writer.write(
        (
            f"INVITE sips:{national}@edge.example SIP/2.0\r\nVia: SIP/2.0/TLS {host}:{port};branch=z9hG4bKm1\r\n"
            f"From: <sips:{CUSTOMER}@b>;tag=1\r\nTo: <sips:{national}@edge>\r\nCall-ID: m1\r\nCSeq: 1 INVITE\r\n"
            f"Contact: <sips:me@{host}:{port}>\r\nMax-Forwards: 70\r\n"
            f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode()
        + body
    )
    invited = await callee.expect(Invited)
    callee.answer(invited)
    heard = b""
    while b"SIP/2.0 200" not in heard:
        heard += await read(reader)
    assert b"Contact: <sips:" in heard.split(b"SIP/2.0 200")[1]
    writer.close()
    for call in list(place.edge.exchange.calls.values()):
        call.leave()
    await place.idle()


# ---- certificates ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("certificate", "named"),
    [
        ({"subjectAltName": (("URI", "SIP:Example.COM"), ("DNS", "a.example"))}, {"example.com"}),
        ({"subjectAltName": (("URI", "sip:example.com:5061"),)}, {"example.com"}),
        ({"subjectAltName": (("URI", "sips:example.com"), ("DNS", "A.example."))}, {"a.example"}),
        ({"subjectAltName": (("URI", "sip:me@example.com"), ("URI", "im:x"), ("DNS", "a.example"))}, {"a.example"}),
        ({"subjectAltName": (("DNS", "a.example"), ("IP Address", "192.0.2.1"))}, {"a.example", "192.0.2.1"}),
        ({"subject": ((("commonName", "cn.example"),),)}, {"cn.example"}),
        ({"subject": ((("commonName", "cn.example"),),), "subjectAltName": (("email", "a@b"),)}, set()),
        ({}, set()),
    ],
)
def test_a_certificate_names_what_rfc_5922_says_it_does(certificate: dict[str, Any], named: set[str]) -> None:
    assert identities(certificate) == named


def test_a_name_is_compared_whole_and_a_wildcard_proves_nothing() -> None:
    certificate = {"subjectAltName": (("DNS", "*.example.com"), ("DNS", "Sip.Example.com"))}
    assert proves(certificate, "sip.example.COM.") and proves(certificate, "*.example.com")
    assert not proves(certificate, "a.example.com") and not proves(certificate, "example.com")
    assert not proves(None, "sip.example.com")


def test_files_that_openssl_cannot_use_are_told_by_name(edge_pair: Pair) -> None:
    table = TrunkTable([section("a", "10.0.0.1")])
    for settings in (
        TlsSection(certificate=edge_pair.key, key=edge_pair.key),
        TlsSection(certificate=edge_pair.certificate, key=edge_pair.certificate),
        TlsSection(certificate=edge_pair.certificate, key=edge_pair.key, authorities=edge_pair.key),
    ):
        with pytest.raises(BadConfig, match="not to be used"):
            Credentials(SipSection(tls=settings), table).load()


async def test_renewed_certificates_come_into_use_and_broken_ones_do_not(
    open_edge: Opener, phones: Make, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls_of_edge, "EVERY", 0.02)
    first, second = authority.sign("edge.example", "old.example"), authority.sign("edge.example", "new.example")
    certificate, key = tmp_path / "edge.pem", tmp_path / "edge.key"

    def install(pair: Pair, at: int) -> None:
        key.write_text(Path(pair.key).read_text())
        certificate.write_text(Path(pair.certificate).read_text())
        for path in (key, certificate):
            os.utime(path, (at, at))

    install(first, 1000)
    settings = TlsSection(certificate=str(certificate), key=str(key), authorities=authority.bundle)
    place = await open_edge(trunk("all", phones(CUSTOMER), sources=["127.0.0.1"]), listen=("udp", "tls"), tls=settings)

    async def shown() -> frozenset[str]:
        _, writer = await connect(place, client(authority))
        certificate = writer.get_extra_info("ssl_object").getpeercert()
        writer.close()
        return identities(certificate)

    assert "old.example" in await shown()
    certificate.write_text("half of it")
    await asyncio.sleep(0.1)
    assert "old.example" in await shown()
    install(second, 2000)
    async with asyncio.timeout(3.0):
        while "new.example" not in await shown():
            await asyncio.sleep(0.02)
