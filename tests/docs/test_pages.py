"""The pages by task: everything in them is done, with curl and with Python, and people call each other as they say."""

from __future__ import annotations

import io
import re
import wave
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
from standardwebhooks import Webhook
from twilio.request_validator import RequestValidator

from pytest_masking.service import Service
from tests.docs.pages import DOCS, Page, tenant
from tests.system.service import eventually

BLOCKS = {"curl": "+842473000200-+842473000209", "python": "+842473000300-+842473000309"}

pytestmark = [pytest.mark.service, pytest.mark.timeout(90)]


@pytest.fixture(params=["curl", "python"])
def reader(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_dispute_from_the_name_of_the_order_to_the_case(service: Service, reader: str, tmp_path: Path) -> None:
    page = Page("dispute", service)
    if reader == "curl":
        said = page.curl()
        call, case = said["GET recordings/$RECORDING/media?grant=$GRANT"], said["GET disputes/$DISPUTE/export"]
        assert said["POST disputes/$DISPUTE:close"]["status"] == "closed"
    else:
        page.python(tmp_path)
        call, case = (tmp_path / "call.wav").read_bytes(), (tmp_path / "case.zip").read_bytes()
    with wave.open(io.BytesIO(call), "rb") as sound, zipfile.ZipFile(io.BytesIO(case)) as archive:
        assert sound.getnchannels() == 2 and "verify_case.py" in archive.namelist()
    eventually(lambda: "rider felt threatened" in heard(service), 10.0, "the hearing on the audit")


def heard(service: Service) -> list[str]:
    """The reasons of all hearings."""
    events = [entry.event for entry in service.client.list_audit()]
    return [event.data["reason"] for event in events if event.type == "recording.accessed"]


def test_a_pin_opens_the_way_from_another_phone(service: Service, reader: str, tmp_path: Path) -> None:
    page = Page("pin", service)
    session = page.curl()["POST sessions"]["id"] if reader == "curl" else page.python(tmp_path)["session"].id
    answered = [(one.status, one.decision) for one in service.client.list_interactions(session)]
    assert answered[0] == ("completed", "pin") and answered[1][0] == "completed"


def test_two_people_of_two_countries_dial_numbers_of_their_own(service: Service, reader: str, tmp_path: Path) -> None:
    page = Page("borders", service)
    if reader == "curl":
        tourist, driver = page.curl()["POST sessions"]["participants"]
        numbers = tourist["proxies"][0]["number"], driver["proxies"][0]["number"]
    else:
        names = page.python(tmp_path)
        numbers = names["tourist"].proxies[0].number, names["driver"].proxies[0].number
    assert numbers[0].startswith("+66") and numbers[1].startswith("+84")


def test_an_order_of_three_parties_whose_courier_changes(service: Service, reader: str, tmp_path: Path) -> None:
    page = Page("food-delivery", service)
    session = page.curl()["POST sessions"]["id"] if reader == "curl" else page.python(tmp_path)["order"].id
    calls = [(one.status, one.decision) for one in service.client.list_interactions(session)]
    assert calls == [
        ("completed", "routed"),
        ("completed", "routed"),
        ("refused", "direction"),
        ("completed", "routed"),
    ]
    assert service.client.get_session(session).status == "closed"


def test_a_recording_is_found_by_the_person_who_was_on_the_call(service: Service, reader: str, tmp_path: Path) -> None:
    page = Page("evidence", service)
    if reader == "curl":
        said = page.curl()
        found = said["POST recordings:search"]["data"][0]["unique_name"], said["POST disputes"]["unique_name"]
    else:
        names = page.python(tmp_path)
        found = names["recording"].unique_name, names["dispute"].unique_name
    assert found == ("order-1042", "order-1042")


def test_an_endpoint_its_dead_letters_and_the_events_without_one(service: Service, reader: str, tmp_path: Path) -> None:
    with tenant(service, f"webhooks-{reader}", BLOCKS[reader]) as own:
        page = Page("webhooks", own, dispatch=BLOCKS[reader].partition("-")[0])
        if reader == "curl":
            said = page.curl()
            replayed, caller = said["POST events:replay"]["events"], said["POST callers:lookup"]["caller"]
        else:
            names = page.python(tmp_path)
            replayed, caller = names["replayed"].events, names["caller"]
            assert names["dead"] == [] and names["secret"].startswith("whsec_")
        (endpoint,) = own.client.list_webhook_endpoints()
    assert replayed == 0 and caller.startswith("clr_") and endpoint.events == ["call.*", "session.closed"]


def test_the_python_of_the_page_of_sessions_does_what_its_curl_does(service: Service, tmp_path: Path) -> None:
    with tenant(service, "sessions", "+842473000001-+842473000029") as own:
        names = Page("sessions", own).python(tmp_path)
    assert [one.display for one in names["session"].participants] == ["+8490…67", "+8498…21"]
    assert names["interaction"].direction == "outbound" and names["interaction"].to == names["driver"].id
    assert [block.reason for block in names["blocks"]] == ["calls at night"]
    assert [(item.status, item.problem and item.problem.code) for item in names["opened"].data] == [
        (201, None),
        (422, "invalid_phone_number"),
    ]


def test_the_python_of_the_pages_of_numbers_and_tenants_does_what_its_curl_does(
    service: Service, tmp_path: Path
) -> None:
    with tenant(service, "numbers") as own:
        names = Page("numbers", own).python(tmp_path)
        states = [number.state for number in own.client.list_phone_numbers("default")]
        Page("tenants", own).python(tmp_path)
    assert names["plan"].needed == 13 and names["explanation"].dialled == "+842471000019"
    assert [states.count(state) for state in ("suspended", "draining", "active")] == [6, 2, 12]


def test_the_page_of_the_client_is_true(service: Service, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = Page("client", service).python(tmp_path)
    shown = capsys.readouterr().out
    assert "['participants[1].identifier']" in shown and "session.opened" in shown
    (secret,) = re.findall(r'Receiver\("(.*?)"\)', Page("client", service).text)
    body = b'{"id":"e","type":"t","occurred_at":"2026-11-22T09:00:00Z","session":null,"seq":1,"data":{}}'
    now = datetime.now(UTC)
    headers = {"webhook-id": "e", "webhook-timestamp": str(int(now.timestamp()))}
    headers["webhook-signature"] = Webhook(secret).sign("e", now, body.decode())
    assert (names["hook"](headers, body), names["hook"](headers, body + b" ")) == (204, 400)


def test_the_readme_names_every_page() -> None:
    readme = (DOCS.parent / "README.md").read_text()
    assert [page.name for page in sorted(DOCS.glob("*.md")) if f"docs/{page.name}" not in readme] == []


def test_an_app_of_twilios_is_moved_as_its_page_says(service: Service, tmp_path: Path) -> None:
    names = Page("twilio", service).python(tmp_path)
    assert (names["alice"].friendly_name, names["alice"].identifier) == ("Alice", "+8490…67")
    again = names["rides"].sessions.create(
        participants=[{"Identifier": one} for one in ("+84901234567", "+84907654321")]
    )
    alice, bob = again.participants.list()
    call = service.phone("+84901234567").call(alice.proxy_identifier)
    ringing = service.phone("+84907654321").answer()
    call.answered().hang_up()
    assert ringing.shown == bob.proxy_identifier
    form = {"interactionSid": "KI1"}
    signature = RequestValidator(service.key).compute_signature("https://a.example/x", form)
    assert names["is_ours"]("https://a.example/x", form, signature)
    assert not names["is_ours"]("https://a.example/y", form, signature)
