"""Signatures against the Standard Webhooks package, which we did not write."""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from masking_client import NotGenuine, Receiver

NOW = 1_800_000_000
SECRET, OLD, STRANGER = ("whsec_" + base64.b64encode(bytes([n]) * 32).decode() for n in (1, 2, 3))
BODY = msgspec.json.encode(
    {
        "id": "evt_1",
        "type": "call.ended",
        "occurred_at": "2026-11-22T09:00:00Z",
        "session": "ses_1",
        "seq": 4,
        "data": {},
    }
)


def signed(*secrets: str, body: bytes = BODY, at: int = NOW) -> dict[str, str]:
    """Headers as the independent package signs them."""
    when = datetime.fromtimestamp(at, UTC)
    signatures = [Webhook(secret).sign("evt_1", when, body.decode()) for secret in secrets]
    return {"webhook-id": "evt_1", "webhook-timestamp": str(at), "webhook-signature": " ".join(signatures)}


def receiver(*secrets: str, at: float = NOW) -> Receiver:
    return Receiver(*secrets, clock=lambda: at)


@pytest.mark.parametrize(("ours", "theirs"), [([SECRET], [SECRET]), ([SECRET], [OLD, SECRET]), ([SECRET, OLD], [OLD])])
def test_what_the_package_signs_is_known_during_a_rotation_too(ours: list[str], theirs: list[str]) -> None:
    event = receiver(*ours).verify(signed(*theirs), BODY)
    assert (event.id, event.type, event.seq, event.session) == ("evt_1", "call.ended", 4, "ses_1")


@pytest.mark.parametrize(
    "shape",
    [
        lambda headers: {name.title(): value for name, value in headers.items()},
        lambda headers: [(name.encode(), value.encode()) for name, value in headers.items()],
        lambda headers: [(name.upper(), value) for name, value in headers.items()],
    ],
)
def test_headers_may_come_as_any_framework_has_them(shape: Callable[[dict[str, str]], object]) -> None:
    headers: dict[str, str] = shape(signed(SECRET))  # type: ignore[assignment]
    assert receiver(SECRET).verify(headers, BODY).id == "evt_1"


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (signed(STRANGER), BODY),
        (signed(SECRET), BODY + b" "),
        (signed(SECRET) | {"webhook-id": "evt_2"}, BODY),
        (signed(SECRET) | {"webhook-timestamp": str(NOW + 1)}, BODY),
        (signed(SECRET) | {"webhook-timestamp": "now"}, BODY),
        (signed(SECRET) | {"webhook-timestamp": "٣"}, BODY),
        (signed(SECRET) | {"webhook-signature": ""}, BODY),
        (signed(SECRET) | {"webhook-signature": "v1,é v1a,x"}, BODY),
        ({name: value for name, value in signed(SECRET).items() if name != "webhook-signature"}, BODY),
        (signed(SECRET, body=b"[]"), b"[]"),
    ],
)
def test_anything_else_is_not_genuine(headers: dict[str, str], body: bytes) -> None:
    with pytest.raises(NotGenuine):
        receiver(SECRET).verify(headers, body)


def test_a_question_is_read_as_one_and_an_event_is_none() -> None:
    asked = {"id": "req_1", "type": "call.intercept", "occurred_at": "2026-11-22T09:00:00Z", "service": "default"}
    body = msgspec.json.encode(asked | {"session": None, "data": {"dialled": "+842471000001"}})
    question = receiver(SECRET).question(signed(SECRET, body=body), body)
    assert (question.type, question.service, question.data["dialled"]) == ("call.intercept", "default", "+842471000001")
    with pytest.raises(NotGenuine, match="no event"):
        receiver(SECRET).verify(signed(SECRET, body=body), body)
    with pytest.raises(NotGenuine, match="no question"):
        receiver(SECRET).question(signed(SECRET), BODY)


@pytest.mark.parametrize("late", [301, -301])
def test_what_is_stale_or_of_the_future_is_not_genuine(late: int) -> None:
    with pytest.raises(NotGenuine):
        receiver(SECRET, at=NOW + late).verify(signed(SECRET), BODY)
    assert receiver(SECRET, at=NOW + late // 2).verify(signed(SECRET), BODY).id == "evt_1"


def test_a_secret_that_is_none_is_refused_at_once() -> None:
    for wrong in ((), ("whsec_",), ("whsec_%%%",)):
        with pytest.raises(ValueError, match="secret"):
            Receiver(*wrong)


def test_the_package_refuses_what_we_refuse() -> None:
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(BODY, signed(STRANGER, at=int(datetime.now(UTC).timestamp())))
    now = int(datetime.now(UTC).timestamp())
    assert (
        Webhook(SECRET).verify(BODY, signed(SECRET, at=now))["id"]
        == Receiver(SECRET).verify(signed(SECRET, at=now), BODY).id
    )
