"""Fixtures: one relay process for the tests that leave it in order, and an edge of its own for each test."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.relay.peers import Edge, Phone, Relay

_calls = itertools.count(1)


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    with Relay(tmp_path_factory.mktemp("relay")) as relay:
        yield relay


@pytest.fixture
def own_relay(tmp_path: Path) -> Iterator[Relay]:
    """For tests that end it, starve it or measure it."""
    with Relay(tmp_path) as relay:
        yield relay


@pytest.fixture
def edge(relay: Relay) -> Iterator[Edge]:
    with relay.edge(f"edge-{next(_calls)}") as edge:
        yield edge


@pytest.fixture
def call() -> str:
    return f"call-{next(_calls)}"


@pytest.fixture
def alice() -> Iterator[Phone]:
    with Phone() as phone:
        yield phone


@pytest.fixture
def bob() -> Iterator[Phone]:
    with Phone() as phone:
        yield phone
