"""The judge is judged: a leak planted in every sink and spelling is found, and clean artefacts give none."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import random
import sqlite3
import struct
import subprocess
import time
import zlib
from contextlib import closing
from pathlib import Path

import pytest

from tests.system.leaks import Scanner, process_texts
from tests.system.pcap import TCP, UDP, Packet, scan_packets, scan_pcap
from tests.system.stores import PlainRedis, redis_texts, sqlite_texts

PEOPLE = {"customer": "+84907734501", "driver": "+84907734662", "moscow": "+79037734511"}
E164, DIGITS, NATIONAL, NSN = "+84907734501", "84907734501", "0907734501", "907734501"


def plain(text: str) -> bytes:
    return text.encode()


def nibbles(digits: str) -> bytes:
    return bytes.fromhex(digits)


def swapped(digits: str) -> bytes:
    return bytes(int(digits[i + 1] + digits[i], 16) for i in range(0, len(digits), 2))


def base64_at(shift: int) -> bytes:
    return base64.b64encode(b"xyz"[:shift] + E164.encode() + b'"}')


PLANTS: dict[str, bytes] = {
    "E.164": plain(E164),
    "E.164 without plus": plain(DIGITS),
    "international prefix": plain("00" + DIGITS),
    "national": plain(NATIONAL),
    "national significant": plain(NSN),
    "reversed": plain(E164[::-1]),
    "spaced": b"+84 90 773 45 01",
    "dashed": b"090-773-4501",
    "dotted": b"090.773.4501",
    "bracketed": b"(+84) 90 7734501",
    "no-break spaces": "+84\xa090\xa0773\xa045\xa001".encode(),
    "tabs and folded lines": b"+84\t90773\r\n 4501",
    "%20": b"090%20773%204501",
    "%2B": b"%2B84907734501",
    "every character in per cent": "".join(f"%{ord(c):02X}" for c in E164).encode(),
    "JSON escapes": "".join(f"\\u{ord(c):04x}" for c in E164).encode(),
    "C escapes": "".join(f"\\x{ord(c):02x}" for c in NSN).encode(),
    "octal escapes": "".join(f"\\{ord(c):03o}" for c in NSN).encode(),
    "HTML entities": "".join(f"&#{ord(c)};" for c in NSN).encode(),
    "HTML entities in hex": "".join(f"&#x{ord(c):x};" for c in NSN).encode(),
    "hex": E164.encode().hex().encode(),
    "hex in upper case": E164.encode().hex().upper().encode(),
    "hex with spaces": E164.encode().hex(" ").encode(),
    "UTF-16 little-endian": E164.encode("utf-16-le"),
    "UTF-16 big-endian": E164.encode("utf-16-be"),
    "UTF-32": E164.encode("utf-32-le"),
    "base64 at 0": base64_at(0),
    "base64 at 1": base64_at(1),
    "base64 at 2": base64_at(2),
    "base64 url-safe": base64.urlsafe_b64encode(b'{"to":"' + E164.encode() + b'"}'),
    "base64 of UTF-16": base64.b64encode(E164.encode("utf-16-le")),
    "base32": base64.b32encode(E164.encode()),
    "BCD": nibbles(DIGITS + "f"),
    "BCD national": nibbles(NATIONAL),
    "BCD national significant": nibbles(NSN + "f"),
    "TBCD": swapped(DIGITS + "f"),
    "TBCD national": swapped(NATIONAL),
    "TBCD in hex": swapped(DIGITS + "f").hex().encode(),
    "little-endian integer": struct.pack("<Q", int(DIGITS)),
    "big-endian integer": struct.pack(">Q", int(DIGITS)),
    "little-endian national integer": struct.pack("<Q", int(NSN)),
    "big-endian national integer": struct.pack(">Q", int(NSN)),
    "gzip": gzip.compress(b"call from " + E164.encode()),
    "zlib": zlib.compress(b"call from " + E164.encode()),
    **{
        f"{name} of {label} in {form}": write(hashlib.new(name, text.encode()).digest())
        for name in ("md5", "sha1", "sha256")
        for label, text in (("E.164", E164), ("digits", DIGITS), ("national", NATIONAL))
        for form, write in (
            ("hex", lambda digest: digest.hex().encode()),
            ("upper hex", lambda digest: digest.hex().upper().encode()),
            ("cut hex", lambda digest: digest.hex()[:16].encode()),
            ("bytes", bytes),
            ("base64", base64.b64encode),
            ("base64 url-safe", base64.urlsafe_b64encode),
        )
    },
}
# A zlib stream has no magic of its own worth searching for: it is found where an artefact starts with it.
WHOLE = {"zlib"}


@pytest.fixture(scope="module")
def scanner() -> Scanner:
    return Scanner(PEOPLE)


@pytest.fixture(scope="module")
def noise() -> bytes:
    dice = random.Random(20261122)
    lines = [
        json.dumps({"event": "call.ended", "session": f"ses_ab12cd{dice.randbytes(11).hex()}", "at": time.time() + n,
                    "x": f"+8424{dice.randrange(10**7):07d}", "display": "+8490…01", "key": dice.randbytes(32).hex()})
        for n in range(2000)
    ]  # fmt: skip
    return "\n".join(lines).encode() + dice.randbytes(400_000)


@pytest.mark.parametrize("spelling", PLANTS)
def test_a_number_planted_in_this_spelling_is_found(scanner: Scanner, noise: bytes, spelling: str) -> None:
    before = b"" if spelling in WHOLE else noise[:5000] + b'"'
    hits = scanner.scan(before + PLANTS[spelling] + b'"' + noise[:5000], "a log")
    assert "customer" in {hit.person for hit in hits}
    assert all(NSN not in repr(hit) for hit in hits), "a report of a leak is no leak"


def test_clean_bytes_give_no_hit(scanner: Scanner, noise: bytes) -> None:
    assert scanner.scan(noise, "noise") == []


def test_masked_numbers_and_virtual_numbers_are_no_leak(scanner: Scanner) -> None:
    assert scanner.scan(b'{"display":"+8490...01","number":"+842477345011","other":"+84907734999"}', "answer") == []


def test_scanning_is_fast_enough_for_a_whole_run(scanner: Scanner, noise: bytes) -> None:
    data = noise * 6
    begin = time.process_time()
    scanner.scan(data, "noise")
    rate = len(data) / 1e6 / (time.process_time() - begin)
    assert rate > 2, f"{rate:.1f} MB/s"


def test_file_names_and_contents_are_scanned(scanner: Scanner, tmp_path: Path) -> None:
    (tmp_path / "recordings").mkdir()
    (tmp_path / "recordings" / f"call-{NSN}.wav").write_bytes(b"RIFF")
    (tmp_path / "service.log").write_bytes(b"Traceback: no route for " + NATIONAL.encode())
    hits = scanner.scan_tree(tmp_path)
    assert {hit.where for hit in hits} == {"name of recordings/*", str(tmp_path / "service.log")}


def test_the_archive_is_scanned_as_sql_and_as_bytes(scanner: Scanner, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "archive.db")) as archive:
        archive.execute("create table interactions (id text, note blob)")
        archive.execute("insert into interactions values ('int_1', ?)", (f"from {E164}",))
        archive.commit()
    assert scanner.scan_texts(sqlite_texts(tmp_path / "archive.db"))
    assert scanner.scan_tree(tmp_path)


def test_the_environment_and_command_line_of_a_process_are_scanned(scanner: Scanner) -> None:
    for command, env in ((["sleep", "9"], {"CALLER": E164}), (["sh", "-c", f"sleep 9; : {NATIONAL}"], {})):
        with subprocess.Popen(command, env=env, executable=f"/bin/{command[0]}") as process:
            try:
                deadline = time.monotonic() + 5
                while not (hits := scanner.scan_texts(process_texts([process.pid]))) and time.monotonic() < deadline:
                    pass  # between fork and exec the child still shows this process's own command line
                assert {hit.person for hit in hits} == {"customer"}
            finally:
                process.kill()


@pytest.mark.parametrize("command", [
    ("SET", f"session:{NSN}", "x"), ("SET", "k", f"x{DIGITS}"), ("HSET", "h", E164, "1"), ("HSET", "h", "f", NATIONAL),
    ("RPUSH", "l", E164), ("SADD", "s", E164), ("ZADD", "z", "1", E164), ("ZADD", "z", NSN, "member"),
    ("XADD", "e", "1-0", "to", NATIONAL), ("EVAL", f"local leak = '{E164}' return 1", "0"),
], ids=lambda c: f"{c[0]} {'EVAL' if c[0] == 'EVAL' else c[1][:4]}")  # fmt: skip
async def test_every_place_of_redis_is_scanned(scanner: Scanner, redis_url: str, command: tuple[str, ...]) -> None:
    with PlainRedis(redis_url) as redis:
        redis.call("FLUSHALL")
        redis.call("CONFIG", "SET", "slowlog-log-slower-than", "0")
        redis.call("SLOWLOG", "RESET")
        if command[0] != "EVAL":
            redis.call("CONFIG", "SET", "slowlog-log-slower-than", "-1")
        redis.call(*command)
        redis.call("CONFIG", "SET", "slowlog-log-slower-than", "-1")
        assert scanner.scan_texts(redis_texts(redis_url))
        redis.call("SLOWLOG", "RESET")
        redis.call("FLUSHALL")
        redis.call("SET", "ses_1", "+8490…01")
        assert scanner.scan_texts(redis_texts(redis_url)) == []


A, B, EDGE = ("127.0.0.11", 5070), ("127.0.0.21", 5080), ("127.0.0.1", 5060)
LEGS = {"customer": {"127.0.0.11"}, "driver": {"127.0.0.21:5080"}}


def invite(user: str, caller: str, call_id: str = "1@a", extra: str = "") -> bytes:
    return (
        f"INVITE sip:{user}@127.0.0.1 SIP/2.0\r\nFrom: <sip:{caller}@127.0.0.11>;tag=1\r\n"
        f"To: <sip:{user}@127.0.0.1>\r\nCall-ID: {call_id}\r\n{extra}\r\n"
    ).encode()


def sent(source: tuple[str, int], target: tuple[str, int], payload: bytes, sequence: int = 0) -> Packet:
    return Packet(0.0, TCP if sequence else UDP, source, target, payload, sequence)


def test_a_number_on_its_own_leg_is_no_leak(scanner: Scanner) -> None:
    wire = [
        sent(A, EDGE, invite("+842412345678", E164)),
        sent(EDGE, A, b"SIP/2.0 100 Trying\r\nFrom: <sip:%s@127.0.0.11>\r\nCall-ID: 1@a\r\n\r\n" % E164.encode()),
        sent(EDGE, B, invite(PEOPLE["driver"], "+842412345678", "2@b")),
    ]
    assert scan_packets(scanner, wire, LEGS, "lo") == []


@pytest.mark.parametrize("extra", [
    f"P-Asserted-Identity: <sip:{E164}@carrier>\r\n", f"Diversion: <tel:{E164}>\r\n", f"Subject: {NATIONAL}\r\n",
    f"Identity: {base64.urlsafe_b64encode(E164.encode()).decode()}\r\n", f"User-to-User: {NSN.encode().hex()}\r\n",
    f"Content-Length: 99\r\n\r\no={DIGITS} 1 1 IN IP4 127.0.0.1\r\n",
])  # fmt: skip
def test_the_callers_number_on_the_callees_leg_is_found(scanner: Scanner, extra: str) -> None:
    wire = [sent(EDGE, B, invite(PEOPLE["driver"], "+842412345678", "2@b", extra))]
    assert {hit.person for hit in scan_packets(scanner, wire, LEGS, "lo")} >= {"customer"}


def test_two_people_in_one_dialog_are_found_where_both_legs_share_a_trunk(scanner: Scanner) -> None:
    wire = [sent(EDGE, A, invite(PEOPLE["driver"], E164, "2@b"))]
    shared = {"customer": {"127.0.0.11"}, "driver": {"127.0.0.11"}}
    assert {hit.person for hit in scan_packets(scanner, wire, shared, "lo")} == {"customer", "driver"}


def test_a_number_split_over_two_tcp_segments_is_found(scanner: Scanner) -> None:
    whole = invite(PEOPLE["driver"], E164, "2@b")
    cut = whole.index(NSN.encode()) + 4
    wire = [sent(EDGE, B, whole[cut:], 5000 + cut), sent(EDGE, B, whole[:cut], 5000)]
    assert {hit.person for hit in scan_packets(scanner, wire, LEGS, "lo")} >= {"customer"}


def rtp(payload_type: int, timestamp: int, payload: bytes) -> bytes:
    return struct.pack("!BBHII", 0x80, payload_type, 1, timestamp, 7) + payload


def test_a_number_played_as_telephone_events_is_found_on_any_leg(scanner: Scanner) -> None:
    presses = [
        sent(A, EDGE, rtp(101, 8000 * n, struct.pack("!BBH", int(digit), 0x0A, 160 * repeat)))
        for n, digit in enumerate("0907734501")
        for repeat in range(3)
    ]
    assert {hit.spelling for hit in scan_packets(scanner, presses, LEGS, "lo")} == {"telephone events"}


def test_a_number_that_we_send_in_rtcp_is_found_even_on_its_own_leg(scanner: Scanner) -> None:
    item = b"\x81\xca\x00\x06" + b"\0\0\0\7" + bytes([1, 14]) + b"sip:" + DIGITS[1:].encode()
    assert scan_packets(scanner, [sent(EDGE, A, item)], LEGS, "lo")
    assert scan_packets(scanner, [sent(A, EDGE, item)], LEGS, "lo") == [], "what a phone says of itself to us"


def pcap_of(packets: list[Packet]) -> bytes:
    out = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    for packet in packets:
        udp = struct.pack("!HHHH", packet.source[1], packet.target[1], 8 + len(packet.payload), 0) + packet.payload
        ends = b"".join(bytes(map(int, end[0].split("."))) for end in (packet.source, packet.target))
        ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, UDP, 0) + ends + udp
        frame = b"\0" * 12 + b"\x08\x00" + ip
        out += struct.pack("<IIII", 1, 0, len(frame), len(frame)) + frame
    return out


def test_a_capture_file_is_read_and_a_record_cut_short_ends_it(scanner: Scanner, tmp_path: Path) -> None:
    leak = [sent(EDGE, B, invite(PEOPLE["driver"], E164, "2@b"))]
    capture = tmp_path / "lo.pcap"
    capture.write_bytes(pcap_of(leak * 2)[:-30])
    assert len(scan_pcap(scanner, capture, LEGS)) >= 1
    capture.write_bytes(pcap_of([sent(A, EDGE, invite("+842412345678", E164))]))
    assert scan_pcap(scanner, capture, LEGS) == []
