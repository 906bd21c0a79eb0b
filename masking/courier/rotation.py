"""`python -m masking.courier.rotation --tenant T [--config FILE]`: a new key pair for a tenant's recordings.

Prints one JSON line. The courier tells the edges within a second, and they use it within ten; what was recorded before
stays under the key it was sealed to.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from pathlib import Path

import msgspec
from anyio.to_thread import run_sync
from sqlalchemy.exc import SQLAlchemyError

from masking import archive
from masking.config import BadConfig, Config, load
from masking.logs import configure
from pools.keyring import Keyring, KeyringError
from recordings.providers import KeyRefused, KeysAway
from recordings.store import open_store
from recordings.vault import open_vault


async def rotate(config: Config, tenant: str) -> str:
    """The new key's name. ValueError when there is no such tenant."""
    keyring = await run_sync(Keyring.load, config.key_path)
    store = await open_store(config.recordings_url, lambda: os.urandom(16).hex(), **config.recordings.place)
    engine = archive.engine(config.archive_url)
    try:
        vault = open_vault(engine, store, config.keys, keyring.derived, os.urandom)
        if tenant not in await vault.locks():
            raise ValueError(f"no such tenant: {tenant}")
        return (await vault.rotate(tenant, time.time())).key
    finally:
        await engine.dispose()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m masking.courier.rotation")
    parser.add_argument("--config", type=Path, help="masking.toml")
    parser.add_argument("--tenant", required=True)
    given = parser.parse_args(arguments)
    configure()
    try:
        key = asyncio.run(rotate(load(given.config, os.environ), given.tenant))
    except (BadConfig, KeyringError, KeyRefused, KeysAway, OSError, ValueError) as trouble:
        sys.stderr.write(f"masking keys rotate: {trouble}\n")
        return 2
    except SQLAlchemyError as trouble:
        kind = type(getattr(trouble, "orig", None) or trouble).__name__
        sys.stderr.write(f"masking keys rotate: the archive cannot be written: {kind}\n")
        return 2
    line = {"event": "rotated", "tenant": given.tenant, "key": key}
    sys.stdout.write(msgspec.json.encode(line).decode() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
