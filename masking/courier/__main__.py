"""`python -m masking.courier --config FILE`: what leaves Redis for the archive, and what nobody else ends.

Brings the archive's tables up to date, then prints one JSON line and works until SIGTERM. Of several couriers on one
Redis one works; the others wait for its lease.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import msgspec
from alembic.script import ScriptDirectory
from sqlalchemy.exc import SQLAlchemyError

from masking import post, quotas
from masking.archive import described
from masking.config import BadConfig, Config, load
from masking.courier import schema
from masking.courier.checkup import Checkup
from masking.courier.courier import Courier
from masking.courier.finisher import Finisher
from masking.courier.lease import Lease
from masking.courier.locksmith import Locksmith
from masking.courier.metering import NumberDays
from masking.courier.months import Months
from masking.courier.notary import Notary
from masking.courier.outbox import Outbox
from masking.courier.postroom import PostRoom
from masking.courier.retention import Misplaced, Retention, check_regions
from masking.courier.sweeper import Sweeper
from masking.house import open_house
from masking.logs import configure
from pools.keyring import KeyringError
from pools.leases import Leases
from pools.redis import Redis, Unavailable
from recordings.providers import KeyRefused, KeysAway
from recordings.store import open_store
from recordings.vault import open_vault

NICE = 10  # the archive waits for calls, never calls for the archive
PATIENCE = 2.0  # seconds until Redis counts as gone: nobody waits for the courier


async def carry(config: Config, revisions: ScriptDirectory) -> None:
    """Works until SIGTERM or SIGINT."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with open_house(config, now=time.time, random=os.urandom, budget=PATIENCE) as house:
        assert house.archive is not None, "opened with the archive"
        await schema.upgrade(house.archive, revisions)
        await check_regions(house)
        await quotas.note_open_sessions(house)
        await asyncio.to_thread(post.trusted)
        months = Months(house, house.archive)
        await months.round()  # before anything is written
        store = await open_store(config.recordings_url, lambda: os.urandom(16).hex(), **config.recordings.place)
        vault = open_vault(house.archive, store, config.keys, house.keyring.derived, os.urandom)
        locksmith = Locksmith(house, vault)
        with suppress(KeysAway):  # they are asked for again, every second
            await locksmith.round()
        waiting = Redis(config.redis_url, budget=PATIENCE, blocking=True)
        post_room = PostRoom(house, house.archive, random.random)
        checkup = Checkup(house)
        courier = Courier(
            Lease(house, house.token("courier-")),
            Outbox(house, house.archive, Leases(waiting), post_room.tell, checkup.take),
            Sweeper(house),
            Finisher(house, house.archive, vault, config.spool_dir),
            Retention(house, house.archive),
            locksmith,
            Notary(house, house.archive),
            months,
            NumberDays(house, house.archive),
            checkup,
            post_room,
        )
        working = asyncio.create_task(courier.run())
        sys.stdout.write(msgspec.json.encode({"event": "ready", "role": "courier"}).decode() + "\n")
        sys.stdout.flush()
        try:
            await asyncio.wait([working, asyncio.create_task(stopped.wait())], return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                working.result()
        finally:
            working.cancel()
            await asyncio.wait([working])
            await waiting.close()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m masking.courier", description=__doc__)
    parser.add_argument("--config", type=Path, help="masking.toml")
    given = parser.parse_args(arguments)
    configure()
    os.nice(NICE)
    try:
        config = load(given.config, os.environ)
    except BadConfig as bad:
        sys.stderr.write(f"masking.courier: {bad}\n")
        return 2
    if config.archive_url.startswith("sqlite"):
        config.data_dir.mkdir(parents=True, exist_ok=True)
    try:
        asyncio.run(carry(config, schema.revisions()))
    except (KeyringError, KeyRefused, Misplaced, Unavailable) as trouble:
        sys.stderr.write(f"masking.courier: {trouble}\n")
        return 1
    except (SQLAlchemyError, OSError) as trouble:
        kind = type(getattr(trouble, "orig", None) or trouble).__name__
        sys.stderr.write(f"masking.courier: the archive {described(config.archive_url)} cannot be used: {kind}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
