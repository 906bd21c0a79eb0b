"""Certificates made for one test run: an authority of our own, and whatever it signs. Nothing of it is ever kept."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Pair:
    """Paths of a certificate and its key."""

    certificate: str
    key: str


class Authority:
    """Signs certificates; `bundle` is the path of its own."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        own = (
            _builder(self._name, self._name, self._key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.bundle = str(folder / f"{name}.pem")
        Path(self.bundle).write_bytes(own.public_bytes(serialization.Encoding.PEM))

    def sign(self, *names: str, common: str = "nobody", expired: bool = False) -> Pair:
        """A certificate whose alternative names are these: `sip:…` URIs, addresses, DNS names."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])
        builder = _builder(subject, self._name, key, NOW - 2 * DAY if expired else NOW + DAY)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName([_named(name) for name in names]), False)
        stem = self.folder / f"{abs(hash((names, common, key)))}"
        pair = Pair(f"{stem}.pem", f"{stem}.key")
        signed = builder.sign(self._key, hashes.SHA256())
        Path(pair.certificate).write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        kinds = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        Path(pair.key).write_bytes(key.private_bytes(*kinds))
        return pair


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, until: datetime.datetime = NOW + DAY
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    return builder.not_valid_before(NOW - 3 * DAY).not_valid_after(until)


def _named(name: str) -> x509.GeneralName:
    if name.startswith("dns:"):  # an address in the clothes of a name, for peers that know no others
        return x509.DNSName(name.removeprefix("dns:"))
    if ":" in name and name.partition(":")[0] in ("sip", "sips", "https"):
        return x509.UniformResourceIdentifier(name)
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
