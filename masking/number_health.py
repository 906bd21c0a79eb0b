"""How a service's virtual numbers fare, and when one of them is passed over.

The courier counts what every call came to on the number that its callee saw (`masking.courier.checkup`); `pools.health`
keeps the counts of a sliding span in the number's shard. A number that ails takes new sessions only where nobody else
is free for them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
from msgspec import Meta

from masking.events import EventType, append_loose, moment
from pools.health import Ailment, Judgement, Limits, Standing, Tally
from pools.inventory import PhoneNumber

if TYPE_CHECKING:
    from masking.house import House

SILENT_MS: Final = 15_000
Part = Annotated[float, Meta(ge=0, le=1)]


class NumberHealth(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a number ails: of the calls of the last `window` seconds that showed it, `min_calls` at least, fewer than
    `min_answer_ratio` were answered, or of as many answered ones more than `max_short_ratio` ended within `short_call`
    seconds; or `max_reports` people reported who called from it (0: reports do not count)."""

    window: Annotated[int, Meta(ge=600, le=2_592_000, description="Seconds.")] = 86_400
    min_calls: Annotated[int, Meta(ge=1, le=1_000_000)] = 20
    min_answer_ratio: Part = 0.1
    short_call: Annotated[float, Meta(ge=0, le=600, description="Seconds.")] = 6.0
    max_short_ratio: Part = 0.8
    max_reports: Annotated[int, Meta(ge=0, le=1_000_000)] = 3

    @property
    def limits(self) -> Limits:
        """As the pools want them."""
        return Limits(self.window * 1000, self.min_calls, self.min_answer_ratio, self.max_short_ratio, self.max_reports)


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """How a number fared in the last `window` seconds. `healthy` is false while something `ails` it: it is passed over
    while another number is free. Ratios are null without a call (an answered one)."""

    healthy: bool
    ails: tuple[Ailment, ...]
    calls: int
    answer_ratio: float | None
    short_call_ratio: float | None
    reports: int
    last_call_at: datetime | None


class Outcome(msgspec.Struct, frozen=True):
    """What one call, or one report of somebody, says of the number that its callee saw. `conversation`: seconds."""

    number: str
    answered: bool = False
    conversation: float = 0.0
    report: bool = False

    def tally(self, short_call: float) -> Tally:
        if self.report:
            return Tally(reports=1)
        return Tally(1, int(self.answered), int(self.answered and self.conversation < short_call))


async def of_numbers(house: House, numbers: Sequence[PhoneNumber], rules: NumberHealth) -> list[Health]:
    """How each of a service's numbers fares, in their order."""
    by_shard: dict[str, list[int]] = {}
    for number in numbers:
        by_shard.setdefault(number.shard, []).append(number.position)
    asked = [house.health.of(shard, places, rules.window * 1000) for shard, places in by_shard.items()]
    found: dict[tuple[str, int], Standing] = {}
    for (shard, places), standings in zip(by_shard.items(), await asyncio.gather(*asked), strict=True):
        found |= {(shard, place): one for place, one in zip(places, standings, strict=True)}
    return [_shown(found[number.shard, number.position]) for number in numbers]


def _shown(standing: Standing) -> Health:
    tally = standing.tally
    return Health(
        healthy=not standing.ails,
        ails=standing.ails,
        calls=tally.calls,
        answer_ratio=_ratio(tally.answered, tally.calls),
        short_call_ratio=_ratio(tally.short, tally.answered),
        reports=tally.reports,
        last_call_at=moment(standing.last / 1000) if standing.last else None,
    )


def _ratio(part: int, whole: int) -> float | None:
    return round(part / whole, 3) if whole else None


async def say_silent(house: House, trunks: Iterable[str]) -> None:
    """An edge says it again and again of the trunks that it knows to be dead."""
    for trunk in trunks:
        await house.redis.command("SET", _silent(trunk), 1, "PX", SILENT_MS)


async def silent_trunks(house: House) -> set[str]:
    """Those of which an edge said so lately."""
    names = [trunk.name for trunk in house.config.trunk]
    found = await asyncio.gather(*(house.redis.command("EXISTS", _silent(name)) for name in names))
    return {name for name, there in zip(names, found, strict=True) if there}


def _silent(trunk: str) -> str:
    return f"silent:{trunk}"


async def tell(house: House, number: PhoneNumber, service: str, judgement: Judgement) -> None:
    """`number.unhealthy`, or `number.healthy` once nothing ails it any more. `service`: its name."""
    tally = judgement.tally
    data: dict[str, Any] = {
        "number": number.number,
        "service": service,
        "country": number.country,
        "ails": judgement.ails,
        "calls": tally.calls,
        "answer_ratio": _ratio(tally.answered, tally.calls),
        "short_call_ratio": _ratio(tally.short, tally.answered),
        "reports": tally.reports,
    }
    kind: EventType = "number.unhealthy" if judgement.ails else "number.healthy"
    await append_loose(house, number.tenant, kind, house.now(), data)
