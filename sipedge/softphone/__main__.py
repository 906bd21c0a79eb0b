"""`python -m sipedge.softphone call URI …` and `… answer …`: one phone, its sound from and to WAV files, JSON lines
on stdout.

Every line has `event`: `listening`, then per call `invited` or `dialled`, `progress`, `answered`, and last `ended`
or, for a call that was never answered, `failed`. Exit code 0 when every call was answered, 1 when one was not, 2
for arguments that cannot be.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sipedge.media.plane import CodecName
from sipedge.sip.messages import Malformed
from sipedge.softphone import sounds
from sipedge.softphone.calls import Call, CallFailed
from sipedge.softphone.phone import Phone


def tell(event: str, **facts: Any) -> None:
    sys.stdout.write(json.dumps({"event": event, **facts}) + "\n")
    sys.stdout.flush()


def address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65_535:
        raise argparse.ArgumentTypeError("expected host:port")
    return host.strip("[]"), int(port)


def arguments(given: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m sipedge.softphone", description="A small SIP phone.")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--listen", type=address, default=("127.0.0.1", 0), help="SIP address of this phone, host:port")
    common.add_argument("--transport", choices=("udp", "tcp"), default="udp")
    common.add_argument("--play", type=Path, help="WAV (16-bit mono, 8 kHz) to say once the call is answered")
    common.add_argument("--loop", action="store_true", help="say it over and over")
    common.add_argument("--record", type=Path, help="WAV to write what was heard to")
    common.add_argument("--hangup-after", type=float, metavar="S", help="hang up S seconds after the answer")
    common.add_argument("--codec", choices=("PCMA", "PCMU"), help="know this codec only")
    common.add_argument("--json", action="store_true", help="JSON lines; the only form there is")
    modes = parser.add_subparsers(dest="mode", required=True)
    call = modes.add_parser("call", parents=[common], help="dial")
    call.add_argument("uri", help="sip:number@host:port")
    call.add_argument("--caller", default="anonymous", help="our number, the user part of From")
    call.add_argument("--asserted", default="", help="a number for P-Asserted-Identity")
    call.add_argument("--ring-for", type=float, default=60.0, metavar="S", help="give up S seconds after dialling")
    answer = modes.add_parser("answer", parents=[common], help="wait for calls and pick up")
    answer.add_argument("--ring-for", type=float, default=0.3, metavar="S", help="ring S seconds before picking up")
    answer.add_argument("--decline", type=int, metavar="CODE", help="refuse with this code instead")
    answer.add_argument("--count", type=int, default=1, help="leave after so many calls; 0: never")
    return parser.parse_args(given)


async def talk(call: Call, options: argparse.Namespace, clip: bytes) -> None:
    """From the answer to the end."""
    call.play(clip, loop=options.loop)
    tell("answered", setup_ms=round(call.setup * 1000, 1), codes=[code for code, _ in call.codes])
    with contextlib.suppress(TimeoutError):
        await call.over(timeout=options.hangup_after if options.hangup_after is not None else 86_400.0)
    await call.hangup()
    if options.record is not None:
        await asyncio.to_thread(sounds.write_wav, options.record, call.heard)


def ended(event: str, call: Call) -> None:
    heard = call.heard
    tell(
        event,
        status=call.status,
        by=call.ended_by,
        cause=call.cause,
        codes=[code for code, _ in call.codes],
        setup_ms=round(call.setup * 1000, 1),
        seconds=round(call.seconds, 3),
        heard_seconds=round(len(heard) / 16_000, 3),
        digits=call.digits,
        **{"from": call.shown, "asserted": call.asserted, "request_uri": call.dialled},
    )


async def place(phone: Phone, options: argparse.Namespace, clip: bytes) -> bool:
    """Dials; true when the call was answered."""
    call = await phone.dial(options.uri, caller=options.caller, asserted=options.asserted)
    tell("dialled")
    try:
        await call.answered(timeout=options.ring_for)
    except (CallFailed, TimeoutError):
        await call.hangup()
        ended("failed", call)
        return False
    await talk(call, options, clip)
    ended("ended", call)
    return True


async def pick_up(call: Call, options: argparse.Namespace, clip: bytes) -> bool:
    """Rings, then answers or refuses; true when the call was answered."""
    tell("invited", **{"from": call.shown, "asserted": call.asserted, "request_uri": call.dialled})
    if options.decline is not None:
        await call.decline(options.decline)
        ended("failed", call)
        return False
    await call.ring()
    with contextlib.suppress(TimeoutError):
        await call.over(timeout=options.ring_for)
    if not call.ended_by:
        await call.answer()
    if call.status != 200:
        ended("failed", call)
        return False
    await talk(call, options, clip)
    ended("ended", call)
    return True


async def wait_for_calls(phone: Phone, options: argparse.Namespace, clip: bytes) -> bool:
    """Answers `count` calls, several at a time where they overlap; true when each was as wanted."""
    calls: list[asyncio.Task[bool]] = []
    while not options.count or len(calls) < options.count:
        call = await phone.incoming()
        calls.append(asyncio.create_task(pick_up(call, options, clip)))
        if not options.count:
            calls = [task for task in calls if not task.done()]
    return all(await asyncio.gather(*calls)) or options.decline is not None


async def run(options: argparse.Namespace) -> int:
    clip = await asyncio.to_thread(sounds.read_wav, options.play) if options.play is not None else b""
    codecs: tuple[CodecName, ...] = (options.codec,) if options.codec else ("PCMA", "PCMU")
    async with Phone(options.listen, transport=options.transport, codecs=codecs) as phone:
        tell("listening", sip=f"{phone.transport}:{phone.address[0]}:{phone.address[1]}")
        work = asyncio.ensure_future(
            place(phone, options, clip) if options.mode == "call" else wait_for_calls(phone, options, clip)
        )
        for name in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(name, work.cancel)
        try:
            return 0 if await work else 1
        except asyncio.CancelledError:
            return 1


def main(given: Sequence[str]) -> int:
    options = arguments(given)
    try:
        return asyncio.run(run(options))
    except (OSError, ValueError, EOFError, Malformed) as problem:
        sys.stderr.write(f"softphone: {problem}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
