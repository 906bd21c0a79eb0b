"""Session descriptions (RFC 8866), read into a small model and written from the model only.

Nothing of a peer's text passes to the other side: an offer to the second leg is built from our own address and codec
names; an answer goes back to the peer that offered, with its m-lines in place and all but one of them refused
(RFC 3264 6). Only the first live audio stream over RTP/AVP passes, with PCMA, PCMU and telephone-event.

    BadSdp          the text is not a description we can use
    └── Outside     its media address is none a trunk's `media` networks hold
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, TypeAlias, cast

import msgspec

from sipedge.media.plane import CodecName, Direction, Terms

MAX_BYTES: Final = 16_384
MAX_LINES: Final = 512
MAX_STREAMS: Final = 16
MAX_FORMATS: Final = 64
REMEMBERED: Final = 1_024  # addresses and streams that need not be read again: media comes from few
STATIC: Final[dict[str, int]] = {"PCMU": 0, "PCMA": 8}  # RFC 3551 6
EVENTS_PAYLOAD: Final = 101  # telephone-event in what we offer
AUDIO_CODECS: Final[tuple[CodecName, ...]] = ("PCMA", "PCMU")

_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`{|}~/-]{1,32}")
_DIGITS: Final = re.compile(r"[0-9]{1,9}")
# What nearly every offer and answer looks like: one live audio stream. Version, lines up to m=, port, and the rest.
_USUAL: Final = re.compile(
    r"v=0\r\no=\S+ \S+ ([0-9]{1,20}) IN IP[46] \S+\r\ns=[^\r\n]*\r\n((?:[bcta]=[^\r\n]{0,100}\r\n){1,8})"
    r"m=audio ([1-9][0-9]{0,4}) ((?s:.{1,1000}))"
)
_DIRECTIONS: Final = ("sendrecv", "sendonly", "recvonly", "inactive")
_REVERSED: Final[dict[Direction, Direction]] = {
    "sendrecv": "sendrecv",
    "sendonly": "recvonly",
    "recvonly": "sendonly",
    "inactive": "inactive",
}

Network: TypeAlias = IPv4Network | IPv6Network


class BadSdp(ValueError):
    """The description cannot be used; the text says why and holds nothing of the peer's."""


class Outside(BadSdp):
    """The media address is not inside the trunk's networks."""


class Format(msgspec.Struct, frozen=True, gc=False):
    """One codec of a stream: its name in capitals (or `telephone-event`) and its payload type there."""

    name: str
    payload: int


class Stream(msgspec.Struct, frozen=True, gc=False):
    """One m-line. `formats`: those we know, in the peer's order. `host`: where its media goes, None when it has no
    address or an old-style hold (0.0.0.0). `direction` as the peer says it: its `sendonly` means it only sends."""

    kind: str
    port: int
    profile: str
    formats: tuple[Format, ...] = ()
    host: str | None = None
    direction: Direction = "sendrecv"
    ptime: int | None = None

    @property
    def usable(self) -> bool:
        """Could this be the call's audio?"""
        return self.kind == "audio" and self.port != 0 and self.profile == "RTP/AVP"

    @property
    def events(self) -> int | None:
        """Payload type of telephone-event in what this peer receives."""
        for one in self.formats:
            if one.name == "telephone-event":
                return one.payload
        return None


class Description(msgspec.Struct, frozen=True, gc=False):
    """A parsed description: its m-lines in order, the peer's own version number."""

    version: int
    streams: tuple[Stream, ...]

    @property
    def audio(self) -> Stream | None:
        """The one stream that passes."""
        for stream in self.streams:
            if stream.usable:
                return stream
        return None


class Origin(msgspec.Struct, frozen=True, gc=False):
    """Our own o= line of one leg: a random session id (given) and a version that counts what we changed."""

    session: int
    version: int = 1

    def next(self) -> Origin:
        """For a description that differs from the last one sent (RFC 3264 8)."""
        return Origin(self.session, self.version + 1)


