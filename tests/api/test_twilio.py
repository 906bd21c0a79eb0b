"""Twilio's own package runs its Proxy calls on our face: the service as its tests start it, its client as it is."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twilio.base.exceptions import TwilioRestException
from twilio.http import AsyncHttpClient
from twilio.http.response import Response
from twilio.rest import Client

from masking import callbacks, originating, services, sids
from masking.access import Scope
from masking.api.twilio.face import ROWS
from masking.courier.outbox import Outbox
from masking.house import House
from pools.grants import holder_in
from pools.redis import Unavailable
from tests.api.client import Client as Rest
from tests.api.client import problem
from tests.api.conftest import CUSTOMER, DRIVER, THIRD, X, key_of
from tests.api.test_searches import carry, courier  # noqa: F401 (a fixture)

ACCOUNT = "AC" + "0" * 32


class Wire(AsyncHttpClient):  # type: ignore[misc]
    """How the package's own client reaches an application in this process."""

    def __init__(self, transport: httpx2.AsyncBaseTransport) -> None:
        super().__init__(None, True)
        self._http = httpx2.AsyncClient(transport=transport)

    async def request(
        self,
        method: str,
        url: str,
        params: Any = None,
        data: Any = None,
        headers: Any = None,
        auth: Any = None,
        timeout: Any = None,
        allow_redirects: bool = False,
    ) -> Response:
        answer = await self._http.request(method, url, params=params, data=data, headers=headers, auth=auth)
        assert not any(person[3:] in answer.text for person in (CUSTOMER, DRIVER, THIRD)), "no answer holds a number"
        return Response(answer.status_code, answer.text)


def client(transport: httpx2.AsyncBaseTransport, key: str) -> Any:
    found = Client(ACCOUNT, key, http_client=Wire(transport))
    found.proxy.base_url = "http://masking.test"
    return found.proxy.v1


@pytest.fixture
async def proxy(house: House, transport: httpx2.ASGITransport) -> Any:
    return client(transport, await key_of(house, "acme"))


@pytest.fixture
async def service(proxy: Any) -> Any:
    """A service with six numbers."""
    made = await proxy.services.create_async(unique_name="rides")
    for number in X[:6]:
        await made.phone_numbers.create_async(phone_number=number)
    return made


async def refused(call: Any, status: int, code: int) -> TwilioRestException:
    with pytest.raises(TwilioRestException) as caught:
        await call
    assert (caught.value.status, caught.value.code) == (status, code), caught.value.msg
    return caught.value


async def test_a_service_is_made_found_changed_listed_and_deleted(proxy: Any, api: Rest) -> None:
    made = await proxy.services.create_async(
        unique_name="rides", default_ttl=600, number_selection_behavior="prefer-sticky"
    )
    assert made.sid.startswith("KS") and len(made.sid) == 34
    assert (made.unique_name, made.default_ttl, made.account_sid) == ("rides", 600, ACCOUNT)
    assert made.date_created.tzinfo is not None and made.links["sessions"] == made.url + "/Sessions"
    assert (await made.update_async(unique_name="trips", default_ttl=0)).default_ttl == 170 * 86_400
    again = await proxy.services(made.sid).fetch_async()
    assert (again.unique_name, again.number_selection_behavior) == ("trips", "prefer-sticky")
    await refused(proxy.services.create_async(unique_name="trips"), 400, 80602)
    for place in range(4):
        await proxy.services.create_async(unique_name=f"more-{place}")
    names = [one.unique_name async for one in await proxy.services.stream_async(page_size=2)]
    assert names[0] == "default" and sorted(names[1:]) == ["more-0", "more-1", "more-2", "more-3", "trips"]
    assert [one.unique_name for one in await proxy.services.list_async(limit=3)] == names[:3]
    page = await proxy.services.page_async(page_size=4)
    following = await page.next_page_async()
    assert [one.unique_name for one in following] == names[4:] and await following.next_page_async() is None
    assert [one.unique_name for one in await following.previous_page_async()] == names[:4]
    await made.phone_numbers.create_async(phone_number=X[0])
    session = await made.sessions.create_async(unique_name="order")
    await made.update_async(unique_name="journeys")
    assert await made.delete_async()
    await refused(made.fetch_async(), 404, 20404)
    assert (await api.get(f"/v1/sessions/{sids.session_of(session.sid)}")).json()["status"] == "closed"
    assert (await proxy.services.create_async(unique_name="trips")).sid != made.sid


