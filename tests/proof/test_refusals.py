"""A caller cannot tell one "no" from another: the same messages in the same order, the same words, the same voice."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.proof.refusals import No, Told, kinds, medians, refuse
from tests.system.service import Service

pytestmark = [pytest.mark.service, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def nos(service: Service) -> dict[str, No]:
    return kinds(service)


def test_every_no_is_told_in_the_same_words_and_the_same_voice(service: Service, nos: dict[str, No]) -> None:
    with ThreadPoolExecutor(len(nos)) as callers:  # each hears seconds of announcement
        heard = callers.map(lambda no: refuse(service, no, offers=True), nos.values())
        told = dict(zip(nos, heard, strict=True))
    model = told["no binding"]
    assert [message.split()[1] for message in model.messages] == [b"100", b"183", b"404"]
    assert len(model.packets) > 20
    for name, one in told.items():
        assert one.messages == model.messages, name
        assert same_voice(one, model), name


def same_voice(one: Told, other: Told) -> bool:
    """The same audio, give or take the packets that were on their way at the end."""
    count = min(len(one.packets), len(other.packets))
    return one.packets[:count] == other.packets[:count] and abs(len(one.packets) - len(other.packets)) <= 3


def test_without_a_description_every_no_is_the_same_code_at_once(service: Service, nos: dict[str, No]) -> None:
    told = {name: refuse(service, no, offers=False) for name, no in nos.items()}
    model = told["no binding"]
    assert [message.split()[1] for message in model.messages] == [b"100", b"404"]
    assert {name for name, one in told.items() if one.messages != model.messages or one.packets} == set()


def test_the_times_can_be_measured(service: Service, nos: dict[str, No]) -> None:
    """How close they lie is for the soak to say: `make soak ARGS="--only refusals"`."""
    times = medians(service, nos, 5)
    assert len(times) >= 8 and all(0 < first <= final < 2_000 for first, final in times.values())
