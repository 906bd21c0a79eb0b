"""A phone made of strings: it says what a test tells it to, says everything about itself, and keeps all it hears."""

from __future__ import annotations

import re
import socket
import struct
import time
from contextlib import ExitStack

from tests.proof.canaries import Bird
from tests.proof.corpus import Corpus
from tests.proof.lines import TRANSPORTS, Address

PATIENCE = 4.0
# Named by what a message asks for, not by who sends it: in these places they would change the call.
ASKS = ("supported", "k", "accept", "accept-contact")


def header(message: bytes, name: str, short: str = "-") -> str:
    """The first header of that name."""
    found = re.search(rf"(?mi)^(?:{name}|{short})[ \t]*:[ \t]*([^\r\n]*)".encode(), message)
    assert found is not None, f"no {name} in {message[:60]!r}"
    return found[1].decode()


def headers(message: bytes, name: str) -> list[str]:
    return [found.decode() for found in re.findall(rf"(?mi)^{name}[ \t]*:[ \t]*([^\r\n]*)".encode(), message)]


def names(message: bytes) -> set[str]:
    """Names of all headers, lower case."""
    lines = message.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
    return {line.partition(b":")[0].strip().lower().decode() for line in lines}


def body(message: bytes) -> bytes:
    return message.partition(b"\r\n\r\n")[2]


