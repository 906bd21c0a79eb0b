"""The client against a service that misbehaves: what it asks again, what it gives up, and what it raises."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import httpx2
import msgspec
import pytest

from masking_client import AsyncClient, Client, Problem, Unreachable, Unreadable, problems
from masking_client.answers import Alive
from masking_client.bodies import NewParticipant
from masking_client.calls import Calls
from masking_client.server_sent import Messages

ROOT = Path(__file__).parents[2]
URL = "http://masking.test"
SESSION = "/v1/sessions/ses_1"
HANOI = timezone(timedelta(hours=7))
PEOPLE: list[NewParticipant] = [{"identifier": "+84901234567"}, {"identifier": "+84907654321"}]


def answer(status: int, said: object = None, **headers: str) -> httpx2.Response:
    return httpx2.Response(status, headers=headers, content=msgspec.json.encode(said))


def problem(status: int, code: str, **more: object) -> httpx2.Response:
    headers = {"Retry-After": str(more["retry_after"])} if "retry_after" in more else {}
    return answer(status, {"type": "x", "title": "T", "status": status, "code": code, "detail": "D", **more}, **headers)


class Service:
    """Answers what it was told to, one after the other; an exception is what happens in an answer's place."""

    def __init__(self, *answers: httpx2.Response | Exception) -> None:
        self.answers = list(answers)
        self.requests: list[httpx2.Request] = []
        self.slept: list[float] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        said = self.answers.pop(0)
        if isinstance(said, Exception):
            raise said
        return said

    def client(self, retries: int = 3) -> Client:
        transport = httpx2.MockTransport(self)
        return Client(URL, "k", retries=retries, transport=transport, sleep=self.slept.append, chance=lambda: 0.5)


def test_what_is_generated_is_what_the_table_of_the_api_says() -> None:
    ended = subprocess.run([sys.executable, ROOT / "scripts" / "client", "--check"], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


def test_the_client_imports_nothing_of_the_service() -> None:
    script = "import sys, masking_client; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env={"PYTHONPATH": "sdk"}, cwd=ROOT
    )
    assert ended.returncode == 0, ended.stderr
    assert not {"masking", "sipedge", "pools", "recordings", "starlette", "hiredis"} & {*ended.stdout.split()}


def test_a_post_that_nobody_answered_is_asked_again_with_the_same_idempotency_key() -> None:
    service = Service(httpx2.ReadTimeout("slow"), problem(409, "idempotency_in_flight"), answer(200, {"status": "ok"}))
    with service.client() as client, pytest.raises(Unreadable):
        client.open_session(participants=PEOPLE)
    assert len({request.headers["idempotency-key"] for request in service.requests}) == 1
    assert service.slept == [0.25, 0.5]


def test_two_calls_have_two_idempotency_keys_and_ones_own_is_kept() -> None:
    service = Service(*[problem(404, "not_found")] * 3)
    with service.client() as client:
        for own in (None, None, "order-7-close"):
            with pytest.raises(problems.NotFound):
                client.close_session("ses_1", idempotency_key=own)
    first, second, third = (request.headers["idempotency-key"] for request in service.requests)
    assert first != second and third == "order-7-close"


def test_a_busy_service_is_given_the_time_it_asks_for() -> None:
    service = Service(
        problem(503, "unavailable", retry_after=7), problem(429, "rate_limited"), answer(200, {"status": "ok"})
    )
    with service.client() as client:
        assert client.healthz() == Alive(status="ok")
    assert service.slept == [7.0, 0.5]


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (problem(409, "number_pool_exhausted", needed=1, retry_after=9), problems.NumberPoolExhausted),
        (problem(503, "unavailable", retry_after=3600), problems.Unavailable),
        (problem(409, "of_the_future"), Problem),
        (httpx2.Response(400, content=b"<html>"), Problem),
        (httpx2.Response(307, headers={"Location": "http://elsewhere.test"}), Problem),
        (
            problem(422, "invalid_request", errors=[{"field": "ttl", "problem": "p", "expected": "e"}]),
            problems.InvalidRequest,
        ),
        (problem(422, "invalid_request", errors="none"), problems.InvalidRequest),
    ],
)
def test_what_time_does_not_mend_is_raised_at_once_by_its_code(said: httpx2.Response, kind: type[Problem]) -> None:
    service = Service(said)
    with service.client() as client, pytest.raises(Problem) as raised:
        client.get_session("ses_1")
    assert type(raised.value) is kind and not service.slept
    assert raised.value.status == said.status_code
    assert [error.field for error in raised.value.errors] in ([], ["ttl"])


