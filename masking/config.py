"""The configuration: `masking.toml`, then the environment (`MASKING_<SECTION>__<KEY>`), checked once at start.

Every mistake is a `BadConfig` whose text says which key, what was wrong and what would be right; an unknown key names
the nearest known one. A value that is documented but not served yet by this version is refused as such, never ignored.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import tomllib
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import msgspec

from masking import tenants, trunks
from masking.sections import TRANSPORTS as TRANSPORTS
from masking.sections import BadConfig as BadConfig
from masking.sections import Listener as Listener
from masking.sections import Section, check_certificate, source
from masking.sections import Source as Source
from masking.sections import host_and_port as host_and_port
from masking.tenants import TenantSection as TenantSection
from masking.trunks import TrunkSection as TrunkSection
from masking.trunks import TrunkTlsSection as TrunkTlsSection

ENV_PREFIX = "MASKING_"


class ServiceSection(Section, frozen=True):
    data_dir: str = "var"
    bootstrap_key: str = ""


class HttpSection(Section, frozen=True):
    listen: str = "127.0.0.1:8080"
    workers: int = 1

    @property
    def address(self) -> tuple[str, int]:
        return host_and_port(self.listen, "http.listen")


class RedisSection(Section, frozen=True):
    url: str = ""


class ArchiveSection(Section, frozen=True):
    url: str = ""


class RecordingsSection(Section, frozen=True):
    url: str = ""
    region: str = ""
    endpoint: str = ""
    format: Literal["opus", "wav"] = "opus"
    retention: int = 0

    @property
    def place(self) -> dict[str, str]:
        """Where a bucket is, as `recordings.store.open_store` takes it."""
        return {"region": self.region, "endpoint": self.endpoint}


class KeysSection(Section, frozen=True):
    provider: Literal["file", "aws-kms"] = "file"
    path: str = ""
    kms_key: str = ""
    kms_region: str = ""
    kms_endpoint: str = ""


class CertificateSection(Section, frozen=True):
    """A certificate with its chain, and its key: paths of PEM files."""

    certificate: str
    key: str


class TlsSection(Section, frozen=True):
    """`[sip.tls]`: our certificate; `authorities`: who may have signed the others', empty: whom this machine trusts;
    `names`: other certificates of ours, by the name a peer asks for (SNI)."""

    certificate: str = ""
    key: str = ""
    authorities: str = ""
    names: dict[str, CertificateSection] = {}


class SipSection(Section, frozen=True):
    listen: list[str] = msgspec.field(default_factory=lambda: ["udp:127.0.0.1:5060", "tcp:127.0.0.1:5060"])
    advertise: str = ""
    workers: int = 1
    proxies: list[str] = []
    resolver: str = ""
    session_expires: int = 1800
    tls: TlsSection = TlsSection()

    @property
    def listeners(self) -> list[Listener]:
        return [_listener(text) for text in self.listen]

    @property
    def proxy_entries(self) -> list[Source]:
        """Where our own front proxies are."""
        return [source(text, "sip.proxies") for text in self.proxies]


class MediaSection(Section, frozen=True):
    plane: Literal["builtin"] = "builtin"
    ports: str = "20000-29999"
    advertise: str = ""
    silence_timeout: int = 300
    voices: str = ""

    @property
    def port_range(self) -> tuple[int, int]:
        """First and last port, both included."""
        match = re.fullmatch(r"(\d{1,5})-(\d{1,5})", self.ports)
        first, last = (int(match[1]), int(match[2])) if match else (0, 0)
        if not (1024 <= first < last <= 65535):
            raise BadConfig(f'media.ports: "{self.ports}" is no range; expected e.g. "20000-29999" within 1024..65535')
        return first, last


class StirSection(Section, frozen=True):
    """Are callers' PASSporTs verified? `certificates` is a folder of PEM chains, `authorities` are PEM files."""

    policy: Literal["off", "verify"] = "off"
    certificates: str = ""
    authorities: list[str] = []


class WebhooksSection(Section, frozen=True):
    allow_private: bool = False


