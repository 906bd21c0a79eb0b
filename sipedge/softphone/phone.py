"""A small real phone: `Phone` speaks SIP over UDP or TCP on our own core, `Call` is what one holds to the ear.

    async with Phone(("127.0.0.1", 0)) as phone:
        call = await phone.dial("sip:+842471000001@127.0.0.1:5060", caller="+84901234567")
        await call.answered()
        call.play(tone(440), loop=True)
        ...
        await call.hangup()

The loop's clock and `os.urandom` are its own: a phone is a program at the edge of the house, for demo, tests and
integrators.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Sequence
from typing import Self

from sipedge.media.plane import CodecName
from sipedge.sip.endpoint import Endpoint
from sipedge.sip.events import Disconnect, Event, Invited, Refused, Requested, Responded
from sipedge.sip.flows import Flow
from sipedge.sip.uris import Uri, hostport, sip_uri
from sipedge.softphone.audio import Audio
from sipedge.softphone.calls import Call
from sipedge.softphone.calls import CallFailed as CallFailed
from sipedge.softphone.line import Line


class Phone:
    """One SIP address of its own. `codecs` in order of preference; `media_host` where its RTP sockets are."""

    def __init__(
        self,
        listen: tuple[str, int] = ("127.0.0.1", 0),
        *,
        transport: str = "udp",
        codecs: Sequence[CodecName] = ("PCMA", "PCMU"),
        media_host: str = "",
    ) -> None:
        self.address = listen  # after entering: with the port the kernel chose
        self.transport = transport
        self.codecs = tuple(codecs)
        self.media_host = media_host or listen[0]
        self.endpoint = Endpoint(entropy=os.urandom)
        self.refused: list[Refused] = []
        self._calls: dict[str, Call] = {}
        self._asked: dict[str, asyncio.Future[Responded]] = {}
        self._incoming: asyncio.Queue[Call] = asyncio.Queue()
        self._alarm: asyncio.TimerHandle | None = None
        self._answering: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self.loop = asyncio.get_running_loop()
        self._line = await Line.open(self.transport, self.address, self._received, self._failed, self._closed)
        self.address = self._line.address
        return self

    async def __aexit__(self, *_: object) -> None:
        for call in list(self._calls.values()):
            await call.hangup(wait=False)
        for call in list(self._calls.values()):
            call.audio.close()
        if self._alarm is not None:
            self._alarm.cancel()
        await self._line.close()

    # -- what a person does -----------------------------------------------------------------------------------------

    async def dial(
        self,
        uri: str,
        *,
        caller: str,
        asserted: str = "",
        headers: Sequence[tuple[str, str]] = (),
        offer: bool = True,
    ) -> Call:
        """Sends the INVITE and returns at once; `caller` is the user part of From, `asserted` that of
        P-Asserted-Identity."""
        here = hostport(self.address)
        flow = await self._flow_to(uri)
        extra = [*headers, ("P-Asserted-Identity", f"<{sip_uri(asserted, here)}>")] if asserted else list(headers)
        audio = await self._audio()
        call = Call(self, audio, caller=True)
        call.leg = self.endpoint.invite(
            flow,
            uri,
            self.loop.time(),
            from_=f"<{sip_uri(caller, here)}>",
            to=f"<{uri}>",
            headers=extra,
            body=call.offer() if offer else b"",
        )
        self._calls[call.leg] = call
        self.drive()
        return call

    async def incoming(self) -> Call:
        """The next call for us, not yet answered in any way."""
        return await self._incoming.get()

    async def ask(self, method: str, uri: str, *, headers: Sequence[tuple[str, str]] = ()) -> int:
        """Sends a request outside any call (OPTIONS, MESSAGE, …) and returns the status of its answer."""
        here = f"<sip:{hostport(self.address)}>"
        flow = await self._flow_to(uri)
        key = self.endpoint.send_request(
            flow, method, uri, self.loop.time(), from_=here, to=f"<{uri}>", headers=headers
        )
        return (await self.outcome(key)).status

    @property
    def calls(self) -> list[Call]:
        """Those that stand or ring."""
        return list(self._calls.values())

    # -- for its calls ----------------------------------------------------------------------------------------------

    async def outcome(self, transaction: str) -> Responded:
        """What came of a request of ours."""
        self._asked[transaction] = self.loop.create_future()
        self.drive()
        return await self._asked[transaction]

    def now(self) -> float:
        return self.loop.time()

    def forget(self, call: Call) -> None:
        self._calls.pop(call.leg, None)

    def drive(self) -> None:
        """Sends everything, tells everything, sets the one alarm."""
        while True:
            for flow, data in self.endpoint.take_sends():
                self._line.send(flow, data)
            events = self.endpoint.take_events()
            if not events:
                break
            for event in events:
                self._tell(event)
        if self._alarm is not None:
            self._alarm.cancel()
        due = self.endpoint.due()
        self._alarm = None if due is None else self.loop.call_at(due, self._rang)

    # -- machinery --------------------------------------------------------------------------------------------------

    async def _flow_to(self, uri: str) -> Flow:
        """The road to a URI's host, looked up where it is a name. Raises `Malformed` and OSError."""
        target = Uri.parse(uri)
        kind = socket.SOCK_DGRAM if self.transport == "udp" else socket.SOCK_STREAM
        family = socket.AF_INET6 if ":" in self.address[0] else socket.AF_INET
        found = await self.loop.getaddrinfo(target.host.strip("[]"), target.port or 5060, family=family, type=kind)
        host, port = found[0][4][:2]
        return self._line.flow_to((str(host), int(port)))

    async def _audio(self) -> Audio:
        return await Audio.open(self.media_host, int.from_bytes(os.urandom(4), "big"))

    def _tell(self, event: Event) -> None:
        match event:
            case Invited():
                task = self.loop.create_task(self._invited(event))
                self._answering.add(task)
                task.add_done_callback(self._answering.discard)
            case Requested():
                self._requested(event)
            case Responded():
                waiting = self._asked.pop(event.transaction, None)
                if waiting is not None and not waiting.done():
                    waiting.set_result(event)
            case Refused():
                self.refused.append(event)
            case Disconnect():
                self._line.disconnect(event.flow)
            case _:
                call = self._calls.get(event.leg)
                if call is not None:
                    call.take(event)

    async def _invited(self, event: Invited) -> None:
        call = Call(self, await self._audio(), caller=False)
        call.leg = event.leg
        call.invited(event)
        self._calls[event.leg] = call
        self._incoming.put_nowait(call)

    def _requested(self, event: Requested) -> None:
        call = self._calls.get(event.leg or "")
        now = self.loop.time()
        if event.request.method == "INVITE" and call is not None:
            body = call.accept(event.request.description)
            if body:
                self.endpoint.respond(event.transaction, 200, now, body=body)
            else:
                self.endpoint.respond(event.transaction, 488, now)
        else:
            self.endpoint.respond(event.transaction, 200, now)

    def _rang(self) -> None:
        self.endpoint.timeout(self.loop.time())
        self.drive()

    def _received(self, data: bytes, flow: Flow) -> None:
        self.endpoint.receive(data, flow, self.loop.time())
        self.drive()

    def _failed(self, flow: Flow) -> None:
        self.endpoint.transport_failed(flow, self.loop.time())
        self.drive()

    def _closed(self, flow: Flow) -> None:
        self.endpoint.disconnected(flow, self.loop.time())
        self.drive()
