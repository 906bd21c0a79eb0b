"""A relay as a real process, an edge that commands it, and phones that send and hear RTP, all on loopback."""

from __future__ import annotations

import json
import math
import random
import select
import socket
import subprocess
import sys
import time
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from recordings.capture import CaptureReader, writer_lives
from sipedge.media import g711, plane, rtp, wire
from sipedge.media.plane import Event, Reply, Request, Terms
from tests.recordings.phones import LOCK, opened

SEAL = plane.Seal(LOCK.tenant, LOCK.key, LOCK.public)
LOOPBACK = ("127.0.0.0/8", "::1/128")
T = TypeVar("T")


class Relay:
    """The process; `asking()` opens an edge's connection."""

    def __init__(self, folder: Path, ports: str | None = None, bind: str = "127.0.0.1") -> None:
        self.path = str(folder / "relay.sock")
        base = random.randrange(10_000, 19_000, 2)
        self.ports = ports or f"{base}-{base + 799}"
        command = [sys.executable, "-m", "sipedge.relay", "--socket", self.path, "--ports", self.ports, "--bind", bind]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the relay did not start"
        self.ready: dict[str, Any] = json.loads(line)

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def edge(self, name: str = "edge-1") -> Edge:
        return Edge(self.path, name)


class Edge:
    """A blocking client: requests in turn, events kept in order."""

    def __init__(self, path: str, name: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(path)
        self.socket.settimeout(10)
        self.frames = wire.Frames()
        self.replies: dict[int, plane.Result] = {}
        self.events: list[Event] = []
        self.count = 0
        self.left = self.ask(plane.Hello(name), plane.Held).calls if name else ()

    def __enter__(self) -> Edge:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def send(self, command: plane.Command) -> int:
        self.count += 1
        self.socket.sendall(wire.encode(Request(self.count, command)))
        return self.count

    def result(self, id: int) -> plane.Result:
        while id not in self.replies:
            self.read()
        return self.replies.pop(id)

    def ask(self, command: plane.Command, kind: type[T]) -> T:
        result = self.result(self.send(command))
        assert isinstance(result, kind), result
        return result

    def read(self) -> None:
        data = self.socket.recv(65_536)
        if not data:
            raise ConnectionError("the relay closed the connection")
        for body in self.frames.feed(data):
            message = wire.decode_message(body)
            if isinstance(message, Reply):
                self.replies[message.id] = message.result
            else:
                self.events.append(message)

    def event(self, kind: type[T], seconds: float = 10.0) -> T:
        """The first event of a kind, waited for and taken."""
        self.socket.settimeout(seconds)
        while True:
            for event in self.events:
                if isinstance(event, kind):
                    self.events.remove(event)
                    return event
            self.read()

    # ---- whole stories ----

    def open(self, call: str, legs: int = 2, silent_after: float = 20.0) -> tuple[int, ...]:
        return self.ask(plane.Open(call, 2 if legs == 2 else 1, silent_after), plane.Ports).ports

    def connect(self, call: str, leg: plane.Leg, phone: Phone, **terms: Any) -> None:
        self.ask(plane.Connect(call, leg, phone.terms(**terms)), plane.Done)

    def close(self, call: str) -> plane.Closed:
        return self.ask(plane.Close(call), plane.Closed)

    def bridged(self, call: str, first: Phone, second: Phone) -> None:
        """Opens, connects and bridges a call between two phones, and tells them where to send."""
        first.to, second.to = ((first.host, port) for port in self.open(call))
        self.connect(call, 1, first)
        self.connect(call, 2, second)
        self.ask(plane.Bridge(call), plane.Done)


class Phone:
    """A UDP socket with an RTP clock."""

    def __init__(self, codec: plane.CodecName = "PCMA", host: str = "127.0.0.1", dtmf: int | None = 101) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.control = socket.socket(family, socket.SOCK_DGRAM)
        while True:
            self.socket.bind((host, 0))
            self.port: int = self.socket.getsockname()[1]
            try:
                self.control.bind((host, self.port + 1))
                break
            except (OSError, OverflowError):
                self.socket.close()
                self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.host = host
        self.codec: plane.CodecName = codec
        self.dtmf = dtmf
        self.to = (host, 9)
        self.sequence = random.randrange(0x10000)
        self.timestamp = random.randrange(1 << 32)
        self.ssrc = random.randrange(1 << 32)
        self.heard: list[rtp.Packet] = []
        self.arrivals: list[float] = []

    def __enter__(self) -> Phone:
        return self

    def __exit__(self, *error: object) -> None:
        self.socket.close()
        self.control.close()

    def terms(self, **changes: Any) -> Terms:
        own: dict[str, Any] = {
            "host": self.host,
            "port": self.port,
            "codec": self.codec,
            "cidrs": LOOPBACK,
            "dtmf": self.dtmf,
        }
        return Terms(**(own | changes))

    def say(self, payload: bytes, payload_type: int | None = None, *, marker: bool = False, advance: int = 160) -> None:
        """One packet, its clock moved on."""
        kind = {"PCMA": 8, "PCMU": 0}[self.codec] if payload_type is None else payload_type
        self.socket.sendto(rtp.build(kind, self.sequence, self.timestamp, self.ssrc, payload, marker=marker), self.to)
        self.sequence = self.sequence + 1 & 0xFFFF
        self.timestamp = self.timestamp + advance & 0xFFFFFFFF

    def frames(self, frequency: int) -> Iterator[bytes]:
        """20 ms after 20 ms of a tone."""
        at = 0
        while True:
            yield g711.encode(self.codec, tone(frequency, at, 160))
            at += 160

    def listen(self, seconds: float = 0.0) -> None:
        """Takes what has arrived, and what arrives within `seconds`."""
        until = time.monotonic() + seconds
        while select.select([self.socket], [], [], max(0.0, until - time.monotonic()))[0]:
            self.heard.append(rtp.parse(self.socket.recv(2048)))
            self.arrivals.append(time.monotonic())

    def wait_for(self, count: int, seconds: float = 5.0) -> list[rtp.Packet]:
        """Until so many packets were heard in all."""
        until = time.monotonic() + seconds
        while len(self.heard) < count and time.monotonic() < until:
            self.listen(0.01)
        assert len(self.heard) >= count, f"heard {len(self.heard)} of {count}"
        return self.heard

    def sound(self, codec: plane.CodecName | None = None) -> bytes:
        """All it heard as PCM."""
        return g711.decode(codec or self.codec, b"".join(packet.payload for packet in self.heard))


def tone(frequency: int, begin: int, length: int, level: int = 10_000) -> bytes:
    turn = 2 * math.pi * frequency / g711.RATE
    return array("h", (round(level * math.sin(turn * at)) for at in range(begin, begin + length))).tobytes()


def strength(pcm: bytes, frequency: int) -> float:
    """How much of the sound is this frequency, 0..1 (Goertzel)."""
    samples = array("h", pcm)
    if not samples:
        return 0.0
    factor = 2 * math.cos(2 * math.pi * frequency / g711.RATE)
    one = two = 0.0
    for sample in samples:
        one, two = sample + factor * one - two, one
    power = one * one + two * two - factor * one * two
    energy = sum(sample * sample for sample in samples)
    return power / (energy * len(samples) / 2) if energy else 0.0


def talk(
    *phones: Phone,
    frames: int = 50,
    frequencies: tuple[int, ...] = (440, 880),
    hearing: tuple[Phone, ...] = (),
    meanwhile: Callable[[], None] = lambda: None,
) -> None:
    """Phones send tones at the pace of speech and listen, as do those in `hearing`."""
    sources = [phone.frames(frequency) for phone, frequency in zip(phones, frequencies, strict=False)]
    due = time.monotonic()
    for _ in range(frames):
        for phone, source in zip(phones, sources, strict=True):
            phone.say(next(source))
        meanwhile()
        due += 0.02
        while (left := due - time.monotonic()) > 0:
            sockets = {phone.socket: phone for phone in (*phones, *hearing)}
            for ready in select.select(list(sockets), [], [], left)[0]:
                sockets[ready].listen()
    for phone in (*phones, *hearing):
        phone.listen(0.1)


def written(path: Path) -> CaptureReader:
    """The capture, once its writer, a thread of the relay's, is through with it: the answer to a close comes sooner."""
    deadline = time.monotonic() + 5.0
    while not path.exists() or writer_lives(path):
        assert time.monotonic() < deadline, "the capture is never let go"
        time.sleep(0.005)
    return opened(path)