async def test_numbers_are_added_reserved_listed_and_taken_away(proxy: Any, service: Any) -> None:
    numbers = service.phone_numbers
    listed = await numbers.list_async(page_size=4)
    assert [one.phone_number for one in listed] == X[:6]
    first = await numbers(listed[0].sid).fetch_async()
    assert (first.iso_country, first.is_reserved, first.in_use) == ("VN", False, 0)
    assert (await first.update_async(is_reserved=True)).is_reserved
    assert await first.delete_async()
    await refused(first.fetch_async(), 404, 20404)
    assert len(await numbers.list_async()) == 5
    assert (await numbers.create_async(sid=first.sid)).phone_number == X[0]
    other = await proxy.services.create_async(unique_name="other")
    await refused(other.phone_numbers.create_async(phone_number=X[1]), 400, 80601)
    await refused(numbers.create_async(phone_number="+1"), 400, 80404)


async def test_people_come_one_by_one_and_each_has_a_number_at_once(service: Any, api: Rest) -> None:
    session = await service.sessions.create_async(unique_name="order-1", ttl=3600, mode="voice-only")
    assert (session.status, session.ttl, session.mode, session.closed_reason) == ("open", 3600, "voice-only", None)
    assert session.date_expiry - datetime.now(UTC) > timedelta(minutes=59)
    customer = await session.participants.create_async(identifier=CUSTOMER, friendly_name="Lan")
    assert customer.proxy_identifier in X[:6] and customer.proxy_identifier_sid == sids.number(
        customer.proxy_identifier
    )
    assert (customer.identifier, customer.friendly_name) == ("+8490…67", "Lan")
    driver = await session.participants.create_async(identifier=DRIVER)
    people = await session.participants.list_async()
    assert [one.sid for one in people] == [customer.sid, driver.sid]
    assert [one.proxy_identifier for one in people] == [customer.proxy_identifier, driver.proxy_identifier]
    own = str(sids.session_of(session.sid))
    rest = (await api.get(f"/v1/sessions/{own}")).json()
    assert (rest["service"], rest["unique_name"], len(rest["participants"])) == ("rides", "order-1", 2)
    await refused(session.participants.create_async(identifier=THIRD), 400, 80609)
    assert await people[1].delete_async()
    await refused(people[1].fetch_async(), 404, 20404)
    third = await session.participants.create_async(identifier=THIRD)
    assert (await customer.fetch_async()).proxy_identifier == customer.proxy_identifier
    assert third.sid != driver.sid
    assert await session.participants(third.sid).message_interactions.list_async() == []
    await refused(session.participants(third.sid).message_interactions.create_async(body="hi"), 501, 20001)


async def test_a_session_is_opened_with_its_people_closed_reopened_and_deleted(service: Any) -> None:
    people: list[object] = [{"Identifier": CUSTOMER, "FriendlyName": "Lan"}, {"identifier": DRIVER}]
    session = await service.sessions.create_async(unique_name="order-2", participants=people)
    assert [one.friendly_name for one in await session.participants.list_async()] == ["Lan", None]
    assert session.ttl == 170 * 86_400, "no Ttl is no end"
    await refused(service.sessions.create_async(unique_name="order-2", participants=people), 400, 80603)
    assert (await service.sessions("order-2").fetch_async()).sid == session.sid
    longer = await session.update_async(ttl=7200)
    assert longer.date_expiry < session.date_expiry and longer.ttl == 7200
    until = datetime.now(UTC) + timedelta(hours=5)
    fixed = await session.update_async(date_expiry=until)
    assert (fixed.ttl, fixed.date_expiry) == (None, until.replace(microsecond=0))
    closed = await session.update_async(status="closed")
    assert (closed.status, closed.closed_reason) == ("closed", "api") and closed.date_ended is not None
    await refused(session.participants.create_async(identifier=THIRD), 400, 80607)
    await refused(session.update_async(ttl=600), 400, 80607)
    reopened = await session.update_async(status="in-progress")
    assert reopened.status == "open" and reopened.date_ended is None
    assert (await session.update_async(ttl=600)).ttl == 600
    await refused(session.update_async(status="failed"), 400, 80608)
    assert await session.delete_async()
    await refused(session.fetch_async(), 404, 20404)
    assert await service.sessions.list_async() == []


