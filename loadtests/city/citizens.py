"""The city as Locust runs it: `locust -f loadtests/city/citizens.py`, started by `python -m loadtests.city`.

One shop that orders arrive at, dispute desks that ask for recordings later, and every step of theirs as a Locust
request. Load of an open world: orders come when they come, whether or not the service keeps up.
"""

from __future__ import annotations

import json
import os
import random
import threading
import time
from contextlib import suppress
from pathlib import Path
from queue import Empty
from typing import Any

from locust import User, events, task

from loadtests.city.api import Api
from loadtests.city.errands import City
from loadtests.city.exchange import Exchange
from loadtests.city.ground import Ground, Moment, Step
from loadtests.city.orders import Demand, Population

DESKS = 4
LATER = 5.0  # seconds after an order's end that a dispute comes up: what weeks are in a city of two minutes
LAST_ORDERS = 60.0  # seconds the orders of the last second get to end, beyond what expiry needs


class World:
    """What all citizens of this process share."""

    def __init__(self, ground: Ground, environment: Any) -> None:
        self.ground = ground
        self.dice = random.Random(ground.seed)
        self.demand = Demand(ground.orders_per_second, ground.peak, ground.seconds)
        self.exchange = Exchange(ground.listen, ground.edge)
        self.city = City(Api(ground.http, ground.key), self.exchange, self.report, ground.slack, self.keep)
        self.began = time.monotonic()
        self.over = threading.Event()
        self._environment = environment
        self._steps = ground.steps.open("w", buffering=1 << 16)
        self._moments = ground.moments.open("w")

    def report(self, kind: str, name: str, seconds: float, problem: str | None = None) -> None:
        """One step to Locust, and to the file the plots are drawn from."""
        step = Step(time.monotonic() - self.began, kind, name, seconds, problem)
        self._steps.write(json.dumps(step) + "\n")
        self._environment.events.request.fire(
            request_type=kind, name=name, response_time=seconds * 1000, response_length=0, context={},
            exception=None if problem is None else AssertionError(problem),
        )  # fmt: skip

    def keep(self, name: str, evidence: bytes) -> None:
        (Path(self.ground.folder) / name).write_bytes(evidence)

    def note(self) -> None:
        """How much goes on at this moment."""
        city = self.city
        phones = self.exchange
        since = time.monotonic() - self.began
        moment = Moment(since, city.orders, city.open_sessions, phones.up / 2, phones.packets, phones.unsent)
        self._moments.write(json.dumps(moment) + "\n")

    def close(self) -> None:
        self.over.set()
        self.exchange.__exit__()
        self.city.api.close()
        self._steps.close()
        self._moments.close()


world: World


@events.init.add_listener
def begin(environment: Any, **_: Any) -> None:
    global world
    world = World(Ground.read(os.environ["CITY_GROUND"]), environment)


@events.test_start.add_listener
def start(**_: Any) -> None:
    world.began = time.monotonic()
    world.exchange.__enter__()


@events.test_stop.add_listener
def stop(**_: Any) -> None:
    world.close()


class Shop(User):
    """Where orders arrive. Ends the run when the last of them is over."""

    fixed_count = 1

    @task
    def open(self) -> None:
        population = Population(world.demand.expected, world.dice)
        living: list[threading.Thread] = []
        for arrival in world.demand.arrivals(world.dice):
            while (left := world.began + arrival - time.monotonic()) > 0:
                world.note()
                time.sleep(min(left, 0.5))
            order = population.order(world.demand.seconds - arrival)
            living = [thread for thread in living if thread.is_alive()]
            living.append(threading.Thread(target=world.city.live, args=(order,), daemon=True))
            living[-1].start()
        self._last_orders(living)
        # Not from here: the runner ends this very greenlet before it has ended everything else.
        threading.Thread(target=self.environment.runner.quit).start()
        world.over.wait()

    def _last_orders(self, living: list[threading.Thread]) -> None:
        deadline = time.monotonic() + LAST_ORDERS
        while time.monotonic() < deadline:
            living = [thread for thread in living if thread.is_alive()]
            if not living and not world.city.closed.unfinished_tasks:
                break
            world.note()
            time.sleep(0.5)
        world.note()
        unlooked = world.city.closed.unfinished_tasks
        ended = not living and not unlooked
        problem = None if ended else f"{len(living)} orders and {unlooked} disputes are not over"
        world.report("promise", "every order comes to its end", 0.0, problem)
        strays = world.exchange.strays
        world.report("promise", "nobody else is called", 0.0, f"{strays} calls nobody expected" if strays else None)
        unacknowledged = world.exchange.unacknowledged
        world.report(
            "promise", "every answer is acknowledged", 0.0, f"{unacknowledged} were not" if unacknowledged else None
        )


class DisputeDesk(User):
    """Asks for the recordings of orders that are over, and listens to them."""

    fixed_count = DESKS

    @task
    def look(self) -> None:
        with suppress(Empty):
            closed = world.city.closed.get(timeout=0.5)
            time.sleep(max(0.0, closed.at + LATER - time.monotonic()))
            world.city.look_into(closed)
            world.city.closed.task_done()