# ---- reading --------------------------------------------------------------------------------------------------------


def parse(body: bytes) -> Description:
    """Reads a description. Raises `BadSdp`, never anything else."""
    if len(body) > MAX_BYTES:
        raise BadSdp("too long")
    if b"\0" in body:
        raise BadSdp("a NUL byte")
    text = body.decode("latin-1")
    usual = _USUAL.fullmatch(text)
    if usual is not None:
        version, session, port, tail = usual.groups()
        one = _usual_stream(session, tail) if int(port) <= 65_535 else None
        if one is not None:
            stream = Stream("audio", int(port), one.profile, one.formats, one.host, one.direction, one.ptime)
            return Description(int(version), (stream,))
    return _read(text)


@lru_cache(maxsize=REMEMBERED)
def _usual_stream(session: str, tail: str) -> Stream | None:
    """The one stream of a description, from all that its sender says alike in every call: the lines between s= and m=,
    and what follows the port (here 9). None where a second look is needed."""
    streams = _read(f"v=0\r\n{session}m=audio 9 {tail}").streams
    return streams[0] if len(streams) == 1 and "\no=" not in tail else None


def _read(text: str) -> Description:
    version = 0
    common = _Block()
    blocks: list[_Block] = []
    for letter, value in _lines(text):
        block = blocks[-1] if blocks else common
        if letter == "m":
            if len(blocks) == MAX_STREAMS:
                raise BadSdp("too many streams")
            blocks.append(_media(value))
        elif letter == "c":
            block.connection(value)
        elif letter == "a":
            block.attribute(value)
        elif letter == "o":
            version = _version(value)
    if not blocks:
        raise BadSdp("no stream")
    return Description(version, tuple([block.stream(common) for block in blocks]))


def _version(origin: str) -> int:
    """sess-version of an o= line, counted from its end: user names with spaces are seen in the wild."""
    fields = origin.split()
    if len(fields) < 6 or not re.fullmatch(r"[0-9]{1,20}", fields[-4]):
        raise BadSdp("bad origin")
    return int(fields[-4])


def _lines(text: str) -> list[tuple[str, str]]:
    rows = text.replace("\r\n", "\n").split("\n")
    if rows and not rows[-1]:
        rows.pop()
    if len(rows) > MAX_LINES:
        raise BadSdp("too many lines")
    if not rows or rows[0].strip() != "v=0":
        raise BadSdp("does not begin with v=0")
    lines = []
    for row in rows:
        if len(row) < 2 or row[1] != "=":
            raise BadSdp("a line that is not type=value")
        lines.append((row[0], row[2:].strip()))
    return lines


