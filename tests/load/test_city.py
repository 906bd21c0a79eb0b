"""The city's behaviour, run on threads in place of Locust's greenlets: what Locust adds is its report alone."""

from __future__ import annotations

import io
import threading
import wave
from collections.abc import Iterator
from random import Random

import pytest

from loadtests.city.__main__ import left_over, service_of
from loadtests.city.api import Api
from loadtests.city.errands import City, Closed, NotAsPromised, Talk, channels_of, said
from loadtests.city.exchange import Exchange
from loadtests.city.orders import Attempt, Demand, Manner, Order, Population, Redial, Role
from loadtests.city.voices import TONES
from sipedge.softphone import sounds
from tests.system.service import KEY, Service

CUSTOMER, DRIVER, STRANGER, X = "+84902000001", "+84903000001", "+84909000001", "+842488000001"


class Ledger:
    """Every step told, with what was wrong with it."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, str | None]] = []

    def __call__(self, kind: str, name: str, seconds: float, problem: str | None = None) -> None:
        self.steps.append((f"{kind} {name}", problem))

    @property
    def problems(self) -> list[tuple[str, str]]:
        return [(name, problem) for name, problem in self.steps if problem is not None]

    @property
    def names(self) -> set[str]:
        return {name for name, _ in self.steps}


# -- what will happen -------------------------------------------------------------------------------------------------


def test_orders_come_as_often_as_meant_and_more_often_at_the_peak() -> None:
    demand = Demand(usual=5, peak=3, seconds=120)
    runs = [list(demand.arrivals(Random(seed))) for seed in range(40)]
    mean = sum(map(len, runs)) / len(runs)
    assert mean == pytest.approx(demand.expected, abs=4 * (demand.expected / len(runs)) ** 0.5)
    every = sorted(when for run in runs for when in run)
    first, peak = (sum(1 for when in every if low <= when < low + 10) / (10 * len(runs)) for low in (0, 55))
    assert first == pytest.approx(5, rel=0.15) and peak == pytest.approx(15, rel=0.1)


def test_a_seed_tells_a_whole_run() -> None:
    runs = []
    for _ in range(2):
        dice = Random(5)
        population = Population(600, dice)
        runs.append([population.order(seconds_left) for seconds_left in range(200)])
    assert runs[0] == runs[1]


def test_a_city_has_every_kind_of_order() -> None:
    population = Population(600, Random(1))
    orders = [population.order(120) for _ in range(600)]
    attempts = [attempt for order in orders for attempt in order.attempts]
    assert {attempt.manner for attempt in attempts} == set(Manner)
    assert {attempt.caller for attempt in attempts} == {"customer", "driver"}
    assert {redial.describes for order in orders for redial in order.redials} == {True, False}
    for kind in ("recorded", "stranger", "closed_in_call", "forgotten"):
        assert 0.02 < sum(1 for order in orders if getattr(order, kind)) / len(orders) < 0.25
    assert all(order.attempts[0].manner is Manner.ANSWERS for order in orders if order.recorded)
    assert len({order.numbers["driver"] for order in orders}) < len(orders) / 4  # drivers have several orders at a time


def test_no_order_waits_to_expire_when_the_run_is_nearly_over() -> None:
    population = Population(600, Random(1))
    assert not any(population.order(60).forgotten for _ in range(300))


# -- the exchange, against another exchange in place of an edge -------------------------------------------------------


@pytest.fixture
def exchanges() -> Iterator[tuple[Exchange, Exchange]]:
    """One that dials, and one that is dialled as if it were the edge."""
    with Exchange(("127.0.0.1", 0), ("127.0.0.1", 9)) as dialled, Exchange(("127.0.0.1", 0), dialled.address) as dials:
        yield dials, dialled


def test_a_call_that_shows_what_it_should_is_answered_and_heard_on_both_sides(
    exchanges: tuple[Exchange, Exchange],
) -> None:
    dials, dialled = exchanges
    expected = dialled.expect(DRIVER, X, CUSTOMER, Manner.ANSWERS, 0.05, "driver")
    call = dials.dial(X, DRIVER, STRANGER, speaks_as="customer")
    assert call.settled.wait(5) and call.status == 200
    leg = expected.call
    assert leg is not None and leg.asserted == [X] and not leg.leaked
    assert call.voice is not None and leg.voice is not None
    until = threading.Event()
    for _ in range(100):
        if min(call.voice.heard, leg.voice.heard) >= 10:
            break
        until.wait(0.05)
    assert call.voice.heard >= 10 and leg.voice.heard >= 10 and dials.up == dialled.up == 1
    dials.hang_up(call)
    assert leg.over.wait(5) and call.over.wait(5)
    assert dials.up == dialled.up == dialled.strays == 0


def test_a_call_that_shows_another_number_is_a_stray(exchanges: tuple[Exchange, Exchange]) -> None:
    dials, dialled = exchanges
    expected = dialled.expect(DRIVER, X, STRANGER, Manner.ANSWERS, 0)
    call = dials.dial(CUSTOMER, DRIVER, STRANGER)
    assert call.over.wait(5) and call.status == 404
    assert dialled.strays == 1 and expected.call is None


def test_a_number_that_has_to_be_hidden_is_seen_wherever_it_stands(exchanges: tuple[Exchange, Exchange]) -> None:
    dials, dialled = exchanges
    expected = dialled.expect(DRIVER, X, X, Manner.BUSY, 0)  # what is hidden stands in From
    call = dials.dial(X, DRIVER, DRIVER)  # and what is hidden from the caller in every answer's To
    assert call.over.wait(5) and call.status == 486
    assert expected.call is not None and expected.call.leaked and call.leaked


def test_a_phone_rings_until_the_caller_gives_up(exchanges: tuple[Exchange, Exchange]) -> None:
    dials, dialled = exchanges
    expected = dialled.expect(DRIVER, X, CUSTOMER, Manner.SILENT, 0)
    call = dials.dial(X, DRIVER, STRANGER)
    assert call.rang.wait(5) and not call.settled.is_set()
    dials.hang_up(call)
    assert call.over.wait(5) and call.status == 487
    assert expected.call is not None and expected.call.over.wait(5) and expected.call.status == 487


# -- what the dispute desk hears --------------------------------------------------------------------------------------


def stereo(left: bytes, right: bytes) -> bytes:
    """A WAV of two channels."""
    frames = b"".join(left[at : at + 2] + right[at : at + 2] for at in range(0, len(left), 2))
    with io.BytesIO() as file:
        with wave.open(file, "wb") as writer:
            writer.setparams((2, 2, 8000, 0, "NONE", "not compressed"))
            writer.writeframes(frames)
        return file.getvalue()


def test_channels_are_told_apart_and_other_files_have_none() -> None:
    customer, driver = sounds.tone(TONES["customer"], 2.0), sounds.tone(TONES["driver"], 2.0)
    channels = channels_of(stereo(customer, driver))
    assert [said(channel, "customer") for channel in channels] == [1.0, 0.0]
    assert [said(channel, "driver") for channel in channels] == [0.0, 1.0]
    assert said(sounds.silence(2.0), "customer") == said(customer[:8000], "customer") == 0.0
    assert said(customer + sounds.silence(1.0), "customer") == 1.0
    assert channels_of(b"RIFF") == channels_of(b"") == []


# -- the city itself --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with service_of(tmp_path_factory.mktemp("city")) as service:
        yield service


@pytest.fixture
def city(service: Service) -> Iterator[City]:
    api = Api(service.ready["http"], KEY)
    with Exchange((service.place.callee, 5080), (service.place.edge, 5060)) as exchange:
        yield City(api, exchange, Ledger(), slack=4.0)
    api.close()


def an_order(name: str, customer: int, *attempts: tuple[Role, Manner], **more: object) -> Order:
    """An order of its own two people."""
    numbers: dict[Role, str] = {"customer": f"+84902{customer:06d}", "driver": f"+84903{customer:06d}"}
    tries = tuple(Attempt(who, manner, 0.3, 0.2, 0.6, index % 2 == 0) for index, (who, manner) in enumerate(attempts))
    usual = {"recorded": False, "redials": (), "stranger": "", "closed_in_call": False, "forgotten": False}
    return Order(name=name, numbers=numbers, attempts=tries, **usual | more)  # type: ignore[arg-type]


@pytest.mark.service
def test_a_city_meets_what_it_is_promised(service: Service, city: City) -> None:
    answers = Manner.ANSWERS
    orders = [
        an_order("recorded", 1, ("customer", answers), ("driver", answers), recorded=True),
        an_order("refused", 2, ("customer", Manner.BUSY), ("driver", Manner.DECLINES), ("customer", Manner.SILENT)),
        an_order("closed in call", 3, ("driver", answers), closed_in_call=True, stranger=STRANGER),
        an_order("too late", 4, redials=(Redial("customer", 0.1, True), Redial("driver", 0.1, False))),
    ]
    threads = [threading.Thread(target=city.live, args=(order,)) for order in orders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(50)
    closed = city.closed.get_nowait()
    assert [talk.caller for talk in closed.talks] == ["customer", "driver"]
    city.look_into(closed)
    ledger = city.report
    assert isinstance(ledger, Ledger)
    assert ledger.problems == []
    assert (city.orders, city.abandoned, city.open_sessions, city.exchange.strays) == (4, 0, 0, 0)
    assert {
        "recording both sides in it", "RTP answer to hearing each other", "SIP busy: 486", "SIP declined: 603",
        "SIP caller gives up: 487", "SIP stranger: 404", "SIP late redial: 404", "SIP late redial: 404, no SDP",
        "promise interactions tell how calls ended",
    } <= ledger.names  # fmt: skip
    assert left_over(service) == []


@pytest.mark.service
def test_a_promise_that_is_not_kept_is_told(city: City) -> None:
    ledger = city.report
    assert isinstance(ledger, Ledger)
    with pytest.raises(NotAsPromised):
        city.ask("GET /v1/sessions/{id}", "GET", "/v1/sessions/ses_nobody", 200)
    city.slack = 0.0
    city.look_into(Closed("ses_nobody", [Talk("customer", 1.0, 0.0)], 0.0))
    assert ledger.problems == [
        ("HTTP GET /v1/sessions/{id}", "answered 404, promised is 200"),
        ("recording available after the call", "none; promised 1 available"),
    ]
