"""Who keeps tenants' private keys: each is wrapped by a key provider, and unwrapped where a recording is opened.

`file`: AES-256-GCM under a key of the installation's own key file. `aws-kms`: a key that never leaves AWS KMS (extra
`kms`); its place is the encryption context. What was wrapped says by whom, so a change of provider leaves the older
keys readable. Errors: `KeyRefused` when what was wrapped is not what this provider wrapped for this place; `KeysAway`
when the provider cannot be asked now.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final, Literal, Protocol

from anyio.to_thread import run_sync
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

PURPOSE: Final = "tenants' recording keys"
"""What the file provider's secret is derived for (`pools.keyring.Keyring.derived`)."""
NONCE: Final = 12
FILE: Final = b"f"
AWS_KMS: Final = b"k"
REFUSED: Final = frozenset(
    {"InvalidCiphertextException", "IncorrectKeyException", "AccessDeniedException", "NotFoundException"}
)
"""What KMS says of a key that it will not open later either; all else may pass."""


class KeyRefused(Exception):
    """A wrapped key does not open here: another installation's, another tenant's, or altered."""


class KeysAway(Exception):
    """The provider does not answer; it may later."""


class Provider(Protocol):
    """Wraps and unwraps private keys of 32 bytes; `place` names whose, and opens nothing else."""

    async def wrap(self, private: bytes, place: str) -> bytes: ...

    async def unwrap(self, wrapped: bytes, place: str) -> bytes: ...


class FileProvider:
    """`secret`: 32 bytes from the key file; `entropy(n)`: n random bytes."""

    def __init__(self, secret: bytes, entropy: Callable[[int], bytes]) -> None:
        self._box = AESGCM(secret)
        self._entropy = entropy

    async def wrap(self, private: bytes, place: str) -> bytes:
        nonce = self._entropy(NONCE)
        return nonce + self._box.encrypt(nonce, private, place.encode())

    async def unwrap(self, wrapped: bytes, place: str) -> bytes:
        try:
            return self._box.decrypt(wrapped[:NONCE], wrapped[NONCE:], place.encode())
        except (InvalidTag, ValueError):
            raise KeyRefused(f"the private key {place} does not open with this key file") from None


class KmsProvider:
    """`connect()` makes botocore's client of KMS; `key`: the id, ARN or alias of a symmetric key."""

    def __init__(self, connect: Callable[[], Any], key: str) -> None:
        self._connect = connect
        self._key = key
        self._client: Any = None

    async def wrap(self, private: bytes, place: str) -> bytes:
        return bytes((await run_sync(self._ask, "encrypt", place, {"Plaintext": private}))["CiphertextBlob"])

    async def unwrap(self, wrapped: bytes, place: str) -> bytes:
        return bytes((await run_sync(self._ask, "decrypt", place, {"CiphertextBlob": wrapped}))["Plaintext"])

    def _ask(self, what: str, place: str, words: dict[str, bytes]) -> Any:
        """Blocks: on the network, and the first time on AWS's own files."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            self._client = self._client or self._connect()
            ask = getattr(self._client, what)
            return ask(KeyId=self._key, EncryptionContext={"masking": place}, **words)
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            if code in REFUSED:
                raise KeyRefused(f"AWS KMS refuses the private key {place}: {code}") from None
            raise KeysAway(f"AWS KMS: {code}") from None
        except BotoCoreError as error:
            raise KeysAway(f"AWS KMS: {type(error).__name__}") from None


class Settings(Protocol):
    """`[keys]` of the configuration, as far as this room reads it."""

    @property
    def provider(self) -> Literal["file", "aws-kms"]: ...
    @property
    def kms_key(self) -> str: ...
    @property
    def kms_region(self) -> str: ...
    @property
    def kms_endpoint(self) -> str: ...


class Keepers:
    """The configured provider wraps; whichever wrapped a key unwraps it."""

    def __init__(self, current: bytes, all_of_them: dict[bytes, Provider]) -> None:
        self._current = current
        self._all = all_of_them

    async def wrap(self, private: bytes, place: str) -> bytes:
        return self._current + await self._all[self._current].wrap(private, place)

    async def unwrap(self, wrapped: bytes, place: str) -> bytes:
        keeper = self._all.get(wrapped[:1])
        if keeper is None:
            raise KeyRefused(f"the private key {place} is kept by a provider that is not configured")
        return await keeper.unwrap(wrapped[1:], place)


def provider_of(settings: Settings, secret: bytes, entropy: Callable[[int], bytes]) -> Provider:
    """What `[keys]` says. `secret`: the file provider's, from the key file."""
    keepers: dict[bytes, Provider] = {FILE: FileProvider(secret, entropy)}
    if settings.kms_key:
        keepers[AWS_KMS] = KmsProvider(partial(_kms, settings), settings.kms_key)
    return Keepers(AWS_KMS if settings.provider == "aws-kms" else FILE, keepers)


def _kms(settings: Settings) -> Any:
    """Credentials come from where AWS's own tools look for them: environment, profile, the machine's role."""
    from botocore.config import Config
    from botocore.session import get_session

    arn = settings.kms_key.split(":")
    return get_session().create_client(
        "kms",
        region_name=settings.kms_region or (arn[3] if len(arn) > 3 else None),
        endpoint_url=settings.kms_endpoint or None,
        config=Config(connect_timeout=2, read_timeout=5, retries={"max_attempts": 2, "mode": "standard"}),
    )
