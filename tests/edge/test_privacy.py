"""Nothing one phone says reaches the other, except what is named: planted in every header and line, both ways."""

from __future__ import annotations

import asyncio
import re

import pytest

from sipedge.sip.events import Acked, Answered, Ended, Invited, Progressed, Responded
from tests.edge.conftest import CUSTOMER, DRIVER, Scene, Stage
from tests.edge.phones import Phone

CANARY = "Canary"
CALLERS, CALLEES = "Mynahbird", "Siskinbird"  # each phone plants a bird of its own in CANARY's place
LEAKY = [
    ("P-Preferred-Identity", f"<sip:{CANARY}{CUSTOMER}@h>"),
    ("Remote-Party-ID", f'"{CANARY}" <sip:{CUSTOMER}@h>;party=calling'),
    ("Privacy", "none"),
    ("History-Info", f"<sip:{CUSTOMER}@{CANARY}.example>;index=1"),
    ("Diversion", f"<sip:{CUSTOMER}@{CANARY}.example>;reason=unknown"),
    ("P-Called-Party-ID", f"<sip:{CUSTOMER}@{CANARY}.example>"),
    ("P-Access-Network-Info", f"3GPP-E-UTRAN; utran-cell-id-3gpp={CANARY}"),
    ("P-Charging-Vector", f"icid-value={CANARY}"),
    ("P-Visited-Network-ID", CANARY),
    ("P-Associated-URI", f"<sip:{CUSTOMER}@{CANARY}.example>"),
    ("Geolocation", f"<cid:{CANARY}@example>"),
    ("Identity", f"{CANARY}.payload.signature;info=<https://{CANARY}.example/c>"),
    ("User-to-User", f"{CANARY}{CUSTOMER};encoding=hex"),
    ("Call-Info", f"<https://{CANARY}.example/photo>;purpose=icon"),
    ("Alert-Info", f"<https://{CANARY}.example/ring>"),
    ("Subject", f"{CANARY} {CUSTOMER}"),
    ("Organization", CANARY),
    ("Reply-To", f"<sip:{CUSTOMER}@{CANARY}.example>"),
    ("In-Reply-To", f"{CANARY}@example"),
    ("Referred-By", f"<sip:{CUSTOMER}@{CANARY}.example>"),
    ("Accept-Contact", f'*;+sip.instance="{CANARY}"'),
    ("User-Agent", f"{CANARY}/1.0 ({CUSTOMER})"),
    ("Server", f"{CANARY}/1.0"),
    ("Warning", f'399 {CANARY} "{CUSTOMER}"'),
    ("Error-Info", f"<sip:{CANARY}@example>"),
    ("Reason", f'Q.850;cause=16;text="{CANARY} {CUSTOMER}"'),
    ("Supported", f"timer, {CANARY}"),
    ("Allow-Events", CANARY),
    ("X-Customer", f"{CANARY}{CUSTOMER}"),
    ("X-Masking-Trunk", CANARY),
    ("Date", CANARY),
    ("Timestamp", "54321"),
    ("P-Early-Media", CANARY),
]
EXTRA = (
    f"i={CANARY}\r\nu=https://{CANARY}.example\r\ne={CANARY}@example\r\np={CUSTOMER}\r\nb=CT:54321\r\n"
    f"a=tool:{CANARY}\r\na=group:{CANARY}\r\na=x-{CANARY}:1\r\n"
)
LINES = (
    f"a=ssrc:54321 cname:{CANARY}\r\na=msid:{CANARY}\r\na=label:{CANARY}\r\na=rtcp:54321\r\n"
    f"a=fmtp:101 0-15,{CANARY}\r\na=candidate:1 1 udp 1 198.51.100.7 9 typ host\r\n"
    f"m=video 54320 RTP/AVP 97\r\ni={CANARY}\r\na=rtpmap:97 {CANARY}/90000\r\n"
)
# The first headers a masked leg may carry; nothing else ever leaves.
ALLOWED = {
    "via", "max-forwards", "from", "to", "call-id", "cseq", "contact", "allow", "p-asserted-identity", "user-agent",
    "content-type", "content-length", "reason", "retry-after", "supported", "accept", "session-expires",
}  # fmt: skip


