"""Blind index and seals, and the file they come from."""

from __future__ import annotations

import base64
import hmac
import stat
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pools.keyring import Keyring, KeyringError, WrongKey
from pools.numbers import Number
from pools.redis import Redis

AN = Number.parse("+84901234567")
BINH = Number.parse("+84901234568")


def test_a_new_key_file_is_readable_by_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "keys.json"
    made = Keyring.create(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]
    assert Keyring.load(path).index(AN) == made.index(AN)
    assert Keyring.load(path).unseal(made.seal(AN, "here"), "here") == AN


def test_a_key_file_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    made = Keyring.open(path)
    with pytest.raises(FileExistsError):
        Keyring.create(path)
    assert Keyring.open(path).fingerprint == made.fingerprint
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_key_file_is_told_apart_from_a_broken_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Keyring.load(tmp_path / "none.json")


def test_a_key_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    Keyring.create(path)
    path.chmod(0o640)
    with pytest.raises(KeyringError, match="chmod 600"):
        Keyring.load(path)


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"index": "c2hvcnQ="},
        {"current": "k9"},
        {"seals": {"k1": "c2hvcnQ="}},
        {"seals": {}},
        {"more": 1},
    ],
)
def test_a_broken_key_file_is_refused_without_showing_it(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "keys.json"
    Keyring.create(path)
    keys = msgspec.json.decode(path.read_bytes())
    path.write_bytes(msgspec.json.encode(keys | change))
    with pytest.raises(KeyringError) as refusal:
        Keyring.load(path)
    assert keys["index"] not in str(refusal.value)
    path.write_bytes(b"{")
    with pytest.raises(KeyringError):
        Keyring.load(path)


def test_an_index_is_the_same_for_the_same_number_and_key_alone(keyring: Keyring, other: Keyring) -> None:
    assert keyring.index(AN) == keyring.index(Number.parse("+84901234567"))
    assert len({keyring.index(AN), keyring.index(BINH), other.index(AN)}) == 3
    assert len(keyring.index(AN)) == 16


def test_an_index_is_the_first_96_bits_of_an_hmac(tmp_path: Path) -> None:
    keyring = Keyring.create(tmp_path / "keys.json")
    key = msgspec.json.decode((tmp_path / "keys.json").read_bytes())["index"]
    digest = hmac.digest(base64.b64decode(key), AN.reveal().encode(), "sha256")
    assert keyring.index(AN) == base64.urlsafe_b64encode(digest[:12]).decode()


def test_a_keyring_shows_its_fingerprint_alone(keyring: Keyring) -> None:
    assert repr(keyring) == f"<Keyring {keyring.fingerprint}>"
    assert len(keyring.fingerprint) == 16


def test_a_derived_key_is_nobodys_index(keyring: Keyring) -> None:
    assert len(keyring.derived("a")) == 32
    assert keyring.derived("a") == keyring.derived("a") != keyring.derived("b")


@pytest.fixture(scope="module")
def ring(tmp_path_factory: pytest.TempPathFactory) -> Keyring:
    return Keyring.create(tmp_path_factory.mktemp("keys") / "keys.json")


@settings(max_examples=50)
@given(context=st.text(max_size=40), other=st.text(max_size=40))
def test_a_seal_opens_in_its_own_context_alone(ring: Keyring, context: str, other: str) -> None:
    sealed = ring.seal(AN, context)
    assert ring.unseal(sealed, context) == AN
    if other != context:
        with pytest.raises(WrongKey):
            ring.unseal(sealed, other)


def test_two_seals_of_one_number_differ_and_hide_it(keyring: Keyring) -> None:
    first, second = keyring.seal(AN, "here"), keyring.seal(AN, "here")
    assert first != second
    assert "901234567" not in first


@pytest.mark.parametrize(
    "sealed", ["", "k1", "k1.", "k1.AAAA", "k9.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "k1.?!", "k1.é"]
)
def test_what_is_no_seal_does_not_open(keyring: Keyring, sealed: str) -> None:
    with pytest.raises(WrongKey):
        keyring.unseal(sealed, "here")


def test_every_changed_byte_of_a_seal_is_noticed(keyring: Keyring) -> None:
    sealed = keyring.seal(AN, "here")
    for place in range(3, len(sealed) - 3):  # the last letter before the padding has bits that say nothing
        letter = "A" if sealed[place] != "A" else "B"
        with pytest.raises(WrongKey):
            keyring.unseal(sealed[:place] + letter + sealed[place + 1 :], "here")


def test_a_number_sealed_under_an_older_key_still_opens(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    before = Keyring.create(path)
    sealed = before.seal(AN, "here")
    keys = msgspec.json.decode(path.read_bytes())
    keys["seals"]["k2"] = keys["index"]
    keys["current"] = "k2"
    path.write_bytes(msgspec.json.encode(keys))
    after = Keyring.load(path)
    assert after.unseal(sealed, "here") == AN
    assert after.seal(AN, "here").startswith("k2.")
    assert after.fingerprint == before.fingerprint


@pytest.fixture
def other(tmp_path: Path) -> Keyring:
    return Keyring.create(tmp_path / "other keys.json")


async def test_data_made_with_another_key_stops_the_start(redis: Redis, keyring: Keyring, other: Keyring) -> None:
    await keyring.guard(redis)
    await keyring.guard(redis)
    with pytest.raises(WrongKey, match="another key file"):
        await other.guard(redis)
