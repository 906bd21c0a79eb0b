"""How long a caller waits for the answer: one call after the other, beside the load, timed to the microsecond."""

from __future__ import annotations

import re
import socket
import threading
import time

SDP = (
    "v=0\r\no=probe 1 1 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\nm=audio 40000 RTP/AVP 8\r\n"
    "a=rtpmap:8 PCMA/8000\r\n"
)
PAUSE = 0.02  # seconds between two calls: about 40 calls a second


class Probe:
    """Calls `pairs` (caller, dialled) in turn from `address` until stopped; `milliseconds` from INVITE to 200."""

    def __init__(self, address: str, edge: tuple[str, int], pairs: list[tuple[str, str]], *, to_edge: bool) -> None:
        """`to_edge`: later requests go to the request URI, not to the Contact of the answer."""
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((address, 0))
        self._socket.settimeout(2.0)
        self._host, self._port = self._socket.getsockname()
        self._edge, self._pairs, self._to_edge = edge, pairs, to_edge
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._call_on_and_on)
        self.milliseconds: list[float] = []
        self.failed = 0

    def __enter__(self) -> Probe:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._socket.close()

    def _call_on_and_on(self) -> None:
        count = 0
        while not self._stop.is_set():
            count += 1
            try:
                self._call(count, *self._pairs[count % len(self._pairs)])
            except (TimeoutError, ConnectionError, AttributeError):
                self.failed += 1
            time.sleep(PAUSE)

    def _call(self, count: int, caller: str, dialled: str) -> None:
        call_id = f"probe{count}-{time.monotonic_ns()}@{self._host}"
        uri = f"sip:{dialled}@{self._edge[0]}:{self._edge[1]}"

        def send(method: str, number: int, target: str, to: str, routes: list[str], body: str = "") -> None:
            lines = [
                f"{method} {target} SIP/2.0",
                f"Via: SIP/2.0/UDP {self._host}:{self._port};branch=z9hG4bK{method}{call_id.partition('@')[0]};rport",
                "Max-Forwards: 70",
                *[f"Route: {route}" for route in routes],
                f"From: <sip:{caller}@{self._host}>;tag=p{count}",
                f"To: {to}",
                f"Call-ID: {call_id}",
                f"CSeq: {number} {method}",
                f"Contact: <sip:{caller}@{self._host}:{self._port}>",
                *(["Content-Type: application/sdp"] if body else []),
                f"Content-Length: {len(body)}",
            ]
            self._socket.sendto(("\r\n".join(lines) + "\r\n\r\n" + body).encode(), self._edge)

        def answer(cseq: str) -> str:
            while True:
                text = self._socket.recv(65535).decode("latin-1")
                if call_id in text and cseq in text and not text.startswith("SIP/2.0 1"):
                    return text

        began = time.perf_counter()
        send("INVITE", 1, uri, f"<{uri}>", [], SDP.format(host=self._host))
        said = answer("1 INVITE")
        if not said.startswith("SIP/2.0 200"):
            self.failed += 1
            return
        self.milliseconds.append((time.perf_counter() - began) * 1000)
        to = header(said, "To")
        contact = re.search(r"(?im)^(?:Contact|m):[^<]*<([^>]*)>", said)
        target = contact[1] if contact and not self._to_edge else uri
        routes = re.findall(r"(?im)^Record-Route:\s*(.*?)\r", said)[::-1]
        send("ACK", 1, target, to, routes)
        send("BYE", 2, target, to, routes)
        answer("2 BYE")


def header(message: str, name: str) -> str:
    found = re.search(rf"(?im)^{name}:\s*(.*?)\r", message)
    return found[1] if found else ""
