"""Everything a phone can say about itself in SIP and SDP, as headers and lines to plant words in.

`{w}` is a word of the phone's bird (a new one at each place), `{n}` its number, `{d}` the number without its plus,
`{ip}` and `{port}` an address and a port that it alone names.
Issue and RFC names stand where a header has them; the compact, folded and oddly written forms are a batch of their own.
"""

from __future__ import annotations

import base64
import json
import re

from tests.proof.canaries import Bird

IDENTITY = [
    'P-Asserted-Identity: "{w} {n}" <sip:{n}@{w}.example;user=phone;x={w}>, <tel:{n};phone-context={w}.example>',
    "P-Preferred-Identity: <sip:{n}@{w}.example>",
    'Remote-Party-ID: "{w}" <sip:{n}@{w}.example>;party=calling;screen=yes;privacy=off;x={w}',
    "Privacy: none",
    "P-Asserted-Service: urn:urn-7:3gpp-service.ims.icsi.{w}",
    "P-Associated-URI: <sip:{n}@{w}.example>",
    "P-Called-Party-ID: <sip:{n}@{w}.example>",
    "P-Served-User: <sip:{n}@{w}.example>;sescase=orig",
    "P-User-Database: <aaa://{w}.example>",
    "P-Access-Network-Info: 3GPP-E-UTRAN-FDD; utran-cell-id-3gpp={w}",
    "P-Charging-Vector: icid-value={w};orig-ioi={w}.example",
    "P-Charging-Function-Addresses: ccf={w}.example",
    'P-Visited-Network-ID: "{w}"',
    "P-Profile-Key: <sip:{w}@example>",
    "P-Early-Media: supported",
    "P-Answer-State: {w}",
    "P-Refused-URI-List: <sip:{w}@example>",
    "P-DCS-Billing-Info: {w}/0@{w}.example",
    "P-Media-Authorization: {w}",
    "P-Private-Network-Indication: {w}.example",
    "History-Info: <sip:{n}@{w}.example?Reason=SIP%3Bcause%3D302>;index=1;x={w}",
    'Diversion: "{w}" <sip:{n}@{w}.example>;reason=unconditional;counter=1',
    "Geolocation: <cid:{w}@example>, <https://{w}.example/here>",
    "Geolocation-Routing: yes",
    'Geolocation-Error: 100;code="{w}"',
    "User-to-User: 00{w};encoding=hex;purpose={w}",
    'Call-Info: <https://{w}.example/{d}.png>;purpose=icon;call-reason="{w}"',
    "Alert-Info: <https://{w}.example/ring.wav>",
    "Identity: {passport};info=<https://{w}.example/c.pem>;alg=ES256;ppt=shaken",
    "Identity-Info: <https://{w}.example/c.pem>;alg=rsa-sha1",
    "Date: Sun, 22 Nov 2026 13:29:00 GMT",
    'Reason: Q.850;cause=16;text="{w} {n}", SIP;cause=200;text="{w}"',
]
OTHERS = [
    "Subject: {w} {n}",
    "Organization: {w}",
    "Reply-To: {w} <sip:{n}@{w}.example>",
    "In-Reply-To: {w}@{ip}",
    'Referred-By: <sip:{n}@{w}.example>;cid="{w}@example"',
    "Target-Dialog: {w}@{ip};local-tag={w};remote-tag={w}",
    'Authorization: Digest username="{w}",realm="{w}",nonce="{w}",uri="sip:{w}",response="{w}"',
    'Proxy-Authorization: Digest username="{w}",realm="{w}",nonce="{w}",uri="sip:{w}",response="{w}"',
    'WWW-Authenticate: Digest realm="{w}",nonce="{w}"',
    'Authentication-Info: nextnonce="{w}"',
    'Accept-Contact: *;+sip.instance="<urn:uuid:{w}>";audio',
    "Reject-Contact: *;x={w}",
    "Request-Disposition: proxy, {w}",
    "User-Agent: {w}/1.0 ({n})",
    "Server: {w}/1.0 ({n})",
    'Warning: 399 {w}.example "{n} {w}"',
    "Error-Info: <sip:{w}@example>",
    "Allow-Events: {w}",
    "Supported: timer, {w}",
    "Accept: application/sdp, application/{w}",
    "Accept-Language: {w}",
    "Accept-Encoding: identity, {w}",
    "Content-Language: {w}",
    "MIME-Version: 1.0",
    "Priority: {w}",
    "Timestamp: {port}.17",
    "Path: <sip:{w}.example;lr>",
    "Service-Route: <sip:{w}.example;lr>",
    "Flow-Timer: {port}",
    "Session-ID: {w};remote={w}",
    "Answer-Mode: Auto;{w}",
    "Resource-Priority: {w}.1",
    "Suppress-If-Match: {w}",
    "Info-Package: {w}",
    "Recv-Info: {w}",
    "Feature-Caps: *;+{w}",
    "Relayed-Charge: {w}",
    "X-Customer: {w} {n}",
    "X-Masking-Trunk: {w}",
    "X-Asterisk-HangupCause: {w}",
    "CallerID: {n} {w}",
]
ODD = [
    "s: {w} {n}",
    "SUBJECT2 :\r\n\t{w}",
    "b: <sip:{n}@{w}.example>",
    "u: {w}",
    "k: timer,\r\n {w}",
    "y: {w}",
    "n: <https://{w}.example>",
    "a: *;x={w}",
    "j: *;x={w}",
    "d: {w}",
    "pRiVaCy : iD",
    'p-AsSeRtEd-IdEnTiTy\t:\r\n \t"{w}"\r\n <sip:{n}@{w}.example>',
    "REMOTE-PARTY-ID:<sip:{n}@{w}.example>;party=called",
    "hIsToRy-InFo : <sip:{n}@{w}.example>;index=1,\r\n <sip:{n}@{w}.example>;index=1.1",
    "dIvErSiOn:<tel:{n}>;reason=\r\n user-busy;x={w}",
    "USER-TO-USER : {hex};encoding=hex",
    "X-Base64: {base64}",
    "X-Reversed: {reversed}",
    "X-Percent: {percent}",
    "%58-Escaped: {w}",
    "!odd-Token0_*+`.'~: {w}",
]
BATCHES = {"identity": IDENTITY, "others": OTHERS, "odd": ODD}

