"""Two phones on loopback, real sockets and real sound."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from pathlib import Path

import pytest

from sipedge.softphone.calls import Call, CallFailed
from sipedge.softphone.phone import Phone
from sipedge.softphone.sounds import dominant, read_wav, tone, write_wav


def uri(phone: Phone, user: str = "+842471000001") -> str:
    return f"sip:{user}@{phone.address[0]}:{phone.address[1]}"


async def ringing(a: Phone, b: Phone) -> tuple[Call, Call]:
    mine = await a.dial(uri(b), caller="+84901234567", asserted="+84901234568")
    theirs = await b.incoming()
    await theirs.ring()
    return mine, theirs


async def talking(a: Phone, b: Phone) -> tuple[Call, Call]:
    mine, theirs = await ringing(a, b)
    await theirs.answer()
    await mine.answered()
    return mine, theirs


async def hears(call: Call, frequency: int, seconds: float = 5.0) -> None:
    """Waits until the last 200 ms heard are that tone."""
    async with asyncio.timeout(seconds):
        while dominant(call.heard[-3200:]) != frequency or len(call.heard) < 3200:
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize("codec", ["PCMA", "PCMU"])
async def test_each_phone_hears_what_the_other_says(transport: str, codec: str) -> None:
    one = ("PCMU",) if codec == "PCMU" else ("PCMA", "PCMU")
    async with Phone(transport=transport) as a, Phone(transport=transport, codecs=one) as b:  # type: ignore[arg-type]
        mine, theirs = await talking(a, b)
        mine.play(tone(440), loop=True)
        theirs.play(tone(880), loop=True)
        await hears(mine, 880)
        await hears(theirs, 440)
        assert mine.audio.foreign == theirs.audio.foreign == 0
        assert (theirs.shown, theirs.asserted, theirs.dialled) == ("+84901234567", ["+84901234568"], "+842471000001")
        assert [code for code, _ in mine.codes] == [100, 180, 200]
        assert 0 < mine.setup < 2 and mine.ringing
        await mine.hangup()
        await theirs.over()
        assert (mine.ended_by, theirs.ended_by, mine.status, theirs.status) == ("us", "peer", 200, 200)
        assert mine.seconds == pytest.approx(theirs.seconds, abs=0.2)


async def test_the_called_phone_hangs_up() -> None:
    async with Phone() as a, Phone() as b:
        mine, theirs = await talking(a, b)
        await asyncio.wait_for(theirs.acked.wait(), 2)
        await theirs.hangup()
        await mine.over()
        assert (mine.ended_by, theirs.ended_by) == ("peer", "us")


@pytest.mark.parametrize("status", [404, 486, 603])
async def test_a_phone_declines(status: int) -> None:
    async with Phone() as a, Phone() as b:
        mine, theirs = await ringing(a, b)
        await theirs.decline(status)
        with pytest.raises(CallFailed) as caught:
            await mine.answered()
        assert caught.value.status == mine.status == status
        assert (mine.ended_by, theirs.ended_by) == ("peer", "us")


async def test_a_caller_gives_up() -> None:
    async with Phone() as a, Phone() as b:
        mine, theirs = await ringing(a, b)
        await mine.hangup()
        await theirs.over()
        assert (mine.status, theirs.status, mine.ended_by, theirs.ended_by) == (487, 487, "us", "peer")


async def test_hanging_up_an_unanswered_call_at_the_called_side_refuses_it() -> None:
    async with Phone() as a, Phone() as b:
        mine, theirs = await ringing(a, b)
        await theirs.hangup()
        await mine.over()
        await mine.hangup()
        assert mine.status == 480


async def test_early_media_is_heard_before_the_answer() -> None:
    async with Phone() as a, Phone() as b:
        mine = await a.dial(uri(b), caller="anonymous")
        theirs = await b.incoming()
        theirs.play(tone(520), loop=True)
        await theirs.ring(early_media=True)
        await hears(mine, 520)
        assert [code for code, _ in mine.codes] == [100, 183]
        await theirs.decline(404)
        await mine.over()
        assert mine.status == 404


async def test_keys_are_heard_as_pressed() -> None:
    async with Phone() as a, Phone() as b:
        mine, theirs = await talking(a, b)
        mine.press("42")
        theirs.press("#")
        async with asyncio.timeout(5):
            while (theirs.digits, mine.digits) != ("42", "#"):
                await asyncio.sleep(0.02)


async def test_a_call_without_an_offer_is_agreed_on_by_answer_and_ack() -> None:
    async with Phone() as a, Phone() as b:
        mine = await a.dial(uri(b), caller="+84901", offer=False)
        theirs = await b.incoming()
        await theirs.answer()
        await mine.answered()
        mine.play(tone(440), loop=True)
        theirs.play(tone(880), loop=True)
        await hears(mine, 880)
        await hears(theirs, 440)


async def test_a_phone_is_put_on_hold_and_taken_back() -> None:
    async with Phone() as a, Phone() as b:
        mine, theirs = await talking(a, b)
        theirs.play(tone(880), loop=True)
        await hears(mine, 880)
        assert await mine.offer_again("sendonly") == 200
        await asyncio.sleep(0.05)
        held = mine.audio.received
        await asyncio.sleep(0.2)
        assert mine.audio.received == held
        assert await mine.offer_again() == 200
        await hears(mine, 880)
        await mine.hangup()
        await theirs.over()


async def test_phones_without_a_codec_in_common_have_no_call() -> None:
    async with Phone(codecs=["PCMA"]) as a, Phone(codecs=["PCMU"]) as b:
        mine = await a.dial(uri(b), caller="+84901")
        theirs = await b.incoming()
        await theirs.answer()
        with pytest.raises(CallFailed) as caught:
            await mine.answered()
        assert caught.value.status == theirs.status == 488


async def test_a_phone_answers_what_is_asked_outside_a_call() -> None:
    async with Phone() as a, Phone() as b:
        assert await a.ask("OPTIONS", uri(b)) == 200
        assert await a.ask("MESSAGE", uri(b)) == 405
        assert [event.status for event in b.refused] == [405]


async def test_a_host_may_be_a_name() -> None:
    async with Phone() as a, Phone() as b:
        assert await a.ask("OPTIONS", f"sip:localhost:{b.address[1]}") == 200


async def test_nobody_at_the_other_end_of_a_connection_fails_the_call_at_once() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        async with Phone(transport="tcp") as a:
            mine = await a.dial(f"sip:x@127.0.0.1:{nobody.getsockname()[1]}", caller="+84901")
            with pytest.raises(CallFailed) as caught:
                await mine.answered(timeout=5)
            assert caught.value.status == 503


async def test_a_phone_that_leaves_hangs_up_its_calls() -> None:
    async with Phone() as b:
        async with Phone() as a:
            mine, theirs = await talking(a, b)
        await theirs.over()
        assert repr(mine) == "<Call out 200 us>"
        assert mine.audio._transport is not None and mine.audio._transport.is_closing()


async def test_several_calls_at_once_do_not_mix() -> None:
    async with Phone() as a, Phone() as b:
        pairs = [await talking(a, b) for _ in range(3)]
        for frequency, (mine, theirs) in zip((440, 660, 1000), pairs, strict=True):
            mine.play(tone(frequency), loop=True)
            theirs.play(tone(2000), loop=True)
        for frequency, (mine, theirs) in zip((440, 660, 1000), pairs, strict=True):
            await hears(theirs, frequency)
            await hears(mine, 2000)


# -- as a program ---------------------------------------------------------------------------------------------------


async def program(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "sipedge.softphone",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def lines(process: asyncio.subprocess.Process) -> list[dict[str, object]]:
    out, _ = await asyncio.wait_for(process.communicate(), 20)
    return [json.loads(line) for line in out.splitlines()]


async def test_the_program_calls_and_answers_and_says_what_it_saw(tmp_path: Path) -> None:
    clips = {name: tmp_path / f"{name}.wav" for name in ("low", "high", "a", "b")}
    await asyncio.to_thread(write_wav, clips["low"], tone(440, 2))
    await asyncio.to_thread(write_wav, clips["high"], tone(880, 2))
    callee = await program(
        "answer", "--play", str(clips["high"]), "--record", str(clips["b"]), "--ring-for", "0.1", "--json"
    )
    assert callee.stdout is not None
    listening = json.loads(await callee.stdout.readline())
    address = str(listening["sip"]).removeprefix("udp:")
    caller = await program(
        "call", f"sip:+842471@{address}", "--caller", "+84901", "--asserted", "+84902",
        "--play", str(clips["low"]), "--record", str(clips["a"]), "--hangup-after", "1",
    )  # fmt: skip
    said, heard = await asyncio.gather(lines(caller), lines(callee))
    assert (caller.returncode, callee.returncode) == (0, 0)
    assert [line["event"] for line in said] == ["listening", "dialled", "answered", "ended"]
    assert [line["event"] for line in heard] == ["invited", "answered", "ended"]
    assert said[-1]["status"] == 200 and said[-1]["codes"] == [100, 180, 200] and said[-1]["by"] == "us"
    assert 100 <= float(str(said[-1]["setup_ms"])) < 5000
    assert (heard[-1]["from"], heard[-1]["asserted"], heard[-1]["request_uri"]) == ("+84901", ["+84902"], "+842471")
    for name, frequency in (("a", 880), ("b", 440)):
        pcm = await asyncio.to_thread(read_wav, clips[name])
        assert dominant(pcm[4800:9600]) == frequency


async def test_the_program_says_how_a_call_failed() -> None:
    callee = await program("answer", "--decline", "603")
    assert callee.stdout is not None
    address = str(json.loads(await callee.stdout.readline())["sip"]).removeprefix("udp:")
    caller = await program("call", f"sip:+842471@{address}")
    said, _ = await asyncio.gather(lines(caller), lines(callee))
    assert (said[-1]["event"], said[-1]["status"]) == ("failed", 603)
    assert (caller.returncode, callee.returncode) == (1, 0)


@pytest.mark.parametrize(
    "arguments",
    [["call"], ["answer", "--listen", "nowhere"], ["call", "sip:a@b", "--play", "missing.wav"], ["call", "bob"]],
)
async def test_arguments_that_cannot_be_are_an_error_and_no_traceback(arguments: list[str]) -> None:
    process = await program(*arguments)
    _, error = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 2
    assert error and b"Traceback" not in error
