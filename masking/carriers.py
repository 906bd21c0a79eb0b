"""What the doctor looks at on the way to the carriers: trunks, whom they trust, and certificates."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509

from masking.config import Config, TrunkSection
from masking.symptoms import Finding, fault, warning, well

DNS_PATIENCE: Final = 2.0
TRUSTED_MOST: Final = {4: 8, 6: 32}  # bits of the widest network a carrier might have
SOON: Final = timedelta(days=14)
TRUNK_UP: Final = re.compile(r'^masking_sip_trunk_up\{trunk="([^"]+)"\} 0', re.MULTILINE)


def look(config: Config, metrics: str | None, now: datetime) -> Iterator[Finding]:
    """Every trunk and certificate. `metrics`: what the running service tells of itself; None: it does not run."""
    if not config.trunk:
        mend = "add a [[trunk]]: without one nobody can be called"
        yield warning(16, "trunks", "none is configured", mend)
    down = set(TRUNK_UP.findall(metrics or ""))
    for trunk in config.trunk:
        host = _host(trunk)
        if host and not _resolves(host):
            yield fault(17, "trunks", f"{trunk.name}: {host} has no address", "correct uri, or the DNS")
        elif trunk.name in down:
            mend = "ask the carrier: it does not answer OPTIONS, or nearly every call fails"
            yield warning(18, "trunks", f"{trunk.name} takes no calls now", mend)
        else:
            yield well("trunks", f"{trunk.name} is up" if metrics is not None else f"{trunk.name} is configured")
        yield from _rights(config, trunk, host)
    yield from _certificates(config, now)


def _rights(config: Config, trunk: TrunkSection, host: str) -> Iterator[Finding]:
    if trunk.cli == "any":
        mend = 'cli = "own", unless the carrier has allowed numbers that are not its own'
        yield warning(19, "trunks", f"{trunk.name} shows every number", mend)
    for entry in trunk.source_entries:
        if entry.network.prefixlen < TRUSTED_MOST[entry.network.version] and not trunk.authenticate.given:
            said = f"{trunk.name}: sources: {entry.network} trusts half the world to say who calls"
            yield fault(20, "trunks", said, "name the carrier's own addresses, or let it authenticate")
    if not host and not _loopback(_address(trunk)) and all(_loopback(one.host) for one in config.sip.listeners):
        said = f"{trunk.name} is elsewhere, and sip.listen is on loopback alone"
        yield fault(21, "trunks", said, "listen on an address the carrier reaches")


def _certificates(config: Config, now: datetime) -> Iterator[Finding]:
    named = {"sip.tls": config.sip.tls.certificate}
    named |= {f"sip.tls.names.{name}": own.certificate for name, own in config.sip.tls.names.items()}
    named |= {f"trunk {trunk.name}: tls": trunk.tls.certificate for trunk in config.trunk}
    for name, path in named.items():
        if path:
            yield _certificate(name, Path(path), now)


def _certificate(name: str, path: Path, now: datetime) -> Finding:
    mend = "renew it: carriers that check certificates refuse the connection"
    try:
        ends = x509.load_pem_x509_certificates(path.read_bytes())[0].not_valid_after_utc
    except (OSError, ValueError):
        return fault(22, "certificates", f"{name}: {path} holds no certificate", "put a PEM file there")
    if ends <= now:
        return fault(22, "certificates", f"{name}: {path} ended on {ends:%Y-%m-%d}", mend)
    if ends <= now + SOON:
        return warning(22, "certificates", f"{name}: {path} ends on {ends:%Y-%m-%d}", mend)
    return well("certificates", f"{name} is good until {ends:%Y-%m-%d}")


def _address(trunk: TrunkSection) -> str:
    """Where a trunk's uri points: a name or an address."""
    host = trunk.uri.partition(":")[2].partition(";")[0].rpartition("@")[2]
    return host.partition("]")[0].removeprefix("[") if host.startswith("[") else host.partition(":")[0]


def _host(trunk: TrunkSection) -> str:
    """The name of a trunk's uri; "" where an address stands there."""
    host = _address(trunk)
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host
    return ""


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _resolves(host: str) -> bool:
    """By an address of its own, or by the services it names (RFC 3263)."""
    import dns.exception
    import dns.resolver

    try:
        return bool(socket.getaddrinfo(host, None))
    except OSError:
        pass
    for service in ("_sip._udp", "_sip._tcp", "_sips._tcp"):
        try:
            return bool(dns.resolver.resolve(f"{service}.{host}", "SRV", lifetime=DNS_PATIENCE))
        except (dns.exception.DNSException, OSError):
            continue
    return False