def planted(phone: Phone) -> list[tuple[str, str]]:
    """Every header that could tell something, telling it of this phone."""
    bird = CALLERS if phone.number == CUSTOMER else CALLEES
    return [(name, value.replace(CANARY, bird).replace(CUSTOMER, phone.number)) for name, value in LEAKY]


def leaky(phone: Phone) -> bytes:
    bird = CALLERS if phone.number == CUSTOMER else CALLEES
    body = phone.sdp(extra=EXTRA).replace(b"s=call", b"s=Canary").replace(b"o=phone", b"o=Canary") + LINES.encode()
    return body.replace(CANARY.encode(), bird.encode()).replace(CUSTOMER.encode(), phone.number.encode())


def heard_clean(phone: Phone, other: Phone) -> None:
    """Nothing the other phone said, and not its number in any spelling we could send, is in what this one heard."""
    everything = b"\n".join(phone.heard)
    bird = CALLEES if phone.number == CUSTOMER else CALLERS
    assert bird.encode().lower() not in everything.lower()
    for spelled in (other.number[1:], "0" + other.number[3:], other.number[3:], other.number[-7:]):
        assert spelled.encode() not in everything
    for word in own_words(other):
        assert word not in everything, word
    for message in phone.heard:
        head, _, _ = message.partition(b"\r\n\r\n")
        names = {line.split(b":")[0].strip().lower().decode() for line in head.split(b"\r\n")[1:]}
        assert names <= ALLOWED, names - ALLOWED


def own_words(phone: Phone) -> list[bytes]:
    """What identifies this phone's own dialog, addresses and session."""
    said = b"\n".join(phone.said)
    words = set(re.findall(rb"Call-ID: (\S+)|tag=(\w+)|branch=(\S+?)[;\r]", said))
    ports = [str(phone.address[1]).encode(), str(phone.rtp.getsockname()[1]).encode()]
    return [word for group in words for word in group if word] + [b":" + ports[0], b" " + ports[1] + b" "]


@pytest.mark.parametrize("ending", ["caller", "callee"])
async def test_nothing_crosses_that_is_not_on_the_list(stage: Stage, ending: str) -> None:
    scene = await stage()
    caller, callee = scene.caller, scene.callee
    leg = scene.call(
        body=leaky(caller),
        headers=planted(caller),
        from_=f'"{CALLERS} {CUSTOMER}" <sip:{CUSTOMER}@{CALLERS}.example;user=phone>;x={CALLERS}',
    )
    invited = await callee.expect(Invited)
    answers = planted(scene.callee)
    for status in (180, 183):
        callee.respond(invited, status, reason=f"{CALLEES} {DRIVER}", headers=answers, body=leaky(callee))
    callee.respond(invited, 200, reason=CALLEES, headers=answers, body=leaky(callee))
    assert (await caller.expect(Progressed)).status == 180
    await caller.expect(Answered)
    await callee.expect(Acked)
    await talk_about_it(scene, leg, invited.leg)
    first, second, token = (caller, callee, leg) if ending == "caller" else (callee, caller, invited.leg)
    first.endpoint.bye(token, first.loop.time(), headers=planted(first))
    first.drive()
    await second.expect(Ended)
    await scene.place.idle()
    await asyncio.sleep(0.02)
    heard_clean(callee, caller)
    heard_clean(caller, callee)


async def talk_about_it(scene: Scene, caller_leg: str, callee_leg: str) -> None:
    """Requests inside the call, each with something to hide; none of them is passed on."""
    for phone, leg in ((scene.caller, caller_leg), (scene.callee, callee_leg)):
        for method, body, kind in (
            ("INFO", b"Signal=5\r\n", "application/dtmf-relay"),
            ("UPDATE", b"", ""),
            ("INVITE", leaky(phone), "application/sdp"),
            ("REFER", b"", ""),
        ):
            phone.endpoint.request(leg, method, phone.loop.time(), headers=planted(phone), body=body, content_type=kind)
            phone.drive()
            await phone.expect(Responded)


async def test_a_refusal_says_nothing_of_its_cause(stage: Stage) -> None:
    scene = await stage()
    scene.call()
    invited = await scene.callee.expect(Invited)
    answers = planted(scene.callee)
    scene.callee.respond(invited, 404, reason=f"{CALLEES} {DRIVER}", headers=answers)
    await scene.interaction()
    await asyncio.sleep(0.02)
    heard_clean(scene.caller, scene.callee)
