"""SIP messages: a lazy, bounded parser and writers that build from scratch (RFC 3261 7, 18, 20).

`parse` reads the start line and indexes the header lines once, as text; nothing else. A typed field
(`request.from_`, `.cseq`, …) is read on first use and kept. What nobody asks for is never read, and nothing read is
ever copied into another message: writers take every header by name from their caller, except the few an answer must
repeat.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Self, TypeVar, overload

from msgspec import Struct

from sipedge.sip import bodies, grammar, names
from sipedge.sip.grammar import Malformed as Malformed
from sipedge.sip.uris import NameAddr as NameAddr
from sipedge.sip.uris import Uri as Uri
from sipedge.sip.uris import Via as Via

MAX_MESSAGE = 65_536
MAX_HEADERS = 64
_MAX_CSEQ = 2**31 - 1  # RFC 3261 8.1.1.5
_MAX_SECONDS = 2**32 - 1

_TEXT = bytes([ord("\t"), *range(0x20, 0x7F), *range(0x80, 0x100)])
# Behind a backslash in quotes any of them may stand but CR and LF (RFC 3261 25.1, quoted-pair).
_CONTROLS = re.compile(r"[\n\r]|(?<!\\)[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_FOLD = re.compile(rb"\r\n[ \t]+")
_Q850 = re.compile(r"q\.850$", re.IGNORECASE)

_START = frozenset({"method", "target", "status", "reason"})

T = TypeVar("T")


class field(Generic[T]):
    """A typed header: read from the raw ones at first use, then an ordinary attribute of the message."""

    def __init__(self, read: Callable[[Any], T]) -> None:
        self.read = read
        self.__doc__ = read.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, message: None, owner: type) -> Self: ...
    @overload
    def __get__(self, message: Message, owner: type) -> T: ...
    def __get__(self, message: Message | None, owner: type) -> Self | T:
        if message is None:
            return self
        value = self.read(message)
        setattr(message, self.name, value)
        return value

    if TYPE_CHECKING:  # `parse` fills some in; a real __set__ would be asked for at every read

        def __set__(self, message: Message, value: T) -> None: ...


@grammar.remembered(256)
def _option_tags(line: str) -> frozenset[str]:
    tags = frozenset([value.lower() for value in grammar.split_list(line)])
    if not all(map(grammar.is_token, tags)):  # an answer may repeat them: Unsupported
        raise Malformed(400, "unreadable option tag")
    return tags


class CSeq(Struct, frozen=True, gc=False):
    number: int
    method: str


def _read_via(line: str) -> Via:
    return Via.parse(grammar.split_list(line)[0] if "," in line else line)


def _read_call_id(value: str) -> str:
    if len(value) > grammar.MAX_TOKEN or " " in value or "\t" in value:
        raise Malformed(400, "unreadable Call-ID")
    return value


def _read_cseq(value: str) -> CSeq:
    number, _, method = (value.replace("\t", " ") if "\t" in value else value).partition(" ")
    return CSeq(grammar.read_int(number, _MAX_CSEQ), method.strip(" "))


class Message:
    """What requests and responses share. Typed fields are read on first use, kept, and raise `Malformed` when
    unreadable.

    `headers` maps lower-case long names to raw values in order. `body` is cut to Content-Length.
    """

    headers: dict[str, list[str]]
    body: bytes

    def header(self, name: str) -> str | None:
        """The first raw value of a header by its lower-case long name."""
        values = self.headers.get(name)
        return values[0] if values else None

    def let_go(self) -> None:
        """Forgets all but the start line: what is held as long as its call need not be held whole."""
        self.__dict__ = {name: value for name, value in self.__dict__.items() if name in _START}
        self.headers, self.body = {}, b""

    def values(self, name: str) -> list[str]:
        """All values of a list header, its lines and its commas made one list."""
        lines = self.headers.get(name)
        if not lines:
            return []
        if len(lines) == 1:
            return grammar.split_list(lines[0])
        return [value for line in lines for value in grammar.split_list(line)]

    def _needed(self, name: str) -> str:
        values = self.headers.get(name)
        if not values or not values[0]:
            raise Malformed(400, f"no {name}")
        return values[0]

    def _tokens(self, name: str) -> frozenset[str]:
        lines = self.headers.get(name)
        return _option_tags(",".join(lines)) if lines else frozenset()

    def _seconds(self, name: str) -> int | None:
        """A number with parameters or a comment behind it (Session-Expires, Retry-After)."""
        value = self.header(name)
        if value is None:
            return None
        return grammar.read_int(value.partition(";")[0].partition("(")[0].strip(" \t"), _MAX_SECONDS)

    @field
    def vias(self) -> list[str]:
        """All Via values, topmost first."""
        return self.values("via")

    @field
    def via(self) -> Via:
        """The topmost Via."""
        return _read_via(self._needed("via"))

    @field
    def from_(self) -> NameAddr:
        return NameAddr.parse(self._needed("from"))

    @field
    def to(self) -> NameAddr:
        return NameAddr.parse(self._needed("to"))

    @field
    def call_id(self) -> str:
        return _read_call_id(self._needed("call-id"))

    @field
    def cseq(self) -> CSeq:
        return _read_cseq(self._needed("cseq"))

    @field
    def contact(self) -> NameAddr | None:
        """The first Contact; None when absent or `*`."""
        lines = self.headers.get("contact")
        if lines is None:
            return None
        alone = len(lines) == 1 and lines[0] and "," not in lines[0]
        value = lines[0] if alone else self.values("contact")[0]
        return NameAddr.parse(value) if value != "*" else None

    @field
    def record_routes(self) -> list[str]:
        return self.values("record-route")

    @field
    def content_type(self) -> str:
        """Lower case, parameters cut; "" when absent."""
        value = self.header("content-type")
        if value is None or value == bodies.SDP:
            return value or ""
        return bodies.read_media_type(value)

    @field
    def handling(self) -> str:
        """What Content-Disposition asks of who cannot read the body: "required", "optional", "" when it does not
        say."""
        value = self.header("content-disposition")
        return "" if value is None else bodies.read_disposition(value)[1]

    @field
    def parts(self) -> list[bodies.Part]:
        """The parts of a multipart/mixed body; none of any other."""
        if not self.body or self.content_type != bodies.MIXED:
            return []
        return bodies.split(self._needed("content-type"), self.body)

    @property  # as quickly read again as kept
    def description(self) -> bytes:
        """The session description that the body is, or holds among its parts; b"" when none can be found."""
        try:
            written = self.headers.get("content-type")
            if written is not None and written[0] == bodies.SDP:
                return self.body
            return self.body if self.content_type == bodies.SDP else bodies.description(self.parts)
        except Malformed:
            return b""

    @field
    def supported(self) -> frozenset[str]:
        return self._tokens("supported")

    @field
    def require(self) -> frozenset[str]:
        return self._tokens("require")

    @field
    def identities(self) -> list[NameAddr]:
        """P-Asserted-Identity (RFC 3325): what cannot be read identifies nobody and is left out."""
        found: list[NameAddr] = []
        for line in self.headers.get("p-asserted-identity", ()):
            try:
                for value in grammar.split_list(line) if "," in line else (line,):
                    identity = NameAddr.parse(value)
                    _ = identity.uri  # read now, so that its reader meets no surprise
                    found.append(identity)
            except Malformed:
                continue
        return found

    @field
    def privacy(self) -> frozenset[str]:
        """The lower-case tokens of Privacy (RFC 3323)."""
        return frozenset(
            [token.strip(" \t").lower() for line in self.headers.get("privacy", ()) for token in re.split("[;,]", line)]
        )

    @field
    def session_expires(self) -> int | None:
        return self._seconds("session-expires")

    @field
    def refresher(self) -> str:
        """Who refreshes the session: "uac", "uas", or "" when Session-Expires does not say."""
        _, semicolon, params = (self.header("session-expires") or "").partition(";")
        return grammar.read_params(semicolon + params).get("refresher", "").lower()

    @field
    def min_se(self) -> int | None:
        return self._seconds("min-se")

    @field
    def retry_after(self) -> int | None:
        return self._seconds("retry-after")

    @field
    def cause(self) -> int | None:
        """The Q.850 cause of Reason (RFC 3326); None when there is none that can be read."""
        for line in self.headers.get("reason", ()):
            try:
                for value in grammar.split_list(line):
                    protocol, _, params = value.partition(";")
                    if _Q850.match(protocol.strip(" \t")):
                        return grammar.read_int(grammar.read_params(params).get("cause", ""), 127)
            except Malformed:
                continue
        return None


class RAck(NamedTuple):
    """Which reliable response a PRACK acknowledges (RFC 3262 7.2)."""

    rseq: int
    seq: int
    method: str


class Request(Message):
    """A request. `target` is the Request-URI as written."""

    def __init__(self, method: str, target: str) -> None:
        self.method = method
        self.target = target
        self.headers = {}
        self.body = b""

    @field
    def uri(self) -> Uri:
        """The Request-URI."""
        return Uri.parse(self.target)

    @property  # as quickly read again as kept
    def max_forwards(self) -> int:
        """70 when absent."""
        value = self.header("max-forwards")
        return 70 if value is None else grammar.read_int(value, 255)

    @field
    def rack(self) -> RAck:
        words = self._needed("rack").split()
        if len(words) != 3:
            raise Malformed(400, "unreadable RAck")
        return RAck(grammar.read_int(words[0], _MAX_SECONDS), grammar.read_int(words[1], _MAX_CSEQ), words[2])

    def __repr__(self) -> str:
        return f"<Request {self.method}>"


class Response(Message):
    """A response."""

    def __init__(self, status: int, reason: str) -> None:
        self.status = status
        self.reason = reason
        self.headers = {}
        self.body = b""

    @field
    def reliable(self) -> int | None:
        """The RSeq of a provisional response that asks for a PRACK (RFC 3262 4); None for any other, and for one that
        cannot be read."""
        if "rseq" not in self.headers or not 100 < self.status < 200 or not self.to.tag:
            return None
        try:
            return grammar.read_int(self._needed("rseq"), _MAX_SECONDS) if "100rel" in self.require else None
        except Malformed:
            return None

    def __repr__(self) -> str:
        return f"<Response {self.status}>"


class BadRequest(Malformed):
    """A request that is malformed but was indexed far enough to be answered from `request`."""

    def __init__(self, fault: Malformed, request: Request) -> None:
        super().__init__(fault.status, fault.reason)
        self.request = request


def parse(data: bytes) -> Request | Response:
    """Reads one whole message. Raises `Malformed`; `BadRequest` where an answer could be built."""
    if len(data) > MAX_MESSAGE:
        raise Malformed(None, "message too large")
    head, end, body = data.partition(b"\r\n\r\n")
    if not end:
        raise Malformed(None, "no end of headers")
    try:
        return _read(head, body)
    except Malformed:
        unfolded = _FOLD.sub(b" ", head)  # a line that begins with white space goes on with the one before
        if unfolded == head:
            raise
        return _read(unfolded, body)


def _read(head: bytes, body: bytes) -> Request | Response:
    lines = _lines(head)
    message, fault = _start(lines[0])
    fault = _index(message, lines) or fault or _body(message, body) or _complete(message)
    if fault is None:
        return message
    raise BadRequest(fault, message) if isinstance(message, Request) else fault


def _lines(head: bytes) -> list[str]:
    """The head as lines. A bare CR or LF, a NUL or another control character that nothing quotes ends it
    here: they make two readers disagree."""
    try:
        text = head.decode()
    except UnicodeDecodeError:
        raise Malformed(None, "not UTF-8") from None
    lines = text.split("\r\n")
    # With all text taken away mostly nothing but the line ends is left; if not, a closer look tells.
    usual = head.isascii() and head.translate(None, _TEXT) == b"\r\n" * (len(lines) - 1)
    if not usual and _CONTROLS.search("".join(lines)) is not None:
        raise Malformed(None, "control character in the headers")
    return lines


def _start(line: str) -> tuple[Request | Response, Malformed | None]:
    if line.startswith("SIP/2.0 "):
        return Response(*_read_status(line)), None
    parts = line.split(" ")
    if len(parts) != 3:
        raise Malformed(None, "unreadable start line")
    method, target, version = parts
    if not target or not (method in names.METHODS or grammar.is_token(method)):
        raise Malformed(None, "unreadable request line")
    served = version == "SIP/2.0" or version.upper() == "SIP/2.0"
    fault = None if served else Malformed(505, "version not served")
    return Request(method, target), fault


@grammar.remembered(256)
def _read_status(line: str) -> tuple[int, str]:
    status, _, reason = line[8:].partition(" ")
    number = grammar.read_int(status, 699)
    if len(status) != 3 or number < 100:
        raise Malformed(None, "unreadable status line")
    return number, reason


def _index(message: Request | Response, lines: list[str]) -> Malformed | None:
    """Files each header line under its name; goes on after a fault, so that an answer can still be built."""
    if len(lines) - 1 > MAX_HEADERS:
        return Malformed(None, "too many headers")
    fault: Malformed | None = None
    headers: dict[str, list[str]] = {}
    known = names.KNOWN
    for line in lines[1:]:
        written, colon, value = line.partition(":")
        try:
            name = known[written]
        except KeyError:
            name = names.long_name(written) or ""
            colon = name and colon
        if not colon:
            fault = fault or Malformed(400, "unreadable header line")
        elif name not in headers:
            headers[name] = [value.strip(" \t")]
        elif name in names.SINGLE:
            fault = fault or Malformed(400, "header given twice")
        else:
            headers[name].append(value.strip(" \t"))
    message.headers = headers
    return fault


def _body(message: Message, body: bytes) -> Malformed | None:
    """Cuts the body to Content-Length; a body shorter than promised was cut on the way (RFC 3261 18.3)."""
    written = message.headers.get("content-length")
    if written is None:
        message.body = body
        return None
    try:
        length = grammar.read_int(written[0], MAX_MESSAGE)
    except Malformed as fault:
        return fault
    if length > len(body):
        return Malformed(400, "body shorter than its length")
    message.body = body[:length] if length < len(body) else body
    return None


def _complete(message: Request | Response) -> Malformed | None:
    """Every message needs five headers (RFC 3261 8.1.1), readable, or nothing after this can tell whose it is."""
    headers = message.headers
    try:
        via, sender, to = headers["via"][0], headers["from"][0], headers["to"][0]
        call_id, cseq = headers["call-id"][0], headers["cseq"][0]
        if not (via and sender and to and call_id and cseq):
            return Malformed(400, "an empty header")
        message.via = _read_via(via)
        message.from_ = NameAddr.parse(sender)
        message.to = NameAddr.parse(to)
        message.call_id = _read_call_id(call_id)
        message.cseq = _read_cseq(cseq)
    except KeyError as missing:
        return Malformed(400, f"no {missing.args[0]}")
    except Malformed as fault:
        return fault
    if isinstance(message, Request) and message.cseq.method != message.method:
        return Malformed(400, "CSeq names another method")
    return None


# -- writing
# ------------------------------------------------------------------------------------------------------------

Headers = Iterable[tuple[str, str]]


def write_headers(headers: Headers) -> str:
    """Header lines from names and values; a control character in one is our own bug: ValueError, never a second
    header."""
    lines: list[str] = []
    for name, value in headers:
        if not (name in names.KNOWN or grammar.is_token(name)) or not value.isprintable():
            raise ValueError("a header holds a character it may not")
        lines.append(f"{name}: {value}\r\n")
    return "".join(lines)


def write_message(head: str, body: bytes, content_type: str) -> bytes:
    """A head of whole lines, then the body's two headers and the body."""
    if not body:
        return f"{head}Content-Length: 0\r\n\r\n".encode()
    return f"{head}Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


