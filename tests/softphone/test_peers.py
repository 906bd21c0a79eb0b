"""The phone, and so the SIP core under it, against programs we did not write."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sipedge.softphone.calls import Call, CallFailed
from sipedge.softphone.phone import Phone
from tests.conftest import missing_peer
from tests.ports import free_port

pytestmark = pytest.mark.peer


async def sipp(tmp_path: Path, *arguments: str, transport: str) -> tuple[asyncio.subprocess.Process, int]:
    """SIPp with one of its own scenarios; its port."""
    if shutil.which("sipp") is None:
        missing_peer("sipp")
    port = free_port(socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM)
    socket_mode = "u1" if transport == "udp" else "t1"
    command = ["sipp", "-i", "127.0.0.1", "-p", str(port), "-t", socket_mode, "-nostdin", "-timeout", "20", *arguments]
    quiet = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(*command, cwd=tmp_path, stdout=quiet, stderr=quiet)
    return process, port


@contextlib.asynccontextmanager
async def ended(process: asyncio.subprocess.Process) -> AsyncIterator[None]:
    """Ends the program with the test."""
    try:
        yield
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_sipp_calls_the_phone(tmp_path: Path, transport: str) -> None:
    async with Phone(transport=transport, codecs=["PCMU"]) as phone:
        target = f"127.0.0.1:{phone.address[1]}"
        caller, _ = await sipp(tmp_path, "-sn", "uac", "-m", "5", "-r", "20", "-d", "200", target, transport=transport)
        async with ended(caller):
            calls = [await asyncio.wait_for(phone.incoming(), 10) for _ in range(5)]
            for call in calls:
                await call.ring()
                await call.answer()
            for call in calls:
                await call.over()
                assert (call.status, call.ended_by, call.shown) == (200, "peer", "sipp")
            assert await asyncio.wait_for(caller.wait(), 10) == 0


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_the_phone_calls_sipp(tmp_path: Path, transport: str) -> None:
    callee, port = await sipp(tmp_path, "-sn", "uas", transport=transport)
    async with ended(callee), Phone(transport=transport, codecs=["PCMU"]) as phone:
        for _ in range(3):
            call = await answered(phone, f"sip:service@127.0.0.1:{port}")
            assert 180 in [code for code, _ in call.codes]
            # Its Contact says ;transport=UDP: the BYE must find its way all the same.
            await asyncio.wait_for(call.hangup(), 5)
            assert (call.status, call.ended_by) == (200, "us")


async def answered(phone: Phone, uri: str) -> Call:
    """Dials until the callee, a program that is just starting, has answered."""
    async with asyncio.timeout(10):
        while True:
            call = await phone.dial(uri, caller="+84901")
            with contextlib.suppress(CallFailed):
                await call.answered()
                return call
            await asyncio.sleep(0.05)
