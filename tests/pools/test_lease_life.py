"""Extending, ending and calling through a lease."""

from __future__ import annotations

import asyncio
import os

import pytest

from pools.grants import Channel, Extended, Released, holder_id
from pools.leases import Leases
from pools.redis import Redis
from pools.scripts import SHARD
from tests.pools.world import QUARANTINE, START, TTL, World, pair

GONE = holder_id("abc123", bytes(17))


async def test_extending_moves_the_end_and_the_quarantine(world: World) -> None:
    shard = await world.pool(1)
    bound = await world.bind(shard, pair("an", "binh"))
    await world.at(START + TTL - 1)
    event = ("session.updated", None, b"{}")
    moved = await world.leases.extend(bound.holder, ttl_ms=TTL, events=[event], fields={"record": b"new"})
    assert moved == Extended("extended", START + 2 * TTL - 1, seq=1)
    holder = await world.leases.read(bound.holder)
    assert holder is not None
    assert (holder.expires, holder.until, holder.rev) == (moved.expires, moved.expires + QUARANTINE, 2)
    assert (holder.fields, holder.status, holder.targets) == (
        {"record": b"new"},
        "open",
        ("par_an|par_binh", "par_binh|par_an"),
    )
    await world.at(moved.expires - 1)
    assert (await world.call(bound.numbers[0], "binh")).decision == "routed"
    await world.later(1)
    assert (await world.call(bound.numbers[0], "binh")).decision == "ended"


async def test_a_lease_may_be_made_shorter_and_a_time_that_has_passed_ends_it_now(world: World) -> None:
    shard = await world.pool(1)
    bound = await world.bind(shard, pair("an", "binh"))
    assert (await world.leases.extend(bound.holder, expires=START + 10)).expires == START + 10
    assert (await world.leases.extend(bound.holder, expires=5)).expires == START
    assert (await world.call(bound.numbers[0], "an")).decision == "ended"


async def test_an_extended_lease_is_not_forgotten_at_the_time_its_first_end_gave_it(world: World) -> None:
    shard = await world.pool(1)
    bound = await world.bind(shard, pair("an", "binh"))
    await world.leases.extend(bound.holder, ttl_ms=100 * TTL)
    for party in ("an", "binh"):
        assert await world.redis.command("PTTL", "{" + shard + "}p:" + party) > 100 * TTL + QUARANTINE
    before = await world.redis.command("PTTL", "{" + shard + "}p:an")
    await world.leases.extend(bound.holder, ttl_ms=TTL)
    assert await world.redis.command("PTTL", "{" + shard + "}p:an") > before - 60_000, "never shortened either"


async def test_what_has_ended_is_not_extended(world: World) -> None:
    shard = await world.pool(2)
    lapsed = await world.bind(shard, pair("an", "binh"))
    closed = await world.bind(shard, pair("an", "chi"))
    await world.leases.release(closed.holder, reason="api")
    await world.at(START + TTL)
    before = await world.snapshot()
    assert (await world.leases.extend(lapsed.holder, ttl_ms=TTL)).outcome == "ended"
    assert (await world.leases.extend(closed.holder, ttl_ms=TTL)).outcome == "ended"
    assert await world.leases.extend(GONE, ttl_ms=TTL) == Extended("ended", 0, 0)
    assert await world.snapshot() == before


async def test_a_closed_holder_is_not_extended_whatever_its_time(world: World) -> None:
    shard = await world.pool(1)
    bound = await world.bind(shard, pair("an", "binh"))
    await world.redis.command("HSET", "{" + shard + "}s:" + bound.holder, "status", "failed")
    assert (await world.leases.extend(bound.holder, ttl_ms=TTL)).outcome == "ended"
    assert (await world.call(bound.numbers[0], "an")).decision == "ended"


async def test_an_extension_counts_from_the_latest_time_the_shard_has_seen(world: World) -> None:
    shard = await world.pool(1)
    bound = await world.bind(shard, pair("an", "binh"))
    await world.at(START + 500)
    await world.leases.extend(bound.holder, ttl_ms=1000)
    await world.at(START)
    assert (await world.leases.extend(bound.holder, ttl_ms=1000)).expires == START + 1500


@pytest.mark.parametrize("end", [{}, {"expires": 1, "ttl_ms": 1}])
async def test_extend_wants_one_way_to_say_when(world: World, end: dict[str, int]) -> None:
    with pytest.raises(ValueError):
        await world.leases.extend(GONE, **end)  # type: ignore[arg-type]