async def test_sessions_are_listed_newest_first_and_only_those_of_the_service(
    proxy: Any, service: Any, api: Rest
) -> None:
    made = [await service.sessions.create_async() for _ in range(5)]
    other = await proxy.services.create_async(unique_name="other")
    await other.phone_numbers.create_async(phone_number=X[9])
    await other.sessions.create_async(participants=[{"Identifier": CUSTOMER}])
    body = {"service": "rides", "participants": [{"identifier": CUSTOMER}, {"identifier": DRIVER}]}
    assert (await api.post("/v1/sessions", body)).status_code == 201
    listed = [one.sid for one in await service.sessions.list_async(page_size=2)]
    assert listed == [one.sid for one in reversed(made)]
    assert [one.sid for one in await service.sessions.list_async(limit=2)] == listed[:2]
    await refused(other.sessions(made[0].sid).fetch_async(), 404, 20404)
    await service.update_async(unique_name="trips")
    await other.update_async(unique_name="rides")
    assert len(await service.sessions.list_async()) == 5, "whatever they are called by now"
    assert (await service.sessions(made[0].sid).fetch_async()).sid == made[0].sid


async def test_a_participant_may_ask_for_a_number_of_the_service(service: Any) -> None:
    numbers = await service.phone_numbers.list_async()
    await numbers[3].update_async(is_reserved=True)
    wished = {"Identifier": CUSTOMER, "ProxyIdentifierSid": numbers[3].sid}
    session = await service.sessions.create_async(participants=[wished])
    (customer,) = await session.participants.list_async()
    assert customer.proxy_identifier == numbers[3].phone_number
    other = await service.sessions.create_async()
    await refused(
        other.participants.create_async(identifier=CUSTOMER, proxy_identifier=customer.proxy_identifier), 400, 80604
    )
    await refused(other.participants.create_async(identifier=CUSTOMER, proxy_identifier=X[20]), 400, 80605)
    for _ in range(5):
        joined = await service.sessions.create_async()
        assert (
            await joined.participants.create_async(identifier=CUSTOMER)
        ).proxy_identifier != customer.proxy_identifier
    last = await service.sessions.create_async()
    await refused(last.participants.create_async(identifier=CUSTOMER), 400, 80206)


async def test_what_is_wrong_is_told_by_twilios_numbers(
    proxy: Any, service: Any, house: House, transport: httpx2.ASGITransport
) -> None:
    session = await service.sessions.create_async(participants=[{"Identifier": CUSTOMER}])
    await refused(session.participants.create_async(identifier=CUSTOMER), 400, 80103)
    for number in ("+849", "113", X[0], "messenger:1"):
        error = await refused(session.participants.create_async(identifier=number), 400, 80404)
        assert number not in error.msg
    empty = await proxy.services.create_async(unique_name="empty")
    await refused(empty.sessions.create_async(), 400, 80205)
    await refused(service.sessions.create_async(unique_name="call " + DRIVER), 400, 20001)
    await refused(service.sessions.create_async(mode="smoke"), 400, 20001)
    await refused(service.update_async(chat_instance_sid="IS" + "0" * 32), 400, 20001)
    await refused(service.update_async(geo_match_level="radius"), 400, 20001)
    await refused(proxy.services("KS" + "0" * 32).sessions.create_async(), 404, 20404)
    await refused(client(transport, "wrong").services("KS").fetch_async(), 401, 20003)
    scope: Scope = "recordings"
    await refused(
        client(transport, await key_of(house, "acme", scope)).services(service.sid).delete_async(), 403, 20403
    )
    other = Client("SK" + "1" * 32, await key_of(house, "acme"), http_client=Wire(transport))
    other.proxy.base_url = "http://masking.test"
    assert (await other.proxy.v1.services(service.sid).fetch_async()).account_sid == "AC" + "1" * 32
    stranger = client(transport, await key_of(house, "other"))
    await refused(stranger.services(service.sid).fetch_async(), 404, 20404)