def test_after_the_last_try_it_is_unreachable() -> None:
    service = Service(*[httpx2.ConnectError("refused")] * 3)
    with service.client(retries=2) as client, pytest.raises(Unreachable, match="3 tries"):
        client.get_session("ses_1")
    assert len(service.slept) == 2


def test_a_removal_whose_answer_was_lost_has_happened() -> None:
    with Service(httpx2.ReadError("broken"), problem(404, "not_found")).client() as client:
        client.remove_block("blk_1")
    with Service(problem(404, "not_found")).client() as client, pytest.raises(problems.NotFound):
        client.remove_block("blk_1")


def test_names_python_keeps_and_times_travel_as_the_api_has_them() -> None:
    service = Service(answer(200, {"data": [], "next": None}), answer(200, {"data": [], "next": None}))
    with service.client() as client:
        list(client.list_recordings(from_=datetime(2026, 11, 22, 16, tzinfo=HANOI), unique_name="order 7&8"))
        list(client.search_sessions(participant="+84901234567", from_="2026-11-22T09:00:00Z", reason="a threat"))
    assert dict(service.requests[0].url.params) == {"from": "2026-11-22T09:00:00Z", "unique_name": "order 7&8"}
    assert msgspec.json.decode(service.requests[1].content)["from"] == "2026-11-22T09:00:00Z"


@pytest.mark.parametrize("wrong", ["", ".", ".."])
def test_an_id_that_would_lead_elsewhere_is_refused_here(wrong: str) -> None:
    with Service().client() as client, pytest.raises(ValueError, match="session"):
        client.get_session(wrong)


def test_an_id_stays_one_part_of_the_path() -> None:
    service = Service(problem(404, "not_found"))
    with service.client() as client, pytest.raises(problems.NotFound):
        client.get_phone_number("default", "+8424/../x?y")
    assert service.requests[0].url.raw_path == b"/v1/services/default/phone_numbers/%2B8424%2F..%2Fx%3Fy"


