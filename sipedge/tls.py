"""TLS: which certificate we show to whom, and whose we ask for (RFC 3261 26.3.1, RFC 5922).

Everything hangs on the trunk. Whom we call must prove the trunk's SIP domain; a trunk with `mutual` must prove it too
when it connects to us, and is told apart by that from others behind the same address. The chain is OpenSSL's to check,
the name in the certificate is ours, because SIP reads it in its own way.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import structlog

from masking.config import BadConfig, SipSection
from sipedge.sip.grammar import Malformed
from sipedge.sip.uris import Uri
from sipedge.trunks import Trunk, TrunkTable

log = structlog.get_logger("sipedge.tls")

EVERY: Final = 60.0  # seconds between two looks at whether a certificate was renewed

Certificate = Mapping[str, Any]  # as `ssl.SSLSocket.getpeercert` gives one


class Unproven(Exception):
    """The other end is not who it has to be."""


class _Files(NamedTuple):
    """Paths of a certificate, its key and the authorities its peer's may come from; empty: none, the machine's."""

    certificate: str
    key: str
    authorities: str


class Credentials:
    """The TLS contexts of this edge, once they are loaded."""

    def __init__(self, sip: SipSection, trunks: TrunkTable) -> None:
        self._sip = sip.tls
        self._trunks = trunks
        self._calling: dict[_Files, ssl.SSLContext] = {}
        self._called: dict[tuple[_Files, bool], ssl.SSLContext] = {}
        self._seen: dict[str, float] = {}

    def load(self) -> None:
        """Reads every file that is named, which blocks. Raises `BadConfig` for one that OpenSSL cannot use."""
        files = {_Files(self._sip.certificate, self._sip.key, self._sip.authorities)}
        mutual = {self._files(trunk) for trunk in self._trunks.trunks if trunk.config.tls.mutual}
        files |= mutual | {self._files(trunk) for trunk in self._trunks.trunks}
        self._calling = {each: _calling_context(each) for each in files}
        self._called = {
            (each, asks): self._called_context(each, asks)
            for each in files
            if each.certificate
            for asks in (False, True)
            if not asks or each in mutual
        }
        self._seen = self._times()

    def _called_context(self, files: _Files, asks: bool) -> ssl.SSLContext:
        context = _called_context(files, asks)
        named = {
            name.lower(): _called_context(_Files(own.certificate, own.key, files.authorities), asks)
            for name, own in self._sip.names.items()
        }

        def choose(connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
            """Server name indication (RFC 6066 3); a name that we have no certificate of its own for gets the first."""
            found = named.get(name.lower()) if name else None
            if found is not None:
                connection.context = found

        context.sni_callback = choose
        return context

    def _files(self, trunk: Trunk | None) -> _Files:
        own = trunk.config.tls if trunk is not None else None
        if own is None:
            return _Files(self._sip.certificate, self._sip.key, self._sip.authorities)
        certificate, key = (own.certificate, own.key) if own.certificate else (self._sip.certificate, self._sip.key)
        return _Files(certificate, key, own.authorities or self._sip.authorities)

    # ---- calling -----------------------------------------------------------------------------------------------------

    def calling(self, peer: str, host: str) -> tuple[ssl.SSLContext, str]:
        """For a connection of ours to the trunk `peer` at `host`: the context, and the name to ask for (the host of its
        `uri`, never what DNS made of it)."""
        trunk = self._trunks.named.get(peer)
        return self._calling[self._files(trunk)], trunk.target.host if trunk is not None else host

    def is_peer(self, peer: str, host: str, certificate: Certificate | None) -> bool:
        """Is whom we have called the domain we meant (RFC 5922 4, 7.3)?"""
        trunk = self._trunks.named.get(peer)
        return proves(certificate, trunk.identity if trunk is not None else host)

    # ---- called ------------------------------------------------------------------------------------------------------

    def called(self, host: str, port: int) -> ssl.SSLContext:
        """For a connection from a known source. A certificate is asked for where one of its trunks needs it."""
        candidates = self._trunks.candidates(host, port)
        mutual = next((trunk for trunk in candidates if trunk.config.tls.mutual), None)
        files = self._files(mutual or (candidates[0] if candidates else None))
        return self._called[files, mutual is not None]

    def whose(self, host: str, port: int, certificate: Certificate | None) -> str:
        """Which trunk a caller's certificate proves it to be; "" where the source alone says it. `Unproven` when every
        trunk of that source needs a certificate, and it showed none of theirs."""
        candidates = self._trunks.candidates(host, port)
        mutual = [trunk for trunk in candidates if trunk.config.tls.mutual]
        for trunk in mutual:
            # One connection is checked against one set of authorities: the first such trunk's.
            if self._files(trunk).authorities == self._files(mutual[0]).authorities and proves(
                certificate, trunk.identity
            ):
                return trunk.name
        if mutual and len(mutual) == len(candidates) and not self._trunks.is_proxy(host, port):
            raise Unproven
        return ""

    # ---- renewal -----------------------------------------------------------------------------------------------------

    async def keep(self) -> None:
        """Takes renewed certificates into use, until cancelled. New connections show them; ones that stand, stand."""
        while True:
            await asyncio.sleep(EVERY)
            try:
                if await asyncio.to_thread(self._renewed):
                    log.info("certificates_renewed")
            except BadConfig as problem:  # half written, or wrong: what was read before still serves
                log.error("certificates_not_renewed", problem=str(problem))

    def _renewed(self) -> bool:
        if self._times() == self._seen:
            return False
        self.load()
        return True

    def _times(self) -> dict[str, float]:
        own = [path for pair in self._sip.names.values() for path in (pair.certificate, pair.key)]
        given = [path for files in self._calling for path in files]
        times: dict[str, float] = {}
        for path in filter(None, own + given):
            try:
                times[path] = Path(path).stat().st_mtime
            except OSError:
                times[path] = 0.0
        return times


def _calling_context(files: _Files) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # `check` reads the name as RFC 5922 7 wants it
    if not files.authorities:
        context.load_default_certs()
    return _prepared(context, files)


def _called_context(files: _Files, asks: bool) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if asks:  # whoever shows none is judged by `whose`, since another trunk of that source may need none
        context.verify_mode = ssl.CERT_OPTIONAL
        if not files.authorities:
            context.load_default_certs(ssl.Purpose.CLIENT_AUTH)
    return _prepared(context, files)


def _prepared(context: ssl.SSLContext, files: _Files) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    try:
        if files.certificate:
            context.load_cert_chain(files.certificate, files.key)
        if files.authorities:
            context.load_verify_locations(files.authorities)
    except (OSError, ValueError) as problem:  # ssl.SSLError is an OSError
        named = " and ".join(path for path in files if path)
        raise BadConfig(f"sip.tls: {named}: not to be used: {problem.args[-1]}") from None
    return context


# ---- whose certificate it is -----------------------------------------------------------------------------------------


def proves(certificate: Certificate | None, domain: str) -> bool:
    """Is this the certificate of that SIP domain (RFC 5922 7.2: the whole name, in any case, never by wildcard)?"""
    return certificate is not None and _plain(domain) in identities(certificate)


def identities(certificate: Certificate) -> frozenset[str]:
    """The SIP domains a certificate names (RFC 5922 7.1): the SIP URIs without a user among its alternative names;
    where there is none, the DNS names; the common name only in a certificate without alternative names. Addresses count
    for trunks that are configured by address."""
    names: Sequence[tuple[str, str]] = certificate.get("subjectAltName", ())
    addresses = [text for kind, text in names if kind == "IP Address"]
    uris = [domain for kind, text in names if kind == "URI" and (domain := _domain(text))]
    if uris:
        return _plainly(uris + addresses)
    if names:
        return _plainly([text for kind, text in names if kind == "DNS"] + addresses)
    subject = [pair for part in certificate.get("subject", ()) for pair in part]
    return _plainly([text for kind, text in subject if kind == "commonName"])


def _domain(text: str) -> str:
    """The domain of `sip:example.com`; "" for another scheme, and for a person's URI."""
    try:
        uri = Uri.parse(text)
    except Malformed:
        return ""
    return uri.host if uri.scheme == "sip" and "@" not in text else ""


def _plainly(names: Iterable[str]) -> frozenset[str]:
    return frozenset(_plain(name) for name in names)


def _plain(name: str) -> str:
    return name.strip("[]").rstrip(".").lower()