async def test_a_release_leaves_tombstones_for_the_quarantine(world: World) -> None:
    shard = await world.pool(2)
    bound = await world.bind(shard, pair("an", "binh"), fields={"record": b"{}"})
    await world.later(1000)
    ended = await world.leases.release(bound.holder, reason="api", events=[("session.closed", None, b"{}")])
    assert ended == Released("released", seq=1)
    redial = await world.call(bound.numbers[0], "an")
    assert (redial.decision, redial.holder, redial.target, redial.fields) == (
        "ended",
        bound.holder,
        "par_binh",
        {"record": b"{}"},
    )
    assert await world.events(bound.holder) == ["session.closed", "call.refused"]
    journal = await world.leases.journal(bound.holder, after_seq=1)
    assert journal[0].data == b'{"from":"par_an","to":"par_binh","why":"ended"}'
    await world.at(START + 1000 + QUARANTINE - 1)
    assert (await world.call(bound.numbers[0], "binh")).decision == "ended"
    await world.later(1)
    assert (await world.call(bound.numbers[0], "binh")).decision == "no_binding"


async def test_a_stale_redial_never_reaches_a_stranger(world: World) -> None:
    shard = await world.pool(1)
    old = await world.bind(shard, pair("an", "binh"))
    await world.leases.release(old.holder, reason="api")
    new = await world.bind(shard, pair("chi", "dung"))
    assert new.numbers == old.numbers, "the number goes on working for others at once"
    redial = await world.call(old.numbers[0], "an")
    assert (redial.decision, redial.holder) == ("ended", old.holder)
    assert (await world.call(new.numbers[0], "chi")).target == "par_dung"


async def test_without_quarantine_a_release_frees_at_once(world: World) -> None:
    shard = await world.pool(1)
    bound = await world.bind(shard, pair("an", "binh"), quarantine=0)
    await world.leases.release(bound.holder, reason="api")
    assert (await world.call(bound.numbers[0], "an")).decision == "no_binding"
    assert await world.redis.command("EXISTS", "{" + shard + "}p:an") == 0
    assert (await world.bind(shard, pair("an", "chi"))).numbers == bound.numbers


async def test_a_second_release_writes_nothing(world: World) -> None:
    shard = await world.pool(1)
    bound = await world.bind(shard, pair("an", "binh"))
    await world.leases.release(bound.holder, reason="api", events=[("session.closed", None, b"{}")])
    before = await world.snapshot()
    await world.later(1)
    again = await world.leases.release(bound.holder, reason="other", events=[("session.closed", None, b"{}")])
    assert again == Released("already", seq=1)
    assert await world.leases.release(GONE, reason="api") == Released("gone", 0)
    assert await world.snapshot() == before
    holder = await world.leases.read(bound.holder)
    assert holder is not None and (holder.status, holder.reason, holder.expires) == ("closed", "api", START)


async def test_the_sweeper_ends_only_what_has_lapsed_and_keeps_its_end(world: World) -> None:
    shard = await world.pool(1)
    bound = await world.bind(shard, pair("an", "binh"))
    assert await world.leases.due(shard, START + TTL - 1) == []
    assert (await world.leases.release(bound.holder, reason="expired", only_lapsed=True)).outcome == "live"
    await world.at(START + TTL + 5)
    assert await world.leases.due(shard, START + TTL) == [bound.holder]
    assert (await world.leases.release(bound.holder, reason="expired", only_lapsed=True)).outcome == "released"
    assert await world.leases.due(shard, START + 2 * TTL) == []
    await world.at(START + TTL + QUARANTINE)
    assert (await world.call(bound.numbers[0], "an")).decision == "no_binding", "a late sweep prolongs no tombstone"


async def test_an_ending_is_closed_or_failed(world: World) -> None:
    with pytest.raises(ValueError):
        await world.leases.release(GONE, status="open", reason="api")


async def test_an_extended_lease_is_not_swept_at_its_old_end(world: World) -> None:
    shard = await world.pool(1)
    bound = await world.bind(shard, pair("an", "binh"))
    await world.leases.extend(bound.holder, ttl_ms=2 * TTL)
    assert await world.leases.due(shard, START + TTL) == []


async def test_redis_forgets_a_released_holder_by_itself_but_hours_after_its_tombstones(world: World) -> None:
    shard = await world.pool(1)
    bound = await world.bind(shard, pair("an", "binh"), events=[("session.opened", None, b"{}")])
    names = ["{" + shard + "}s:" + bound.holder, "{" + shard + "}e:" + bound.holder]
    assert [await world.redis.command("PTTL", name) for name in names] == [-1, -1], "an open holder is never lost"
    await world.leases.release(bound.holder, reason="api")
    for name in names:
        assert (
            QUARANTINE + 6 * 3_600_000 - 60_000 < await world.redis.command("PTTL", name) <= QUARANTINE + 6 * 3_600_000
        )


