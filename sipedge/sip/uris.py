"""SIP and tel URIs, the name-addr around them, and Via (RFC 3261 19.1, 20.42, 25.1; RFC 3966).

A user part is usually a person's number, so `repr` never shows it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import quote, unquote_to_bytes

from msgspec import Struct

from sipedge.sip import grammar
from sipedge.sip.grammar import Malformed

REMEMBERED = 4_096  # places and senders that need not be read again: calls come from and go to few
# Both cases are spelled out: IGNORECASE makes every character dearer, and these run for every message.
_PLACE = (
    r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?((?:;[^?<>\"\s]*)?)(?:\?[^<>\"\s]*)?"  # host:port;params
)
_SIP_PLACE = re.compile(_PLACE, re.ASCII)
_SIP_URI = re.compile(r"([Ss][Ii][Pp][Ss]?):(?:([^@<>\"\s]*)@)?" + _PLACE, re.ASCII)
_TEL_URI = re.compile(r"tel:([0-9a-f+*#().-]+)((?:;[^?<>\"\s]*)?)", re.IGNORECASE | re.ASCII)
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE | re.ASCII)
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_NUMBER = re.compile(r"\+?[0-9]+")
_SEPARATORS = str.maketrans("", "", "-.()")
_USER_SAFE = "+-_.!~*'()&=$,/"
_VIA = re.compile(
    r"[Ss][Ii][Pp][ \t]*/[ \t]*[0-9.]+[ \t]*/[ \t]*([A-Za-z0-9-]+)[ \t]+(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)"
    r"(?:[ \t]*:[ \t]*([0-9]{1,5}))?[ \t]*((?:;.*)?)",
    re.ASCII,
)
# What nearly every message holds is read at one stroke; whatever these do not match is read step by step.
_USUAL_URI = re.compile(r"sip:(\+?[A-Za-z0-9]+)@(.{1,200})", re.ASCII)
_USUAL_ADDRESS = re.compile(
    r"(?:\"([^\"\\]*)\"[ \t]*|([^\"<>]*))<([^<> \t]*)>((?:;tag=([A-Za-z0-9]{1,512}))?)", re.ASCII
)
_USUAL_VIA = re.compile(
    r"(SIP/2\.0/[A-Z]{2,4} [A-Za-z0-9.:-]{1,200})(;branch=([A-Za-z0-9.-]{1,512})"
    r"(?:;rport(?:=[0-9]{1,5})?)?(?:;received=[0-9.]{1,15})?)",
    re.ASCII,
)
_USUAL_TAIL = re.compile(r";branch=[A-Za-z0-9.-]{1,512};rport")


def _read_port(text: str | None) -> int:
    return grammar.read_int(text, 65535) if text else 0


def _unescape(user: str) -> str:
    """Undoes %XX. What turns out to be no printable text stays escaped: nothing is smuggled in, no NUL cuts a name
    short, and it is nobody's number."""
    if _BAD_ESCAPE.search(user):
        raise Malformed(400, "bad escape in a URI")
    try:
        plain = unquote_to_bytes(user).decode()
    except UnicodeDecodeError:
        raise Malformed(400, "bad escape in a URI") from None
    return plain if plain.isprintable() else user


class Uri(Struct, eq=False, gc=False):
    """`scheme:user@host:port;params`. `user` is unescaped and cut at its own parameters; `host` lower case; `port`
    0 when absent.

    For `tel:` the subscriber is the `user` and `host` is empty. `text` is the URI as written.
    """

    text: str
    scheme: str
    user: str
    host: str
    port: int
    _params: str

    @classmethod
    def parse(cls, text: str) -> Uri:
        """Reads a sip, sips or tel URI; raises `Malformed` (416 for another scheme, else 400)."""
        usual = _USUAL_URI.fullmatch(text)
        if usual is not None:
            user, written = usual.groups()
            place = _place(written)
            if place is not None:
                host, port, params = place
                return cls(text, "sip", user, host, port, params)
        found = _SIP_URI.fullmatch(text)
        if found is not None:
            scheme, user, host, digits, params = found.groups()
            if user:
                user = user.partition(";")[0].partition(":")[0]
                if "%" in user:
                    user = _unescape(user)
            return cls(text, scheme.lower(), user or "", host.lower(), _read_port(digits), params)
        found = _TEL_URI.fullmatch(text)
        if found is not None:
            return cls(text, "tel", found[1], "", 0, found[2])
        scheme = _SCHEME.match(text)
        if scheme is not None and scheme[0].lower() not in ("sip:", "sips:", "tel:"):
            raise Malformed(416, "URI scheme not served")
        raise Malformed(400, "unreadable URI")

    @property
    def params(self) -> dict[str, str]:
        """The URI's parameters, names lower case; read anew each time (few need them)."""
        return dict(_read_params(self._params)) if self._params else {}

    @property
    def digits(self) -> str:
        """The user part as a dialled number, `+` kept and visual separators cut; empty when it is none
        ("anonymous")."""
        if _NUMBER.fullmatch(self.user):
            return self.user
        plain = self.user.translate(_SEPARATORS)
        return plain if _NUMBER.fullmatch(plain) else ""

    def __repr__(self) -> str:
        return f"<Uri {self.scheme}:…@{self.host}>"


@grammar.remembered(256)
def _read_params(text: str) -> Mapping[str, str]:
    return grammar.read_params(text)


@lru_cache(REMEMBERED)
def _place(written: str) -> tuple[str, int, str] | None:
    """The host, port and parameters of a sip URI; None when they cannot be read."""
    found = _SIP_PLACE.fullmatch(written)
    return (found[1].lower(), _read_port(found[2]), found[3]) if found is not None else None


