"""STIR: is a caller's number vouched for by somebody whose certificate we trust?

An Identity header (RFC 8224) carries a PASSporT (RFC 8225), signed with ES256; ppt "shaken" (RFC 8588) says what its
signer knows: A the caller has a right to the number, B it is a customer, C it came through a gateway. Nothing is ever
fetched: an `x5u` names a certificate chain in a local folder, and it must lead to one of the authorities.

What was verified is told to the core as a letter. The header itself ends here, like every header of the first leg: the
second leg is constructed, and a PASSporT names the caller's real number.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, Final
from urllib.parse import urlsplit

import structlog
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from masking import numbering
from masking.config import BadConfig, StirSection
from masking.interactions import Attestation
from masking.numbering import Number
from sipedge.sip.messages import Malformed, Request

log = structlog.get_logger("sipedge.stir")

FRESH: Final = 60  # seconds an `iat` may lie away (RFC 8224 6.2.2)
LONGEST_CHAIN: Final = 4
MOST: Final = 4  # Identity headers that are looked at; more are somebody's joke
BIGGEST: Final = 8_192  # bytes of one

TN_AUTH_LIST: Final = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.26")  # RFC 8226 9


class Bad(Exception):
    """The PASSporT does not hold; the text says which rule it broke, and no number."""


class Verifier:
    """Knows the certificates; `attested` asks it about a call. Without a policy it says nothing about anybody."""

    def __init__(self, config: StirSection) -> None:
        self._config = config
        self._chains: dict[str, list[x509.Certificate]] = {}
        self._authorities: list[x509.Certificate] = []

    def load(self) -> None:
        """Reads the certificates. Blocks on the disk; `BadConfig` for what is no certificate."""
        if self._config.policy == "off":
            return
        for path in self._config.authorities:
            self._authorities += _certificates(Path(path))
        for file in sorted(Path(self._config.certificates).iterdir()):
            if file.is_file():
                self._chains[file.name] = _certificates(file)

    def attested(
        self, request: Request, country: str, caller: Number | None, called: Number | None, now: float
    ) -> Attestation | None:
        """What the call's PASSporT says; `failed` when it has one and none holds, None without any."""
        if self._config.policy == "off":
            return None
        try:
            values = request.values("identity")
        except Malformed:
            return "failed"
        why = ""
        for value in values[:MOST]:
            try:
                letter = self._verified(value, country, caller, called, now)
            except Bad as bad:
                why = str(bad)
            else:
                if letter is not None:
                    return letter
        if not why:
            return None
        log.info("identity_not_verified", why=why)
        return "failed"

    def _verified(
        self, value: str, country: str, caller: Number | None, called: Number | None, now: float
    ) -> Attestation | None:
        """The letter of one Identity header; None for a kind of PASSporT that says nothing of the caller."""
        if len(value) > BIGGEST:
            raise Bad("too long")
        token, parameters = _parts(value)
        if parameters.get("ppt", "").strip('"') != "shaken":
            return None
        head, claims, signature, signed = _opened(token)
        uri = parameters.get("info", "").strip("<>")
        if (head.get("alg"), head.get("ppt")) != ("ES256", "shaken") or parameters.get("alg", "ES256") != "ES256":
            raise Bad("not ES256 shaken")
        if not uri or head.get("x5u") != uri:
            raise Bad("x5u is not info")  # RFC 8224 6.2.2: they name one certificate
        certificate, key = self._certificate(uri, now)
        _check_signature(key, signature, signed)
        _check_claims(claims, country, caller, called, now)
        if not _may_speak_for(certificate, claims["orig"]["tn"]):
            raise Bad("not the certificate's number")
        return _letter(claims.get("attest"))

    def _certificate(self, uri: str, now: float) -> tuple[x509.Certificate, ec.EllipticCurvePublicKey]:
        """The certificate that `uri` names and its key, once its chain leads to an authority."""
        try:
            name = PurePosixPath(urlsplit(uri).path).name
        except ValueError:
            raise Bad("x5u is no URL") from None
        chain = self._chains.get(name)
        if not chain:
            raise Bad("no such certificate")
        _check_chain(chain, self._authorities, datetime.fromtimestamp(now, UTC))
        key = chain[0].public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise Bad("not a P-256 certificate")
        return chain[0], key


def _certificates(path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError):
        raise BadConfig(f"stir: {path}: cannot be read; expected certificates in PEM") from None


def _parts(value: str) -> tuple[str, dict[str, str]]:
    """The token and the parameters of an Identity header."""
    token, *rest = value.split(";")
    pairs = (part.partition("=") for part in rest)
    return token.strip(), {name.strip().lower(): text.strip() for name, _, text in pairs}


