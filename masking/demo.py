"""`masking demo`: a real masked call between two softphones, on a service of its own on loopback, shown step by step.

The whole service runs as `masking serve` runs it; the phones are processes that speak SIP and RTP like any carrier
would. Everything that is promised is checked, and the demo fails (exit code 1) when anything was not so.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import fcntl
import math
import os
import secrets
import shutil
import signal
import socket
import sys
import time
import wave
from collections.abc import AsyncIterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx2
import msgspec
from rich.console import Console

from masking import logs
from masking.config import BadConfig, Config, load
from masking.serve import running

FOLDER = Path("var/demo")
CUSTOMER, DRIVER = "+84901234567", "+84907654321"
VIRTUAL_NUMBERS = ["+842471000001", "+842471000002", "+842471000003"]
TALK = 8.0  # seconds from the answer to the caller's hanging up: the notice, then both clips
AUDIBLE = -45.0  # dBFS: a channel below it holds no speech

CONFIGURATION = """\
[service]
data_dir = "{data_dir}"
bootstrap_key = "{key}"

[http]
listen = "127.0.0.1:{http}"

[sip]
listen = ["udp:127.0.0.1:{sip}", "tcp:127.0.0.1:{sip}"]

[media]
ports = "{media}-{media_end}"

# The demo's carrier is two softphones: calls come from the customer's, and calls to people go to the driver's.
[[trunk]]
name = "demo-carrier"
uri = "sip:127.0.0.1:{driver};transport=udp"
sources = ["127.0.0.1:{customer}", "127.0.0.1:{driver}"]
country = "VN"
"""


class Broken(Exception):
    """Something was not as promised; the text says what."""


@dataclass(frozen=True)
class Outcome:
    """What the call showed, as the JSON line says it."""

    setup_ms: float
    caller_saw: str
    callee_saw: str
    recording: str
    duration: float
    levels: list[float]


async def run(*, once: bool, machine: bool) -> int:
    """Runs the demo; returns the exit code. `once` or `machine`: nothing but JSON on stdout, the story on stderr."""
    say = Console(stderr=once or machine, highlight=False, soft_wrap=True)
    path, ports = write_configuration()
    config = load(path, os.environ)
    began = time.monotonic()
    with (FOLDER / "service.log").open("w") as log:
        logs.configure(log)
        async with running(config, path, log.fileno()) as ready:
            seconds = time.monotonic() - began
            say.print(f"The service is up after {seconds:.1f} s: {ready['http']}, SIP on {ready['sip'][0]}")
            try:
                async with asyncio.timeout(60.0):
                    outcome = await masked_call(config, ready["http"], ports, say)
            except (Broken, TimeoutError) as problem:
                say.print(f"[red]The demo failed:[/red] {problem or 'it came to no end within 60 s'}; see {log.name}")
                return 1
            if once or machine:
                line = {"event": "demo"} | msgspec.to_builtins(outcome)
                sys.stdout.write(msgspec.json.encode(line).decode() + "\n")
                sys.stdout.flush()
            if not once:
                say.print(f"\nAPI {ready['http']}/docs   key {config.service.bootstrap_key}   configuration {path}")
                say.print("The console comes with a later version. Serving until Ctrl-C.")
                await interrupted()
    return 0


def write_configuration() -> tuple[Path, dict[str, int]]:
    """A configuration of its own in an empty var/demo, on the usual ports where they are free."""
    sweep(FOLDER)
    ports = {
        "http": free_port(8080, socket.SOCK_STREAM),
        "sip": free_port(5060, socket.SOCK_DGRAM),
        "customer": free_port(0, socket.SOCK_DGRAM),
        "driver": free_port(0, socket.SOCK_DGRAM),
        "media": 20000,
    }
    key = secrets.token_urlsafe(24)
    values = {"data_dir": FOLDER.absolute(), "key": key, "media_end": ports["media"] + 999} | ports
    path = FOLDER / "masking.toml"
    path.touch(mode=0o600)
    path.write_text(CONFIGURATION.format(**values), encoding="utf-8")
    return path, ports


def sweep(folder: Path) -> None:
    """Empties the demo's folder, unless a demo still runs on it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / "serve.lock").open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BadConfig(f"another demo runs on {folder.absolute()}; end it first") from None
        shutil.rmtree(folder)
        folder.mkdir(mode=0o700)


def free_port(wanted: int, kind: socket.SocketKind) -> int:
    """`wanted` when nobody has it, else one the kernel chooses."""
    for port in (wanted, 0):
        with contextlib.suppress(OSError), socket.socket(socket.AF_INET, kind) as probe:
            if kind == socket.SOCK_STREAM:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port that merely rests is free
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise Broken("no free port on 127.0.0.1")


async def interrupted() -> None:
    """Returns at Ctrl-C or SIGTERM."""
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    await ended.wait()