class NameAddr(Struct, eq=False, gc=False):
    """The value of From, To, Contact, P-Asserted-Identity: display name, URI and header parameters (`tag`, "" when
    absent). `text` is the URI as written."""

    display: str
    text: str
    tag: str
    _tail: str
    _uri: Uri | None = None

    @classmethod
    def parse(cls, value: str) -> NameAddr:
        """Reads one value (no comma list); its URI is read on first use. Raises `Malformed`."""
        usual = _USUAL_ADDRESS.fullmatch(value)
        if usual is not None:
            quoted, plain, text, tail, tag = usual.groups()
            return cls(quoted or (plain.rstrip(" \t") if plain else ""), text, tag or "", tail)
        display, start = "", value.find("<")
        if value.startswith('"'):
            display, start = _quoted_display(value)
        elif start > 0:
            display = value[:start].rstrip(" \t")
        if start < 0:
            # An addr-spec without brackets: what follows ";" belongs to the header, not to the URI (RFC 3261 20).
            text, semicolon, tail = value.partition(";")
            if "?" in text:  # … and headers in it would be anybody's
                raise Malformed(400, "unreadable address")
            return cls("", text.strip(" \t"), _read_tag(semicolon + tail), semicolon + tail)
        stop = value.find(">", start)
        tail = value[stop + 1 :].lstrip(" \t")
        if stop < 0 or (tail and tail[0] != ";"):
            raise Malformed(400, "unreadable address")
        return cls(display, value[start + 1 : stop].strip(" \t"), _read_tag(tail), tail)

    @property
    def params(self) -> dict[str, str]:
        """The header's parameters, names lower case; read anew each time."""
        return grammar.read_params(self._tail)

    @property
    def uri(self) -> Uri:
        """The URI; raises `Malformed` when unreadable."""
        if self._uri is None:
            self._uri = Uri.parse(self.text)
        return self._uri

    def __repr__(self) -> str:
        return f"<NameAddr tag={self.tag!r}>"


def _read_tag(tail: str) -> str:
    return grammar.read_tag(grammar.read_params(tail), "tag")


def _quoted_display(value: str) -> tuple[str, int]:
    """The display name of `"…" <…>` and where its `<` stands."""
    stop = value.find('"', 1)
    while stop > 0 and _escaped(value, stop):
        stop = value.find('"', stop + 1)
    start = value.find("<", stop)
    if stop < 0 or start < 0 or value[stop + 1 : start].strip(" \t"):
        raise Malformed(400, "unreadable address")
    return grammar.unquote(value[1:stop]), start


def _escaped(value: str, at: int) -> bool:
    """True when an odd number of backslashes stands before `at`."""
    before = at
    while value[before - 1] == "\\":
        before -= 1
    return (at - before) % 2 == 1


class Via(Struct, eq=False, gc=False):
    """One Via value: who sent the message over this hop (`port` 0 when absent), and the branch its transaction is
    known by ("" when absent)."""

    transport: str
    host: str
    port: int
    branch: str
    _tail: str

    @classmethod
    def parse(cls, value: str) -> Via:
        """Reads one value (no comma list). Raises `Malformed`."""
        usual = _USUAL_VIA.fullmatch(value)
        if usual is not None:
            sender, tail, branch = usual.groups()
            sent_by = _sent_by(sender)
            if sent_by is not None:
                transport, host, port = sent_by
                return cls(transport, host, port, branch, tail)
        found = _VIA.fullmatch(value)
        if found is None:
            raise Malformed(400, "unreadable Via")
        transport, host, written, tail = found.groups()
        branch = grammar.read_tag(grammar.read_params(tail), "branch")
        return cls(transport.upper(), host, _read_port(written), branch, tail)

    @property
    def params(self) -> dict[str, str]:
        """The Via's parameters, names lower case; read anew each time."""
        return grammar.read_params(self._tail)

    def answered_from(self, source: tuple[str, int]) -> str:
        """This Via as our answer repeats it: with the true source, whatever the sender claimed (RFC 3261 18.2.1,
        RFC 3581 4)."""
        port = f":{self.port}" if self.port else ""
        sender = f"SIP/2.0/{self.transport} {self.host}{port}"
        if _USUAL_TAIL.fullmatch(self._tail):
            return f"{sender}{self._tail}={source[1]};received={source[0]}"
        params = self.params
        params.pop("received", None)
        if "rport" in params:
            params["rport"] = str(source[1])
            params["received"] = source[0]
        elif self.host != source[0]:
            params["received"] = source[0]
        return f"{sender}{grammar.write_params(params)}"


@lru_cache(REMEMBERED)
def _sent_by(text: str) -> tuple[str, str, int] | None:
    """Transport, host and port of a Via without parameters; None when they cannot be read."""
    found = _VIA.fullmatch(text)
    return (found[1], found[2], _read_port(found[3])) if found is not None else None


def hostport(address: tuple[str, int]) -> str:
    """`host:port`, an IPv6 address in brackets."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def sip_uri(user: str, where: str, params: str = "") -> str:
    """Writes `sip:user@where;params`, escaping what a user part may not hold; `where` is "host" or "host:port"."""
    return f"sip:{quote(user, safe=_USER_SAFE)}@{where}{params}" if user else f"sip:{where}{params}"


def name_addr(uri: str, display: str = "", params: str = "") -> str:
    """Writes `"display" <uri>;params`; refuses control characters with ValueError."""
    if not (uri.isprintable() and display.isprintable() and params.isprintable()) or "<" in uri or ">" in uri:
        raise ValueError("an address holds a character it may not")
    if not display:
        return f"<{uri}>{params}"
    escaped = display.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}" <{uri}>{params}'
