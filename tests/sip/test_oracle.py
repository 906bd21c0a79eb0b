"""Our parser beside one we did not write: where both read a message, they read the same."""

from __future__ import annotations

import sipmessage
from hypothesis import given
from hypothesis import strategies as st

from sipedge.sip.messages import Malformed, NameAddr, Request, Uri, Via, parse

HOST = st.sampled_from(["192.0.2.1", "sip.example.com", "[2001:db8::1]", "h"])
PORT = st.sampled_from(["", ":5060", ":1", ":65535"])
NAME = st.text("abcdefghijklmnopqrstuvwxyzABCXYZ0123456789+-_.", min_size=1, max_size=12)
TOKEN = st.text("abcdefghijklmnopqrstuvwxyz0123456789-.~", min_size=1, max_size=12)
DISPLAY = st.one_of(
    st.just(""),
    TOKEN.map(lambda text: f"{text} "),
    st.text('abc \\",;<>@:é漢', max_size=10).map(
        lambda text: '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '" '
    ),
)


@st.composite
def params(draw: st.DrawFn, reserved: tuple[str, ...] = ()) -> str:
    names = draw(st.lists(TOKEN.filter(lambda name: name.lower() not in reserved), max_size=3, unique_by=str.lower))
    values = [draw(st.one_of(st.none(), TOKEN)) for _ in names]
    return "".join(
        f";{name}" if value is None else f";{name}={value}" for name, value in zip(names, values, strict=True)
    )


@st.composite
def uris(draw: st.DrawFn) -> str:
    user = draw(st.one_of(st.just(""), NAME.map(lambda name: f"{name}@")))
    return f"{draw(st.sampled_from(['sip', 'sips']))}:{user}{draw(HOST)}{draw(PORT)}{draw(params())}"


@st.composite
def addresses(draw: st.DrawFn) -> str:
    tag = draw(st.one_of(st.just(""), TOKEN.map(lambda token: f";tag={token}")))
    return f"{draw(DISPLAY)}<{draw(uris())}>{draw(params(reserved=('tag',)))}{tag}"


@given(uris())
def test_uris_are_read_alike(text: str) -> None:
    ours, theirs = Uri.parse(text), sipmessage.URI.parse(text)
    assert (ours.scheme, ours.user, ours.host, ours.port) == (
        theirs.scheme,
        theirs.user or "",
        theirs.host.lower(),
        theirs.port or 0,
    )
    assert ours.params.keys() == {name.lower() for name in theirs.parameters}


@given(addresses())
def test_addresses_are_read_alike(text: str) -> None:
    ours, theirs = NameAddr.parse(text), sipmessage.Address.parse(text)
    assert ours.display.split() == theirs.name.split()  # the other one joins runs of spaces, even quoted ones
    assert ours.text == str(theirs.uri) or Uri.parse(ours.text).user == (theirs.uri.user or "")
    assert ours.tag == theirs.parameters.get("tag", "")


@given(st.sampled_from(["UDP", "TCP", "TLS"]), HOST, PORT, TOKEN, params(reserved=("branch",)))
def test_vias_are_read_alike(transport: str, host: str, port: str, branch: str, more: str) -> None:
    text = f"SIP/2.0/{transport} {host}{port};branch=z9hG4bK{branch}{more}"
    ours, theirs = Via.parse(text), sipmessage.Via.parse(text)
    assert (ours.transport, ours.host, ours.port) == (theirs.transport, theirs.host, theirs.port or 0)
    assert ours.branch == theirs.parameters["branch"]


@given(uris(), addresses(), addresses(), st.integers(0, 2**31 - 1), st.binary(max_size=80), st.lists(TOKEN, max_size=5))
def test_whole_requests_are_read_alike(
    target: str, from_: str, to: str, number: int, body: bytes, supported: list[str]
) -> None:
    lines = [
        f"OPTIONS {target} SIP/2.0",
        "Via: SIP/2.0/UDP a:5060;branch=z9hG4bK1, SIP/2.0/UDP b;branch=z9hG4bK2",
        f"f: {from_}",
        f"To: {to}",
        "i: 1@a",
        f"cseq: {number} OPTIONS",
        *([f"Supported: {', '.join(supported)}"] if supported else []),
        f"Content-Length: {len(body)}",
    ]
    data = ("\r\n".join(lines) + "\r\n\r\n").encode() + body
    ours, theirs = parse(data), sipmessage.Message.parse(data)
    assert isinstance(ours, Request) and isinstance(theirs, sipmessage.Request)
    assert (ours.method, ours.body, ours.call_id) == (theirs.method, theirs.body, theirs.call_id)
    assert (ours.cseq.number, ours.cseq.method) == (theirs.cseq.sequence, theirs.cseq.method)
    assert [Via.parse(value).host for value in ours.vias] == [via.host for via in theirs.via]
    assert ours.supported == {token.lower() for token in theirs.supported}


@given(st.text(max_size=50))
def test_an_address_only_we_read_is_never_read_differently(text: str) -> None:
    value = f"<sip:{text}>;tag=x"
    try:
        ours = NameAddr.parse(value).uri
        theirs = sipmessage.Address.parse(value).uri
    except (Malformed, ValueError):
        return
    assert ours.host == theirs.host.lower() and ours.port == (theirs.port or 0)