async def test_the_call_slot_holds_off_the_next_call_until_it_ends(world: World) -> None:
    shard = await world.pool(1)
    bound = await world.bind(shard, pair("an", "binh"), fields={"max_calls": 1})
    x = bound.numbers[0]
    assert (await world.call(x, "an", call="one")).decision == "routed"
    live = await world.leases.live_calls(shard)
    assert [(call.call, call.holder, call.owner, call.since, call.facts) for call in live] == [
        ("one", bound.holder, "edge-1", START, b"facts")
    ]
    assert (await world.call(x, "binh", call="two")).decision == "limit"
    ended = await world.leases.append(bound.holder, [("call.ended", None, b"{}")], end_call="one")
    assert (ended.outcome, ended.seq) == ("appended", 3)
    assert (await world.call(x, "binh", call="three")).decision == "routed"
    assert await world.events(bound.holder) == ["call.initiated", "call.refused", "call.ended", "call.initiated"]


async def test_the_same_call_asking_again_is_the_same_call(world: World) -> None:
    shard = await world.pool(1)
    bound = await world.bind(shard, pair("an", "binh"), fields={"max_calls": 1})
    loose = await world.bind(shard, pair("chi", "dung"))
    for x, caller, holder in ((bound.numbers[0], "an", bound.holder), (loose.numbers[0], "chi", loose.holder)):
        assert not (await world.call(x, caller, call="c" + caller)).repeated
        before = await world.snapshot()
        again = await world.call(x, caller, call="c" + caller)
        assert (again.decision, again.repeated, again.holder) == ("routed", True, holder)
        assert await world.snapshot() == before


async def test_a_call_ends_once(world: World) -> None:
    shard = await world.pool(1)
    bound = await world.bind(shard, pair("an", "binh"), fields={"max_calls": 2})
    await world.call(bound.numbers[0], "an", call="one")
    endings = await asyncio.gather(
        *(world.leases.append(bound.holder, [("call.ended", None, b"{}")], end_call="one") for _ in range(8))
    )
    assert sorted(ending.outcome for ending in endings) == ["appended"] + ["ended"] * 7
    assert await world.events(bound.holder) == ["call.initiated", "call.ended"]
    holder = await world.leases.read(bound.holder)
    assert holder is not None and holder.calls == 0


async def test_a_call_ends_only_with_its_own_holder(world: World) -> None:
    shard = await world.pool(2)
    bound = await world.bind(shard, pair("an", "binh"))
    other = await world.bind(shard, pair("an", "chi"))
    await world.call(bound.numbers[0], "an", call="one")
    assert (await world.leases.append(other.holder, [], end_call="one")).outcome == "ended"
    assert len(await world.leases.live_calls(shard)) == 1


async def test_a_live_call_outlives_its_binding(world: World) -> None:
    shard = await world.pool(1)
    bound = await world.bind(shard, pair("an", "binh"))
    await world.call(bound.numbers[0], "an", call="one")
    await world.leases.release(bound.holder, reason="api", events=[("session.closed", None, b"{}")])
    assert (
        await world.leases.append(bound.holder, [("call.ended", None, b"{}")], end_call="one")
    ).outcome == "appended"
    assert await world.events(bound.holder) == ["call.initiated", "session.closed", "call.ended"]


async def test_the_facts_of_a_live_call_change_and_its_owner_too(world: World) -> None:
    shard = await world.pool(1)
    bound = await world.bind(shard, pair("an", "binh"))
    await world.call(bound.numbers[0], "an", call="one")
    await world.later(7)
    answered = ("call.answered", None, b"{}")
    told = await world.leases.append(
        bound.holder, [answered], call_facts=("one", "edge-2", b"a|b"), only_owner="edge-1"
    )
    assert told.outcome == "appended"
    call = (await world.leases.live_calls(shard))[0]
    assert (call.owner, call.since, call.facts) == ("edge-2", START, b"a|b")
    late = await world.leases.append(bound.holder, [answered], end_call="one", only_owner="edge-1")
    assert late.outcome == "kept"
    await world.leases.append(bound.holder, [], end_call="one", only_owner="edge-2")
    late = await world.leases.append(bound.holder, [answered], call_facts=("one", "edge-2", b""))
    assert late.outcome == "ended"
    assert await world.events(bound.holder) == ["call.initiated", "call.answered"]