async def masked_call(config: Config, http: str, ports: dict[str, int], say: Console) -> Outcome:
    """Numbers → session → call → recording."""
    headers = {"Authorization": f"Bearer {config.service.bootstrap_key}"}
    async with httpx2.AsyncClient(base_url=http, headers=headers, timeout=10.0) as api:
        session = await open_session(api)
        customer, driver = session["participants"]
        dialled, shown = customer["proxies"][0]["number"], driver["proxies"][0]["number"]
        say.print(f"Session {session['id']} for {session['unique_name']}:")
        say.print(f"  customer {customer['display']} reaches the driver at {dialled}")
        say.print(f"  driver   {driver['display']} reaches the customer at {shown}")
        caller, callee = await place_call(dialled, ports)
        say.print(f"The customer dialled {dialled}; the driver's phone rang showing {callee['from']}.")
        say.print(f"Set-up {caller['setup_ms']:.0f} ms from INVITE to answer; both heard the recording notice.")
        check_what_the_phones_saw(caller, callee, dialled, shown)
        recording = await available_recording(api, session["id"])
        if {notice["leg"] for notice in recording["notices"]} != {1, 2}:
            raise Broken("the recording has no proof that both were told of it")
        path = FOLDER / f"{recording['id']}.wav"
        answer = await api.get(f"/v1/recordings/{recording['id']}/media", headers={"X-Reason": "demo"})
        if answer.status_code != 200:
            raise Broken(f"the recording's media answered {answer.status_code}")
        await asyncio.to_thread(path.write_bytes, answer.content)
        levels = await asyncio.to_thread(channel_levels, path)
        say.print(
            f"Recording {path}: {recording['duration']:.2f} s, customer {levels[0]} dBFS, driver {levels[1]} dBFS"
        )
        if min(levels) < AUDIBLE:
            raise Broken(f"a channel of the recording is silent: {levels} dBFS")
        return Outcome(caller["setup_ms"], dialled, callee["from"], str(path), recording["duration"], levels)


async def open_session(api: httpx2.AsyncClient) -> dict[str, Any]:
    numbers = [{"phone_number": number} for number in VIRTUAL_NUMBERS]
    await expect(api, 201, "/v1/services/default/phone_numbers", {"phone_numbers": numbers})
    people = [{"identifier": CUSTOMER, "role": "customer"}, {"identifier": DRIVER, "role": "driver"}]
    order = f"order-{secrets.token_hex(4)}"
    body = {"service": "default", "unique_name": order, "participants": people, "ttl": 3600, "record": "always"}
    return await expect(api, 201, "/v1/sessions", body)


async def expect(api: httpx2.AsyncClient, status: int, path: str, body: Any) -> dict[str, Any]:
    answer = await api.post(path, json=body)
    if answer.status_code != status:
        raise Broken(f"POST {path} answered {answer.status_code}: {answer.text}")
    return dict(answer.json())


async def place_call(dialled: str, ports: dict[str, int]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The driver's phone waits, the customer's dials; what each of them saw."""
    clips = files("sipedge.softphone") / "clips"
    edge = f"127.0.0.1:{ports['sip']}"
    answering = ["answer", "--listen", f"127.0.0.1:{ports['driver']}", "--play", str(clips / "driver.wav")]
    calling = ["call", f"sip:{dialled}@{edge}", "--listen", f"127.0.0.1:{ports['customer']}", "--caller", CUSTOMER]
    calling += ["--play", str(clips / "customer.wav"), "--hangup-after", str(TALK)]
    async with softphone(answering) as driver:
        await said(driver, "listening")
        async with softphone(calling) as customer:
            caller = await said(customer, "ended")
        callee = await said(driver, "ended")
    return caller, callee


@contextlib.asynccontextmanager
async def softphone(arguments: list[str]) -> AsyncIterator[asyncio.subprocess.Process]:
    command = [sys.executable, "-m", "sipedge.softphone", *arguments]
    phone = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        yield phone
    finally:
        if phone.returncode is None:
            phone.kill()
            await phone.wait()


async def said(phone: asyncio.subprocess.Process, event: str) -> dict[str, Any]:
    """The phone's JSON line of that event; what it said before is read past, a failure is raised."""
    assert phone.stdout is not None
    async for line in phone.stdout:
        heard: dict[str, Any] = msgspec.json.decode(line)
        if heard["event"] == "failed":
            raise Broken(f"a phone's call failed: {heard}")
        if heard["event"] == event:
            return heard
    raise Broken(f"a phone ended before it was {event}")


def check_what_the_phones_saw(caller: dict[str, Any], callee: dict[str, Any], dialled: str, shown: str) -> None:
    if callee["from"] != shown:
        raise Broken(f"the driver's phone showed {callee['from']}, promised was {shown}")
    if CUSTOMER.lstrip("+") in msgspec.json.encode(callee).decode():
        raise Broken("the driver's phone saw the customer's number")
    if DRIVER.lstrip("+") in msgspec.json.encode(caller).decode():
        raise Broken("the customer's phone saw the driver's number")
    if caller["status"] != 200:
        raise Broken(f"the call to {dialled} was answered {caller['status']}")


async def available_recording(api: httpx2.AsyncClient, session: str) -> dict[str, Any]:
    while True:
        answer = await api.get("/v1/recordings", params={"session": session})
        for recording in answer.json()["data"]:
            if recording["status"] == "available":
                return dict(recording)
            if recording["status"] == "failed":
                raise Broken("the recording failed")
        await asyncio.sleep(0.1)


def channel_levels(path: Path) -> list[float]:
    """The level of each channel in dBFS: the mean power of what was said against a full-scale square wave."""
    with wave.open(str(path), "rb") as file:
        samples = array.array("h", file.readframes(file.getnframes()))
        channels = file.getnchannels()
    return [level(samples[index::channels]) for index in range(channels)]


def level(samples: array.array[int]) -> float:
    power = sum(sample * sample for sample in samples) / max(len(samples), 1)
    return round(10 * math.log10(power / 32768**2), 1) if power else -math.inf