SESSION_LINES = [
    "i={w}", "u=https://{w}.example", "e={w} <{w}@example>", "p={n}", "c=IN IP4 {host}", "b=CT:{port}",
    "b=X-{w}:{port}", "t=0 0", "r=7d 1h 0 25h", "z=2882844526 -1h", "k=clear:{w}", "a=tool:{w}",
    "a=group:BUNDLE {w}", "a=cat:{w}",
    "a=keywds:{w}", "a=charset:{w}", "a=sdplang:{w}", "a=ice-ufrag:{w}", "a=ice-pwd:{w}", "a=ice-options:{w}",
    "a=identity:{w}", "a=fingerprint:sha-256 {w}", "a=setup:actpass", "a=msid-semantic: WMS {w}", "a=x-{w}:{w}",
]  # fmt: skip
MEDIA_LINES = [
    "i={w}", "b=AS:{port}", "k=prompt", "a=rtpmap:8 PCMA/8000", "a=rtpmap:101 telephone-event/8000",
    "a=fmtp:101 0-15,{w}", "a=fmtp:8 x={w}", "a=ptime:20", "a=maxptime:{port}", "a=label:{w}", "a=mid:{w}",
    "a=content:{w}", "a=lang:{w}", "a=rtcp:{port} IN IP4 {ip}", "a=rtcp-fb:* {w}", "a=rtcp-xr:{w}",
    "a=ssrc:{port} cname:{w}", "a=ssrc:{port} msid:{w} {w}", "a=ssrc-group:FID {port} {w}", "a=msid:{w} {w}",
    "a=extmap:1 urn:{w}", "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{w}", "a=remote-candidates:1 {ip} {port}",
    "a=candidate:1 1 UDP 2130706431 {ip} {port} typ host generation {w}", "a=end-of-candidates",
    "a=X-nat:{w}", "a=alt:1 1 : {w} {w} {ip} {port}", "a=direction:active", "a=sendrecv", "a=record:{w}",
]  # fmt: skip
VIDEO = ["m=video {port} RTP/AVP 97", "c=IN IP4 {ip}", "i={w}", "a=rtpmap:97 {w}/90000", "a=label:{w}"]


