"""SIP and tel URIs, and the name-addr around them (RFC 3261 19.1, 25.1; RFC 3966).

A user part is usually a person's number, so `repr` never shows it.
"""

from __future__ import annotations


class Uri:
    """`scheme:user@host:port;params`. `user` is unescaped and cut at its own parameters; `host` lower case; `port` 0 when absent.

    For `tel:` the subscriber is the `user` and `host` is empty.
    """

    __slots__ = ("host", "params", "port", "scheme", "user")

    scheme: str
    user: str
    host: str
    port: int
    params: dict[str, str]

    @classmethod
    def parse(cls, text: str) -> Uri:
        """Reads a sip, sips or tel URI; raises `Malformed` (416 for another scheme, else 400)."""
        raise NotImplementedError

    @property
    def digits(self) -> str:
        """The user part as a dialled number, `+` kept and visual separators cut; empty when it is none ("anonymous")."""
        raise NotImplementedError


class NameAddr:
    """The value of From, To, Contact, P-Asserted-Identity: display name, URI and header parameters (`tag`)."""

    __slots__ = ("display", "params", "tag", "uri")

    display: str
    uri: Uri
    params: dict[str, str]
    tag: str  # empty when absent

    @classmethod
    def parse(cls, value: str) -> NameAddr:
        raise NotImplementedError


def sip_uri(user: str, hostport: str, params: str = "") -> str:
    """Writes `sip:user@hostport;params`, escaping what a user part may not hold."""
    raise NotImplementedError


def name_addr(uri: str, display: str = "", params: str = "") -> str:
    """Writes `"display" <uri>;params`; refuses control characters with ValueError."""
    raise NotImplementedError
