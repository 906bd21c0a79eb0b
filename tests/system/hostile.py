"""Hostile input at the running service: bent SIP from a trunk's and a stranger's address, beside slow TCP
connections.

`attack` is what `make test` runs small and `make soak` large. It says what came back and how memory went; the callers
judge.
"""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field

from tests.system.mutate import Mutator
from tests.system.service import Service


@dataclass
class Outcome:
    """What an attack did."""

    sent: int = 0
    bytes_to_strangers: int = 0
    answers: dict[str, int] = field(default_factory=dict)
    memory_before: int = 0
    memory_after: int = 0
    memory_peak: int = 0


def udp(address: str) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind((address, 0))
    made.setblocking(False)
    return made


def attack(service: Service, count: int, seed: int, *, trunk: str, rate: float = 2000.0, slow: int = 40) -> Outcome:
    """`count` bent messages, half from `trunk` (an address of one) and half from the stranger, a tenth over TCP.

    `rate`: messages a second at most, so that what is measured is the service and not the kernel's socket buffer.
    `slow`: TCP connections from either address that drip one byte of a message now and then.
    """
    place = service.place
    users = ["+842471000000", "+842471000001", "112", "anonymous", "0903", "+7495", "sos"]
    outcome = Outcome(memory_before=service.memory())
    outcome.memory_peak = outcome.memory_before
    with ExitStack() as held:
        sources = [trunk, place.stranger]
        mutators = {source: Mutator(seed + n, place.edge, source, users) for n, source in enumerate(sources)}
        sockets = {source: held.enter_context(udp(source)) for source in sources}
        drips = [held.enter_context(Drip(place.edge, sources[n % 2], mutators[trunk].valid())) for n in range(slow)]
        began = time.monotonic()
        while outcome.sent < count:
            source = sources[(outcome.sent + outcome.sent // 10) % 2]
            message = mutators[source].message()
            if outcome.sent % 10 == 9:
                over_tcp(place.edge, source, message, outcome, stranger=source == place.stranger)
            else:
                with suppress(BlockingIOError):
                    sockets[source].sendto(message, (place.edge, 5060))
            outcome.sent += 1
            if outcome.sent % 200 == 0:
                for drip in drips:
                    drip.drip()
                outcome.memory_peak = max(outcome.memory_peak, service.memory())
            read(sockets[trunk], outcome, stranger=False)
            read(sockets[place.stranger], outcome, stranger=True)
            ahead = began + outcome.sent / rate - time.monotonic()
            if ahead > 0:
                time.sleep(ahead)
        time.sleep(1.0)
        read(sockets[place.stranger], outcome, stranger=True)
        outcome.bytes_to_strangers += sum(drip.received() for drip in drips if drip.source == place.stranger)
    outcome.memory_after = service.memory()
    outcome.memory_peak = max(outcome.memory_peak, outcome.memory_after)
    return outcome


def attack_beside(call: Callable[[], None], service: Service, count: int, seed: int, *, trunk: str) -> Outcome:
    """`attack` while `call` is made again and again; a call that fails ends it by its exception."""
    with ThreadPoolExecutor(1) as other:
        attacking = other.submit(attack, service, count, seed, trunk=trunk)
        while not attacking.done():
            call()
        return attacking.result()


def read(from_socket: socket.socket, outcome: Outcome, *, stranger: bool) -> None:
    while True:
        try:
            data = from_socket.recv(65535)
        except BlockingIOError:
            return
        note(data, outcome, stranger=stranger)


def note(data: bytes, outcome: Outcome, *, stranger: bool) -> None:
    if stranger:
        outcome.bytes_to_strangers += len(data)
    elif data:
        first = data[:11].decode("latin-1")
        outcome.answers[first] = outcome.answers.get(first, 0) + 1


def over_tcp(edge: str, source: str, message: bytes, outcome: Outcome, *, stranger: bool) -> None:
    """One connection, one message, whatever comes back within a moment, and an impolite end."""
    try:
        with socket.create_connection((edge, 5060), 1.0, source_address=(source, 0)) as connection:
            connection.sendall(message)
            with selectors.DefaultSelector() as ready:
                ready.register(connection, selectors.EVENT_READ)
                if ready.select(0.002):
                    note(connection.recv(65535), outcome, stranger=stranger)
    except OSError:
        return  # refused, reset, timed out: as the service likes


class Drip:
    """A TCP connection that sends one byte of a message at a time and never ends it."""

    def __init__(self, edge: str, source: str, message: bytes) -> None:
        self.source, self._rest = source, message * 100
        self._connection: socket.socket | None = None
        with suppress(OSError):
            self._connection = socket.create_connection((edge, 5060), 1.0, source_address=(source, 0))
            self._connection.setblocking(False)

    def __enter__(self) -> Drip:
        return self

    def __exit__(self, *_: object) -> None:
        if self._connection is not None:
            self._connection.close()

    def drip(self) -> None:
        if self._connection is not None:
            with suppress(OSError):
                self._connection.send(self._rest[:1])
                self._rest = self._rest[1:]

    def received(self) -> int:
        if self._connection is None:
            return 0
        try:
            return len(self._connection.recv(65535))
        except OSError:
            return 0
