"""Key providers: a tenant's private key opens where it was wrapped for, and a rotation loses nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.to_thread import run_sync
from sqlalchemy.ext.asyncio import AsyncEngine

from masking.config import KeysSection
from pools.keyring import Keyring
from recordings.providers import FileProvider, KeyRefused, KeysAway, provider_of
from recordings.seals import SealedKey, seal
from recordings.store import ObjectStore
from recordings.vault import Vault, open_vault
from tests.recordings.aws import Aws

PRIVATE = bytes(range(32))


@pytest.fixture
async def keys(aws: Aws) -> KeysSection:
    """A key of KMS, as the configuration names it."""
    made: Any = await run_sync(lambda: aws.client("kms").create_key())
    return KeysSection(provider="aws-kms", kms_key=made["KeyMetadata"]["Arn"], kms_endpoint=aws.url)


async def test_a_key_file_opens_what_it_wrapped_where_it_was_wrapped_for() -> None:
    ours, theirs = FileProvider(bytes(32), os.urandom), FileProvider(os.urandom(32), os.urandom)
    wrapped = await ours.wrap(PRIVATE, "t k1")
    assert await ours.unwrap(wrapped, "t k1") == PRIVATE and PRIVATE not in wrapped
    for provider, box, place in ((theirs, wrapped, "t k1"), (ours, wrapped, "t k2"), (ours, wrapped[:9], "t k1")):
        with pytest.raises(KeyRefused):
            await provider.unwrap(box, place)


async def test_kms_opens_what_it_wrapped_where_it_was_wrapped_for(keys: KeysSection) -> None:
    provider = provider_of(keys, bytes(32), os.urandom)
    wrapped = await provider.wrap(PRIVATE, "t k1")
    assert await provider.unwrap(wrapped, "t k1") == PRIVATE and PRIVATE not in wrapped
    for box, place in ((wrapped, "t k2"), (wrapped[:-9] + bytes(9), "t k1"), (b"?" + wrapped, "t k1")):
        with pytest.raises(KeyRefused):
            await provider.unwrap(box, place)


async def test_a_kms_that_does_not_answer_is_away_and_no_verdict(keys: KeysSection) -> None:
    nobody = KeysSection(provider="aws-kms", kms_key=keys.kms_key, kms_endpoint="http://127.0.0.1:9")
    with pytest.raises(KeysAway):
        await provider_of(nobody, bytes(32), os.urandom).wrap(PRIVATE, "t k1")


async def data_key_in(vault: Vault, recording: str) -> tuple[SealedKey, bytes]:
    """A data key as a relay seals it now."""
    lock, data_key = (await vault.locks())["t"], os.urandom(32)
    return SealedKey(lock.key, seal(lock, recording, data_key)), data_key


async def test_rotation_and_a_change_of_provider_leave_older_recordings_readable(
    keys: KeysSection, engine: AsyncEngine, store: ObjectStore
) -> None:
    def opened(settings: KeysSection) -> Vault:
        return open_vault(engine, store, settings, lambda purpose: purpose.encode().ljust(32)[:32], os.urandom)

    made = []
    for settings in (KeysSection(), keys, keys):
        vault = opened(settings)
        await vault.rotate("t", 0.0)
        made.append(await data_key_in(vault, "rec_1"))
    assert [sealed.key for sealed, _ in made] == ["k1", "k2", "k3"]
    fresh = opened(keys)
    for sealed, data_key in made:
        assert await fresh.data_key("t", "rec_1", sealed) == data_key
    with pytest.raises(KeyRefused, match="not configured"):
        await opened(KeysSection()).data_key("t", "rec_1", made[1][0])
    with pytest.raises(KeyRefused, match="no key"):
        await fresh.data_key("t", "rec_1", SealedKey("k9", made[0][0].box))


async def test_two_who_rotate_at_once_make_two_keys(vault: Vault) -> None:
    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(vault.rotate, "t", 0.0)
    assert (await vault.locks())["t"].key == "k5"


async def test_the_command_rotates_for_tenants_there_are(tmp_path: Path, archive_url: str, vault: Vault) -> None:
    path = tmp_path / "masking.toml"
    told = f"[service]\ndata_dir = '{tmp_path}'\n[archive]\nurl = '{archive_url}'\n"

    def rotate(tenant: str) -> subprocess.CompletedProcess[str]:
        path.write_text(told)
        Keyring.open(tmp_path / "keys.json")
        words = [str(Path(sys.executable).with_name("masking")), "keys", "rotate", "--tenant", tenant, "--json"]
        return subprocess.run([*words, "--config", str(path)], capture_output=True, text=True, timeout=30, check=False)

    done = await run_sync(rotate, "t")
    assert done.returncode == 0 and '"key":"k2"' in done.stdout, done.stderr
    assert (await vault.locks())["t"].key == "k2"
    refused = await run_sync(rotate, "nobody")
    assert refused.returncode != 0 and "no such tenant" in refused.stdout + refused.stderr
