"""Twilio's own package, unchanged but for the base URL, on the running service; and its sessions' calls."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl

import pytest
from twilio.base.exceptions import TwilioRestException
from twilio.request_validator import RequestValidator
from twilio.rest import Client

from pytest_masking.service import Service
from sipedge.softphone.calls import CallFailed
from tests.system.service import eventually

ACCOUNT = "AC0123456789abcdef0123456789abcdef"
ALICE, BOB, CAROL = "+84901234567", "+84907654321", "+84912345678"
NUMBERS = [f"+8424730000{place:02}" for place in range(6)]

pytestmark = [pytest.mark.service, pytest.mark.timeout(90)]


@dataclass
class App:
    """The app's own server. `said`: what it answers with on a path; `heard`: the forms it was sent, by path, each
    checked as Twilio's documents tell an app to."""

    key: str
    url: str = ""
    said: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    heard: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def take(self, path: str, signature: str, raw: bytes) -> tuple[int, bytes]:
        form = dict(parse_qsl(raw.decode(), keep_blank_values=True))
        if not RequestValidator(self.key).validate(self.url + path, form, signature):
            self.wrong.append(path)
        self.heard.append((path, form))
        return self.said.get(path, (204, b""))

    def forms(self, path: str, session: str) -> list[dict[str, str]]:
        return [form for where, form in self.heard if where == path and form.get("interactionSessionSid") == session]


@pytest.fixture(scope="module")
def server(boxed: Service) -> Iterator[App]:
    made = App(boxed.key)

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["Content-Length"]))
            status, body = made.take(self.path, str(self.headers["X-Twilio-Signature"]), raw)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    threading.Thread(target=listening.serve_forever, args=(0.1,), daemon=True).start()
    made.url = f"http://127.0.0.1:{listening.server_address[1]}"
    try:
        yield made
    finally:
        listening.shutdown()
        listening.server_close()


@pytest.fixture(scope="module")
def made(boxed: Service, server: App) -> Iterator[Any]:
    """A Proxy service with numbers of its own, made as Twilio's documents say."""
    client = Client(ACCOUNT, boxed.key)
    client.proxy.base_url = boxed.url  # all that an app changes
    found = client.proxy.v1.services.create(
        unique_name="rides",
        default_ttl=3600,
        intercept_callback_url=server.url + "/asked",
        out_of_session_callback_url=server.url + "/unknown",
    )
    for number in NUMBERS:
        found.phone_numbers.create(phone_number=number)
    yield found
    found.delete()


@pytest.fixture
def rides(service: Service, made: Any, server: App) -> Any:
    """With a CallbackUrl, which is taken away after each test as every webhook endpoint is."""
    return made.update(callback_url=server.url + "/told")


@pytest.fixture
def app(server: App) -> Iterator[App]:
    """The app, which says nothing yet; whatever it was sent must have been signed."""
    server.said.clear()
    yield server
    assert server.wrong == []


def last(session: Any) -> Any:
    """The session's newest interaction, once it has ended."""

    def look() -> Any:
        found = session.interactions.list()
        return found[-1] if found and found[-1].inbound_resource_status not in ("ringing", "in-progress") else None

    return eventually(look, 10.0, "an interaction that has ended")


def test_an_app_of_twilios_proxy_changes_the_base_url_and_its_calls_go_through(service: Service, rides: Any) -> None:
    assert [one.phone_number for one in rides.phone_numbers.stream(page_size=4)] == NUMBERS
    session = rides.sessions.create(unique_name="order-7", mode="voice-only")
    alice = session.participants.create(identifier=ALICE, friendly_name="Alice")
    bob = session.participants.create(identifier=BOB, friendly_name="Bob")
    assert {alice.proxy_identifier, bob.proxy_identifier} <= set(NUMBERS)

    call = service.phone(ALICE).call(alice.proxy_identifier)
    ringing = service.phone(BOB).answer()
    call.answered()
    call.say(440)
    assert ringing.hears(440) and ringing.shown == bob.proxy_identifier
    call.hang_up()
    back = service.phone(BOB).call(ringing.shown)
    again = service.phone(ALICE).answer()
    back.answered()
    assert again.shown == alice.proxy_identifier
    back.hang_up()

    interaction = last(session)
    assert (interaction.type, interaction.inbound_resource_type) == ("voice", "Call")
    assert (interaction.inbound_participant_sid, interaction.outbound_participant_sid) == (bob.sid, alice.sid)
    assert (interaction.inbound_resource_status, interaction.outbound_resource_status) == ("completed", "completed")
    assert session.interactions(interaction.sid).fetch().date_created <= datetime.now(UTC)
    assert len(session.interactions.list()) == 2 and interaction.delete()
    assert len(session.interactions.list(page_size=1)) == 1
    with pytest.raises(TwilioRestException) as gone:
        interaction.fetch()
    assert (gone.value.status, gone.value.code) == (404, 20404)

    session = rides.sessions(session.sid).fetch()
    assert session.status == "in-progress" and session.date_last_interaction is not None
    assert session.date_expiry > datetime.now(UTC) + timedelta(minutes=55)
    assert service.client.get_session(_own(service, "order-7")).participants[0].display == "+8490…67"