_STATUS_LINES = {status: f"SIP/2.0 {status} {reason}\r\n" for status, reason in names.REASONS.items()}


def status_line(status: int, reason: str = "") -> str:
    if not reason:
        return _STATUS_LINES.get(status) or f"SIP/2.0 {status} Unknown\r\n"
    if not reason.isprintable():
        raise ValueError("a reason holds a character it may not")
    return f"SIP/2.0 {status} {reason}\r\n"


def answer_head(request: Request, source: tuple[str, int]) -> str:
    """The lines every answer to this request repeats, but for To: Via (RFC 3261 18.2.1), From, Call-ID, CSeq."""
    headers = request.headers
    via = "".join([f"Via: {value}\r\n" for value in (request.via.answered_from(source), *request.vias[1:])])
    return f"{via}From: {headers['from'][0]}\r\nCall-ID: {headers['call-id'][0]}\r\nCSeq: {headers['cseq'][0]}\r\n"


def write_refusal(request: Request, source: tuple[str, int], status: int, tag: str, headers: Headers = ()) -> bytes:
    """A stateless answer (RFC 3261 8.2.7): `tag` must come out the same when the request is repeated."""
    to = request.headers["to"][0] if request.to.tag else f"{request.headers['to'][0]};tag={tag}"
    head = f"{status_line(status)}{answer_head(request, source)}To: {to}\r\n{write_headers(headers)}"
    return write_message(head, b"", "")