@pytest.mark.parametrize(
    ("method", "path", "given", "status", "code"),
    [
        ("GET", "/v1/Services/KSx/Nothing", {}, 404, 20404),
        ("PATCH", "/v1/Services", {}, 405, 20004),
        ("POST", "/v1/Services", {"json": {"UniqueName": "a"}}, 415, 20001),
        ("POST", "/v1/Services", {"data": {"Unknown": "a"}}, 400, 20001),
        ("GET", "/v1/Services?PageSize=0", {}, 400, 20001),
        ("GET", "/v1/Services?Colour=red", {}, 400, 20001),
        ("GET", "/v1/Services?PageToken=%2B84901234567", {}, 400, 20001),
        ("POST", "/v1/Services", {"content": b"x" * (1 << 20) + b"y"}, 413, 20001),
    ],
)
async def test_requests_that_no_client_sends_are_turned_away(
    house: House, transport: httpx2.ASGITransport, method: str, path: str, given: dict[str, Any], status: int, code: int
) -> None:
    auth = httpx2.BasicAuth(ACCOUNT, await key_of(house, "acme"))
    async with httpx2.AsyncClient(transport=transport, base_url="http://masking.test", auth=auth) as http:
        answer = await http.request(method, path, **given)
    assert (answer.status_code, answer.json()["code"], answer.json()["status"]) == (status, code, status)
    assert answer.json()["more_info"].endswith(str(code)) and "84901234567" not in answer.text


def test_a_sid_is_a_session_and_a_session_is_a_sid() -> None:
    for _ in range(200):
        name = holder_in("0az9bz", sids.session_letters("svc_rides")(os.urandom(17)))
        sid = sids.session(name)
        assert len(sid) == 34 and sids.session_of(sid) == name
    for wrong in ("KC" + "f" * 32, "KC123", "KS" + "0" * 32, "KC" + "G" * 32):
        assert sids.session_of(wrong) is None
    assert sids.number_of(sids.number("+842471000001")) == "+842471000001"
    assert sids.number_of("PN" + "f" * 32) is None


async def test_a_callback_url_is_a_webhook_endpoint_until_it_is_taken_away(proxy: Any, service: Any, api: Rest) -> None:
    told = await service.update_async(
        callback_url="https://example.com/told", intercept_callback_url="https://example.com/asked"
    )
    assert (told.callback_url, told.intercept_callback_url) == ("https://example.com/told", "https://example.com/asked")
    (endpoint,) = (await api.get("/v1/webhook_endpoints")).json()["data"]
    assert endpoint["url"] == "https://example.com/told" and "call.ended" in endpoint["events"]
    rest = (await api.get("/v1/services/rides")).json()
    assert (rest["intercept_url"], rest["webhook_wording"]) == ("https://example.com/asked", "twilio")
    changed = await api.patch("/v1/services/rides", {"intercept_url": "https://example.com/json"})
    assert changed.json()["webhook_wording"] == "standard", "whoever says where says in which words"
    await service.update_async(default_ttl=600)
    assert (await api.get("/v1/services/rides")).json()["webhook_wording"] == "standard"
    for name in ("callback_url", "intercept_callback_url", "out_of_session_callback_url"):
        await refused(service.update_async(**{name: "http://169.254.169.254/"}), 400, 20001)
    cleared = await service.update_async(callback_url="", intercept_callback_url="")
    assert (cleared.callback_url, cleared.intercept_callback_url) == (None, None)
    assert (await api.get("/v1/webhook_endpoints")).json()["data"] == []
    for place in range(20):
        made = await proxy.services.create_async(unique_name=f"s{place}", callback_url="https://example.com/told")
    await refused(service.update_async(callback_url="https://example.com/told"), 409, 20409)
    assert await made.delete_async()
    assert (await service.update_async(callback_url="https://example.com/told")).callback_url is not None


