"""By which trunk the second leg leaves: the CLI rule line by line, then prefix, priority, weight and health."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masking import numbering
from masking.config import TrunkSection
from masking.numbering import Number
from sipedge import trunk_health
from sipedge.trunk_health import Health, shares
from sipedge.trunks import Trunk, TrunkTable

PEOPLE = {"VN": "+84901234567", "RU": "+79161234567", "TH": "+66812345678", "nowhere": "+99912345678"}


def section(name: str, *sources: str, **more: Any) -> TrunkSection:
    values: dict[str, Any] = {
        "name": name, "uri": "sip:192.0.2.1", "sources": list(sources) or ["10.0.0.1"], "country": "VN",
    }  # fmt: skip
    return TrunkSection(**(values | more))


def leaving(
    table: TrunkTable, shows: str | None, country: str, callee: str, now: float = 0.0, random: Random | None = None
) -> list[Trunk]:
    number = Number.parse(PEOPLE.get(callee, callee))
    return table.leaving(shows, country, number, random or Random(1), now)


def names(table: TrunkTable, shows: str | None, country: str, callee: str, now: float = 0.0) -> list[str]:
    return [trunk.name for trunk in leaving(table, shows, country, callee, now)]


# ---- the CLI rule (contract: Which trunk) ----------------------------------------------------------------------------


def test_the_second_leg_leaves_by_the_trunk_of_the_number_it_shows_whatever_its_priority() -> None:
    table = TrunkTable([section("twin", carrier="c", priority=1), section("own", carrier="c", priority=9)])
    assert names(table, "own", "VN", "VN") == ["own", "twin"]


def test_another_is_tried_only_if_it_has_the_same_carrier() -> None:
    table = TrunkTable([section("own", carrier="c"), section("other", carrier="d"), section("twin", carrier="c")])
    assert names(table, "own", "VN", "VN") == ["own", "twin"]


def test_or_if_it_may_show_any_number() -> None:
    table = TrunkTable([section("own", carrier="c"), section("any", carrier="d", cli="any")])
    assert names(table, "own", "VN", "VN") == ["own", "any"]


def test_a_carrier_is_by_default_its_trunk_alone() -> None:
    table = TrunkTable([section("own"), section("other")])
    assert names(table, "own", "VN", "VN") == ["own"]


def test_a_number_without_a_trunk_leaves_by_any_trunk_of_its_country() -> None:
    table = TrunkTable(
        [section("vn2", priority=2), section("vn"), section("ru", country="RU", countries=["RU", "VN"]),
         section("any", country="RU", countries=["VN"], cli="any", priority=0)]
    )  # fmt: skip
    assert names(table, None, "VN", "VN") == ["vn", "vn2", "any"]


def test_a_number_whose_trunk_left_the_configuration_is_shown_by_nobody_but_who_may_show_any() -> None:
    table = TrunkTable([section("vn"), section("any", cli="any")])
    assert names(table, "gone", "VN", "VN") == ["any"]


def test_only_trunks_that_serve_the_destination_are_tried() -> None:
    table = TrunkTable(
        [section("own", carrier="c"), section("elsewhere", carrier="c", countries=["RU", "TH"], country="VN")]
    )
    assert names(table, "own", "VN", "RU") == ["elsewhere"]
    assert names(table, "elsewhere", "VN", "VN") == ["own"]
    assert names(table, "own", "VN", "nowhere") == ["own", "elsewhere"]


def test_the_lowest_priority_number_goes_first() -> None:
    table = TrunkTable([section(f"p{each}", priority=each) for each in (3, 1, 2)])
    assert names(table, None, "VN", "VN") == ["p1", "p2", "p3"]


# ---- prefixes --------------------------------------------------------------------------------------------------------


def test_the_longest_prefix_wins_over_priority_and_what_has_others_is_not_tried() -> None:
    table = TrunkTable(
        [
            section("all", priority=1),
            section("mobi", prefixes=["+8490", "+8493"], priority=5),
            section("narrow", prefixes=["+84901", "+8491"], priority=9),
            section("vina", prefixes=["+8491"], priority=1),
        ]
    )
    assert names(table, None, "VN", "+84901234567") == ["narrow", "mobi", "all"]
    assert names(table, None, "VN", "+84931234567") == ["mobi", "all"]
    assert names(table, None, "VN", "+84911234567") == ["vina", "narrow", "all"]
    assert names(table, None, "VN", "+84981234567") == ["all"]


# ---- weight and health -----------------------------------------------------------------------------------------------


def drawn(table: TrunkTable, now: float, calls: int = 4000) -> Counter[str]:
    random = Random(3)
    return Counter(leaving(table, None, "VN", "VN", now, random)[0].name for _ in range(calls))


def test_weights_share_the_calls_of_one_priority() -> None:
    table = TrunkTable([section("a", weight=300), section("b", weight=100)])
    assert 2800 < drawn(table, 0.0)["a"] < 3200


def test_a_trunk_that_fewer_people_answer_by_gets_less_and_is_forgiven_with_time() -> None:
    table = TrunkTable([section("good"), section("bad")])
    for second in range(100):
        table.named["good"].health.answered(second)
        (table.named["bad"].health.answered if second % 5 == 0 else table.named["bad"].health.reached)(second)
    assert 800 < drawn(table, 100.0)["bad"] < 1300
    assert 1800 < drawn(table, 100.0 + 20 * trunk_health.HALF_LIFE)["bad"] < 2200


def test_a_trunk_that_takes_long_to_ring_gets_less_but_a_little_longer_is_nothing() -> None:
    table = TrunkTable([section("quick"), section("slow"), section("middling")])
    for second in range(10):
        for name, delay in (("quick", 2.0), ("slow", 16.0), ("middling", 3.9)):
            table.named[name].health.rang(delay, second)
    found = drawn(table, 10.0)
    assert found["slow"] < 0.5 * found["quick"]
    assert abs(found["middling"] - found["quick"]) < 300


def test_a_trunk_on_which_most_calls_fail_is_sick_and_still_gets_a_call_now_and_then() -> None:
    table = TrunkTable([section("good"), section("bad")])
    for second in range(200):
        table.named["good"].health.answered(second)
        (table.named["bad"].health.reached if second % 9 == 0 else table.named["bad"].health.failed)(second)
    assert table.named["bad"].health.state(200.0) == "sick"
    assert 20 < drawn(table, 200.0)["bad"] < 400


def test_a_trunk_silent_to_its_pings_gets_nothing_until_it_answers_them() -> None:
    table = TrunkTable([section("own", carrier="c"), section("twin", carrier="c")])
    table.named["own"].health.pinged(False)
    assert table.named["own"].health.state(0.0) == "dead"
    assert names(table, "own", "VN", "VN") == ["twin", "own"]  # the last hope of a call that has no other
    table.named["own"].health.pinged(True)
    assert names(table, "own", "VN", "VN") == ["own", "twin"]


def test_a_trunk_on_which_every_call_fails_is_dead_and_one_call_at_a_time_finds_out_whether_it_is_well() -> None:
    health = Health()
    for _ in range(trunk_health.STREAK):
        assert health.state(0.0) != "dead"
        health.failed(0.0)
    assert health.state(0.0) == "dead"
    now = 0.0
    for pause in (5.0, 5.0, 10.0, 20.0, 40.0, 60.0, 60.0):
        assert health.state(now + pause - 0.1) == "dead"
        now += pause
        assert health.state(now) != "dead"
        health.begins(now)
        assert health.state(now) == "dead"  # the next call does not try it too
        health.failed(now)
    health.rang(1.0, now)
    assert health.state(now) != "dead"


def test_a_trunk_that_came_back_to_its_pings_is_believed_at_once() -> None:
    health = Health()
    for _ in range(trunk_health.STREAK):
        health.failed(0.0)
    health.pinged(False)
    health.pinged(True)
    assert health.state(0.0) == "sick"


def test_a_resting_trunk_gets_nothing_at_all_and_nobody_rests_for_ever() -> None:
    table = TrunkTable([section("only")])
    table.named["only"].health.failed(0.0, rest=20)
    assert names(table, None, "VN", "VN", now=19.9) == []
    assert table.named["only"].health.rest(5.0) == 15.0
    assert names(table, None, "VN", "VN", now=20.1) == ["only"]
    table.named["only"].health.failed(30.0, rest=86_400)
    assert names(table, None, "VN", "VN", now=31.0 + trunk_health.MAX_REST) == ["only"]


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["begins", "rang", "answered", "reached", "failed", "pinged"]),
        st.floats(0, 1000),
        st.booleans(),
    ),
    max_size=60,
)


@given(st.lists(EVENTS, min_size=1, max_size=3))
def test_whatever_happens_every_trunk_keeps_a_share_and_every_figure_stays_one(stories: list[list[Any]]) -> None:
    equals = []
    end = 0.0
    for story in stories:
        health, now = Health(), 0.0
        for what, seconds, yes in story:
            now += seconds
            if what == "rang":
                health.rang(seconds, now)
            elif what == "pinged":
                health.pinged(yes)
            elif what == "failed":
                health.failed(now, seconds if yes else None)
            else:
                getattr(health, what)(now)
        end = max(end, now)
        equals.append(health)
    parts = shares(equals, end)
    assert all(trunk_health.LEAST <= part <= 1.0 for part in parts)
    assert all(0.0 < health.answer_ratio(end) < 1.0 for health in equals)
    assert all(health.state(end + 10_000) in ("up", "sick") or not health.answers_pings for health in equals)


@pytest.mark.parametrize("spelling", ["+e164", "national"])
def test_a_prefix_is_of_the_number_not_of_its_spelling(spelling: Any) -> None:
    trunk = Trunk(section("a", prefixes=["+8490"], number_format=spelling))
    found = numbering.read("VN", "0901234567")
    assert found is not None and trunk.serves(found, "VN")


# ---- whatever the configuration --------------------------------------------------------------------------------------

COUNTRIES = ["VN", "RU", "TH"]
SECTIONS: st.SearchStrategy[dict[str, Any]] = st.builds(
    dict,
    carrier=st.sampled_from(["", "one", "two"]),
    cli=st.sampled_from(["own", "own", "any"]),
    country=st.sampled_from(COUNTRIES),
    countries=st.lists(st.sampled_from(COUNTRIES), max_size=2, unique=True),
    prefixes=st.lists(st.sampled_from(["+84", "+8490", "+8491", "+7", "+66"]), max_size=2, unique=True),
    priority=st.integers(0, 2),
    weight=st.integers(0, 3),
)
STATES = st.sampled_from(["up", "dead", "resting"])


@given(
    st.lists(st.tuples(SECTIONS, STATES), max_size=6),
    st.sampled_from([None, "t0", "t1", "gone"]),
    st.sampled_from(COUNTRIES),
    st.sampled_from(list(PEOPLE)),
    st.integers(),
)
def test_whatever_the_trunks_only_those_that_may_are_tried_and_the_best_first(
    given_: list[tuple[dict[str, Any], str]], shows: str | None, country: str, callee: str, seed: int
) -> None:
    table = TrunkTable([section(f"t{at}", **keys) for at, (keys, _) in enumerate(given_)])
    for trunk, (_, state) in zip(table.trunks, given_, strict=True):
        if state == "resting":
            trunk.health.failed(0.0, rest=100)
        trunk.health.pinged(state != "dead")
    number = Number.parse(PEOPLE[callee])
    own = table.named.get(shows) if shows else None
    chosen = leaving(table, shows, country, callee, 1.0, Random(seed))

    def may(trunk: Trunk) -> bool:
        if trunk.health.state(1.0) == "resting" or (callee in COUNTRIES and callee not in trunk.countries):
            return False
        if trunk.config.prefixes and not any(PEOPLE[callee].startswith(one) for one in trunk.config.prefixes):
            return False
        if trunk is own or trunk.config.cli == "any":
            return True
        return trunk.carrier == own.carrier if own else shows is None and trunk.country == country

    def rank(trunk: Trunk) -> tuple[bool, bool, int, int]:
        first = trunk is own if own else trunk.country == country
        prefix = numbering.longest_prefix(number, trunk.config.prefixes)
        return trunk.health.state(1.0) == "dead", not first, -prefix, trunk.config.priority

    assert len(set(chosen)) == len(chosen)
    assert set(chosen) == {trunk for trunk in table.trunks if may(trunk)}
    assert [rank(trunk) for trunk in chosen] == sorted(rank(trunk) for trunk in chosen)