class Config(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """The whole configuration, as every process is given it."""

    service: ServiceSection = ServiceSection()
    http: HttpSection = HttpSection()
    redis: RedisSection = RedisSection()
    archive: ArchiveSection = ArchiveSection()
    recordings: RecordingsSection = RecordingsSection()
    keys: KeysSection = KeysSection()
    sip: SipSection = SipSection()
    media: MediaSection = MediaSection()
    webhooks: WebhooksSection = WebhooksSection()
    stir: StirSection = StirSection()
    trunk: list[TrunkSection] = []
    tenant: list[TenantSection] = []

    @property
    def data_dir(self) -> Path:
        return Path(self.service.data_dir).absolute()

    @property
    def redis_url(self) -> str:
        """Given, or the embedded Valkey's unix socket."""
        return self.redis.url or f"unix://{self.valkey_socket}"

    @property
    def run_dir(self) -> Path:
        """Unix sockets of this installation; elsewhere when the path is over what the kernel takes (107 bytes)."""
        here = self.data_dir / "run"
        if len(os.fsencode(here)) <= 80:
            return here
        name = hashlib.sha256(os.fsencode(here)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"masking-{os.getuid()}-{name}"

    @property
    def valkey_socket(self) -> Path:
        return self.run_dir / "valkey.sock"

    @property
    def countries(self) -> frozenset[str]:
        """The countries of the trunks: whose national spellings count as numbers."""
        return frozenset(trunk.country for trunk in self.trunk)

    @property
    def archive_url(self) -> str:
        """As SQLAlchemy's asyncio engines spell it."""
        if not self.archive.url:
            return f"sqlite+aiosqlite:///{self.data_dir / 'archive.sqlite3'}"
        return re.sub(r"^postgres(ql)?(\+\w+)?://", "postgresql+asyncpg://", self.archive.url)

    @property
    def recordings_url(self) -> str:
        return self.recordings.url or (self.data_dir / "recordings").as_uri()

    @property
    def spool_dir(self) -> Path:
        """Captures of calls that are not catalogued as whole recordings yet."""
        return self.data_dir / "spool"

    @property
    def relay_socket(self) -> Path:
        return self.run_dir / "relay.sock"

    @property
    def key_path(self) -> Path:
        return Path(self.keys.path).absolute() if self.keys.path else self.data_dir / "keys.json"

    def trunk_named(self, name: str) -> TrunkSection | None:
        return next((trunk for trunk in self.trunk if trunk.name == name), None)

    def tenant_named(self, name: str) -> TenantSection:
        """What is granted to the tenant; without a `[[tenant]]` of its own, everything."""
        return next((tenant for tenant in self.tenant if tenant.name == name), None) or TenantSection(name=name)


TABLES: dict[str, type[Section]] = {"trunk": TrunkSection, "tenant": TenantSection}  # written [[…]]
SECTIONS = {field.name: field for field in msgspec.structs.fields(Config)}

# Documented values that a later version brings: named, and no start.
NOT_YET = {
    ("media", "plane", "rtpengine"): 'the built-in media plane (`plane = "builtin"`)',
}


def load(path: Path | None, environment: Mapping[str, str]) -> Config:
    """Reads the file (or none: the defaults), lets the environment override, checks everything."""
    tables: dict[str, Any] = {}
    if path is not None:
        try:
            tables = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise BadConfig(f"{path}: cannot be read: {error.strerror}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise BadConfig(f"{path}: not valid TOML: {error}") from None
    _check_names(tables)
    _override(tables, environment)
    _refuse_not_yet(tables)
    try:
        config = msgspec.convert(tables, Config, strict=True)
    except msgspec.ValidationError as error:
        raise BadConfig(_where(str(error), tables)) from None
    config = msgspec.structs.replace(config, trunk=[trunk.with_passwords(environment) for trunk in config.trunk])
    _check_values(config)
    return config


def _fields_of(struct: Any) -> dict[str, Any]:
    """The keys of a table and their types."""
    return {field.name: field.type for field in msgspec.structs.fields(struct)}


def _is_table(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Section)


def _nearest(name: str, known: Iterable[str]) -> str:
    known = sorted(known)
    close = get_close_matches(name, known, 1, 0.5)
    return f'did you mean "{close[0]}"?' if close else f"known are: {', '.join(known)}"


def _check_names(tables: Mapping[str, Any]) -> None:
    for section, table in tables.items():
        if section not in SECTIONS:
            raise BadConfig(f"[{section}]: no such section; {_nearest(section, SECTIONS)}")
        rows = table if section in TABLES and isinstance(table, list) else [table]
        for row in rows:
            if not isinstance(row, dict):
                written = f"[[{section}]]" if section in TABLES else f"[{section}]"
                raise BadConfig(f"{section}: expected a table, written {written}")
            _check_keys(section, row, TABLES.get(section) or SECTIONS[section].type)


def _check_keys(path: str, table: Mapping[str, Any], struct: Any) -> None:
    """Every key of a table, and of the tables in it."""
    known = _fields_of(struct)
    for key, value in table.items():
        if key not in known:
            raise BadConfig(f"{path}.{key}: no such key; {_nearest(key, known)}")
        if _is_table(known[key]) and isinstance(value, dict):
            _check_keys(f"{path}.{key}", value, known[key])


def _override(tables: dict[str, Any], environment: Mapping[str, str]) -> None:
    """`MASKING_HTTP__LISTEN` over `[http] listen`; every scalar key, never of a table written [[…]]."""
    for name, text in environment.items():
        if not name.startswith(ENV_PREFIX) or "__" not in name:
            continue
        section, _, key = name.removeprefix(ENV_PREFIX).lower().partition("__")
        if section not in SECTIONS or section in TABLES:
            raise BadConfig(f"{name}: no such section; {_nearest(section, set(SECTIONS) - set(TABLES))}")
        table, known = tables.setdefault(section, {}), _fields_of(SECTIONS[section].type)
        while "__" in key and _is_table(known.get(outer := key.partition("__")[0])):
            table, known, key = table.setdefault(outer, {}), _fields_of(known[outer]), key.partition("__")[2]
        if key not in known or _is_table(known[key]):
            raise BadConfig(f"{name}: no such key; {_nearest(key, known)}")
        table[key] = _from_text(name, text, known[key])


def _from_text(name: str, text: str, kind: Any) -> Any:
    try:
        if kind is bool:
            return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
        if kind is int:
            return int(text)
    except (KeyError, ValueError):
        raise BadConfig(f'{name}: "{text}" is not {"true or false" if kind is bool else "a whole number"}') from None
    if kind == list[str]:
        return [part.strip() for part in text.split(",") if part.strip()]
    return text


def _refuse_not_yet(tables: Mapping[str, Any]) -> None:
    for (section, key, value), instead in NOT_YET.items():
        if tables.get(section, {}).get(key) == value:
            raise BadConfig(f'{section}.{key} = "{value}": not_implemented in this version; use {instead}')


def _where(message: str, tables: Mapping[str, Any]) -> str:
    """msgspec says `Expected int, got str - at $.http.workers`; we say it the configuration's way round."""
    problem, _, path = message.partition(" - at ")
    key = path.strip("`").removeprefix("$.").replace("[...]", "") or "configuration"
    index = re.match(r"(trunk|tenant)\[(\d+)\]\.?", key)
    if index:
        kind, name = index[1], tables[index[1]][int(index[2])].get("name", index[2])
        key = f"{kind} {name}: {key.removeprefix(index[0])}".removesuffix(": ")
    return f"{key}: {problem}"


def _listener(text: str) -> Listener:
    transport, _, address = text.partition(":")
    if transport not in TRANSPORTS:
        raise BadConfig(f'sip.listen: "{text}": expected udp:HOST:PORT, tcp:HOST:PORT or tls:HOST:PORT')
    return Listener(TRANSPORTS[transport], *host_and_port(address, "sip.listen"))


def _check_values(config: Config) -> None:
    config.http.address, config.media.port_range  # noqa: B018 - reading them checks them
    config.sip.proxy_entries  # noqa: B018 - reading it checks it
    if not config.sip.listeners:
        raise BadConfig("sip.listen: nothing to listen on; expected at least one udp:, tcp: or tls: address")
    _check_tls(config.sip)
    if config.sip.session_expires and not 90 <= config.sip.session_expires <= 86_400:  # RFC 4028 4
        raise BadConfig("sip.session_expires: expected 90..86400 seconds, or 0 to propose none")
    if config.media.silence_timeout and not 5 <= config.media.silence_timeout <= 86_400:
        raise BadConfig("media.silence_timeout: expected 5..86400 seconds, or 0 for none")
    if config.sip.resolver:
        resolver = source(config.sip.resolver, "sip.resolver").network
        if resolver.num_addresses != 1:
            raise BadConfig(
                f'sip.resolver: "{config.sip.resolver}": expected an address, e.g. "127.0.0.53" or "[::1]:53"'
            )
    if config.sip.workers != 1:
        raise BadConfig("sip.workers: more than one edge worker is not_implemented in this version; use 1")
    if not 1 <= config.http.workers <= 64:
        raise BadConfig("http.workers: expected 1..64")
    _check_recordings(config.recordings)
    if config.archive.url and not re.match(r"(postgres(ql)?(\+asyncpg)?|sqlite\+aiosqlite)://", config.archive.url):
        raise BadConfig("archive.url: expected postgresql://user:password@host/database, or empty for SQLite")
    if config.redis.url and not config.redis.url.startswith(("redis://", "unix://")):
        raise BadConfig("redis.url: expected redis://host:port/0 or unix:///path, or empty for the embedded Valkey")
    if config.service.bootstrap_key and len(config.service.bootstrap_key) < 16:
        raise BadConfig("service.bootstrap_key: shorter than 16 characters; use a long random text")
    _check_keys_section(config.keys)
    _check_stir(config.stir)
    trunks.check(config.trunk, over_tls=any(listener.transport == "tls" for listener in config.sip.listeners))
    tenants.check(config.tenant, config.trunk)


def _check_recordings(recordings: RecordingsSection) -> None:
    if recordings.format == "opus" and find_spec("av") is None:
        raise BadConfig(
            'recordings.format: "opus" needs the extra `media`: pip install \'masking[media]\', or use "wav"'
        )
    if recordings.url and not re.match(r"file:///|s3://[a-z0-9]", recordings.url):
        raise BadConfig("recordings.url: expected file:///… or s3://bucket/prefix, or empty for a folder of data_dir")
    if recordings.url.startswith("s3://") and not recordings.region:
        raise BadConfig('recordings.region: empty; expected the bucket\'s region, e.g. "ap-southeast-1"')
    if recordings.retention and recordings.retention < 60:
        raise BadConfig("recordings.retention: expected seconds, 60 or more, or 0 to keep recordings for good")
    if recordings.endpoint and not re.match(r"https?://", recordings.endpoint):
        raise BadConfig("recordings.endpoint: expected https://host, or empty for AWS's own")


def _check_keys_section(keys: KeysSection) -> None:
    if keys.provider == "aws-kms" and not keys.kms_key:
        raise BadConfig("keys.kms_key: empty; expected the id, ARN or alias of a symmetric key of AWS KMS")
    if not keys.kms_key:
        return
    if not keys.kms_region and not keys.kms_key.startswith("arn:"):
        raise BadConfig('keys.kms_region: empty; expected a region, e.g. "ap-southeast-1", or an ARN as keys.kms_key')
    if find_spec("botocore") is None:
        raise BadConfig("keys.kms_key: AWS KMS needs the extra `kms`: pip install 'masking[kms]'")


def _check_stir(stir: StirSection) -> None:
    if stir.policy == "off":
        return
    if not stir.authorities:
        raise BadConfig('stir.authorities: empty, so nobody could be verified; expected PEM files, or policy = "off"')
    for path in stir.authorities:
        if not Path(path).is_file():
            raise BadConfig(f"stir.authorities: {path}: no such file; expected PEM certificates")
    if not Path(stir.certificates).is_dir() or not stir.certificates:
        raise BadConfig("stir.certificates: no such folder; expected one with the PEM chains that x5u may name")


def _check_tls(sip: SipSection) -> None:
    check_certificate("sip.tls", sip.tls.certificate, sip.tls.key, sip.tls.authorities)
    for name, own in sip.tls.names.items():
        check_certificate(f"sip.tls.names.{name}", own.certificate, own.key, "")
    if any(listener.transport == "tls" for listener in sip.listeners) and not sip.tls.certificate:
        raise BadConfig("sip.tls.certificate: empty, but sip.listen has a tls: address; expected a PEM file")