def test_who_is_taken_out_of_a_session_is_reached_no_more_and_the_next_one_is(service: Service, rides: Any) -> None:
    session = rides.sessions.create(participants=[{"Identifier": ALICE}, {"Identifier": BOB}])
    alice, bob = session.participants.list()
    bob.delete()
    with pytest.raises(CallFailed) as alone:
        service.phone(ALICE).call(alice.proxy_identifier).answered()
    assert alone.value.status == 403
    session.participants.create(identifier=CAROL)
    call = service.phone(ALICE).call(alice.proxy_identifier)
    service.phone(CAROL).answer()
    call.answered().hang_up()
    closed = session.update(status="closed")
    assert closed.status == "closed" and closed.date_ended is not None
    with pytest.raises(CallFailed) as late:
        service.phone(ALICE).call(alice.proxy_identifier).answered()
    assert late.value.status == 404
    assert session.update(status="in-progress").status == "in-progress"
    assert [one.sid for one in rides.sessions.list(limit=1)] == [session.sid] and session.delete()
    assert session.sid not in [one.sid for one in rides.sessions.list()]


def test_an_app_is_told_of_its_calls_and_asked_about_them_in_twilios_words(
    service: Service, rides: Any, app: App
) -> None:
    assert (rides.callback_url, rides.intercept_callback_url) == (app.url + "/told", app.url + "/asked")
    session = rides.sessions.create(participants=[{"Identifier": ALICE}, {"Identifier": BOB}])
    alice, bob = session.participants.list()
    app.said["/asked"] = (403, b"")
    with pytest.raises(CallFailed) as denied:
        service.phone(ALICE).call(alice.proxy_identifier).answered(5.0)
    assert denied.value.status == 403
    app.said["/asked"] = (500, b"")
    call = service.phone(ALICE).call(alice.proxy_identifier)
    service.phone(BOB).answer()
    call.answered().hang_up()

    def ended() -> dict[str, str] | None:
        return next((form for form in told() if form["inboundResourceStatus"] == "completed"), None)

    def told() -> list[dict[str, str]]:
        return app.forms("/told", session.sid)

    end = eventually(ended, 10.0, "the end of the call")
    assert (end["inboundParticipantSid"], end["outboundParticipantSid"]) == (alice.sid, bob.sid)
    assert end["interactionAccountSid"] == ACCOUNT and end["interactionServiceSid"] == rides.sid
    assert end["interactionType"] == "Voice" and json.loads(end["interactionData"]).keys() == {"duration"}
    mine = [form["inboundResourceStatus"] for form in told() if form["interactionSid"] == end["interactionSid"]]
    assert mine == ["ringing", "ringing", "in-progress", "completed"], "in their order, each once"
    assert [form["inboundResourceStatus"] for form in told()][:2] == ["ringing", "failed"], "the one that was blocked"
    asked = app.forms("/asked", session.sid)
    assert [form["inboundParticipantSid"] for form in asked] == [alice.sid, alice.sid]
    assert not any(ALICE in str(form) or BOB in str(form) for _, form in app.heard)


def test_an_app_connects_callers_whom_no_session_knows(service: Service, rides: Any, app: App) -> None:
    rides.update(out_of_session_callback_url=app.url + "/unknown")
    app.said["/unknown"] = (
        200,
        json.dumps({"uniqueName": "walk-in", "participantIdentifier": BOB, "ttl": 600}).encode(),
    )
    number = NUMBERS[0]
    call = service.phone(CAROL).call(number)
    ringing = service.phone(BOB).answer()
    call.answered().hang_up()
    form = [form for path, form in app.heard if path == "/unknown"][-1]
    assert (form["To"], form["Direction"], form["AccountSid"]) == (number, "inbound", ACCOUNT)
    assert form["From"].startswith("clr_") and CAROL not in str(form)
    session = rides.sessions("walk-in").fetch()
    assert session.ttl is not None or session.date_expiry is not None
    assert [one.proxy_identifier for one in session.participants.list()][1] == ringing.shown
    app.said["/unknown"] = (200, b"<Response><Say>Hello</Say></Response>")
    with pytest.raises(CallFailed) as stranger:
        service.phone("+84977777777").call(number).answered()
    assert stranger.value.status == 404


def _own(service: Service, name: str) -> str:
    return next(iter(service.client.list_sessions(unique_name=name))).id
