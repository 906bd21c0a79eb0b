"""The client against the running service, through real sockets: what an app does in a day."""

from __future__ import annotations

import io
import wave
import zipfile
from collections.abc import Iterable
from pathlib import Path

import anyio
import pytest
from standardwebhooks import Webhook

from masking_client import AsyncClient, Client, Receiver, problems
from masking_client.bodies import NewParticipant
from pytest_masking.inbox import Inbox
from pytest_masking.service import Service
from tests.sdk.lossy import lossy
from tests.system.service import eventually

CUSTOMER, DRIVER = "+84901234567", "+84907654321"
PEOPLE: list[NewParticipant] = [
    {"identifier": CUSTOMER, "role": "customer"},
    {"identifier": DRIVER, "role": "driver"},
]

pytestmark = [pytest.mark.service, pytest.mark.timeout(90)]


def test_an_order_from_its_call_to_its_case(service: Service, tmp_path: Path) -> None:
    client = service.client
    session = client.open_session(participants=PEOPLE, unique_name="order-1042", record="always")
    customer, driver = session.participants
    call = service.phone(CUSTOMER).call(customer.proxies[0].number)
    ringing = service.phone(DRIVER).answer()
    call.answered()
    call.say(440)
    assert ringing.hears(440) and ringing.shown == driver.proxies[0].number
    call.hang_up()

    assert service.webhooks.wait("recording.available", session=session.id).data["recording"]
    (recording,) = client.list_recordings(unique_name="order-1042")
    path = client.get_media(recording.id, reason="a test").save(tmp_path / "call.wav")
    with wave.open(str(path), "rb") as file:
        assert file.getnchannels() == 2
        assert file.getnframes() / file.getframerate() == pytest.approx(recording.duration, abs=0.001)
    client.hold_recording(recording.id, reason="a dispute")
    assert eventually(lambda: client.get_recording(recording.id).hold, 10.0, "the hold").reason == "a dispute"
    with pytest.raises(problems.RecordingHeld):
        client.erase_recording(recording.id, reason="no longer wanted")

    dispute = client.open_dispute(unique_name="order-1042", reason="felt threatened", requested_by="anna")
    with zipfile.ZipFile(io.BytesIO(client.export_case(dispute.id).read())) as case:
        assert "verify_case.py" in case.namelist() and case.testzip() is None
    assert "recording.accessed" in [entry.event.type for entry in client.list_audit()]
    (interaction,) = client.list_interactions(session.id)
    assert interaction.from_ == customer.id and interaction.answered_by == "callee"
    assert client.close_session(session.id).status == "closed"
    with pytest.raises(problems.SessionClosed):
        client.extend_session(session.id, ttl=7200)


def test_a_list_is_read_page_by_page_and_events_go_on_where_one_was(service: Service) -> None:
    names = [f"order-{number}" for number in range(5)]
    for name in names:
        service.client.open_session(participants=PEOPLE, unique_name=name)
        service.webhooks.wait("session.opened")
    assert [one.unique_name for one in service.client.list_sessions(status="open", limit=2)] == names[::-1]
    pages = service.client.list_events(limit=3)
    before = [event.id for event in pages]
    assert len(before) == len(set(before)) and pages.cursor
    service.client.open_session(participants=PEOPLE, unique_name="order-6")
    assert eventually(lambda: list(service.client.list_events(cursor=pages.cursor)), 10.0, "what came since")
    assert not {event.id for event in service.client.list_events(cursor=pages.cursor)} & {*before}


async def test_the_awaited_client_does_the_same(service: Service, tmp_path: Path) -> None:
    opened: list[str] = []
    async with AsyncClient(service.url, service.key) as client, anyio.create_task_group() as doing:

        async def follow(task_status: anyio.abc.TaskStatus[None]) -> None:
            last = [event async for event in client.list_events()][-1:]
            assert last
            task_status.started()
            async for event in client.stream_events():
                if event.type == "session.opened" and event.session in opened:
                    return

        await doing.start(follow)
        with anyio.fail_after(20):
            session = await client.open_session(participants=PEOPLE)
            opened.append(session.id)
            async for listed in client.list_sessions(limit=1):
                assert listed.id == session.id
                break
            with pytest.raises(problems.NotFound):
                await client.get_media("rec_none", reason="a test").save(tmp_path / "none.wav")


def test_an_answer_that_is_lost_on_the_way_opens_no_second_session(service: Service) -> None:
    with lossy(service.url) as (url, keys), Client(url, service.key) as client:
        session = client.open_session(participants=PEOPLE)
    assert len(keys) == 2 and keys[0] == keys[1]
    assert [one.id for one in service.client.list_sessions(status="open")] == [session.id]


class Raw(Inbox):
    """Keeps deliveries as they came."""

    def __init__(self) -> None:
        super().__init__()
        self.raw: list[tuple[dict[str, str], bytes]] = []

    def take(self, headers: Iterable[tuple[str, str]], body: bytes) -> bool:
        self.raw.append((dict(headers), body))
        return super().take(self.raw[-1][0].items(), body)


def test_what_the_service_signs_both_verifiers_know_with_the_old_secret_and_the_new(service: Service) -> None:
    with Raw() as inbox:
        endpoint = service.client.create_webhook_endpoint(url=inbox.url, events=["webhook.test"])
        rotated = service.client.rotate_webhook_secret(endpoint.id)
        inbox.secret = rotated.secret
        service.client.test_webhook_endpoint(endpoint.id)
        event = inbox.wait("webhook.test")
        ((headers, body),) = inbox.raw
        service.client.remove_webhook_endpoint(endpoint.id)
    for secret in (endpoint.secret, rotated.secret):
        assert Receiver(secret).verify(headers, body) == event
        assert Webhook(secret).verify(body, headers)["id"] == event.id


def test_a_call_that_waits_for_the_app_asks_a_question_that_is_genuine(service: Service) -> None:
    with Raw() as app:
        secret = service.client.rotate_service_secret("default").secret
        service.client.change_service("default", intercept_url=app.url, intercept_on_error="allow")
        session = service.client.open_session(participants=PEOPLE, unique_name="order-7")
        service.phone(CUSTOMER).call(session.participants[0].proxies[0].number)
        service.phone(DRIVER).ringing()
    question = Receiver(secret).question(*app.raw[0])
    assert (question.type, question.session) == ("call.intercept", session.id)
    assert question.data["unique_name"] == "order-7" and question.data["from"]["role"] == "customer"


def test_two_tenants_keys_see_their_own(service: Service) -> None:
    with Client(service.url, "not-a-key") as stranger, pytest.raises(problems.Unauthenticated):
        stranger.open_session(participants=PEOPLE)
    assert list(service.client.list_sessions(status="open")) == []