class Corpus:
    """What one phone plants; `headers` and `description` are new words each time."""

    def __init__(self, bird: Bird, number: str, host: str, rtp_port: int) -> None:
        self.bird, self.number, self.host, self.rtp_port = bird, number, host, rtp_port
        self.keys = True  # does it take key presses as RTP (RFC 4733)?

    def fill(self, template: str, what: str) -> str:
        """Words, number and host put in."""
        word = self.bird.plant(what)
        codes = {
            "passport": self._passport(word), "hex": word.encode().hex(), "reversed": word[::-1],
            "base64": base64.b64encode(f"{word} {self.number}".encode()).decode(),
            "percent": "".join(f"%{byte:02x}" for byte in word.encode()),
            "n": self.number, "d": self.number[1:], "host": self.host, "ip": self.bird.address, "port": self.bird.port,
        }  # fmt: skip
        return re.sub(r"\{(\w+)\}", lambda found: codes.get(found[1]) or self.bird.plant(what), template)

    def _passport(self, word: str) -> str:
        """RFC 8225: both numbers in base64, as SHAKEN carries them."""
        parts = [{"alg": "ES256", "x5u": f"https://{word}.example"}, {"orig": {"tn": self.number[1:]}, "origid": word}]
        coded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
        return ".".join([*coded, base64.urlsafe_b64encode(word.encode() * 4).decode().rstrip("=")])

    def headers(self, batch: str, message: str, *, without: tuple[str, ...] = ()) -> list[str]:
        """One batch of headers for one message. `without`: names that would change what the message asks for."""
        lines = [line for line in BATCHES[batch] if line.partition(":")[0].strip().lower() not in without]
        return [self.fill(line, f"{line.partition(':')[0].strip()} of {message}") for line in lines]

    def description(self, message: str, version: int = 1) -> bytes:
        """An SDP with a word in every line that can hold one."""
        lines = [
            "v=0",
            f"o={{w}} {{port}} {version} IN IP4 {self.host}",
            "s={w} {n}",
            *SESSION_LINES,
            f"m=audio {self.rtp_port} RTP/AVP 8 0 101",
            *MEDIA_LINES,
            *VIDEO,
        ]
        if not self.keys:
            lines = [line.replace(" RTP/AVP 8 0 101", " RTP/AVP 8 0") for line in lines if ":101 " not in line]
        return "".join(self.fill(line, f"SDP {line[:12]} of {message}") + "\r\n" for line in lines).encode()

    def parts(self, message: str) -> tuple[str, bytes]:
        """Content type and body: the description among parts that must go nowhere."""
        boundary = self.bird.plant(f"boundary of {message}")
        bcd = bytes.fromhex("".join(a + b for a, b in zip(self.number[2::2], self.number[1::2], strict=False)))
        secret = self.fill("{w} {n}", f"a part of {message}").encode()
        place = b"<presence><gp>" + secret + b"</gp></presence>"
        card = b"BEGIN:VCARD\r\nFN:" + secret + b"\r\nTEL:" + self.number.encode() + b"\r\nEND:VCARD"
        optional = b"Content-Disposition: signal;handling=optional"
        pieces = [
            (b"application/isup; version=itu-t92+", b"\x01\0\x60\x01\x0a\x00\x02\x0a\x08" + bcd + secret),
            (b"application/pidf+xml", place),
            (b"application/sdp", self.description(message)),
            (b"text/vcard", card),
            (b"application/resource-lists+xml", b"<r>" + secret + b"</r>"),
            (b"message/sipfrag", b"From: <sip:" + secret + b">"),
        ]
        mark = b"--" + boundary.encode()
        body = b"".join(
            mark + b"\r\nContent-Type: " + kind + b"\r\n"
            + (b"" if kind == b"application/sdp" else optional + b"\r\nContent-ID: <" + secret.split()[0] + b"@x>\r\n")
            + b"\r\n" + data + b"\r\n"
            for kind, data in pieces
        )  # fmt: skip
        return f"multipart/mixed;boundary={boundary}", secret + b"\r\n" + body + mark + b"--\r\n" + secret
