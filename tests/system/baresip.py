"""baresip as a phone: it plays a tone, keeps what it hears, and prints what it sees.

baresip takes its signalling address from `sip_listen`, but its media address from the machine's own interface. A
service that talks to it therefore stands on `host_address()`, and its trunk names that address among its `media`.
"""

from __future__ import annotations

import array
import io
import math
import re
import shutil
import socket
import subprocess
import time
import wave
from pathlib import Path
from typing import Self

from tests.conftest import missing_peer

MODULES = [Path("/usr/lib/baresip/modules"), Path("/usr/lib/x86_64-linux-gnu/baresip/modules")]
RATE = 8000


def host_address() -> str:
    """The address this machine sends from; asking needs no packet. Loopback where there is no other."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


def tone(path: Path, hertz: int, seconds: float = 40.0) -> Path:
    """A sine in a WAV file."""
    samples = array.array("h", (round(9000 * math.sin(2 * math.pi * hertz * n / RATE)) for n in range(RATE)))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        for _ in range(math.ceil(seconds)):  # a whole number of periods a second joins without a click
            file.writeframes(samples.tobytes())
    return path


def channels(data: bytes) -> list[array.array[int]]:
    """The samples of each channel of a PCM16 WAV file of 8 kHz, also of one whose writer never finished its head."""
    with wave.open(io.BytesIO(data)) as file:
        assert (file.getsampwidth(), file.getframerate()) == (2, RATE)
        samples = array.array("h", file.readframes(file.getnframes()))
        return [samples[n :: file.getnchannels()] for n in range(file.getnchannels())]


def power(samples: array.array[int]) -> float:
    return sum(sample * sample for sample in samples) / max(len(samples), 1)


def share_of(samples: array.array[int], hertz: int) -> float:
    """How much of the power is a sine of that frequency (Goertzel): near 1 for a clean tone, else near 0."""
    total = power(samples)
    if not total:
        return 0.0
    step, one, two = 2 * math.cos(2 * math.pi * hertz / RATE), 0.0, 0.0
    for sample in samples:
        one, two = sample + step * one - two, one
    found = one * one + two * two - step * one * two
    return 2 * found / (len(samples) ** 2 * total)


class Baresip:
    """One phone of `number` on `address`; `dial` calls at once, otherwise it answers whatever comes; with `keys` it has
    a console to press them on. Over TLS it listens one port higher, with `certificate` (its key in the same file), and
    believes `authorities`."""

    def __init__(
        self, folder: Path, number: str, address: str, port: int, *, hertz: int, dial: str = "", seconds: float = 60.0,
        keys: bool = False, transport: str = "udp", certificate: str = "", authorities: str = "",
    ) -> None:  # fmt: skip
        program = shutil.which("baresip")
        modules = next((path for path in MODULES if path.is_dir()), None)
        if not program or not modules:
            missing_peer("baresip")
        assert program
        self.folder = folder / f"{number[-4:]}-{port}-{time.monotonic_ns()}"
        self.folder.mkdir(parents=True)
        first = 40000 + (port * 37 + time.monotonic_ns() // 1000) % 20000 // 20 * 20
        self.media = {f"{host_address()}:{number}" for number in range(first, first + 20)}
        (self.folder / "config").write_text(
            f"poll_method epoll\nsip_listen {address}:{port}\nmodule_path {modules}\nrtp_ports {first}-{first + 18}\n"
            f"audio_source aufile,{tone(self.folder / 'tone.wav', hertz)}\naudio_player aubridge,x\n"
            f"ausrc_srate {RATE}\nsnd_path {self.folder}\n"
            + (f"sip_certificate {certificate}\n" if certificate else "")
            + (f"sip_cafile {authorities}\n" if authorities else "")
            + "".join(f"module {name}.so\n" for name in ("g711", "aufile", "aubridge", "sndfile"))
            + "".join(f"module_app {name}.so\n" for name in ("account", "menu", "uuid", "debug_cmd"))
            + (f"module cons.so\ncons_listen 127.0.0.1:{first + 19}\n" if keys else "")
        )
        self._console = ("127.0.0.1", first + 19)
        account = f"<sip:{number}@{address};transport={transport}>;regint=0;answermode=auto;audio_codecs=pcma\n"
        (self.folder / "accounts").write_text(account)
        (self.folder / "contacts").write_text("")
        command = [program, "-f", str(self.folder), "-v", "-t", str(math.ceil(seconds))]
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                command + (["-e", f"d {dial}"] if dial else []), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.hang_up()

    def hang_up(self) -> None:
        """Ends the phone politely (BYE), which also completes what it kept."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def says(self, pattern: str, within: float = 8.0) -> re.Match[str]:
        """Waits until its log matches."""
        deadline = time.monotonic() + within
        while not (found := re.search(pattern, self.log())):
            assert time.monotonic() < deadline, f"baresip never said {pattern!r}:\n{self.log()[-3000:]}"
            time.sleep(0.05)
        return found

    def is_ready(self) -> Self:
        self.says(r"baresip is ready")
        return self

    def presses(self, keys: str) -> None:
        """Presses keys in the call it is in, on a phone made with `keys`."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as console:
            for key in keys:
                console.sendto(key.encode(), self._console)
                time.sleep(0.2)

    def saw_caller(self) -> str:
        """The user part of who its display showed."""
        return self.says(r"answering call on line \d from sip:([^@\s>]+)@")[1]

    def heard(self) -> array.array[int]:
        """Everything it was sent, all calls one after the other."""
        samples: array.array[int] = array.array("h")
        for path in sorted(self.folder.glob("dump-*-dec.wav")):
            samples += channels(path.read_bytes())[0]
        return samples
