"""What each tenant is sure of on each trunk, and may have at most: calls at once, and new calls a second.

A trunk's `max_calls` and `max_cps` are shared by whoever's numbers it carries. What a tenant is guaranteed of them
stays free for it while others call as much as they can: of the calls at once, those it does not use are kept for it;
of the calls a second, it has a bucket of its own, and what is left of the trunk's is everybody's. A call takes from
what is guaranteed first, and from what is everybody's beyond that. Whose a call is, the dialled number says; a number
that is nobody's has no guarantee.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from masking.house import Unavailable
from sipedge.causes import CONGESTION, NO_CIRCUIT
from sipedge.trunks import Bucket, dialled

if TYPE_CHECKING:
    from masking.house import House
    from masking.tenants import TenantSection
    from sipedge.sip.messages import Request
    from sipedge.trunks import Trunk

REMEMBERED: Final = 65_536  # dialled numbers whose tenant is known before a message is read


class Share:
    """One tenant's."""

    def __init__(self, section: TenantSection) -> None:
        self.section = section
        self.total = 0
        self.calls: Counter[str] = Counter()  # by trunk
        self.refused: Counter[str] = Counter()  # by Q.850 cause, for the tenant's own limit
        self.most = Bucket(section.max_cps) if section.max_cps else None
        self.sure = {trunk: Bucket(cps) for trunk, cps in section.guaranteed_cps.items() if cps}

    def over(self, now: float) -> int | None:
        """The Q.850 cause when it may not begin one more call anywhere."""
        if self.section.max_channels and self.total >= self.section.max_channels:
            return NO_CIRCUIT
        return CONGESTION if self.most is not None and not self.most.has(now) else None

    def unused(self, trunk: str) -> int:
        """The calls at once that are kept for it."""
        return max(0, self.section.guaranteed_channels.get(trunk, 0) - self.calls[trunk])


class Shares:
    """Of all tenants that `[[tenant]]` gives some; false where there is none, and then nothing is asked."""

    def __init__(self, tenants: Iterable[TenantSection], trunks: Iterable[Trunk]) -> None:
        self.of = {tenant.name: Share(tenant) for tenant in tenants if tenant.shares_calls}
        self._guaranteed = {
            name: [share for share in self.of.values() if share.section.guaranteed_channels.get(name)]
            for name in {name for share in self.of.values() for name in share.section.guaranteed_channels}
        }
        self._spelled: dict[str, str] = {}  # as it was dialled → whose it is
        for trunk in trunks:
            sure = sum(share.section.guaranteed_cps.get(trunk.name, 0) for share in self.of.values())
            trunk.everybodys = Bucket(trunk.config.max_cps - sure)

    def __bool__(self) -> bool:
        return bool(self.of)

    # ---- whose a call is ---------------------------------------------------------------------------------------------

    async def tenant_of(self, house: House, trunk: Trunk, request: Request) -> str:
        """Whose number was dialled; "" when it is nobody's, or when nobody can tell."""
        number = dialled(trunk, request)
        if number is None:
            return ""
        try:
            found = await house.inventory.find(number)
        except Unavailable:  # the claim, which comes next, says so to the caller
            return ""
        if found is None:
            return ""
        if found.tenant in self.of:
            if len(self._spelled) >= REMEMBERED:
                self._spelled.clear()
            self._spelled[request.uri.user] = found.tenant
        return found.tenant

    def assured(self, user: str, now: float) -> bool:
        """Is one more call to the number that a Request-URI spells so guaranteed? Then no overload turns it away."""
        share = self.of.get(self._spelled.get(user, ""))
        return share is not None and share.over(now) is None and any(sure.has(now) for sure in share.sure.values())

    def spelled(self, user: str) -> str:
        """Whose number a Request-URI spells so, as far as it was dialled before; "" otherwise."""
        return self._spelled.get(user, "")

    # ---- places ------------------------------------------------------------------------------------------------------

    def full(self, trunk: Trunk, tenant: str, now: float, *, first: bool) -> int | None:
        """None when a call of the tenant's may take a place on the trunk, else the Q.850 cause. `first`: it has none
        yet, so that the tenant's own limits count."""
        share = self.of.get(tenant)
        if share is None:
            return trunk.full(now, self._kept(trunk.name, None))
        if first and (over := share.over(now)) is not None:
            share.refused[str(over)] += 1
            return over
        kept = 0 if share.unused(trunk.name) else self._kept(trunk.name, share)
        sure = share.sure.get(trunk.name)
        return trunk.full(now, kept, sure=sure is not None and sure.has(now))

    def take(self, trunk: Trunk, tenant: str, now: float, *, first: bool) -> None:
        """A place is taken; `give` when the call is over."""
        share = self.of.get(tenant)
        if share is None:
            trunk.take()
            return
        share.calls[trunk.name] += 1
        if first:
            share.total += 1
            if share.most is not None:
                share.most.spend()
        sure = share.sure.get(trunk.name)
        guaranteed = sure is not None and sure.has(now)
        if sure is not None and guaranteed:
            sure.spend()
        trunk.take(guaranteed=guaranteed)

    def give(self, trunks: Iterable[Trunk], tenant: str) -> None:
        """The places of a call that is over."""
        share, last = self.of.get(tenant), None
        for last in trunks:
            last.give()
            if share is not None:
                share.calls[last.name] -= 1
        if share is not None and last is not None:
            share.total -= 1

    def kept_from(self, tenant: str) -> int:
        """The calls at once that are kept for others than the tenant, on all trunks."""
        return sum(
            share.unused(trunk) for trunk, shares in self._guaranteed.items() for share in shares
            if share is not self.of.get(tenant)
        )  # fmt: skip

    def _kept(self, trunk: str, asks: Share | None) -> int:
        return sum(share.unused(trunk) for share in self._guaranteed.get(trunk, ()) if share is not asks)
