"""rtpengine without its kernel module, as a peer of our relay: one worker thread, commanded over its ng protocol.

ng is a datagram with a cookie, a space and a dictionary, in JSON if the request was; the answer begins with the same
cookie. https://rtpengine.readthedocs.io/en/latest/ng_control_protocol.html
"""

from __future__ import annotations

import json
import re
import shutil
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

PROGRAM: Final = "rtpengine"
STARTING: Final = 5.0  # seconds it may take to answer the first time
ANSWERING: Final = 1.0


class Unavailable(Exception):
    """rtpengine cannot be measured here; the text says why."""


def command(control: int, first: int, last: int, folder: Path) -> list[str]:
    """How it is started: userspace only (table -1), no configuration but this. Raises `Unavailable`."""
    program = shutil.which(PROGRAM)
    if program is None:
        raise Unavailable("rtpengine is not installed")
    return [
        program, "--config-file=none", "--foreground", "--log-stderr", "--log-level=2", "--table=-1",
        "--num-threads=1", "--interface=127.0.0.1", f"--listen-ng=127.0.0.1:{control}", f"--port-min={first}",
        f"--port-max={last}", f"--pidfile={folder / 'rtpengine.pid'}",
    ]  # fmt: skip


class Control:
    """Commands a running rtpengine, one request at a time."""

    def __init__(self, port: int) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.connect(("127.0.0.1", port))
        self._count = 0

    def __enter__(self) -> Control:
        return self

    def __exit__(self, *error: object) -> None:
        self._socket.close()

    def ask(self, command: str, *, within: float = ANSWERING, **more: object) -> dict[str, Any]:
        """Its answer. Raises `Unavailable` when it refuses or says nothing."""
        self._count += 1
        cookie = b"%d " % self._count
        fields = {name.replace("_", "-"): value for name, value in more.items()}
        self._socket.settimeout(within)
        try:
            self._socket.send(cookie + json.dumps({"command": command, **fields}).encode())
            while not (answer := self._socket.recv(65_536)).startswith(cookie):
                continue
        except OSError as error:
            raise Unavailable(f"rtpengine does not answer: {error}") from None
        said: dict[str, Any] = json.loads(answer[len(cookie) :])
        if said.get("result") not in ("ok", "pong"):
            raise Unavailable(f"rtpengine refused {command}: {said.get('error-reason')}")
        return said

    def wait(self) -> None:
        """Until it answers."""
        until = time.monotonic() + STARTING
        while True:
            try:
                self.ask("ping", within=0.1)
                return
            except Unavailable:
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)  # a refused datagram comes back at once

    def call(self, index: int, theirs: Sequence[int]) -> tuple[int, int]:
        """One call between two phones' ports; the two ports it gives them."""
        call: dict[str, Any] = {"call_id": f"call-{index}", "from_tag": "a", "ICE": "remove", "replace": ["origin"]}
        offer = self.ask("offer", sdp=description(theirs[0]), **call)
        answer = self.ask("answer", sdp=description(theirs[1]), to_tag="b", **call)
        return audio_port(answer["sdp"]), audio_port(offer["sdp"])


def description(port: int) -> str:
    """The SDP of a phone."""
    lines = ["v=0", "o=- 1 1 IN IP4 127.0.0.1", "s=-", "c=IN IP4 127.0.0.1", "t=0 0"]
    lines += [f"m=audio {port} RTP/AVP 8", "a=rtpmap:8 PCMA/8000", "a=ptime:20", "a=sendrecv", ""]
    return "\r\n".join(lines)


def audio_port(sdp: str) -> int:
    """The port of the one stream in a description."""
    found = re.search(r"^m=audio (\d+) ", sdp, re.MULTILINE)
    if found is None:
        raise Unavailable("rtpengine answered without audio")
    return int(found[1])
