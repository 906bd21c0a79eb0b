"""The packets of a run, and the rule that a person's number travels on that person's own leg alone.

Two rules hold together. A packet that carries somebody's number comes from or goes to an address of that person
(`legs`). And all packets of one SIP dialog (Call-ID) know at most one person: this finds a leak even where both legs
share one trunk. What we send as RTP and RTCP carries no number at all;
keypad digits (RFC 4733) are read in the order they were played.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.system.leaks import BETWEEN, Hit, Scanner

ETHERNET, LINUX_SLL, RAW_IP, LINUX_SLL2 = 1, 113, 101, 276
IPV4, UDP, TCP = 0x0800, 17, 6
CALL_ID = re.compile(rb"(?mi)^(?:call-id|i)[ \t]*:[ \t]*([^\r\n]+)")
START_LINE = re.compile(rb"(?m)^(?:[A-Z]+ sips?:[^\r\n]+ SIP/2\.0|SIP/2\.0 \d{3} [^\r\n]*)\r\n")
SIP_METHOD = re.compile(rb"^(?:[A-Z]+ \S+ SIP/2\.0|SIP/2\.0 \d{3})")

Address = tuple[str, int]


@dataclass(frozen=True)
class Packet:
    """One UDP datagram or TCP segment on the wire."""

    time: float
    protocol: int
    source: Address
    target: Address
    payload: bytes
    sequence: int = 0


@dataclass
class Digits:
    """The keypad digits one RTP stream has played so far."""

    played: str = ""
    stamps: set[int] = field(default_factory=set)

    def hear(self, timestamp: int, event: int) -> None:
        """RFC 4733 2.5.1.2: all packets of one event carry the timestamp of its start."""
        if event < 10 and timestamp not in self.stamps:
            self.stamps.add(timestamp)
            self.played += str(event)


def packets(path: Path) -> Iterator[Packet]:
    """The IPv4 datagrams and segments of a pcap file; a last record cut short (the writer was killed) ends it."""
    data = path.read_bytes()
    if len(data) < 24:
        return
    order = "<" if data[:4] in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1") else ">"
    fraction = 1e-9 if data[:4] in (b"\x4d\x3c\xb2\xa1", b"\xa1\xb2\x3c\x4d") else 1e-6
    (link,) = struct.unpack_from(order + "I", data, 20)
    at = 24
    while at + 16 <= len(data):
        seconds, part, size, _ = struct.unpack_from(order + "IIII", data, at)
        frame = data[at + 16 : at + 16 + size]
        at += 16 + size
        if packet := datagram(frame, link & 0xFFFF, seconds + part * fraction):
            yield packet


def datagram(frame: bytes, link: int, time: float) -> Packet | None:
    header = {ETHERNET: 14, LINUX_SLL: 16, RAW_IP: 0, LINUX_SLL2: 20}[link]
    ip = frame[header:]
    if len(ip) < 20 or ip[0] >> 4 != 4:
        return None
    total, protocol = struct.unpack_from("!H", ip, 2)[0], ip[9]
    source, target = (".".join(map(str, ip[i : i + 4])) for i in (12, 16))
    body = ip[(ip[0] & 15) * 4 : total or None]
    if protocol == UDP and len(body) >= 8:
        ports = struct.unpack_from("!HH", body)
        return Packet(time, UDP, (source, ports[0]), (target, ports[1]), body[8:])
    if protocol == TCP and len(body) >= 20:
        ports = struct.unpack_from("!HH", body)
        sequence, start = struct.unpack_from("!I", body, 4)[0], (body[12] >> 4) * 4
        return Packet(time, TCP, (source, ports[0]), (target, ports[1]), body[start:], sequence)
    return None


def streams(segments: list[Packet]) -> dict[tuple[Address, Address], bytes]:
    """The bytes of each direction of each TCP connection, in order of sequence numbers, repeats left out."""
    parts: dict[tuple[Address, Address], dict[int, bytes]] = {}
    for segment in segments:
        if segment.payload:
            way = parts.setdefault((segment.source, segment.target), {})
            way[segment.sequence] = max(way.get(segment.sequence, b""), segment.payload, key=len)
    return {way: b"".join(payload for _, payload in sorted(found.items())) for way, found in parts.items()}


def messages(stream: bytes) -> list[bytes]:
    """A TCP stream cut before each SIP start line; what stands before the first one is a piece too."""
    cuts = [0, *(found.start() for found in START_LINE.finditer(stream)), len(stream)]
    return [stream[a:b] for a, b in zip(cuts, cuts[1:], strict=False) if b > a]


def scan_pcap(scanner: Scanner, path: Path, legs: Mapping[str, set[str]]) -> list[Hit]:
    """Hits that break a rule. `legs`: person → addresses ("127.0.0.21" or "127.0.0.21:5080") of their own leg."""
    return scan_packets(scanner, list(packets(path)), legs, path.name)


def scan_packets(scanner: Scanner, wire: list[Packet], legs: Mapping[str, set[str]], where: str) -> list[Hit]:
    pieces = [(p.source, p.target, p.payload) for p in wire if p.protocol == UDP]
    for (source, target), stream in streams([p for p in wire if p.protocol == TCP]).items():
        pieces += [(source, target, message) for message in messages(stream)]
    hits: list[Hit] = []
    dialogs: dict[bytes, dict[str, Hit]] = {}
    media: dict[tuple[Address, Address], list[bytes]] = {}
    for source, target, payload in pieces:
        if not SIP_METHOD.match(payload):
            media.setdefault((source, target), []).append(payload)
            continue
        found = scanner.scan(payload, f"{where} {name(source)} > {name(target)}")
        hits += [hit for hit in found if not allowed(legs.get(hit.person, set()), source, target, signalling=True)]
        if found and (call := CALL_ID.search(payload)):
            dialogs.setdefault(call[1], {}).update((hit.person, hit) for hit in found)
    for (source, target), payloads in media.items():  # one look at a whole stream is far cheaper than one a packet
        found = scanner.scan(BETWEEN.join(payloads), f"{where} {name(source)} > {name(target)}")
        hits += [hit for hit in found if not allowed(legs.get(hit.person, set()), source, target, signalling=False)]
    for known in dialogs.values():
        if len(known) > 1:
            hits += known.values()
    return hits + keypad(scanner, wire, where)


def name(address: Address) -> str:
    return f"{address[0]}:{address[1]}"


def allowed(addresses: set[str], source: Address, target: Address, *, signalling: bool) -> bool:
    """Signalling on the person's own leg either way; RTP and RTCP only what the person's phone itself says there."""
    ends = {source[0], name(source)} | ({target[0], name(target)} if signalling else set())
    return bool(addresses & ends)


def keypad(scanner: Scanner, wire: list[Packet], where: str) -> list[Hit]:
    """Numbers played as telephone events; nobody's leg may carry one, his own included, since it would be recorded."""
    heard: dict[tuple[Address, Address, bytes], Digits] = {}
    for packet in wire:
        rtp = packet.payload
        # RFC 3550 5.1: version 2, a dynamic payload type, and RFC 4733 2.3's four bytes behind the header.
        if packet.protocol != UDP or len(rtp) < 16 or rtp[0] >> 6 != 2 or rtp[1] & 0x7F < 96:
            continue
        start = 12 + (rtp[0] & 15) * 4
        if len(rtp) - start >= 4 and not (rtp[0] & 0x10) and (len(rtp) - start) % 4 == 0 and len(rtp) - start <= 16:
            stream = heard.setdefault((packet.source, packet.target, rtp[8:12]), Digits())
            stream.hear(int.from_bytes(rtp[4:8], "big"), rtp[start])
    return [
        Hit(hit.person, "telephone events", f"{where} {name(source)} > {name(target)}", hit.offset)
        for (source, target, _), digits in heard.items()
        for hit in scanner.scan(digits.played.encode(), "")
        if hit.spelling in ("digits", "reversed")
    ]
