"""`[[trunk]]`: what the configuration says of a carrier's interconnection."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

from masking.logins import LoginSection
from masking.sections import BadConfig, Network, Section, Source, check_certificate, network, source

TRUNK_URI = re.compile(r"sip:[^;@\s]+(;transport=(udp|tcp|tls))?|sips:[^;@\s]+(;transport=(tcp|tls))?", re.IGNORECASE)


class TrunkTlsSection(Section, frozen=True):
    """`[trunk.tls]`: what differs from `[sip.tls]` towards this trunk. `identity`: the SIP domain its certificate
    names, empty: the host of its `uri`; `mutual`: its own requests need that certificate too."""

    certificate: str = ""
    key: str = ""
    authorities: str = ""
    identity: str = ""
    mutual: bool = False


CallerHeader = Literal["p-asserted-identity", "from", "remote-party-id"]


class TrunkSection(Section, frozen=True):
    name: str
    uri: str
    sources: list[str]
    country: str
    carrier: str = ""
    countries: list[str] = []
    prefixes: list[str] = []
    number_format: Literal["+e164", "e164", "00", "national"] = "+e164"
    cli: Literal["own", "any"] = "own"
    priority: int = 1
    weight: int = 100
    max_cps: int = 50
    max_calls: int = 1000
    options_ping: int = 30
    caller_from: list[CallerHeader] = msgspec.field(default_factory=lambda: ["p-asserted-identity", "from"])
    announce: Literal["early", "answer", "none"] = "early"
    early_media: Literal["ringback", "pass"] = "ringback"
    media: list[str] = []
    symmetric: bool = False
    auth: LoginSection = LoginSection()
    authenticate: LoginSection = LoginSection()
    register: bool = False
    register_expires: int = 600
    tls: TrunkTlsSection = TrunkTlsSection()

    @property
    def over_tls(self) -> bool:
        """Do calls to it leave over TLS?"""
        return self.uri.lower().startswith("sips:") or ";transport=tls" in self.uri.lower()

    @property
    def carrier_name(self) -> str:
        return self.carrier or self.name

    @property
    def served_countries(self) -> list[str]:
        return self.countries or [self.country]

    @property
    def source_entries(self) -> list[Source]:
        return [source(text, f"trunk {self.name}: sources") for text in self.sources]

    @property
    def media_networks(self) -> list[Network]:
        """Where RTP may come from and SDP may point to; the addresses of `sources` unless said."""
        if not self.media:
            return [source.network for source in self.source_entries]
        return [network(text, f"trunk {self.name}: media") for text in self.media]

    def with_passwords(self, environment: Mapping[str, str]) -> TrunkSection:
        """Itself with its passwords read. Raises `BadConfig`."""
        logins = {}
        for key in ("auth", "authenticate"):
            try:
                logins[key] = getattr(self, key).with_password(environment)
            except ValueError as problem:
                raise BadConfig(f"trunk {self.name}: {key}: {problem}") from None
        return msgspec.structs.replace(self, **logins)


def check(trunks: Iterable[TrunkSection], *, over_tls: bool) -> None:
    """Raises `BadConfig` for what cannot be used. `over_tls`: do we listen for TLS?"""
    names: set[str] = set()
    guests: set[str] = set()
    for trunk in trunks:
        _check(trunk, names, over_tls)
        names.add(trunk.name)
        guest = trunk.authenticate.username
        if guest and guest in guests:
            raise BadConfig(f'trunk: authenticate: username "{guest}" stands twice; it says which trunk asks')
        guests.add(guest)


def _check(trunk: TrunkSection, taken: set[str], over_tls: bool) -> None:
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}", trunk.name):
        raise BadConfig(f'trunk "{trunk.name}": name: expected up to 64 lower-case letters, digits, ".", "_" or "-"')
    if trunk.name in taken:
        raise BadConfig(f'trunk "{trunk.name}": the name stands twice; every trunk has its own')
    if not trunk.sources:
        raise BadConfig(f"trunk {trunk.name}: sources: empty, so nothing could ever come from it; expected addresses")
    trunk.source_entries, trunk.media_networks  # noqa: B018 - reading them checks them
    for country in [trunk.country, *trunk.countries]:
        if not re.fullmatch(r"[A-Z]{2}", country):
            raise BadConfig(f'trunk {trunk.name}: country: "{country}" is no ISO 3166 code; expected e.g. "VN"')
    if trunk.register and not trunk.auth.given:
        raise BadConfig(f"trunk {trunk.name}: register: it needs auth = {{ username, realm, password }}")
    if not 60 <= trunk.register_expires <= 86_400:
        raise BadConfig(f"trunk {trunk.name}: register_expires: expected 60..86400 seconds")
    for prefix in trunk.prefixes:
        if not re.fullmatch(r"\+[1-9]\d{0,14}", prefix):
            raise BadConfig(f'trunk {trunk.name}: prefixes: "{prefix}": expected how E.164 numbers begin, e.g. "+8490"')
    if not TRUNK_URI.fullmatch(trunk.uri):
        raise BadConfig(
            f'trunk {trunk.name}: uri: "{trunk.uri}":'
            " expected sip:HOST:PORT;transport=udp, tcp or tls, or sips:HOST:PORT"
        )
    if trunk.over_tls and not over_tls:
        raise BadConfig(f"trunk {trunk.name}: uri: over TLS, but sip.listen has no tls: address for what it asks of us")
    tls = trunk.tls
    check_certificate(f"trunk {trunk.name}: tls", tls.certificate, tls.key, tls.authorities)
