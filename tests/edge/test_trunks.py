"""Whose request it is, who calls whom, and by which trunk the second leg leaves."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest

from masking import numbering
from masking.config import Source, TrunkSection, TrunkTlsSection
from masking.numbering import Number
from sipedge import trunks
from sipedge.sip.flows import Flow
from sipedge.sip.messages import Request, parse
from sipedge.trunks import Trunk, TrunkTable


def section(name: str, *sources: str, **more: Any) -> TrunkSection:
    values: dict[str, Any] = {"name": name, "uri": "sip:192.0.2.1", "sources": list(sources), "country": "VN"}
    return TrunkSection(**(values | more))


def invite(dialled: str = "+842471000001", *headers: str) -> Request:
    lines = [
        f"INVITE sip:{dialled}@edge.example SIP/2.0",
        "Via: SIP/2.0/UDP 10.0.0.1;branch=z9hG4bKx",
        "To: <sip:edge.example>",
        "Call-ID: c",
        "CSeq: 1 INVITE",
        *headers,
    ]
    if not any(header.startswith("From") for header in headers):
        lines.append("From: <sip:anonymous@anonymous.invalid>;tag=t")
    message = parse(("\r\n".join(lines) + "\r\n\r\n").encode())
    assert isinstance(message, Request)
    return message


def number(text: str) -> Number:
    found = numbering.read("VN", text)
    assert found is not None
    return found


def at(host: str, port: int = 5060) -> Flow:
    return Flow("udp", (host, port), ("192.0.2.9", 5060))


async def nobody(_: Number) -> str | None:
    return None


@pytest.mark.parametrize(
    ("host", "port", "whose"),
    [
        ("10.1.2.3", 5060, "host-and-port"),
        ("10.1.2.3", 5061, "host"),
        ("10.1.2.4", 5060, "small"),
        ("10.1.9.9", 5060, "wide"),
        ("192.0.2.77", 5060, None),
        ("2001:db8::5", 5060, "six"),
        ("2001:db9::5", 5060, None),
    ],
)
async def test_a_request_belongs_to_the_most_specific_source(host: str, port: int, whose: str | None) -> None:
    table = TrunkTable(
        [
            section("wide", "10.0.0.0/8"),
            section("small", "10.1.2.0/24"),
            section("host", "10.1.2.3"),
            section("host-and-port", "10.1.2.3:5060"),
            section("six", "2001:db8::/32"),
        ]
    )
    found = await table.of(invite(), at(host, port), nobody)
    assert (found.name if found else None) == whose
    assert table.may_ask("udp", host, port) == (whose is not None)


async def test_a_port_is_more_specific_than_any_prefix() -> None:
    table = TrunkTable([section("address", "10.1.2.3/32"), section("port", "10.1.2.0/24:5060")])
    table._entries[1] = (Source(ip_network("10.1.2.0/24"), 5060), table.trunks[1])
    found = await table.of(invite(), at("10.1.2.3"), nobody)
    assert found is table.trunks[1]


async def test_among_equals_the_owner_of_the_dialled_number_then_file_order() -> None:
    table = TrunkTable(
        [section("a", "10.0.0.0/8"), section("b", "10.0.0.0/8"), section("c", "10.0.0.0/8", country="RU")]
    )

    async def owner(asked: Number) -> str | None:
        return {"+842471000001": "b", "+74951234567": "c"}.get(asked.reveal())

    async def name(dialled: str) -> str:
        found = await table.of(invite(dialled), at("10.9.9.9"), owner)
        assert found is not None
        return found.name

    assert await name("+842471000001") == "b"
    assert await name("02471000001") == "b"
    assert await name("84951234567") == "c"  # Moscow, as c spells it; as a and b do, a mobile that is nobody's
    assert await name("+74951234567") == "c"
    assert await name("+842471000009") == "a"


async def test_behind_our_proxy_the_header_names_the_trunk() -> None:
    table = TrunkTable([section("a", "10.0.0.0/8"), section("b", "10.0.0.0/8")], [Source(ip_network("10.0.0.9"), None)])
    named = invite("+842471000001", "X-Masking-Trunk: b")
    assert (await table.of(named, at("10.0.0.9"), nobody)) is table.named["b"]
    assert (await table.of(named, at("10.0.0.8"), nobody)) is table.named["a"]  # from anyone else it says nothing
    assert (await table.of(invite("1", "X-Masking-Trunk: nobody"), at("10.0.0.9"), nobody)) is None


def test_answers_come_from_where_we_ask_and_requests_do_not() -> None:
    table = TrunkTable([section("a", "10.0.0.1", uri="sip:10.0.0.2:5070")])
    assert table.may_answer("udp", "10.0.0.2", 5070) and not table.may_ask("udp", "10.0.0.2", 5070)
    assert not table.may_answer("udp", "10.0.0.2", 5071)


def test_the_memory_of_sources_is_bounded() -> None:
    table = TrunkTable([section("a", "10.0.0.0/8")])
    for port in range(1, 10_000):
        table.may_ask("udp", "203.0.113.9", port)
    assert len(table._remembered) <= trunks.REMEMBERED


PAI = "P-Asserted-Identity: "
VN = "+84901234567"


@pytest.mark.parametrize(
    ("headers", "caller_from", "who"),
    [
        ([f"From: <sip:{VN}@c>;tag=t"], None, VN),
        (["From: <sip:0901234567@c>;tag=t"], None, VN),
        (["From: <sip:84901234567@c>;tag=t"], None, VN),
        (["From: sip:0084901234567@c;tag=t"], None, VN),
        (["From: <tel:+84-90-123-4567>;tag=t"], None, VN),
        ([f"{PAI}<sip:{VN}@c>", "From: <sip:+84911111111@c>;tag=t"], None, VN),
        ([f"{PAI}<sip:{VN}@c>", "Privacy: id", "From: <sip:anonymous@anonymous.invalid>;tag=t"], None, VN),
        ([f'{PAI}"Ops, Desk" <sip:desk@c>, <tel:{VN}>'], None, VN),
        ([f"{PAI}<sip:desk@c>", f"{PAI}<tel:{VN}>"], None, VN),
        ([f"{PAI}<sip:{VN}@c>", "From: <sip:+84911111111@c>;tag=t"], ["from"], "+84911111111"),
        ([f"{PAI}<sip:{VN}@c>"], ["from"], None),
        ([f"{PAI}%%%garbage", f"From: <sip:{VN}@c>;tag=t"], None, VN),
        (["From: <sip:anonymous@anonymous.invalid>;tag=t"], None, None),
        (["From: <sip:113@c>;tag=t"], None, None),
        ([f"Remote-Party-ID: <sip:{VN}@c>;party=calling"], ["remote-party-id"], VN),
        (["Remote-Party-ID: <<<"], ["remote-party-id", "from"], None),
    ],
)
def test_the_caller_is_who_the_trunk_is_trusted_to_say(
    headers: list[str], caller_from: list[str] | None, who: str | None
) -> None:
    more = {"caller_from": caller_from} if caller_from else {}
    trunk = Trunk(section("a", "10.0.0.1", **more))
    found = trunks.caller(trunk, invite("+842471000001", *headers))
    assert (found.reveal() if found else None) == who


@pytest.mark.parametrize(
    ("country", "user", "who"),
    [
        ("RU", "84951234567", "+74951234567"),
        ("VN", "84951234567", "+84951234567"),
        ("VN", "+84951234567;npdi=yes", "+84951234567"),
        ("VN", "0084951234567", "+84951234567"),
        ("VN", "0951234567", "+84951234567"),
        ("VN", "hello", None),
    ],
)
def test_the_dialled_number_is_spelled_as_the_trunks_country_spells(country: str, user: str, who: str | None) -> None:
    found = trunks.dialled(Trunk(section("a", "10.0.0.1", country=country)), invite(user))
    assert (found.reveal() if found else None) == who


@pytest.mark.parametrize(
    ("form", "uri", "identity"),
    [
        ("+e164", "sip:+84901234567@192.0.2.1:5060", "<sip:+842471000001@edge:5060>"),
        ("e164", "sip:84901234567@192.0.2.1:5060", "<sip:842471000001@edge:5060>"),
        ("00", "sip:0084901234567@192.0.2.1:5060", "<sip:00842471000001@edge:5060>"),
        ("national", "sip:0901234567@192.0.2.1:5060", "<sip:02471000001@edge:5060>"),
    ],
)
def test_numbers_leave_in_the_trunks_own_spelling(form: str, uri: str, identity: str) -> None:
    trunk = Trunk(section("a", "10.0.0.1", number_format=form))
    assert trunk.request_uri(number(VN)) == uri
    assert trunk.shown("+842471000001", "edge:5060") == identity


async def test_a_proven_certificate_names_the_trunk_and_without_one_none_that_demands_it_is_meant() -> None:
    mutual = TrunkTlsSection(mutual=True)
    table = TrunkTable([section("a", "10.0.0.1", tls=mutual), section("b", "10.0.0.1", tls=mutual)])
    proven = at("10.0.0.1")._replace(transport="tls", peer="b")
    assert await table.of(invite(), proven, nobody) is table.named["b"]
    assert await table.of(invite(), proven._replace(peer=""), nobody) is None
    assert table.may_ask("tls", "10.0.0.1", 5060)
    assert not table.may_ask("udp", "10.0.0.1", 5060) and not table.may_ask("tcp", "10.0.0.1", 5060)


def test_max_cps_is_a_bucket_that_refills() -> None:
    trunk = Trunk(section("a", "10.0.0.1", max_cps=2, max_calls=100))
    for _ in range(2):
        assert trunk.full(10.0) is None
        trunk.take()
    assert trunk.full(10.1) == 42
    assert trunk.full(10.6) is None
    trunk.calls = 100
    assert trunk.full(20.0) == 34
