"""What hostile input grows from: for each target valid and famous inputs, and the words of its language."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from pathlib import Path

from sipedge.media import rtcp, rtp
from sipedge.media.telephone_events import packets
from tests.fuzz.targets import INVITE, endpoint_with_calls
from tests.sip.test_mutations import SPLINTERS, conversation
from tests.sip.test_torture import ANSWERED, DROPPED, SERVED

RFCS = sorted((Path(__file__).parent.parent / "sip").glob("rfc*/*.sip"))
SDP = (
    b"v=0\r\no=alice 2890844526 2890844527 IN IP4 192.0.2.3\r\ns=call\r\nc=IN IP4 192.0.2.3/127\r\nt=0 0\r\n"
    b"a=sendonly\r\nm=video 51372 RTP/AVP 99\r\na=rtpmap:99 h263-1998/90000\r\n"
    b"m=audio 49170/2 RTP/AVP 96 0 8 97 101 13\r\nc=IN IP6 2001:db8::3\r\na=rtpmap:96 opus/48000/2\r\n"
    b"a=rtpmap:97 PCMA/8000/1\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=ptime:20\r\na=inactive\r\n"
)
CLAIMS = b'{"attest":"A","dest":{"tn":["84901234567"]},"iat":1,"orig":{"tn":"84901234567"},"origid":"x"}'
HEAD = b'{"alg":"ES256","ppt":"shaken","typ":"passport","x5u":"https://c.example/c.pem"}'
DIGEST = b'Digest realm="r", nonce="n\\"x", algorithm=SHA-256-sess, qop="auth,auth-int", opaque="o", stale=TRUE'
AUTHORIZATION = (
    b'Digest username="user", realm="realm", nonce="' + b"0" * 56 + b'", uri="sip:bob@192.0.2.9", algorithm=SHA-256, '
    b'response="' + b"0" * 64 + b'", cnonce="c", qop=auth, nc=00000001'
)


def sip_seeds() -> list[bytes]:
    told = [*SERVED.values(), *(data for _, data in ANSWERED.values()), *DROPPED.values()]
    inside = [
        INVITE.split(b"\r\nContent-Type")[0].replace(b"INVITE", method).replace(b"CSeq: 7", b"CSeq: 8")
        + b"\r\nRAck: 1 7 INVITE\r\nContent-Length: 0\r\n\r\n"
        for method in (b"ACK", b"BYE", b"CANCEL", b"PRACK", b"UPDATE", b"INFO")
    ]
    said = endpoint_with_calls()[1]
    answers = [
        b"SIP/2.0 " + status + b"\r\n" + data.partition(b"\r\n")[2]
        for data in said
        if data.startswith(b"INVITE ")
        for status in (b"183 Session Progress", b"200 OK", b"401 Unauthorized", b"486 Busy Here")
    ]
    return [*told, *(path.read_bytes() for path in RFCS), *conversation(), INVITE, *inside, *answers]


def rtp_seeds() -> list[bytes]:
    plain = rtp.build(8, 7, 160, 9, b"\xd5" * 160)
    rich = bytes([0xB1]) + plain[1:12] + b"csrc\xbe\xde\x00\x01\x10\x07\0\0" + b"\xd5" * 160 + b"\0\0\0\x04"
    keys = [rtp.build(101, n, 320, 9, payload) for n, payload in enumerate(packets("5"))]
    return [plain, rich, *keys]


def rtcp_seeds() -> list[bytes]:
    block = rtcp.Block(ssrc=9, fraction=0.25, lost=-2, highest=70_000, jitter=12, last_report=0x1234, delay=655)
    sent = rtcp.Sent(1_800_000_000.5, 160, 3, 480)
    return [rtcp.build(5, "name", sent, [block] * n) for n in (0, 1, 31)] + [rtcp.build(5, "n", None) + rtcp.goodbye(5)]


def passports() -> list[bytes]:
    """Identity headers as they come, their tokens alone, and claims nobody would make."""
    odd = [CLAIMS.replace(b":1,", value) for value in (b":1e400,", b":" + b"9" * 400 + b",", b":null,", b":[[1]],")]
    odd += [CLAIMS.replace(b'["84901234567"]', b'{"a":1}'), b"[" * 500, b"7", CLAIMS.replace(b'"dest"', b'"\\u0000"')]
    tokens = [
        b".".join(urlsafe_b64encode(part).rstrip(b"=") for part in (HEAD, claims, b"s" * 64))
        for claims in [CLAIMS, *odd]
    ]
    return [*tokens, *(token + b";info=<https://c.example/c.pem>;alg=ES256;ppt=shaken" for token in tokens)]


def seeds_of(target: str) -> list[bytes]:
    """Where fuzzing of that target begins."""
    match target:
        case "sip":
            return sip_seeds()
        case "stream":
            return [bytes([97]) + seed for seed in sip_seeds()]
        case "sdp":
            bodies = [seed.partition(b"\r\n\r\n")[2] for seed in sip_seeds()]
            return [SDP, *dict.fromkeys(body for body in bodies if body.startswith(b"v="))]
        case "rtp":
            return rtp_seeds()
        case "rtcp":
            return rtcp_seeds()
        case "identity":
            return passports()
    return [DIGEST, AUTHORIZATION, DIGEST.replace(b", ", b",\r\n "), b"Digest nonce=1"]


WORDS: dict[str, list[bytes]] = {
    "sip": SPLINTERS,
    "stream": SPLINTERS,
    "sdp": [b"v=0", b"o=", b"c=IN IP4 ", b"IP6 ::1", b"0.0.0.0", b"m=audio 0 RTP/AVP", b"a=rtpmap:", b"\r\n", b"65536",
            b"telephone-event/8000", b"PCMA/8000", b"224.0.0.1", b"a=ptime:", b"-1", "٣".encode(), b"/"],
    "rtp": [b"\x80", b"\x90\x08", b"\xb1", b"\xbe\xde\xff\xff", b"\x8f", b"\0\0\0\xff"],
    "rtcp": [b"\x80\xc8", b"\x81\xc9", b"\xca", b"\xcb", b"\xcc", b"\xff\xff", b"\xa0"],
    "identity": [b".", b"..", b";ppt=shaken", b";info=<", b"eyJ", b"==", b"WzE", b";alg=ES256", b"e30"],
    "digest": [b"realm=", b"nonce=", b'qop="auth"', b"MD5-sess", b"SHA-512-256", b'\\"', b",", b"=", b"stale=true"],
}  # fmt: skip
