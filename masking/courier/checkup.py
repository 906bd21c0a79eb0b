"""The numbers' health, as the courier's calls and the edges' trunks show it (`masking.number_health`).

What a batch of calls came to is counted after the archive has it: a courier that is killed in between has lost a few
calls of a statistic. Now and then those that ail are judged anew: nobody calls on a number that is passed over.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from masking import number_health, services
from masking.number_health import Outcome
from masking.refusals import NotFound
from pools.health import Judgement, Tally

if TYPE_CHECKING:
    from masking.house import House
    from masking.services import Service
    from pools.inventory import PhoneNumber, Shard

LOOK_AGAIN: Final = 60.0  # seconds: a silent trunk may have got new numbers


class Checkup:
    """One a courier."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._silent: set[str] = set()  # the trunks that the shards were told to be silent
        self._looked = float("-inf")

    async def take(self, outcomes: Iterable[Outcome]) -> int:
        """Counts them; how many numbers are judged otherwise now. Raises `pools.redis.Unavailable`."""
        tallies: dict[str, dict[int, Tally]] = {}
        numbers: dict[str, dict[int, PhoneNumber]] = {}
        rules: dict[str, Service] = {}
        for outcome in outcomes:
            number = await self._house.inventory.find(outcome.number)
            service = await self._service(number) if number is not None else None
            if number is None or service is None:
                continue
            rules[number.shard] = service
            numbers.setdefault(number.shard, {})[number.position] = number
            counts = tallies.setdefault(number.shard, {})
            more = outcome.tally(service.number_health.short_call)
            counts[number.position] = counts.get(number.position, Tally()) + more
        changed = 0
        for shard, service in rules.items():
            judged = await self._house.health.count(shard, tallies[shard], service.number_health.limits)
            changed += await self._tell(service, numbers[shard], judged)
        return changed

    async def round(self) -> int:
        """Judges those that ail anew, tells the shards which trunks are silent, and puts into service what has rested
        for long enough; how many numbers it changed."""
        changed = len(await self._house.inventory.rested(self._house.now_ms))
        silent = await number_health.silent_trunks(self._house)
        looks = silent != self._silent or (self._house.now() - self._looked >= LOOK_AGAIN)
        for shard in await self._house.inventory.every_shard():
            ailing = await self._house.health.ailing(shard.name)
            if any(ails != ("trunk",) for ails in ailing.values()):
                changed += await self._review(shard)
            told = {position for position, ails in ailing.items() if "trunk" in ails}
            if looks and (silent or told):
                changed += await self._silence(shard.name, silent, told)
        if looks:
            self._silent, self._looked = silent, self._house.now()
        return changed

    async def _review(self, shard: Shard) -> int:
        service = await self._service(shard)
        judged = await self._house.health.review(shard.name, service.number_health.limits) if service else []
        if service is None or not judged:
            return 0
        there = await self._numbers(shard.name, {one.position for one in judged})
        return await self._tell(service, there, judged)

    async def _silence(self, shard: str, silent: set[str], told: set[int]) -> int:
        there = await self._numbers(shard, None if silent else told)
        wanted = {position for position, number in there.items() if number.trunk in silent}
        for positions, now in ((wanted - told, True), (told - wanted, False)):
            if positions:
                await self._house.health.silence(shard, sorted(positions), now)
        return len(wanted ^ told)

    async def _numbers(self, shard: str, wanted: set[int] | None) -> dict[int, PhoneNumber]:
        """The shard's numbers by position: these, or all of them."""
        members = await self._house.inventory.members(shard)
        found: dict[int, PhoneNumber] = {}
        for position, number in members.items():
            if wanted is None or position in wanted:
                known = await self._house.inventory.find(number)
                if known is not None:
                    found[position] = known
        return found

    async def _service(self, of: PhoneNumber | Shard) -> Service | None:
        try:
            return await services.lately(self._house, of.tenant, of.service)
        except NotFound:
            return None

    async def _tell(self, service: Service, numbers: dict[int, PhoneNumber], judged: Iterable[Judgement]) -> int:
        told = [one for one in judged if one.position in numbers]
        for one in told:
            await number_health.tell(self._house, numbers[one.position], service.name, one)
        return len(told)