class Breaking(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    """A body whose connection breaks after these bytes."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __iter__(self):  # type: ignore[no-untyped-def]
        yield self.data
        raise httpx2.ReadError("broken")

    async def __aiter__(self):  # type: ignore[no-untyped-def]
        yield self.data
        raise httpx2.ReadError("broken")


def test_a_download_that_breaks_off_goes_on_where_it_was(tmp_path: Path) -> None:
    service = Service(
        httpx2.Response(200, headers={"ETag": '"a"'}, stream=Breaking(b"RIFF")),
        httpx2.Response(206, headers={"ETag": '"a"'}, content=b"WAVE"),
    )
    with service.client() as client:
        path = client.get_media("rec_1", reason="a dispute").save(tmp_path / "call.wav")
    assert path.read_bytes() == b"RIFFWAVE" and [one.name for one in tmp_path.iterdir()] == ["call.wav"]
    assert service.requests[1].headers["range"] == "bytes=4-" and service.requests[1].headers["if-range"] == '"a"'
    assert {request.headers["x-reason"] for request in service.requests} == {"a dispute"}


@pytest.mark.parametrize(
    "after",
    [
        lambda: httpx2.Response(200, headers={"ETag": '"b"'}, content=b"other"),
        lambda: httpx2.Response(206, headers={"ETag": '"a"'}, stream=Breaking(b"")),
    ],
)
def test_a_download_that_cannot_go_on_leaves_no_file(tmp_path: Path, after: Callable[[], httpx2.Response]) -> None:
    service = Service(httpx2.Response(200, headers={"ETag": '"a"'}, stream=Breaking(b"RIFF")), after())
    with service.client() as client, pytest.raises(Unreachable):
        client.get_media("rec_1", reason="a dispute").save(tmp_path / "call.wav")
    assert not (tmp_path / "call.wav").exists()


def test_a_download_that_leads_elsewhere_is_not_followed(tmp_path: Path) -> None:
    class Elsewhere(httpx2.SyncByteStream):
        def __iter__(self):  # type: ignore[no-untyped-def]
            yield b"gone"

    service = Service(httpx2.Response(302, headers={"Location": "http://elsewhere.test"}, stream=Elsewhere()))
    with service.client() as client, pytest.raises(Problem, match="302"):
        client.export_case("dsp_1").save(tmp_path / "case.zip")
    assert len(service.requests) == 1


EVENT: dict[str, object] = {
    "id": "evt_1",
    "type": "of.the.future",
    "occurred_at": "2026-11-22T09:00:00Z",
    "session": None,
    "seq": 1,
    "data": {},
}


def told(cursor: str, seq: int) -> bytes:
    return f"id: {cursor}\nevent: x\ndata: {msgspec.json.encode(EVENT | {'seq': seq}).decode()}\n\n".encode()


def test_a_stream_that_ends_is_opened_again_after_the_last_event_that_came() -> None:
    service = Service(
        httpx2.Response(200, stream=Breaking(b": welcome\nid: c0\n\n" + told("c1", 1) + told("c2", 2)[:-1])),
        httpx2.ConnectError("refused"),
        httpx2.Response(200, content=told("c2", 2)),
    )
    with service.client() as client:
        following = client.stream_events()
        events = iter(following)
        assert [next(events).seq, next(events).seq] == [1, 2] and following.cursor == "c2"
    assert [request.headers.get("last-event-id") for request in service.requests] == [None, "c1", "c1"]


def test_a_reader_that_lost_the_stream_before_its_first_event_knows_where_it_was() -> None:
    service = Service(
        httpx2.Response(200, content=b": welcome\nid: c0\n\n"), httpx2.Response(200, content=told("c1", 1))
    )
    with service.client() as client:
        assert next(iter(client.stream_events())).seq == 1
    assert service.requests[1].headers["last-event-id"] == "c0"


def test_messages_are_read_however_the_bytes_are_cut() -> None:
    whole = b": hello\r\nid: c1\r\ndata: one\r\ndata: two\r\n\r\nretry: 5\n\nid: c2\ndata: \xe2\x80\xa8three\n\n"
    pieces = Messages()
    found = [data for index in range(len(whole)) for data in pieces.feed(whole[index : index + 1])]
    assert found == ["one\ntwo", "\u2028three"] and pieces.last_id == "c2"


def awaited(service: Service) -> AsyncClient:
    async def sleep(seconds: float) -> None:
        service.slept.append(seconds)

    return AsyncClient(URL, "k", transport=httpx2.MockTransport(service), sleep=sleep, chance=lambda: 0.5)


async def test_the_awaited_client_is_as_patient() -> None:
    service = Service(problem(503, "unavailable", retry_after=1), answer(200, {"status": "ok"}))
    async with awaited(service) as client:
        assert (await client.healthz()).status == "ok"
    assert service.slept == [1.0]


async def test_an_awaited_download_and_an_awaited_stream_go_on_where_they_were(tmp_path: Path) -> None:
    service = Service(
        httpx2.Response(200, headers={"ETag": '"a"'}, stream=Breaking(b"RIFF")),
        httpx2.Response(206, headers={"ETag": '"a"'}, content=b"WAVE"),
        httpx2.Response(200, stream=Breaking(told("c1", 1))),
        httpx2.Response(200, content=told("c2", 2)),
    )
    async with awaited(service) as client:
        path = await client.get_media("rec_1", reason="a dispute").save(tmp_path / "call.wav")
        assert await asyncio.to_thread(path.read_bytes) == b"RIFFWAVE"
        seen = []
        async for event in client.stream_events():
            seen.append(event.seq)
            if len(seen) == 2:
                break
    assert seen == [1, 2]
    assert [request.headers.get("range") for request in service.requests] == [None, "bytes=4-", None, None]
    assert [request.headers.get("last-event-id") for request in service.requests] == [None, None, None, "c1"]


def test_neither_key_nor_people_stand_in_a_repr() -> None:
    ask = Calls.__dict__["open_session"].make(None, participants=PEOPLE)
    assert "+8490" not in repr(ask) and b"+84901234567" in (ask.content or b"")