class _Block:
    """What is being read: the session's part, or one m-line with its lines."""

    __slots__ = ("direction", "host", "kind", "maps", "offered", "port", "profile", "ptime", "seen")

    def __init__(self, kind: str = "", port: int = 0, profile: str = "", offered: tuple[int, ...] = ()) -> None:
        self.kind = kind
        self.port = port
        self.profile = profile
        self.offered = offered
        self.maps: dict[int, str] = {}
        self.host: str | None = None
        self.seen = False
        self.direction: Direction | None = None
        self.ptime: int | None = None

    def connection(self, value: str) -> None:
        self.host = _unicast(value)
        self.seen = True

    def attribute(self, value: str) -> None:
        name, _, rest = value.partition(":")
        if name in _DIRECTIONS:
            self.direction = cast(Direction, name)
        elif name == "rtpmap":
            self._map(rest)
        elif name == "ptime":
            whole = rest.strip().partition(".")[0]
            if not _DIGITS.fullmatch(whole):
                raise BadSdp("bad ptime")
            self.ptime = int(whole) if 1 <= int(whole) <= 200 else None

    def _map(self, rest: str) -> None:
        number, _, encoding = rest.strip().partition(" ")
        if not _DIGITS.fullmatch(number) or int(number) > 127:
            raise BadSdp("bad rtpmap")
        parts = encoding.strip().split("/")
        if len(parts) < 2 or not _TOKEN.fullmatch(parts[0]):
            raise BadSdp("bad rtpmap")
        if len(self.maps) < MAX_FORMATS:
            self.maps[int(number)] = parts[0].upper() if parts[1:] in (["8000"], ["8000", "1"]) else ""

    def stream(self, common: _Block) -> Stream:
        host = self.host if self.seen else common.host
        if self.kind == "audio" and self.port and not (self.seen or common.seen):
            raise BadSdp("audio without an address")
        formats = []
        for payload in dict.fromkeys(self.offered):
            name = self.maps.get(payload, {0: "PCMU", 8: "PCMA"}.get(payload, ""))
            if name in STATIC:
                formats.append(Format(name, payload))
            elif name == "TELEPHONE-EVENT":
                formats.append(Format("telephone-event", payload))
        direction = self.direction or common.direction or "sendrecv"
        if host is None and direction == "sendrecv":
            direction = "sendonly"  # RFC 3264 8.4: a peer on 0.0.0.0 hears nothing
        ptime = self.ptime or common.ptime
        return Stream(self.kind, self.port, self.profile, tuple(formats), host, direction, ptime)


def _media(value: str) -> _Block:
    fields = value.split()
    if len(fields) < 4 or len(fields) > 3 + MAX_FORMATS:
        raise BadSdp("bad m-line")
    kind, port, profile = fields[:3]
    if not _TOKEN.fullmatch(kind) or not _TOKEN.fullmatch(profile):
        raise BadSdp("bad m-line")
    port = port.removesuffix("/1")
    if not _DIGITS.fullmatch(port) or int(port) > 65_535:
        raise BadSdp("bad port")
    offered = [int(one) for one in fields[3:] if _DIGITS.fullmatch(one) and int(one) <= 127]
    if profile == "RTP/AVP" and len(offered) != len(fields) - 3:
        raise BadSdp("bad payload type")
    return _Block(kind, int(port), profile, tuple(offered))


@lru_cache(maxsize=REMEMBERED)
def _unicast(value: str) -> str | None:
    """The address of a c= line; None for the old-style hold; only literal unicast addresses pass."""
    fields = value.split()
    if len(fields) != 3 or fields[0] != "IN" or fields[1] not in ("IP4", "IP6"):
        raise BadSdp("bad connection line")
    address = _address(fields[2])
    if address is None or (address.version == 4) != (fields[1] == "IP4"):
        raise BadSdp("connection address is not an IP address")
    if address.is_unspecified:
        return None
    if not _is_unicast(address):
        raise BadSdp("connection address is not unicast")
    return str(address)


@lru_cache(maxsize=REMEMBERED)
def _address(text: str) -> IPv4Address | IPv6Address | None:
    if "%" in text or len(text) > 45:
        return None
    try:
        return ip_address(text)
    except ValueError:
        return None


def _is_unicast(address: IPv4Address | IPv6Address) -> bool:
    if address.is_multicast or address.is_unspecified:
        return False
    if isinstance(address, IPv6Address):
        return address.ipv4_mapped is None
    return not address.is_reserved  # 240.0.0.0/4, broadcast among them


# ---- where media may go ---------------------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def networks(cidrs: tuple[str, ...]) -> tuple[Network, ...]:
    """The networks of a trunk's `media`; an entry may be an address or (from `sources`) address:port.

    Raises `BadSdp` for an entry that is neither.
    """
    found = []
    for text in cidrs:
        host = text
        if text.startswith("["):
            host = text[1:].partition("]")[0]
        elif text.count(":") == 1:
            host = text.partition(":")[0]
        try:
            found.append(ip_network(host, strict=False))
        except ValueError:
            raise BadSdp("a media network that is none") from None
    return tuple(found)