async def test_callbacks_are_signed_with_the_key_that_changed_the_service_last(
    house: House, transport: httpx2.ASGITransport, service: Any
) -> None:
    own = str((await services.listing(house, "acme"))[1].id)
    before = await callbacks.signer_of(house, "acme", own)
    key = await key_of(house, "acme")
    await client(transport, key).services(service.sid).update_async(default_ttl=600)
    after = await callbacks.signer_of(house, "acme", own)
    assert before.key != after.key == key and after.account == ACCOUNT and key not in repr(after)
    kept = await house.redis.command("HVALS", "twilio:signers:acme")
    assert key.encode() not in b"".join(kept)
    with pytest.raises(LookupError):
        await callbacks.signer_of(house, "acme", "svc_none")


NAMES = ["UniqueName", "DefaultTtl", "CallbackUrl", "Ttl", "DateExpiry", "Mode", "Status", "Participants", "Identifier",
    "FriendlyName", "ProxyIdentifier", "ProxyIdentifierSid", "PhoneNumber", "Sid", "IsReserved", "Body"]  # fmt: skip
TEXTS = st.text(max_size=20) | st.sampled_from(
    [CUSTOMER, "+84 901 234 567", "0", "-1", "9" * 40, "true", "null", "open", "2026-11-22T00:00:00Z", "[",
     '{"Identifier": 1}', '{"Identifier": "+84901234567"}', "PN" + "0" * 32, "KC" + "f" * 32, "\x00", "http://[", "https://example.com/"]
)  # fmt: skip


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    row=st.sampled_from(sorted((names, one, method) for (names, one), methods in ROWS.items() for method in methods)),
    form=st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=8), TEXTS | st.lists(TEXTS, max_size=3), max_size=5),
    other=st.sampled_from(["x", "KC" + "0" * 32, "KSx", "+842471000001", "%00", "a:b", "order-1"]),
)
async def test_any_form_at_any_call_is_answered_in_twilios_shape(
    service: Any, house: House, transport: httpx2.ASGITransport, row: Any, form: dict[str, Any], other: str
) -> None:
    names, one, method = row
    session = await service.sessions.create_async()
    gone = (names, one, method) == (("Services",), True, "DELETE")
    known = {"Services": other if gone else service.sid, "Sessions": session.sid}
    parts = [part for name in names for part in (name, known.get(name, other))]
    path = "/v1/" + "/".join(parts if one else parts[:-1])
    auth = httpx2.BasicAuth(ACCOUNT, await key_of(house, "acme"))
    async with httpx2.AsyncClient(transport=transport, base_url="http://masking.test", auth=auth) as http:
        answer = await http.request(method, path, data=form if method == "POST" else None)
    assert answer.status_code < 500 or answer.status_code == 501, answer.text
    if answer.status_code >= 400:
        assert answer.json().keys() == {"code", "message", "more_info", "status"}
    assert "901234567" not in answer.text.replace(" ", "")


async def test_the_archive_knows_sessions_and_what_numbers_are_used(
    proxy: Any,
    house: House,
    api: Rest,
    courier: Outbox,  # noqa: F811
) -> None:
    made = await proxy.services.create_async(unique_name="one")
    number = await made.phone_numbers.create_async(phone_number=X[0])
    people = [CUSTOMER, DRIVER, THIRD]
    sessions = [await made.sessions.create_async(participants=[{"Identifier": one}]) for one in people]
    await sessions[0].update_async(status="closed")
    await carry(courier)
    await house.redis.command("DEL", "recent:{acme}")
    assert [one.sid for one in await made.sessions.list_async(page_size=2)] == [one.sid for one in reversed(sessions)]
    assert (await number.fetch_async()).in_use == 2
    (first,) = (await made.phone_numbers.list_async())[:1]
    assert first.in_use == 2
    await api.patch("/v1/services/default", {"number_model": "one_party"})
    default = (await proxy.services.list_async())[0]
    await refused(default.sessions.create_async(), 400, 20001)


