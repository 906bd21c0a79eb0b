"""A phone on loopback for the edge's tests: a SIP endpoint and an RTP socket that are told exactly what to do."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import TypeVar

from sipedge.sip.digest import Credentials
from sipedge.sip.endpoint import Endpoint
from sipedge.sip.events import Event, Invited, Refused, Requested
from sipedge.sip.flows import Flow

E = TypeVar("E")

Address = tuple[str, int]


def udp_socket(host: str = "127.0.0.1", port: int = 0) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.bind((host, port))
    return sock


class Phone:
    """Says what it is told, keeps every byte it hears. `number`: who it is; `edge`: where it calls."""

    def __init__(self, number: str, host: str = "127.0.0.1") -> None:
        self.loop = asyncio.get_running_loop()
        self.number = number
        self.sock = udp_socket(host)
        self.rtp = udp_socket(host)
        self.address: Address = self.sock.getsockname()
        self.endpoint = Endpoint(entropy=os.urandom)
        self.heard: list[bytes] = []
        self.said: list[bytes] = []
        self.audio: list[bytes] = []
        self.deaf = False  # reads nothing: a trunk that is silent
        self.no_ack = False
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._alarm: asyncio.TimerHandle | None = None
        self.loop.add_reader(self.sock, self._read)
        self.loop.add_reader(self.rtp, self._read_rtp)

    def close(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        for sock in (self.sock, self.rtp):
            if sock.fileno() >= 0:  # a test may have closed it before
                self.loop.remove_reader(sock)
                sock.close()

    # ---- SIP ----

    def sdp(self, *, host: str = "127.0.0.1", codecs: str = "8 0 101", extra: str = "") -> bytes:
        return (
            f"v=0\r\no=phone 1 1 IN IP4 {host}\r\ns=call\r\nc=IN IP4 {host}\r\nt=0 0\r\n{extra}"
            f"m=audio {self.rtp.getsockname()[1]} RTP/AVP {codecs}\r\n"
            "a=rtpmap:8 PCMA/8000\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\n"
        ).encode()

    def call(
        self,
        edge: Address,
        dialled: str,
        *,
        body: bytes | None = None,
        headers: list[tuple[str, str]] | None = None,
        from_: str | None = None,
        max_forwards: int = 70,
        content_type: str = "application/sdp",
        credentials: Credentials | None = None,
    ) -> str:
        leg = self.endpoint.invite(
            Flow("udp", edge, self.address),
            f"sip:{dialled}@{edge[0]}:{edge[1]}",
            self.loop.time(),
            from_=from_ or f"<sip:{self.number}@phone.example>",
            to=f"<sip:{dialled}@{edge[0]}>",
            headers=headers or [],
            body=self.sdp() if body is None else body,
            content_type=content_type,
            max_forwards=max_forwards,
            credentials=credentials,
        )
        self.drive()
        return leg

    def said_invite(self, edge: Address, dialled: str) -> bytes:
        """An INVITE as `call` would send it, not sent."""
        writer = Endpoint(entropy=os.urandom)
        flow = Flow("udp", edge, self.address)
        who = f"<sip:{self.number}@phone.example>"
        writer.invite(flow, f"sip:{dialled}@edge", 0.0, from_=who, to="<sip:edge>", body=self.sdp())
        return writer.take_sends()[0][1]

    def respond(self, event: Invited | Requested, status: int, **more: object) -> None:
        self.endpoint.respond(event.transaction, status, self.loop.time(), **more)  # type: ignore[arg-type]
        self.drive()

    def answer(self, event: Invited, body: bytes | None = None) -> None:
        self.respond(event, 200, body=self.sdp() if body is None else body)

    def hang_up(self, leg: str) -> None:
        self.endpoint.bye(leg, self.loop.time())
        self.drive()

    def cancel(self, leg: str) -> None:
        self.endpoint.cancel(leg, self.loop.time())
        self.drive()

    def request(self, leg: str, method: str, body: bytes = b"", content_type: str = "") -> None:
        self.endpoint.request(leg, method, self.loop.time(), body=body, content_type=content_type)
        self.drive()

    def send(self, data: bytes, to: Address) -> None:
        self.sock.sendto(data, to)

    async def expect(self, kind: type[E], seconds: float = 5.0) -> E:
        """The next event, which must be of this kind (provisional 100s are read past)."""
        async with asyncio.timeout(seconds):
            while True:
                event = await self._events.get()
                if getattr(event, "status", None) == 100 or isinstance(event, Refused):
                    continue  # Refused: a neighbour on this machine sent something here
                assert isinstance(event, kind), f"{type(event).__name__} {getattr(event, 'status', '')}"
                return event

    async def silence(self, seconds: float) -> None:
        """Nothing happens here for so long."""
        await asyncio.sleep(seconds)
        assert self._events.empty(), self._events.get_nowait()

    # ---- RTP ----

    def speak(self, to: Address, marker: int, packets: int = 5, start: int = 0) -> None:
        """A few packets of PCMA that carry the marker."""
        for count in range(start, start + packets):
            head = bytes([0x80, 8]) + count.to_bytes(2) + (count * 160).to_bytes(4) + (7000 + marker).to_bytes(4)
            self.rtp.sendto(head + bytes([marker]) * 160, to)

    def heard_marker(self, marker: int) -> bool:
        return any(packet[12:] == bytes([marker]) * 160 for packet in self.audio)

    # ---- sockets ----

    def drive(self) -> None:
        for flow, data in self.endpoint.take_sends():
            if self.no_ack and data.startswith(b"ACK "):
                continue
            self.said.append(data)
            self.sock.sendto(data, flow.remote)
        for event in self.endpoint.take_events():
            self._events.put_nowait(event)
        if self._alarm is not None:
            self._alarm.cancel()
        due = self.endpoint.due()
        self._alarm = None if due is None else self.loop.call_at(due, self._rang)

    def _rang(self) -> None:
        self.endpoint.timeout(self.loop.time())
        self.drive()

    def _read(self) -> None:
        while True:
            try:
                data, source = self.sock.recvfrom(65535)
            except BlockingIOError:
                break
            self.heard.append(data)
            if not self.deaf:
                self.endpoint.receive(data, Flow("udp", source, self.address), self.loop.time())
        self.drive()

    def _read_rtp(self) -> None:
        while True:
            try:
                self.audio.append(self.rtp.recv(2048))
            except BlockingIOError:
                break


def media_of(body: bytes) -> Address:
    """Where a description wants its audio."""
    lines = body.decode().split("\r\n")
    host = next(line.split()[-1] for line in lines if line.startswith("c="))
    return host, int(next(line.split()[1] for line in lines if line.startswith("m=audio")))
