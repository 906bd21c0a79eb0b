"""The courier at work: outbox, sweeper, finisher and the others side by side, while it holds the lease.

Trouble with Redis or the archive ends no task: each says so once, waits, and goes on when it is back.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

import anyio
import structlog

from masking.logs import place

if TYPE_CHECKING:
    from masking.courier.checkup import Checkup
    from masking.courier.finisher import Finisher
    from masking.courier.lease import Lease
    from masking.courier.locksmith import Locksmith
    from masking.courier.metering import NumberDays
    from masking.courier.months import Months
    from masking.courier.notary import Notary
    from masking.courier.outbox import Outbox
    from masking.courier.postroom import PostRoom
    from masking.courier.retention import Retention
    from masking.courier.sweeper import Sweeper

log = structlog.get_logger("masking.courier")

LEASE_PAUSE: Final = 1.0
OUTBOX_PAUSE: Final = 0.05  # what is written meanwhile shares one transaction; the archive is promised within 2 s
SWEEP_PAUSE: Final = 0.5
RETENTION_PAUSE: Final = 1.0
LOCKSMITH_PAUSE: Final = 1.0
NOTARY_PAUSE: Final = 1.0
MONTHS_PAUSE: Final = 3600.0
NUMBERS_PAUSE: Final = 600.0
CHECKUP_PAUSE: Final = 5.0
TROUBLE_PAUSE: Final = 0.5


class Courier:
    """Runs until cancelled."""

    def __init__(
        self,
        lease: Lease,
        outbox: Outbox,
        sweeper: Sweeper,
        finisher: Finisher,
        retention: Retention,
        locksmith: Locksmith,
        notary: Notary,
        months: Months,
        number_days: NumberDays,
        checkup: Checkup,
        post_room: PostRoom,
    ) -> None:
        self._lease = lease
        self._outbox = outbox
        self._sweeper = sweeper
        self._finisher = finisher
        self._retention = retention
        self._locksmith = locksmith
        self._notary = notary
        self._months = months
        self._number_days = number_days
        self._checkup = checkup
        self._post_room = post_room

    async def run(self) -> None:
        """Waits for the lease, works while it is held, and begins again when it was lost."""
        try:
            while True:
                if await self._lease.hold():
                    log.info("courier_works")
                    await self._work()
                    log.warning("courier_lost_its_lease")
                await anyio.sleep(LEASE_PAUSE)
        finally:
            with anyio.CancelScope(shield=True):
                await self._lease.leave()

    async def _work(self) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._again_and_again, "outbox", self._outbox.round, OUTBOX_PAUSE)
            tasks.start_soon(self._again_and_again, "sweeper", self._sweeper.round, SWEEP_PAUSE)
            tasks.start_soon(self._again_and_again, "retention", self._retention.round, RETENTION_PAUSE)
            tasks.start_soon(self._again_and_again, "locksmith", self._locksmith.round, LOCKSMITH_PAUSE)
            tasks.start_soon(self._again_and_again, "notary", self._notary.round, NOTARY_PAUSE)
            tasks.start_soon(self._again_and_again, "months", self._months.round, MONTHS_PAUSE)
            tasks.start_soon(self._again_and_again, "numbers", self._number_days.round, NUMBERS_PAUSE)
            tasks.start_soon(self._again_and_again, "checkup", self._checkup.round, CHECKUP_PAUSE)
            tasks.start_soon(self._finisher.run)
            tasks.start_soon(self._post_room.run)
            while await self._lease.hold():  # noqa: ASYNC110 - Redis tells nobody when a lease is lost
                await anyio.sleep(LEASE_PAUSE)
            tasks.cancel_scope.cancel()

    async def _again_and_again(self, name: str, work: Callable[[], Awaitable[int]], pause: float) -> None:
        troubled = False
        while True:
            try:
                with anyio.CancelScope(shield=True):  # a stop waits for the round under way: see `unbroken`
                    done = await work()
            except (
                Exception
            ) as trouble:  # Redis or the archive is away, or another courier was faster: nothing is half done
                if not troubled:
                    log.warning("courier_waits", task=name, error=place(trouble))
                troubled = True
                await anyio.sleep(TROUBLE_PAUSE)
            else:
                if troubled:
                    log.info("courier_goes_on", task=name)
                troubled = False
                # A round that found nothing has not always waited: without numbers there is no outbox to wait on.
                await anyio.sleep(pause if done or pause else 0.02)
