"""What the sections of the configuration are made of: tables, addresses, files, and the error that says how to mend."""

from __future__ import annotations

import ipaddress
import os
from typing import Literal

import msgspec


class BadConfig(ValueError):
    """The configuration cannot be used; the text says which key, and how to mend it."""


class Section(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """One table of `masking.toml`."""


Transport = Literal["udp", "tcp", "tls"]
TRANSPORTS: dict[str, Transport] = {"udp": "udp", "tcp": "tcp", "tls": "tls"}


class Listener(msgspec.Struct, frozen=True):
    """Where the edge listens: `udp:127.0.0.1:5060`."""

    transport: Transport
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.transport}:{self.host}:{self.port}"


Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Source(msgspec.Struct, frozen=True):
    """A place that requests come from: an address, a network, or one port of an address."""

    network: Network
    port: int | None


def host_and_port(text: str, key: str) -> tuple[str, int]:
    """`127.0.0.1:8080` or `[::1]:8080`; `BadConfig` otherwise."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isdigit() or int(port) > 65535:
        raise BadConfig(f'{key}: "{text}" is no address; expected HOST:PORT, e.g. "127.0.0.1:8080"')
    return host, int(port)


def network(text: str, key: str) -> Network:
    """`10.0.0.0/24` or `10.0.0.1`; `BadConfig` otherwise."""
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise BadConfig(f'{key}: "{text}": {error}; expected an address or a network, e.g. "10.0.0.0/24"') from None


def source(text: str, key: str) -> Source:
    """An address, a network, or `address:port`; `BadConfig` otherwise."""
    address, colon, port = text.rpartition(":")
    if colon and port.isdigit() and ("." in address or address.startswith("[")):
        return Source(network(address.strip("[]"), key), int(port))
    return Source(network(text, key), None)


def check_certificate(key: str, certificate: str, private: str, authorities: str) -> None:
    """PEM files that can be read, a certificate never without its key; `BadConfig` otherwise."""
    if bool(certificate) != bool(private):
        raise BadConfig(f"{key}: certificate and key go together; expected both or none")
    for name, path in (("certificate", certificate), ("key", private), ("authorities", authorities)):
        if path and not os.access(path, os.R_OK):
            raise BadConfig(f'{key}.{name}: "{path}": cannot be read; expected a PEM file')