async def test_fields_change_by_compare_and_set(world: World) -> None:
    shard = await world.pool(1)
    bound = await world.bind(shard, pair("an", "binh"), fields={"record": b"1"})
    first = await world.leases.append(bound.holder, [], set_fields={"record": b"2", "mode": "voice_only"}, expect_rev=1)
    assert (first.outcome, first.rev) == ("appended", 2)
    before = await world.snapshot()
    second = await world.leases.append(bound.holder, [("x", None, b"")], set_fields={"record": b"3"}, expect_rev=1)
    assert (second.outcome, second.rev) == ("conflict", 2)
    assert (await world.leases.append(GONE, [("x", None, b"")])).outcome == "gone"
    assert await world.snapshot() == before
    holder = await world.leases.read(bound.holder)
    assert holder is not None and holder.fields == {"record": b"2", "mode": b"voice_only"}
    assert await world.leases.read(GONE) is None


async def test_a_call_either_ends_or_goes_on(world: World) -> None:
    with pytest.raises(ValueError):
        await world.leases.append(GONE, [], end_call="one", call_facts=("one", "edge", b""))
    with pytest.raises(ValueError):
        await world.leases.append(GONE, [], call_facts=("one", "ed|ge", b""))
    shard = await world.pool(1)
    bound = await world.bind(shard, pair("an", "binh"))
    number = await world.number(bound.numbers[0])
    with pytest.raises(ValueError):
        await world.leases.route(number, "an", "c", "ed|ge", b"", ("a", None, b""), ("b", None, b""))


@pytest.mark.parametrize(
    ("fields", "channel", "decision"),
    [
        ({"paused": "1"}, "voice", "blocked"),
        ({"paused": ""}, "voice", "routed"),
        ({"mode": "message_only"}, "voice", "mode"),
        ({"mode": "message_only"}, "message", "routed"),
        ({"mode": "voice_only"}, "message", "mode"),
        ({"mode": "voice_and_message"}, "voice", "routed"),
        ({"denied": "par_x|par_y par_an|par_binh"}, "voice", "direction"),
        ({"denied": "par_binh|par_an"}, "voice", "routed"),
        ({"denied": "par_an|par_binhx"}, "voice", "routed"),
        ({"max_calls": "0"}, "voice", "routed"),
        ({"stages": f"0:par_an|par_binh {START + 1}:"}, "voice", "direction"),
        ({"stages": f"0:par_an|par_binh {START}:par_x|par_y,par_binh|par_an"}, "voice", "routed"),
        ({"stages": f"0: {START}:par_x|par_y,par_an|par_binh"}, "voice", "direction"),
        ({"stages": "0:", "denied": "par_an|par_binh"}, "voice", "routed"),
        ({"stages": "", "denied": "par_an|par_binh"}, "voice", "direction"),
        ({"late": "word"}, "forward", "late"),
        ({"late": "word"}, "refuse", "routed"),
        ({"status": "in_progress"}, "voice", "routed"),
    ],
)
async def test_a_holders_fields_decide_who_may_talk(
    world: World, fields: dict[str, str], channel: Channel, decision: str
) -> None:
    shard = await world.pool(1)
    status = fields.pop("status", None)
    bound = await world.bind(shard, pair("an", "binh"), fields=fields)
    if status is not None:
        await world.redis.command("HSET", "{" + shard + "}s:" + bound.holder, "status", status)
    route = await world.call(bound.numbers[0], "an", channel=channel)
    assert route.decision == decision
    events = await world.events(bound.holder)
    assert events == {"routed": ["call.initiated"], "late": []}.get(decision, ["call.refused"])
    assert len(await world.leases.live_calls(shard)) == (decision == "routed")


async def test_a_wrong_caller_leaves_no_trace(world: World) -> None:
    shard = await world.pool(1)
    bound = await world.bind(shard, pair("an", "binh"))
    before = await world.snapshot()
    assert (await world.call(bound.numbers[0], "stranger")).decision == "no_binding"
    assert await world.snapshot() == before


async def test_the_end_of_a_call_whose_holder_is_forgotten_frees_its_slot(world: World) -> None:
    shard = await world.pool(1)
    bound = await world.bind(shard, pair("an", "binh"))
    await world.call(bound.numbers[0], "an", call="c1")
    [live] = await world.leases.live_calls(shard)
    await world.redis.command("DEL", "{" + shard + "}s:" + bound.holder)
    for only_owner, holder in (("somebody-else", bound.holder), (live.owner, GONE[:4] + shard + GONE[10:])):
        told = await world.leases.append(holder, [], end_call="c1", only_owner=only_owner)
        assert told.outcome == "gone"
        assert await world.leases.live_calls(shard) == [live], "not theirs to end"
    assert (await world.leases.append(bound.holder, [], end_call="c1", only_owner=live.owner)).outcome == "gone"
    assert await world.leases.live_calls(shard) == []


