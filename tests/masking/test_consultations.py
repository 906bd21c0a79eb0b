"""How apps are asked: as often as it is worth it, no further than allowed, and each for itself."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from masking import consultations
from masking.breakers import FIRST, TRIPS_AT
from masking.config import WebhooksSection
from masking.consultations import Consultant, understood
from masking.events import moment
from masking.post import READ, Outcome
from masking.questions import Kind, Question, Verdict
from masking.services import Service
from tests.certificates import Authority
from tests.courier.receiver import OK, Receiver, receiver, said, status
from tests.masking.world import World

# What is JSON, or nearly: of any depth, and with the words that an answer may hold.
DEEP = st.builds(
    lambda word, inner, depth: b'{"%s": ' % word.encode() + b"[" * depth + inner,
    st.sampled_from(["action", "reason", "session", "to", "participantIdentifier", "ttl"]),
    st.sampled_from([b"", b"]}", b"1}", b'{"participants": []}}', b'"deny"}']),
    st.sampled_from([0, 1, 5000]),
)
SERVICE = Service(id="svc_1", unique_name="rides", created_at=moment(0))


@pytest.fixture
async def app() -> AsyncIterator[Receiver]:
    async with receiver() as found:
        yield found


class Asking:
    """A consultant, and what it is asked."""

    def __init__(self, world: World, allow_private: bool = True) -> None:
        reaching = msgspec.structs.replace(world.house.config, webhooks=WebhooksSection(allow_private=allow_private))
        self.world = world
        self.consultant = Consultant(replace(world.house, config=reaching))

    async def __call__(self, url: str, tenant: str = "acme", within: float = 2.0, **data: Any) -> str:
        """The verdict, or the word why there is none."""
        advice = await self.consultant.ask(
            Question(
                id="req_1",
                type="call.intercept",
                tenant=tenant,
                service=SERVICE,
                url=url,
                within=within,
                at=self.world.house.now(),
                data=data,
            )
        )
        assert advice.took <= within + 1.0
        return advice.answer.verdict if advice.answer is not None else str(advice.error)


@pytest.fixture
async def ask(world: World) -> AsyncIterator[Asking]:
    found = Asking(world)
    yield found
    await found.consultant.close()


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (OK, "allow"),
        (said({"action": "deny"}), "deny"),
        (status(403), "deny"),
        (said(b"you may not", 403), "deny"),
        (said({"action": "perhaps"}), "unreadable"),
        (said(b"\xff\xfe"), "unreadable"),
        (said([1]), "unreadable"),
        (said(b'{"action": "allow", "x": "' + b"x" * READ + b'"}'), "unreadable"),
        (said(b'{"reason": ' + b"[" * 8000), "unreadable"),
        (said(b'{"reason": ' + b"[" * 8000, 403), "deny"),
        (status(404), "status_404"),
        (status(301, "Location: http://127.0.0.1:1/"), "redirect"),
    ],
)
async def test_an_answer_is_read_for_what_it_says(ask: Asking, app: Receiver, answer: bytes, verdict: str) -> None:
    app.answer = lambda _: answer
    assert await ask(app.url) == verdict


@given(wording=st.sampled_from(["standard", "twilio"]), code=st.integers(200, 599), body=st.binary() | DEEP)
def test_no_answer_is_a_fault(wording: Any, code: int, body: bytes) -> None:
    service = msgspec.structs.replace(SERVICE, webhook_wording=wording)
    caller = {"id": "clr_1", "token": "clt_1"}
    for kind in get_args(Kind):
        asked = Question(
            id="req_1", type=kind, tenant="acme", service=service, url="", within=1.0, at=0.0, data={"caller": caller}
        )
        answer = understood(asked, Outcome(code, None, 0.1, body))
        assert answer is None or answer.verdict in get_args(Verdict)


async def test_a_resting_app_is_tried_by_one_call_at_a_time_and_by_all_once_it_answers(
    ask: Asking, app: Receiver
) -> None:
    app.answer = lambda _: status(500)
    for _ in range(TRIPS_AT):
        assert await ask(app.url) == "status_500"
    assert await ask(app.url) == "resting" and ask.consultant.resting == 1
    assert await ask(app.url, tenant="other") == "status_500", "another tenant's app is another, even at the same URL"
    await ask.world.later(FIRST)
    app.answer, app.held, before = lambda _: OK, asyncio.Event(), len(app.heard)
    trying = asyncio.create_task(ask(app.url))
    async with asyncio.timeout(3.0):
        while len(app.heard) == before:
            await asyncio.sleep(0.01)
    assert [await ask(app.url) for _ in range(3)] == ["resting"] * 3
    app.held.set()
    assert await trying == "allow"
    assert await asyncio.gather(*(ask(app.url) for _ in range(3))) == ["allow"] * 3
    assert len(app.heard) == before + 4 and ask.consultant.resting == 0


async def test_a_kept_connection_that_ended_costs_one_more_try_and_no_failure(ask: Asking) -> None:
    """A server that takes one question for each connection, and hangs up when it is asked a second one."""
    heard = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal heard
        await reader.readuntil(b"}}")
        heard += 1
        writer.write(OK)
        await reader.read(1)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    assert [await ask(url, x={}) for _ in range(5)] == ["allow"] * 5
    assert heard == 5
    server.close()


async def test_no_app_is_asked_where_nothing_may_be_sent(world: World, app: Receiver) -> None:
    guarded = Asking(world, allow_private=False)
    assert await guarded(f"http://localhost:{app.port}/hook") == "forbidden_address"
    assert await guarded(f"http://127.0.0.1:{app.port}/hook") == "forbidden_address"
    assert app.heard == []
    await guarded.consultant.close()


async def test_an_app_whose_certificate_nobody_vouches_for_is_not_asked(ask: Asking, tmp_path: Path) -> None:
    pair = await asyncio.to_thread(lambda: Authority(tmp_path).sign("127.0.0.1"))
    secure = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    await asyncio.to_thread(secure.load_cert_chain, pair.certificate, pair.key)
    app = Receiver()
    server = await asyncio.start_server(app.serve, "127.0.0.1", 0, ssl=secure)
    app.port = server.sockets[0].getsockname()[1]
    assert await ask(app.url.replace("http:", "https:")) == "tls" and app.heard == []
    server.close()


async def test_a_name_server_that_is_silent_is_asked_once_for_all_calls_and_delays_no_other_app(
    ask: Asking, app: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered, asked, really = threading.Event(), [], socket.getaddrinfo

    def silent(host: str, *more: Any, **named: Any) -> Any:
        if host != "slow.example":
            return really(host, *more, **named)
        asked.append(host)
        answered.wait(10.0)
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", silent)
    waiting = [asyncio.create_task(ask("http://slow.example/", within=0.3)) for _ in range(40)]
    assert await ask(f"http://localhost:{app.port}/hook") == "allow"
    assert set(await asyncio.gather(*waiting)) == {"timeout"} and asked == ["slow.example"]
    answered.set()


async def test_connections_are_kept_to_those_asked_last(
    ask: Asking, app: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consultations, "REMEMBERED", 2)
    for path in "abcab":
        assert await ask(f"{app.url}/{path}") == "allow"
    assert [url[-1] for _, url in ask.consultant._receivers] == ["a", "b"]