def inside(address: str, cidrs: Sequence[str]) -> bool:
    """Is this a literal unicast address inside one of the networks? Text that is no address is inside none."""
    return _inside(address, tuple(cidrs))


@lru_cache(REMEMBERED)
def _inside(address: str, cidrs: tuple[str, ...]) -> bool:
    parsed = _address(address)
    if parsed is None or not _is_unicast(parsed):
        return False
    return any(parsed in network for network in networks(cidrs) if network.version == parsed.version)


# ---- agreeing -------------------------------------------------------------------------------------------------------


def choose(stream: Stream, ours: Sequence[CodecName] = AUDIO_CODECS) -> Format | None:
    """The first codec of the peer's list that we take, None when there is none (answer 488)."""
    for one in stream.formats:
        if one.name in ours:
            return one
    return None


def terms(
    stream: Stream, codec: Format, cidrs: Sequence[str], *, symmetric: bool = False, events_in: int | None = None
) -> Terms:
    """What the media plane is told about a peer, from its stream and the codec chosen.

    `events_in`: the telephone-event payload type *we* wrote, when the peer answered our offer. Raises `Outside` when
    the peer's address is not inside `cidrs`, `BadSdp` when the stream has no address or port.
    """
    if stream.host is None or stream.port == 0 or codec.name not in STATIC:
        raise BadSdp("no address for media")
    if not inside(stream.host, cidrs):
        raise Outside("media address outside the trunk's networks")
    return Terms(
        host=stream.host,
        port=stream.port,
        codec=cast(CodecName, codec.name),
        cidrs=tuple(cidrs),
        payload=codec.payload,
        dtmf=stream.events,
        dtmf_in=events_in,
        symmetric=symmetric,
        direction=_REVERSED[stream.direction],
    )


# ---- writing --------------------------------------------------------------------------------------------------------


def offer(
    origin: Origin,
    host: str,
    port: int,
    codecs: Sequence[CodecName] = AUDIO_CODECS,
    direction: Direction = "sendrecv",
) -> bytes:
    """A description of our own: one audio stream, our codecs in this order, telephone-event 101."""
    formats = [Format(name, STATIC[name]) for name in codecs]
    formats.append(Format("telephone-event", EVENTS_PAYLOAD))
    return _build(origin, host, f"m=audio {port} RTP/AVP {_stream_lines(tuple(formats), direction)}")


def answer(offered: Description, origin: Origin, host: str, port: int, codec: Format) -> bytes:
    """The answer to a peer's offer: its m-lines in place, all but its audio refused with port 0 (RFC 3264 6)."""
    ours = offered.audio
    streams = []
    for stream in offered.streams:
        if stream is ours:
            events = stream.events
            formats = (codec,) if events is None else (codec, Format("telephone-event", events))
            lines = _stream_lines(formats, _REVERSED[stream.direction])
            streams.append(f"m=audio {port} RTP/AVP {lines}")
        else:
            streams.append(f"m={stream.kind} 0 {stream.profile} 0\r\n")
    return _build(origin, host, "".join(streams))


@lru_cache(maxsize=REMEMBERED)
def _stream_lines(formats: tuple[Format, ...], direction: Direction) -> str:
    """What follows the port of a live stream of ours: its payload types, and its lines."""
    lines = [" ".join([str(one.payload) for one in formats])]
    for one in formats:
        lines.append(f"a=rtpmap:{one.payload} {one.name}/8000")
        if one.name == "telephone-event":
            lines.append(f"a=fmtp:{one.payload} 0-15")
    lines += ["a=ptime:20", f"a={direction}", ""]
    return "\r\n".join(lines)


def _build(origin: Origin, host: str, streams: str) -> bytes:
    where = f"IN {'IP6' if ':' in host else 'IP4'} {host}"
    return (f"v=0\r\no=- {origin.session} {origin.version} {where}\r\ns=-\r\nc={where}\r\nt=0 0\r\n{streams}").encode(
        "ascii"
    )