async def test_the_outbox_is_read_and_trimmed_in_steps(world: World) -> None:
    shard = await world.pool(1)
    bound = await world.bind(shard, pair("an", "binh"), events=[("e", 1, str(n).encode()) for n in range(5)])
    first = await world.leases.outbox(shard, limit=2)
    assert [entry.data for entry in first] == [b"0", b"1"]
    rest = await world.leases.outbox(shard, after=first[-1].id)
    assert [entry.seq for entry in rest] == [3, 4, 5]
    assert await world.leases.trim(shard, first[-1].id) == 2
    assert await world.leases.outbox(shard) == rest
    assert {entry.holder for entry in rest} == {bound.holder}


async def test_many_outboxes_are_awaited_at_once(world: World) -> None:
    first, second = await world.pool(1), await world.pool(1, "SG", "+6531000")
    patient = Leases(Redis(f"unix://{world.redis._target.path}", budget=5, blocking=True))
    after = {first: "0", second: "0"}
    assert await patient.outboxes(after, block_ms=1) == []
    waiting = asyncio.ensure_future(patient.outboxes(after, block_ms=4000))
    await asyncio.sleep(0.02)
    await world.bind(second, pair("sam", "tan"), events=[("e", None, b"1"), ("e", None, b"2")])
    (entry, other) = await waiting
    assert (entry.shard, entry.data, other.data) == (second, b"1", b"2")
    await world.bind(first, pair("an", "binh"), events=[("e", None, b"3")])
    (late,) = await patient.outboxes({first: "0", second: other.id}, block_ms=4000)
    assert (late.shard, late.data) == (first, b"3")
    await patient._redis.close()


async def test_owners_beat_and_fall_silent(world: World) -> None:
    await world.leases.beat("edge-1", 60_000)
    assert await world.leases.alive(["edge-1", "edge-2"]) == {"edge-1"}
    assert await world.leases.alive([]) == set()


async def test_a_holder_with_many_calls_counts_them(world: World) -> None:
    shard = await world.pool(1)
    bound = await world.bind(shard, pair("an", "binh"), fields={"max_calls": 3})
    routes = await asyncio.gather(*(world.call(bound.numbers[0], "an", call=f"c{n}") for n in range(9)))
    assert sorted(route.decision for route in routes) == ["limit"] * 6 + ["routed"] * 3
    assert [entry.seq for entry in await world.leases.journal(bound.holder)] == list(range(1, 10))


async def test_the_shipped_scripts_read_the_servers_clock(world: World) -> None:
    shard = await world.pool(1)
    leases = Leases(world.redis)
    seconds, micros = await world.redis.command("TIME")
    holder = holder_id(shard, os.urandom(17))
    bound = await leases.bind(shard, holder, [pair("an", "binh")], ttl_ms=TTL, quarantine_ms=0, fields={}, events=[])
    assert abs(bound.expires - TTL - (int(seconds) * 1000 + int(micros) // 1000)) < 5_000


async def test_a_calls_scripts_are_known_before_the_first_call(world: World) -> None:
    await world.redis.command("SCRIPT", "FLUSH")
    leases = Leases(world.redis)
    await leases.prepare()
    shas = [script.sha for script in (SHARD.route, SHARD.append)]
    assert await world.redis.command("SCRIPT", "EXISTS", *shas) == [1, 1]


async def test_a_holder_is_woken_when_it_asked_to_be_until_it_asks_for_another_time_or_rests(world: World) -> None:
    shard = await world.pool(3)
    first, second = START + 10, START + 20
    bound = await world.bind(shard, pair("an", "binh"), fields={"wakes": first})
    await world.bind(shard, pair("an", "chi"))
    woken = world.leases.woken
    assert await woken(shard, first - 1) == [] and await woken(shard, first) == [bound.holder]
    await world.leases.append(bound.holder, [], set_fields={"wakes": second})
    assert await woken(shard, first) == [] and await woken(shard, second) == [bound.holder]
    await world.leases.append(bound.holder, [], set_fields={"wakes": ""})
    assert await woken(shard, second) == []
    await world.leases.release(bound.holder, reason="api")
    await world.leases.reopen(bound.holder, expires=START + TTL, fields={"wakes": first})
    assert await woken(shard, first) == [bound.holder]
    assert await world.leases.ends(bound.holder) == START + TTL and await world.leases.ends(GONE) is None
    await world.leases.rest(bound.holder)
    assert await woken(shard, second) == []
