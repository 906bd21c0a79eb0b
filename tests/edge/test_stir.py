"""Callers that somebody vouches for: PASSporTs signed here, with certificates made here."""

from __future__ import annotations

import base64
import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from masking import numbering
from masking.config import BadConfig, StirSection, load
from masking.interactions import Attestation
from sipedge.sip.events import Answered, Invited
from sipedge.sip.messages import Request, parse
from sipedge.stir import FRESH, TN_AUTH_LIST, Verifier
from tests.edge.conftest import CUSTOMER, DRIVER, Make, Opener, X, trunk

NOW = datetime.now(UTC)
URL = "https://certificates.example/shaken/carrier.pem"
CALLER, CALLED = (numbering.read("VN", number) for number in (CUSTOMER, X[0]))

Pair = tuple[ec.EllipticCurvePrivateKey, x509.Certificate]


def certificate(
    name: str,
    issuer: Pair | None = None,
    *,
    ca: bool = False,
    days: int = 30,
    curve: Any = None,
    speaks_for: bytes = b"",
) -> Pair:
    """A key and its certificate, by itself or by `issuer`; valid around NOW (`days` negative: no more)."""
    key = ec.generate_private_key(curve or ec.SECP256R1())
    named = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(named)
        .issuer_name(issuer[1].subject if issuer else named)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(days=60))
        .not_valid_after(NOW + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if speaks_for:
        builder = builder.add_extension(x509.UnrecognizedExtension(TN_AUTH_LIST, speaks_for), critical=False)
    return key, builder.sign(issuer[0] if issuer else key, SHA256())


def der(tag: int, *content: bytes) -> bytes:
    inside = b"".join(content)
    size = bytes([len(inside)]) if len(inside) < 128 else b"\x82" + len(inside).to_bytes(2)
    return bytes([tag]) + size + inside


def tn(digits: str) -> bytes:
    return der(0x16, digits.encode())


def text(part: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


def identity(
    key: ec.EllipticCurvePrivateKey,
    *,
    head: dict[str, Any] | None = None,
    claims: dict[str, Any] | None = None,
    parameters: str = f"info=<{URL}>;alg=ES256;ppt=shaken",
    at: float = NOW.timestamp(),
    spoil: bool = False,
) -> str:
    said = {
        "attest": "A", "dest": {"tn": [X[0][1:]]}, "iat": round(at), "orig": {"tn": CUSTOMER[1:]}, "origid": "1"
    } | (claims or {})  # fmt: skip
    signed = f"{text({'alg': 'ES256', 'ppt': 'shaken', 'typ': 'passport', 'x5u': URL} | (head or {}))}.{text(said)}"
    r, s = decode_dss_signature(key.sign(signed.encode(), ec.ECDSA(SHA256())))
    raw = r.to_bytes(32) + (s ^ spoil).to_bytes(32)
    return f"{signed}.{base64.urlsafe_b64encode(raw).rstrip(b'=').decode()};{parameters}"


def invite(*identities: str) -> Request:
    lines = "".join(f"Identity: {one}\r\n" for one in identities)
    text = (
        f"INVITE sip:{X[0]}@h SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:{CUSTOMER}@h>;tag=1\r\n"
        f"To: <sip:{X[0]}@h>\r\nCall-ID: 1\r\nCSeq: 1 INVITE\r\nMax-Forwards: 70\r\n{lines}Content-Length: 0\r\n\r\n"
    )
    found = parse(text.encode())
    assert isinstance(found, Request)
    return found


class Office:
    """An authority, an intermediate and a carrier's certificate, and a verifier that knows them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = certificate("root", ca=True)
        self.middle = certificate("middle", self.root, ca=True)
        self.carrier = certificate("carrier", self.middle)
        (folder / "chains").mkdir()
        (folder / "root.pem").write_bytes(self.root[1].public_bytes(Encoding.PEM))
        self.chain(self.carrier, self.middle)

    @property
    def config(self) -> StirSection:
        return StirSection(
            policy="verify", certificates=str(self.folder / "chains"), authorities=[str(self.folder / "root.pem")]
        )

    def chain(self, *pairs: Pair) -> None:
        pem = b"".join(pair[1].public_bytes(Encoding.PEM) for pair in pairs)
        (self.folder / "chains" / "carrier.pem").write_bytes(pem)

    def says(self, *identities: str) -> Attestation | None:
        verifier = Verifier(self.config)
        verifier.load()
        return verifier.attested(invite(*identities), "VN", CALLER, CALLED, NOW.timestamp())


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path)


@pytest.mark.parametrize("letter", ["A", "B", "C"])
def test_a_passport_that_holds_says_its_letter(office: Office, letter: str) -> None:
    assert office.says(identity(office.carrier[0], claims={"attest": letter})) == letter


def test_a_call_without_a_passport_is_attested_by_nobody(office: Office) -> None:
    assert office.says() is None
    other = identity(office.carrier[0], parameters=f"info=<{URL}>;alg=ES256;ppt=div")
    assert office.says(other) is None, "a diversion says nothing of the caller (RFC 8946)"


def test_one_that_holds_is_enough(office: Office) -> None:
    key = office.carrier[0]
    assert office.says(identity(key, spoil=True), identity(key)) == "A"


@pytest.mark.parametrize(
    "wrong",
    [
        {"spoil": True},
        {"at": NOW.timestamp() - FRESH - 1},
        {"at": NOW.timestamp() + FRESH + 1},
        {"claims": {"iat": "now"}},
        {"claims": {"iat": None}},
        {"claims": {"orig": {"tn": DRIVER[1:]}}},
        {"claims": {"orig": {"uri": "sip:x@y"}}},
        {"claims": {"orig": 7}},
        {"claims": {"dest": {"tn": [DRIVER[1:]]}}},
        {"claims": {"dest": {"tn": X[0][1:]}}},
        {"claims": {"dest": {"tn": [None]}}},
        {"claims": {"attest": "D"}},
        {"claims": {"attest": ["A"]}},
        {"head": {"alg": "none"}},
        {"head": {"alg": "HS256"}},
        {"head": {"ppt": "div"}},
        {"head": {"x5u": "https://elsewhere.example/carrier.pem"}},
        {"parameters": "alg=ES256;ppt=shaken"},
        {"parameters": f"info=<{URL}>;alg=RS256;ppt=shaken"},
        {"parameters": "info=<https://[/carrier.pem>;ppt=shaken", "head": {"x5u": "https://[/carrier.pem"}},
        {"parameters": "info=<https://c.example/other.pem>;ppt=shaken", "head": {"x5u": "https://c.example/other.pem"}},
        {"parameters": "info=<https://c.example/..>;ppt=shaken", "head": {"x5u": "https://c.example/.."}},
    ],
)  # fmt: skip
def test_a_passport_that_breaks_one_rule_has_failed(office: Office, wrong: dict[str, Any]) -> None:
    assert office.says(identity(office.carrier[0], **wrong)) == "failed"


@pytest.mark.parametrize(
    "token",
    [
        "a.b.c",
        "..sig",
        "a.b",
        "é.b.c",
        f"{text([1])}.{text([2])}.QQ",
        f"{text({})}.{text({})}.QQ",
        "a" * 9000,
        "[" * 900,
    ],
)
def test_what_is_no_passport_has_failed_quietly(office: Office, token: str) -> None:
    assert office.says(f"{token};info=<{URL}>;alg=ES256;ppt=shaken") == "failed"


@pytest.mark.parametrize("case", ["stranger", "lapsed", "no authority", "another curve", "self-signed", "endless"])
def test_a_certificate_that_leads_nowhere_vouches_for_nobody(office: Office, case: str) -> None:
    match case:
        case "stranger":
            leaf = certificate("leaf", certificate("root", ca=True))
            chain = [leaf]
        case "lapsed":
            leaf = certificate("leaf", office.root, days=-1)
            chain = [leaf]
        case "no authority":
            middle = certificate("middle", office.root)
            leaf = certificate("leaf", middle)
            chain = [leaf, middle]
        case "another curve":
            leaf = certificate("leaf", office.root, curve=ec.SECP384R1())
            chain = [leaf]
        case "self-signed":
            leaf = certificate("root")
            chain = [leaf]
        case _:
            links = [office.root]
            for _ in range(6):
                links.append(certificate(f"c{len(links)}", links[-1], ca=True))
            chain = links[:0:-1]
            leaf = chain[0]
    office.chain(*chain)
    if case == "another curve":
        assert office.says(identity(office.carrier[0])) == "failed"
    else:
        assert office.says(identity(leaf[0])) == "failed"


BEFORE, OWN = str(int(CUSTOMER[1:]) - 9), CUSTOMER[1:]


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ([der(0xA0, tn("1234"))], "A"),
        ([der(0xA2, tn(OWN))], "A"),
        ([der(0xA2, tn(BEFORE))] * 12 + [der(0xA2, tn(OWN))], "A"),
        ([der(0xA1, der(0x30, tn(BEFORE), b"\x02\x01\x0a"))], "A"),
        ([der(0xA1, der(0x30, tn(BEFORE), b"\x02\x01\x09"))], "failed"),
        ([der(0xA2, tn(BEFORE))], "failed"),
        ([der(0xA3, tn(OWN))], "failed"),
        ([der(0xA1, der(0x30, tn(BEFORE)))], "failed"),
        ([b"\xa2"], "failed"),
        ([b"\xa2\x20\x16"], "failed"),
        ([], "failed"),
    ],
)
def test_a_certificate_speaks_for_the_numbers_it_lists(office: Office, entries: list[bytes], says: str) -> None:
    leaf = certificate("leaf", office.root, speaks_for=der(0x30, *entries))
    office.chain(leaf)
    assert office.says(identity(leaf[0])) == says


def test_without_the_policy_nothing_is_read_and_nothing_said(office: Office) -> None:
    verifier = Verifier(StirSection())
    verifier.load()
    assert verifier.attested(invite(identity(office.carrier[0])), "VN", CALLER, CALLED, NOW.timestamp()) is None


@pytest.mark.parametrize("says", ["authorities = []", "authorities = ['/nowhere.pem']", "authorities = [__file__]"])
def test_a_policy_without_its_files_is_no_start(tmp_path: Path, says: str) -> None:
    path = tmp_path / "masking.toml"
    path.write_text(f"[stir]\npolicy = 'verify'\n{says.replace('__file__', repr(__file__))}\n")
    with pytest.raises(BadConfig, match="stir"):
        load(path, {})


def test_a_file_that_is_no_certificate_is_named(office: Office) -> None:
    (office.folder / "chains" / "notes.txt").write_text("hello")
    with pytest.raises(BadConfig, match="notes.txt"):
        Verifier(office.config).load()


async def test_a_vouched_caller_is_trusted_where_a_session_asks_for_it_and_the_header_ends_here(
    open_edge: Opener, phones: Make, tmp_path: Path
) -> None:
    office = Office(tmp_path)
    customer, driver = phones(CUSTOMER), phones(DRIVER)
    place = await open_edge(trunk("callers", customer), trunk("callees", driver), stir=office.config)
    await place.numbers(*X[:1], trunk="callees")
    session = await place.session(CUSTOMER, DRIVER, caller_trust="verified")
    dialled = session.participants[0].proxies[0].number
    vouched = identity(office.carrier[0], at=time.time())
    leg = customer.call(place.address, dialled, headers=[("Identity", vouched)])
    invited = await driver.expect(Invited)
    assert invited.request.header("identity") is None
    assert not any(vouched[:40].encode() in heard for heard in driver.heard)
    customer.cancel(leg)
    assert (await place.interaction(session.id)).attestation == "A"
    await place.idle()
    spoilt = identity(office.carrier[0], at=time.time(), spoil=True)
    leg = customer.call(place.address, dialled, headers=[("Identity", spoilt)])
    while not isinstance(await customer.expect(object), Answered):
        continue
    customer.hang_up(leg)
    assert (await place.interaction(session.id)).attestation == "failed"