async def test_nobody_reaches_anything_of_another_tenant(
    service: Any, house: House, transport: httpx2.ASGITransport
) -> None:
    session = await service.sessions.create_async(participants=[{"Identifier": CUSTOMER}])
    (person,) = await session.participants.list_async()
    (number, *_) = await service.phone_numbers.list_async()
    sids = {"Services": service.sid, "Sessions": session.sid, "Participants": person.sid, "PhoneNumbers": number.sid}
    auth = httpx2.BasicAuth(ACCOUNT, await key_of(house, "other"))
    async with httpx2.AsyncClient(transport=transport, base_url="http://masking.test", auth=auth) as http:
        for (names, one), methods in ROWS.items():
            parts = [part for name in names for part in (name, sids.get(name, "KI" + "0" * 32))]
            path = "/v1/" + "/".join(parts if one else parts[:-1])
            for method in methods:
                answer = await http.request(method, path, data={} if method == "POST" else None)
                if names != ("Services",) or one:
                    assert (answer.status_code, answer.json()["code"]) == (404, 20404), (method, path)
                assert service.sid not in answer.text
    assert (await person.fetch_async()).proxy_identifier == person.proxy_identifier


async def test_without_redis_the_face_says_so_and_forgets_nothing(
    service: Any, monkeypatch: pytest.MonkeyPatch, house: House
) -> None:
    async def gone(*_: object, **__: object) -> None:
        raise Unavailable("gone")

    with monkeypatch.context() as patched:
        patched.setattr("masking.services.listing", gone)
        error = await refused(service.fetch_async(), 503, 20503)
        assert "try again" in error.msg
    assert (await service.fetch_async()).unique_name == "rides"


@pytest.mark.parametrize("people", [[], [CUSTOMER]])
async def test_the_rest_api_knows_sessions_of_nobody_and_of_one(
    service: Any,
    api: Rest,
    people: list[str],
    house: House,
    courier: Outbox,  # noqa: F811
) -> None:
    session = await service.sessions.create_async(participants=[{"Identifier": one} for one in people])
    path = f"/v1/sessions/{sids.session_of(session.sid)}"
    shown = (await api.get(path)).json()
    assert [one["display"] for one in shown["participants"]] == ["+8490…67"] * len(people)
    assert (await api.patch(path, {"metadata": {"city": "HAN"}, "direction": "a_to_b"})).status_code in (200, 422)
    assert (await api.post(f"{path}:extend", {"ttl": 7200})).status_code == 200
    one = shown["participants"][0] if people else None
    if one is not None:
        number, partner = one["proxies"][0]["number"], one["proxies"][0]["to"]
        assert (await api.post(f"{path}:replace_number", {"number": number, "overlap": 0})).status_code == 200
        await house.redis.command("SET", originating.TAKERS, 1)
        problem(await api.post(f"{path}:call", {"from": one["id"], "to": partner}), 409, "call_refused")
        assert (await api.post(f"{path}:intend", {"participant": one["id"], "to": partner})).status_code in (
            200,
            404,
            422,
        )
        swap = {"participant": one["id"], "replacement": {"identifier": DRIVER}}
        assert (await api.post(f"{path}:swap_participant", swap)).status_code == 200
        block = {"session": path.rpartition("/")[2], "participant": partner, "reason": "calls at night"}
        assert (await api.post("/v1/reports", block)).status_code in (404, 422)
    assert (await api.post(f"{path}:close")).json()["status"] == "closed"
    assert (await api.post(f"{path}:reopen")).json()["status"] == "open"
    await carry(courier)
    assert (await api.get(f"{path}/events")).status_code == 200
    tried = (await api.get(f"{path}/interactions")).json()["data"]
    assert [one["decision"] for one in tried] == ["direction"] * len(people)
    same = [
        (one.inbound_resource_status, one.outbound_participant_sid) for one in await session.interactions.list_async()
    ]
    assert same == [("failed", None)] * len(people)
