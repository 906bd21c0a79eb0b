"""Twilio's own package, unchanged but for the base URL, on the running service; and its sessions' calls."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from twilio.base.exceptions import TwilioRestException
from twilio.rest import Client

from pytest_masking.service import Service
from sipedge.softphone.calls import CallFailed
from tests.system.service import eventually

ACCOUNT = "AC0123456789abcdef0123456789abcdef"
ALICE, BOB, CAROL = "+84901234567", "+84907654321", "+84912345678"
NUMBERS = [f"+8424730000{place:02}" for place in range(6)]

pytestmark = [pytest.mark.service, pytest.mark.timeout(90)]


@pytest.fixture(scope="module")
def rides(boxed: Service) -> Iterator[Any]:
    """A Proxy service with numbers of its own, made as Twilio's documents say."""
    client = Client(ACCOUNT, boxed.key)
    client.proxy.base_url = boxed.url  # all that an app changes
    made = client.proxy.v1.services.create(unique_name="rides", default_ttl=3600)
    for number in NUMBERS:
        made.phone_numbers.create(phone_number=number)
    yield made
    made.delete()


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


def _own(service: Service, name: str) -> str:
    return next(iter(service.client.list_sessions(unique_name=name))).id
