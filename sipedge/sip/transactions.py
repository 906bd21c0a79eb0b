"""The four transaction tables (RFC 3261 17, RFC 6026)."""

from __future__ import annotations


class ServerTransaction:
    """A request we answer. Opaque to drivers: hand it back to `Endpoint.respond`."""
