"""URIs and the addresses around them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipedge.sip.messages import Malformed, NameAddr, Uri, Via
from sipedge.sip.uris import hostport, name_addr, sip_uri


@pytest.mark.parametrize(
    ("text", "scheme", "user", "host", "port"),
    [
        ("sip:+84901@Example.COM", "sip", "+84901", "example.com", 0),
        ("SIPS:bob@[2001:DB8::1]:5061;transport=tls?subject=x", "sips", "bob", "[2001:db8::1]", 5061),
        ("sip:192.0.2.1", "sip", "", "192.0.2.1", 0),
        ("sip:+84901;npdi;rn=+8498@h;user=phone", "sip", "+84901", "h", 0),
        ("sip:bob:secret@h", "sip", "bob", "h", 0),
        ("sip:%2B84901@h", "sip", "+84901", "h", 0),
        ("sip:a%20b@h", "sip", "a b", "h", 0),
        ("tel:+84-90-123;phone-context=x", "tel", "+84-90-123", "", 0),
        ("sip:@h", "sip", "", "h", 0),
    ],
)
def test_reading_a_uri(text: str, scheme: str, user: str, host: str, port: int) -> None:
    uri = Uri.parse(text)
    assert (uri.scheme, uri.user, uri.host, uri.port, uri.text) == (scheme, user, host, port, text)


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("http://example.com", 416),
        ("urn:service:sos", 416),
        ("mailto:a@b", 416),
        ("sip:", 400),
        ("sip:a@", 400),
        ("sip:a@b@c", 400),
        ("sip:a@h:99999", 400),
        ("sip:a@h:port", 400),
        ("sip:a b@h", 400),
        ("sip:<a>@h", 400),
        ("sip:a%zz@h", 400),
        ("sip:%ff%fe@h", 400),
        ("tel:bob", 400),
        ("tel:", 400),
        ("", 400),
        ("+84901", 400),
    ],
)
def test_a_uri_that_cannot_be_read(text: str, status: int) -> None:
    with pytest.raises(Malformed) as caught:
        Uri.parse(text)
    assert caught.value.status == status


@pytest.mark.parametrize(
    ("text", "digits"),
    [
        ("sip:+84901@h", "+84901"),
        ("sip:0901.234-567@h", "0901234567"),
        ("tel:+84(90)123", "+8490123"),
        ("sip:113@h", "113"),
        ("sip:anonymous@h", ""),
        ("sip:h", ""),
        ("sip:+@h", ""),
        ("sip:٣٤@h", ""),
        ("sip:84+90@h", ""),
    ],
)
def test_the_digits_of_a_user_part(text: str, digits: str) -> None:
    assert Uri.parse(text).digits == digits


def test_uri_parameters() -> None:
    assert Uri.parse("sip:a@h;LR;transport=UDP").params == {"lr": "", "transport": "UDP"}
    with pytest.raises(Malformed):
        _ = Uri.parse("sip:a@h;x;x").params


@pytest.mark.parametrize(
    ("value", "display", "text", "tag"),
    [
        ('"An \\"x\\" \\\\" <sip:a@h>;tag=1', 'An "x" \\', "sip:a@h", "1"),
        ("An Binh <sip:a@h;p=1>;x=y;tag=2", "An Binh", "sip:a@h;p=1", "2"),
        ("<sip:a@h>", "", "sip:a@h", ""),
        ("sip:a@h;tag=3", "", "sip:a@h", "3"),
        ('"" <sip:a@h> ; TAG = 4', "", "sip:a@h", "4"),
        ('"a < b" <sip:a@h>', "a < b", "sip:a@h", ""),
        ('<sip:a@h>;q="x";tag=5', "", "sip:a@h", "5"),
    ],
)
def test_reading_an_address(value: str, display: str, text: str, tag: str) -> None:
    read = NameAddr.parse(value)
    assert (read.display, read.text, read.tag) == (display, text, tag)
    assert read.uri is read.uri


@pytest.mark.parametrize(
    "value", ['"a', '"a" sip:a@h', '"a\\" <sip:a@h>', "<sip:a@h", "<sip:a@h> x", "<sip:a@h>,<sip:b@h>"]
)
def test_an_address_that_cannot_be_read(value: str) -> None:
    with pytest.raises(Malformed):
        NameAddr.parse(value)


def test_via_with_spaces_and_ipv6() -> None:
    via = Via.parse("SIP / 2.0 / tcp [2001:db8::1] : 5061 ;branch=z9hG4bK1;x")
    assert (via.transport, via.host, via.port, via.branch, via.params["x"]) == (
        "TCP",
        "[2001:db8::1]",
        5061,
        "z9hG4bK1",
        "",
    )


def test_writing_addresses() -> None:
    assert sip_uri("+84901", "h:5060") == "sip:+84901@h:5060"
    assert sip_uri("a b@c;d%", "h", ";lr") == "sip:a%20b%40c%3Bd%25@h;lr"
    assert sip_uri("", "h") == "sip:h"
    assert name_addr("sip:a@h") == "<sip:a@h>"
    assert name_addr("sip:a@h", 'An "x" \\', ";tag=1") == '"An \\"x\\" \\\\" <sip:a@h>;tag=1'
    assert hostport(("192.0.2.1", 5060)) == "192.0.2.1:5060"
    assert hostport(("2001:db8::1", 5060)) == "[2001:db8::1]:5060"


@pytest.mark.parametrize(
    "parts",
    [
        ("sip:a\r\n@h", "", ""),
        ("sip:a@h>", "", ""),
        ("sip:<a@h", "", ""),
        ("sip:a@h", "x\n", ""),
        ("sip:a@h", "", ";\0"),
    ],
)
def test_an_address_with_a_control_character_is_our_own_error(parts: tuple[str, str, str]) -> None:
    with pytest.raises(ValueError, match="may not"):
        name_addr(*parts)


@given(st.text(st.characters(codec="utf-8", exclude_categories=("C", "Zl", "Zp")), min_size=1, max_size=30))
def test_any_printable_user_part_survives_writing_and_reading(user: str) -> None:
    if user.isprintable():
        assert Uri.parse(sip_uri(user, "h")).user == user


@given(st.text(st.characters(codec="utf-8", exclude_categories=("C", "Zl", "Zp")), max_size=30))
def test_any_printable_display_name_survives_writing_and_reading(display: str) -> None:
    if display.isprintable():
        assert NameAddr.parse(name_addr("sip:a@h", display)).display == display


@given(st.text(max_size=60))
def test_no_text_is_more_than_malformed(text: str) -> None:
    for read in (Uri.parse, NameAddr.parse, Via.parse):
        try:
            read(text)
        except Malformed:
            continue


@pytest.mark.parametrize("user", ["a%00b", "a%0d%0ab", "%e2%80%a8"])
def test_escapes_of_what_nobody_can_print_stay_escaped(user: str) -> None:
    uri = Uri.parse(f"sip:{user}@h")
    assert (uri.user, uri.digits) == (user, "")
