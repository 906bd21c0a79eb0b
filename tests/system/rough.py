"""Phones that take whatever comes: the caller retries, gives up and goes on; the callee answers everybody.

SIPp tells one story and fails when it goes otherwise; these are for runs in which any process may die at any moment.
"""

from __future__ import annotations

import random
import re
import socket
import threading
import time
from contextlib import suppress
from typing import Self

from tests.system.live import Voice

TRY_AGAIN = 0.5  # seconds between two sendings of one request


def header(message: str, name: str) -> str:
    found = re.search(rf"(?im)^{name}[ \t]*:[ \t]*(.*?)[ \t]*\r", message)
    return found[1] if found else ""


class Callee:
    """Rings and answers every call to `address`:5080 until closed; what it says of itself is the same each time."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((address, 5080))
        self._socket.settimeout(0.1)
        self._address = address
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._voice = Voice(self._address, 0x35)
        self._voice.__enter__()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self._voice.__exit__()
        self._socket.close()

    def _serve(self) -> None:
        while not self._done.is_set():
            with suppress(TimeoutError, ConnectionError):
                data, source = self._socket.recvfrom(65535)
                for answer in self._answers(data.decode("latin-1")):
                    self._socket.sendto(answer, source)

    def _answers(self, request: str) -> list[bytes]:
        method = request.partition(" ")[0]
        if method == "INVITE":
            self._voice.open(request)
            return [
                self._answer(request, "180 Ringing"),
                self._answer(request, "200 OK", self._voice.sdp_of(self._address)),
            ]
        return [] if method == "ACK" or method.startswith("SIP/") else [self._answer(request, "200 OK")]

    def _answer(self, request: str, line: str, body: str = "") -> bytes:
        to = header(request, "To")
        lines = [
            f"SIP/2.0 {line}",
            *[f"Via: {via}" for via in re.findall(r"(?im)^Via:\s*(.*?)\r", request)],
            f"From: {header(request, 'From')}",
            f"To: {to}" if "tag=" in to else f"To: {to};tag=callee",
            f"Call-ID: {header(request, 'Call-ID')}",
            f"CSeq: {header(request, 'CSeq')}",
            f"Contact: <sip:{self._address}:5080>",
            *(["Content-Type: application/sdp"] if body else []),
            f"Content-Length: {len(body)}",
        ]
        return ("\r\n".join([*lines, "", ""]) + body).encode()


class Caller:
    """Places one call after the other from `address`, each to a number of `dialled` as its caller, until closed."""

    def __init__(self, address: str, edge: str, pairs: list[tuple[str, str]], seed: int) -> None:
        """`pairs`: (caller, X)."""
        self._address, self._edge, self._pairs = address, (edge, 5060), pairs
        self._dice = random.Random(seed)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._call_on_and_on, daemon=True)
        self.answered = self.failed = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _call_on_and_on(self) -> None:
        while not self._done.is_set():
            caller, dialled = self._dice.choice(self._pairs)
            with Voice(self._address, 0x15) as voice, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
                line.bind((self._address, 0))
                if OneCall(line, self._edge, caller, dialled, voice).goes(self._dice.uniform(0.1, 7.0)):
                    self.answered += 1
                else:
                    self.failed += 1
            self._done.wait(self._dice.uniform(0.0, 0.5))


class OneCall:
    """A call that hopes for the best: INVITE until something final comes, talk, then BYE until somebody hears it."""

    def __init__(self, line: socket.socket, edge: tuple[str, int], caller: str, dialled: str, voice: Voice) -> None:
        self._line, self._edge, self._voice = line, edge, voice
        self._host, self._port = line.getsockname()
        self._caller, self._uri = caller, f"sip:{dialled}@{edge[0]}:{edge[1]}"
        self._id = f"rough{time.monotonic_ns()}x{self._port}"

    def goes(self, talk: float) -> bool:
        """Whether it was answered."""
        final = self._asked("INVITE", 1, f"<{self._uri}>", self._voice.sdp_of(self._host), 12.0)
        if not final:
            self._asked("CANCEL", 1, f"<{self._uri}>", "", 1.0)
            return False
        self._send("ACK", 1, header(final, "To"), "")
        if not final.startswith("SIP/2.0 200"):
            return False
        self._voice.open(final)
        deadline = time.monotonic() + talk
        while time.monotonic() < deadline:
            if self._heard(deadline - time.monotonic()).startswith("BYE"):
                return True
        self._asked("BYE", 2, header(final, "To"), "", 2.0)
        return True

    def _send(self, method: str, number: int, to: str, body: str) -> None:
        branch = "INVITE" if method == "CANCEL" else method
        lines = [
            f"{method} {self._uri} SIP/2.0",
            f"Via: SIP/2.0/UDP {self._host}:{self._port};branch=z9hG4bK{branch}{self._id};rport",
            "Max-Forwards: 70",
            f"From: <sip:{self._caller}@{self._host}>;tag=rough",
            f"To: {to}",
            f"Call-ID: {self._id}",
            f"CSeq: {number} {method}",
            f"Contact: <sip:{self._host}:{self._port}>",
            *(["Content-Type: application/sdp"] if body else []),
            f"Content-Length: {len(body)}",
        ]
        with suppress(ConnectionError):
            self._line.sendto(("\r\n".join([*lines, "", ""]) + body).encode(), self._edge)

    def _asked(self, method: str, number: int, to: str, body: str, within: float) -> str:
        """The final answer, or nothing."""
        deadline = time.monotonic() + within
        quiet = True
        while time.monotonic() < deadline:
            if quiet:
                self._send(method, number, to, body)
            heard = self._heard(TRY_AGAIN)
            if heard.startswith("SIP/2.0 1"):
                quiet = False  # RFC 3261 17.1.1.2: a provisional answer ends the retransmissions
            elif heard.startswith("SIP/2.0") and f"{number} {method}" in header(heard, "CSeq"):
                return heard
        return ""

    def _heard(self, within: float) -> str:
        """The next message, "" when none came; a BYE of the other side is answered."""
        self._line.settimeout(max(within, 0.001))
        try:
            data, source = self._line.recvfrom(65535)
        except (TimeoutError, ConnectionError):
            return ""
        message = data.decode("latin-1")
        if message.startswith("BYE"):
            kept = [f"{name}: {header(message, name)}" for name in ("Via", "From", "To", "Call-ID", "CSeq")]
            answer = "\r\n".join(["SIP/2.0 200 OK", *kept, "Content-Length: 0", "", ""])
            with suppress(ConnectionError):
                self._line.sendto(answer.encode(), source)
        return message