class RawPhone:
    """One end of one call. `dials`: it calls; else it is called."""

    def __init__(
        self,
        held: ExitStack,
        transport: str,
        local: Address,
        edge: Address,
        number: str,
        bird: Bird,
        batch: str,
        *,
        dials: bool,
    ) -> None:
        self.transport, self.edge, self.number, self.bird, self.batch = transport, edge, number, bird, batch
        self.line = TRANSPORTS[transport](held, local, edge, dials=dials)
        self.rtp, self.rtcp = media_pair(held, local[0])
        self.corpus = Corpus(bird, number, local[0], self.rtp.getsockname()[1])
        self.heard: list[bytes] = []
        self.said: list[bytes] = []
        self._waiting: list[bytes] = []
        self.tag = bird.plant("its tag")
        self.call_id = f"{bird.plant('its Call-ID')}@{bird.address}"
        self.local = self.remote = self.target = ""
        self.cseq = 100
        self.spoken = 0  # packets of RTP
        self.held = held

    # ---- saying

    @property
    def host(self) -> str:
        return f"{self.line.address[0]}:{self.line.address[1]}"

    def own(self, message: str) -> list[str]:
        """What makes a phone a phone: Contact with an instance, Record-Route and everything of its batch."""
        word, gruu, instance = (self.bird.plant(f"{part} of {message}") for part in ("Contact", "gr", "+sip.instance"))
        contact = (
            f'Contact: "{word} {self.number}" <sip:{self.number}@{self.host};transport={self.transport};gr={gruu};'
            f'x={word}>;+sip.instance="<urn:uuid:{instance}>";reg-id=1;x={word}'
        )
        without = ASKS if not message.startswith("INVITE") else ("accept-contact",)
        if message.startswith("reINVITE"):
            without = ("accept-contact",)
        return [contact, *self.corpus.headers(self.batch, message, without=without)]

    def said_of(self, start: str, lines: list[str], content: bytes = b"", kind: str = "application/sdp") -> bytes:
        typed = [f"Content-Type: {kind}"] if content else []
        head = "\r\n".join([start, *lines, *typed, f"Content-Length: {len(content)}", "", ""])
        data = head.encode() + content
        self.said.append(data)
        self.line.send(data)
        return data

    def request(
        self, method: str, what: str, *, content: bytes = b"", kind: str = "application/sdp",
        more: tuple[str, ...] = (), cseq: int | None = None, branch: str = "",
    ) -> str:  # fmt: skip
        """One request of this phone's call; gives its branch."""
        self.cseq += cseq is None
        branch = branch or f"z9hG4bK{self.bird.plant(f'branch of {what}')}"
        via = f"SIP/2.0/{self.transport.upper()}"
        word = self.bird.plant(f"Via of {what}")
        routes = (
            []
            if branch in self._invites
            else [f"Via: SIP/2.0/UDP {word}.example:{self.bird.port};branch=z9hG4bK{word}"]
        )
        lines = [
            f"Via: {via} {self.host};branch={branch};rport;x={word}",
            *routes,
            "Max-Forwards: 70",
            f"From: {self.local}",
            f"To: {self.remote}",
            f"Call-ID: {self.call_id}",
            f"CSeq: {self.cseq if cseq is None else cseq} {method}",
            *more,
            *self.own(what),
        ]
        self.said_of(f"{method} {self.target} SIP/2.0", lines, content, kind)
        return branch

    _invites: frozenset[str] = frozenset()

    def answer(
        self, request: bytes, status: str, what: str, *, content: bytes = b"", kind: str = "application/sdp",
        more: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        """An answer; its reason phrase tells of the phone too."""
        to = header(request, "To", "t")
        kept = [f"Via: {via}" for via in headers(request, "Via")]
        kept += [f"Record-Route: {route}" for route in headers(request, "Record-Route")]
        lines = [
            *kept,
            f"From: {header(request, 'From', 'f')}",
            f"To: {to}" if ";tag=" in to else f"To: {to};tag={self.tag}",
            f"Call-ID: {header(request, 'Call-ID', 'i')}",
            f"CSeq: {header(request, 'CSeq')}",
            *more,
            *self.own(what),
        ]
        self.said_of(f"SIP/2.0 {status} {self.bird.plant(f'reason of {what}')} {self.number}", lines, content, kind)

    # ---- hearing

    def hear(self, start: str, cseq: str = "", within: float = PATIENCE) -> bytes:
        """The next message that begins so, and whose CSeq ends so; others are kept for whoever asks for them."""
        deadline = time.monotonic() + within
        tried = 0
        while True:
            for message in self._waiting[tried:]:
                if message.startswith(start.encode()) and header(message, "CSeq").endswith(cseq):
                    self._waiting.remove(message)
                    return message
            tried = len(self._waiting)
            message = self.line.receive(max(deadline - time.monotonic(), 0))
            seen = [one.split(b"\r\n")[0] for one in self.heard]
            assert message, f"{self.bird.word} awaited {start!r} {cseq}, heard {seen}"
            if message not in self.heard:  # a repeated message tells nothing new
                self._waiting.append(message)
            self.heard.append(message)

    def drain(self) -> None:
        """Hears what is still on its way."""
        while message := self.line.receive(0.05):
            self.heard.append(message)

    # ---- calls

    def begins(self, number: str) -> None:
        """A dialog of its own towards a number: new identifiers, and a From that tells what it can."""
        word, self.tag = self.bird.plant("From"), self.bird.plant("its tag")
        self.call_id = f"{self.bird.plant('its Call-ID')}@{self.bird.address}"
        self.target = f"sip:{number}@{self.edge[0]}:{self.edge[1]}"
        uri = f"<sip:{self.number}@{word}.example;user=phone;x={word}>"
        self.local = f'"{word} {self.number}" {uri};tag={self.tag};x={word}'
        self.remote = f'"{self.bird.plant("To")}" <{self.target}>'

    def dials(self, number: str, *, kind: str = "") -> str:
        """INVITE; gives its branch. `kind`: "parts" puts the description among other bodies."""
        self.begins(number)
        typed, content = "application/sdp", self.corpus.description("INVITE")
        if kind == "parts":
            typed, content = self.corpus.parts("INVITE")
        branch = f"z9hG4bK{self.bird.plant('branch of INVITE')}"
        self._invites = frozenset({branch})  # a CANCEL and the ACK of a refusal have one Via alone
        route = f"Record-Route: <sip:{self.host};lr;x={self.bird.plant('Record-Route')}>"
        return self.request("INVITE", "INVITE", content=content, kind=typed, branch=branch, more=(route, *RELIABLE))

    def is_called(self) -> bytes:
        """The INVITE, whose call is now this phone's."""
        invite = self.hear("INVITE ")
        word = self.bird.plant("From of its requests")
        self.call_id = header(invite, "Call-ID")
        self.remote = header(invite, "From")
        to = header(invite, "To")
        # RFC 4916: another display name and URI than we called, under the same tag.
        uri = f"<sip:{self.number}@{word}.example;x={word}>"
        assert uri != to
        self.local = f'"{word} {self.number}" {uri};tag={self.tag};x={word}'
        self.follow(invite)
        return invite

    def follow(self, message: bytes) -> None:
        """Where this phone's next requests go."""
        found = re.search(r"<([^>]*)>", header(message, "Contact", "m"))
        assert found is not None
        self.target = found[1]

    def connected(self, answer: bytes) -> None:
        """The caller's call stands."""
        self.remote = header(answer, "To")
        self.follow(answer)

    def acknowledge(self, seq: int, what: str = "ACK") -> None:
        self.request("ACK", what, cseq=seq)

    def refused(self, branch: str, final: bytes) -> None:
        """ACK of a refusal: the INVITE's own transaction (RFC 3261 17.1.1.3)."""
        self.remote = header(final, "To")
        self.request("ACK", "ACK of a refusal", cseq=self.cseq, branch=branch)

    # ---- media

    def talks(self, description: bytes) -> tuple[Address, bytes]:
        """Says RTP and RTCP with words wherever they fit, to where a description points; gives that place and the
        audio it sent."""
        host = re.search(rb"c=IN IP4 (\S+)", description)
        port = re.search(rb"m=audio (\d+)", description)
        assert host is not None and port is not None
        where = host[1].decode(), int(port[1])
        word = self.bird.plant("RTP").encode()
        sound = bytes([0xD5]) * 160
        for _ in range(20):
            self.rtp.sendto(rtp_packet(self.bird, word, self.spoken, sound), where)
            self.spoken += 1
        self.rtcp.sendto(rtcp_packet(self.bird, self.number), (where[0], where[1] + 1))
        return where, sound

    def listens(self, which: socket.socket, within: float, enough: int = 1) -> list[bytes]:
        """Datagrams on one of its media sockets."""
        packets: list[bytes] = []
        deadline = time.monotonic() + within
        while len(packets) < enough and (left := deadline - time.monotonic()) > 0:
            which.settimeout(left)
            try:
                packets.append(which.recv(2048))
            except TimeoutError:
                break
        return packets


RELIABLE = ("Require: 100rel", "Session-Expires: 1800;refresher=uac")


def media_pair(held: ExitStack, host: str) -> tuple[socket.socket, socket.socket]:
    """An even port and the next one."""
    while True:
        low, high = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        low.bind((host, 0))
        port = low.getsockname()[1]
        try:
            if port % 2 == 0:
                high.bind((host, port + 1))
                return held.enter_context(low), held.enter_context(high)
        except OSError:
            pass  # somebody has the next port
        low.close()
        high.close()


def rtp_packet(bird: Bird, word: bytes, number: int, sound: bytes) -> bytes:
    """A packet with a contributing source (RFC 3550 5.1), a header extension (RFC 8285) and padding, all telling."""
    csrc = bird.word[:4].encode()
    extension = struct.pack("!HH", 0xBEDE, 1 + len(word) // 4 + 1) + bytes([0x10 | len(word) - 1]) + word
    extension += b"\0" * (-len(extension) % 4)
    extension = extension[:2] + struct.pack("!H", len(extension) // 4 - 1) + extension[4:]
    first = 0x80 | 0x20 | 0x10 | 1  # version 2, padding, extension, one CSRC
    fixed = struct.pack("!BBHI4s4s", first, 8, number, 160 * number, bird.word[-4:].encode(), csrc)
    padding = bird.word[:7].encode() + b"\x08"
    return fixed + extension + sound + padding


def rtcp_packet(bird: Bird, number: str) -> bytes:
    """SR, SDES with every item (RFC 3550 6.5), APP and BYE with a reason."""
    source = bird.word[-4:].encode()
    report = struct.pack("!BBH4sIIIII", 0x80, 200, 6, source, 0xE0000000, 0, 0, 20, 3200)
    items = b""
    for kind, name in enumerate(("CNAME", "NAME", "EMAIL", "PHONE", "LOC", "TOOL", "NOTE"), 1):
        text = f"{bird.plant(name)}@{number}".encode()
        items += bytes([kind, len(text)]) + text
    private = bird.plant("PRIV").encode()
    items += bytes([8, len(private) + 2, 1]) + b"x" + private
    chunk = source + items + b"\0" * (4 - len(items) % 4)
    described = struct.pack("!BBH", 0x81, 202, len(chunk) // 4) + chunk
    told = bird.plant("APP").encode()
    app = source + told[:4] + told + b"\0" * (-len(told) % 4)
    application = struct.pack("!BBH", 0x80, 204, len(app) // 4) + app
    return report + described + application
