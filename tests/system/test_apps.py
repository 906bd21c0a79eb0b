"""An app that is asked about calls while they wait, by the running service, told by SIPp."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.system.service import Service
from tests.system.sipp import (
    Phones,
    accepts,
    ack,
    bye,
    cancel,
    hears,
    invite,
    is_asked,
    picks_up,
    refusal_ack,
    trying,
    waits,
)

pytestmark = [pytest.mark.service, pytest.mark.peer, pytest.mark.timeout(90)]

Question = dict[str, Any]
CALLS = [invite(), trying(), hears(180, optional=True), hears(200), ack(), waits(300), bye(), hears(200)]
# An announcement begins, and is not heard to its end: how each refusal goes on, tests/edge tells.
HEARS_NO = [invite(), trying(), hears(183), cancel(), hears(200), hears(487), refusal_ack()]


class App:
    """`answer` gives the status and the JSON for a question; `asked` are those it got."""

    def __init__(self) -> None:
        self.asked: list[Question] = []
        self.answer: Callable[[Question], tuple[int, Any]] = lambda _: (200, {})
        self.url = ""


@pytest.fixture
def app() -> Iterator[App]:
    found = App()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            found.asked.append(question)
            status, said = found.answer(question)
            body = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing is to be read here."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    found.url = f"http://127.0.0.1:{server.server_port}/calls"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield found
    server.shutdown()
    server.server_close()


def test_an_app_connects_whoever_dials_its_dispatch_and_may_refuse_a_call(
    service: Service, phones: Phones, app: App
) -> None:
    place = service.place
    service.post("/v1/services", {"unique_name": "dispatch"}, 201)
    dispatch, other = "+842471007801", "+842471007802"
    service.import_numbers([dispatch, other], "vn-main", "dispatch")
    urls = {"intercept_url": app.url, "dispatch_number": dispatch, "out_of_session_url": app.url}
    assert service.call("PATCH", "/v1/services/dispatch", urls).status_code == 200
    customer, driver = service.person("customer", place.caller), service.person("driver", place.callee)

    def connects(question: Question) -> tuple[int, Any]:
        if question["type"] == "call.intercept":
            return 403, {"reason": "shift_over"}
        people = [{"caller_token": question["data"]["caller"]["token"]}, {"identifier": driver.number}]
        return 200, {"session": {"unique_name": "order-7801", "participants": people}}

    app.answer = connects
    with phones.waits_for_call(place.callee, is_asked("INVITE"), *picks_up(), is_asked("BYE"), accepts()) as callee:
        with phones.calls(dispatch, place.caller, customer.number, *CALLS) as caller:
            caller.finish()
        invited = callee.finish()[0]
    assert other.strip("+") in invited.header("From") and customer.number[-8:] not in invited.text
    (session,) = service.get("/v1/sessions", unique_name="order-7801")["data"]
    told = service.ended_interaction(session["id"])
    assert (told["status"], told["dialled"], told["to"]) == ("completed", dispatch, session["participants"][1]["id"])

    with phones.calls(other, place.caller, customer.number, *HEARS_NO) as caller:
        caller.finish()
    told = service.ended_interaction(session["id"])
    assert (told["decision"], told["status"], told["reason"]) == ("blocked", "refused", "intercept:shift_over")

    app.answer = lambda _: (200, {})
    stranger = service.person("stranger", place.caller)
    with phones.calls(other, place.caller, stranger.number, *HEARS_NO) as caller:
        caller.finish()
    assert [one["type"] for one in app.asked] == ["call.dispatch", "call.intercept", "call.out_of_session"]
    for person in (customer, driver, stranger):
        assert person.number[-8:] not in json.dumps(app.asked)
    assert service.metric("masking_sip_consultations_total", type="call.intercept", outcome="deny") == 1