def _opened(token: str) -> tuple[dict[str, Any], dict[str, Any], bytes, bytes]:
    """Header, claims, signature, and the bytes that were signed. The compact form is not shaken's (RFC 8588 7)."""
    parts = token.split(".")
    if len(parts) != 3 or not all(parts):
        raise Bad("not the full form")
    try:
        head, claims = (json.loads(_decoded(part)) for part in parts[:2])
        signature = _decoded(parts[2])
    except (ValueError, RecursionError):
        raise Bad("not readable") from None
    if not isinstance(head, dict) or not isinstance(claims, dict):
        raise Bad("not readable")
    return head, claims, signature, f"{parts[0]}.{parts[1]}".encode()


def _decoded(part: str) -> bytes:
    return base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)


def _check_signature(key: ec.EllipticCurvePublicKey, signature: bytes, signed: bytes) -> None:
    """ES256 as JWS writes it: r and s, 32 bytes each (RFC 7518 3.4)."""
    if len(signature) != 64:
        raise Bad("signature")
    r, s = int.from_bytes(signature[:32]), int.from_bytes(signature[32:])
    try:
        key.verify(encode_dss_signature(r, s), signed, ec.ECDSA(SHA256()))
    except InvalidSignature:
        raise Bad("signature") from None


def _check_claims(
    claims: dict[str, Any], country: str, caller: Number | None, called: Number | None, now: float
) -> None:
    iat = claims.get("iat")
    if not isinstance(iat, int) or not now - FRESH <= iat <= now + FRESH:  # compared: it may be larger than any float
        raise Bad("iat")
    orig, dest = claims.get("orig"), claims.get("dest")
    if not isinstance(orig, dict) or not isinstance(dest, dict):
        raise Bad("orig or dest")
    if caller is None or _number(orig.get("tn"), country) != caller:
        raise Bad("orig")
    tns = dest.get("tn")
    if called is None or not isinstance(tns, list) or called not in [_number(tn, country) for tn in tns[:MOST]]:
        raise Bad("dest")


def _number(tn: object, country: str) -> Number | None:
    """A canonical telephone number (RFC 8224 8.3): digits with their country code, without a plus."""
    return numbering.read(country, "+" + tn) if isinstance(tn, str) and tn.isdigit() else None


def _letter(attest: object) -> Attestation:
    match attest:
        case "A":
            return "A"
        case "B":
            return "B"
        case "C":
            return "C"
        case _:
            raise Bad("attest")


def _check_chain(chain: Sequence[x509.Certificate], authorities: Sequence[x509.Certificate], now: datetime) -> None:
    """From the first certificate, each issued by the next, to one that an authority issued (RFC 5280 6, what of it
    matters here: names, signatures, time, and that issuers are authorities)."""
    for place, one in enumerate(chain[:LONGEST_CHAIN]):
        if not one.not_valid_before_utc <= now <= one.not_valid_after_utc:
            raise Bad("certificate out of its time")
        if place and not _may_issue(one):
            raise Bad("issuer is no authority")
        for authority in authorities:
            valid = authority.not_valid_before_utc <= now <= authority.not_valid_after_utc
            if one == authority or (valid and _issued(one, authority)):
                return
        if place + 1 == len(chain) or not _issued(one, chain[place + 1]):
            raise Bad("chain")
    raise Bad("chain")


def _issued(one: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        one.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _may_issue(one: x509.Certificate) -> bool:
    try:
        return one.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        return False


# ---- whose numbers a certificate speaks for (RFC 8226 9) -------------------------------------------------------------


def _may_speak_for(certificate: x509.Certificate, tn: str) -> bool:
    """Does its TNAuthList hold the number, or name a provider, who answers for all its callers? One without a list is
    trusted as far as its authority is."""
    try:
        found = certificate.extensions.get_extension_for_oid(TN_AUTH_LIST).value
    except (x509.ExtensionNotFound, ValueError):
        return True
    assert isinstance(found, x509.UnrecognizedExtension)
    try:
        return any(_covers(kind, value, tn) for kind, value in _values(next(_values(found.value))[1]))
    except (ValueError, IndexError, StopIteration):
        return False


def _covers(kind: int, value: bytes, tn: str) -> bool:
    """One entry: a provider's code [0], a range [1] of a first number and how many, one number [2]."""
    inner = next(_values(value))[1]
    match kind:
        case 0xA0:
            return True
        case 0xA1:
            (_, first), (_, count) = _values(inner)
            return len(first) == len(tn) and int(first) <= int(tn) < int(first) + int.from_bytes(count)
        case 0xA2:
            return inner.decode("ascii") == tn
        case _:
            return False


def _values(der: bytes) -> Iterator[tuple[int, bytes]]:
    """The (tag, content) one after the other; ValueError or IndexError for what is cut short."""
    while der:
        size, at = der[1], 2
        if size & 0x80:
            at += size & 0x7F
            size = int.from_bytes(der[2:at])
        if len(der) < at + size:
            raise ValueError("cut short")
        yield der[0], der[at : at + size]
        der = der[at + size :]
