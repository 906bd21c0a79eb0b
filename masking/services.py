"""Services: named defaults for sessions, and the owner of a pool of numbers per country."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, cast

import msgspec
from msgspec import UNSET, Meta, UnsetType

from masking import consent, keeping, latecalls, sentences, webhooks
from masking.access import DEFAULT_TENANT
from masking.consent import EVERYWHERE, ConsentPolicy
from masking.events import moment, seconds
from masking.house import Unavailable, letters, script
from masking.keeping import RecordingStorage
from masking.latecalls import ANNOUNCED, KeptLateCall, LateCall, LateCallWish
from masking.number_health import NumberHealth
from masking.numbering import read, spells_a_number
from masking.refusals import Conflict, ContainsPhoneNumber, FieldError, Invalid, NotFound, UniqueNameConflict
from masking.sentences import OURS, Announcements
from pools.inventory import CALLABLE

if TYPE_CHECKING:
    from masking.house import House

Record = Literal["never", "always", "on_demand"]
NumberModel = Literal["auto", "shared", "per_party", "extension", "one_party"]
GeoMatch = Literal["soft", "strict"]
NumberSelection = Literal["avoid_sticky", "prefer_sticky"]
# What a caller nobody is bound to meets: the announcement, or the PIN prompt.
OutOfSession = Literal["announce", "pin"]

# 60 s .. 170 d, as every session's life.
Ttl = Annotated[int, Meta(ge=60, le=170 * 86_400, description="Seconds.")]
PairQuarantine = Annotated[
    int, Meta(ge=0, le=604_800, description="Seconds a pair rests on a number after its session.")
]
NumberAgeing = Annotated[
    int, Meta(ge=0, le=31_536_000, description="Seconds for which a retired number serves nobody, even put back.")
]
RingTimeout = Annotated[int, Meta(ge=5, le=120, description="Seconds.")]
CallTimeLimit = Annotated[int, Meta(ge=30, le=14_400, description="Seconds.")]
WarningAt = Annotated[int, Meta(ge=0, le=14_400, description="Seconds before the time limit; 0: no warning.")]
MaxConcurrentCalls = Annotated[int, Meta(ge=1, le=100)]
UniqueName = Annotated[str, Meta(min_length=1, max_length=191)]
FriendlyName = Annotated[str, Meta(max_length=255)]

Url = Annotated[str, Meta(min_length=1, max_length=2048)]
AnsweredWithin = Annotated[int, Meta(ge=100, le=5000, description="Milliseconds.")]
DispatchNumber = Annotated[str, Meta(max_length=32, description="A virtual number of the service, E.164.")]
Wording = Literal["standard", "twilio"]  # in which its apps are asked (`masking.consultations`)
# What becomes of a call whose app should have been asked and did not answer.
OnError = Literal["allow", "deny"]

REMEMBERED: Final = 1.0  # seconds for which `lately` trusts what it read; another process's change is seen after that

FIND: Final = script("find_service")
KEEP: Final = script("service")


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """A service and the defaults its sessions start from."""

    id: str
    unique_name: str | None
    friendly_name: str | None = None
    created_at: datetime
    ttl: Ttl = 3600
    record: Record = "never"
    number_model: NumberModel = "auto"
    geo_match: GeoMatch = "soft"
    number_selection: NumberSelection = "avoid_sticky"
    pair_quarantine: PairQuarantine = 1800
    ring_timeout: RingTimeout = 45
    call_time_limit: CallTimeLimit = 3600
    warning_at: WarningAt = 60
    max_concurrent_calls: MaxConcurrentCalls = 1
    out_of_session: OutOfSession = "announce"
    number_health: NumberHealth = NumberHealth()
    number_ageing: NumberAgeing = 0
    late_call: LateCall = LateCall()
    consent_policy: ConsentPolicy = EVERYWHERE
    announcements: Announcements = OURS
    recording_storage: RecordingStorage = keeping.DEFAULT
    intercept_url: Url | None = None  # asked before each second leg (`masking.consultations`)
    intercept_timeout_ms: AnsweredWithin = 700
    intercept_on_error: OnError = "allow"
    out_of_session_url: Url | None = None  # asked about callers nobody is bound to (`masking.introductions`)
    out_of_session_timeout_ms: AnsweredWithin = 2000
    dispatch_number: str | None = None  # whoever dials it is connected with whom `intercept_url` names
    webhook_wording: Wording = "standard"
    webhook_secrets: int = 0  # how often `:rotate_secret` was asked; the last signs, for a day the one before it too
    webhook_secret_rotated_at: datetime | None = None

    @property
    def name(self) -> str:
        """How sessions name it: its unique_name, or its id where it has none."""
        return self.unique_name or self.id


class _Stored(Service, frozen=True, kw_only=True):
    """A service as Redis has it: with its support number, sealed."""

    late_call: KeptLateCall = ANNOUNCED


class ServiceChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST` and `PATCH` of a service: only what is said changes."""

    unique_name: UniqueName | None | UnsetType = UNSET
    friendly_name: FriendlyName | None | UnsetType = UNSET
    ttl: Ttl | UnsetType = UNSET
    record: Record | UnsetType = UNSET
    number_model: NumberModel | UnsetType = UNSET
    geo_match: GeoMatch | UnsetType = UNSET
    number_selection: NumberSelection | UnsetType = UNSET
    pair_quarantine: PairQuarantine | UnsetType = UNSET
    ring_timeout: RingTimeout | UnsetType = UNSET
    call_time_limit: CallTimeLimit | UnsetType = UNSET
    warning_at: WarningAt | UnsetType = UNSET
    max_concurrent_calls: MaxConcurrentCalls | UnsetType = UNSET
    out_of_session: OutOfSession | UnsetType = UNSET
    number_health: NumberHealth | UnsetType = UNSET
    number_ageing: NumberAgeing | UnsetType = UNSET
    late_call: LateCallWish | UnsetType = UNSET
    consent_policy: ConsentPolicy | UnsetType = UNSET
    announcements: Announcements | UnsetType = UNSET
    recording_storage: RecordingStorage | UnsetType = UNSET
    intercept_url: Url | None | UnsetType = UNSET
    intercept_timeout_ms: AnsweredWithin | UnsetType = UNSET
    intercept_on_error: OnError | UnsetType = UNSET
    out_of_session_url: Url | None | UnsetType = UNSET
    out_of_session_timeout_ms: AnsweredWithin | UnsetType = UNSET
    dispatch_number: DispatchNumber | None | UnsetType = UNSET

    async def said(self, house: House, service: str) -> dict[str, object]:
        """The fields that were given, as the service of that id keeps them."""
        found = {name: value for name in self.__struct_fields__ if (value := getattr(self, name)) is not UNSET}
        if isinstance(self.late_call, LateCallWish):
            found["late_call"] = await latecalls.kept(house, self.late_call, service)
        return found


class WebhookSecret(msgspec.Struct, frozen=True, kw_only=True):
    """What a service's questions to the app are signed with, told this once."""

    service: str
    secret: str


async def create(house: House, tenant: str, new: ServiceChange, wording: Wording = "standard") -> Service:
    """A new service; `UniqueNameConflict` (extra `service`), `Invalid`. `wording`: in which its app is asked at the
    URLs that `new` says."""
    _check(house, new)
    if isinstance(new.dispatch_number, str):
        raise Invalid.field("dispatch_number", "is no virtual number of the service", "PATCH, once it has numbers")
    blank = _Stored(id=house.token("svc_"), unique_name=None, created_at=moment(house.now()))
    made = msgspec.structs.replace(blank, **await new.said(house, blank.id))
    return await _keep(house, tenant, None, _worded(made, new, wording))


async def get(house: House, tenant: str, service: str) -> Service:
    """By id or unique_name; `NotFound`. `default` is always there."""
    return (await _find(house, tenant, service))[0]


async def lately(house: House, tenant: str, service: str) -> Service:
    """As `get`, but as it was at most a second ago; what this process changed is seen at once."""
    now = house.now()
    at, found = house.seen.get(_seen(tenant), {}).get(service, (0.0, None))
    if found is None or abs(now - at) >= REMEMBERED:
        found = await get(house, tenant, service)
        house.seen.setdefault(_seen(tenant), {})[service] = (now, found)
    return cast(Service, found)


def _seen(tenant: str) -> str:
    return f"services of {tenant}"


def look(house: House, tenant: str, service: str) -> Awaitable[Any]:
    """Asks, once a second at most, for the service of that id. It is on its way when this returns, so that it travels
    with what a call asks next; `looked` has the answer."""
    known, now = house.seen.setdefault(_looked(tenant), {}), house.now()
    at, asked = known.get(service, (0.0, None))
    if asked is None or abs(now - at) >= REMEMBERED:
        asked = house.ahead("HGET", f"svc:{tenant}", service)
        known[service] = (now, asked)
    return cast("Awaitable[Any]", asked)


async def looked(house: House, tenant: str, service: str) -> Service | None:
    """The service of that id as it was at most a second ago; None where nobody has asked for it yet."""
    try:
        raw = await look(house, tenant, service)
    except Unavailable:
        house.seen.pop(_looked(tenant), None)  # the next call asks anew
        raise
    return _decode(raw) if raw is not None else None


def _looked(tenant: str) -> str:
    return f"services of {tenant} by id"


async def listing(house: House, tenant: str) -> list[Service]:
    """All services of the tenant, `default` first, then oldest first."""
    default = await get(house, tenant, "default")
    rows = await house.redis.command("HGETALL", f"svc:{tenant}")
    found = [_decode(record) for name, record in _pairs(rows) if not name.startswith(b"name:")]
    return sorted(found, key=lambda service: (service.id != default.id, service.created_at, service.id))


async def change(
    house: House, tenant: str, service: str, wish: ServiceChange, wording: Wording = "standard"
) -> Service:
    """Applies what `wish` says; open sessions keep what they started with. `wording`: in which its app is asked at the
    URLs that `wish` says."""
    _check(house, wish)

    async def changed(now: _Stored) -> _Stored:
        model = wish.number_model
        if model is not UNSET and model != now.number_model and "one_party" in (model, now.number_model):
            if await house.inventory.recent_pools(tenant, now.id, 0):
                raise Invalid.field(
                    "number_model", "cannot change while the service has phone numbers", "a service without numbers"
                )
        if now.id == default_id(tenant) and wish.unique_name not in (UNSET, "default"):
            raise Invalid.field(
                "unique_name", "the service `default` keeps its name", "another service, or no new name"
            )
        after = msgspec.structs.replace(now, **await wish.said(house, now.id))
        after = _worded(after, wish, wording)
        if after.dispatch_number is not None and after.intercept_url is None:
            raise Invalid.field("dispatch_number", "has nobody to ask", "an intercept_url beside it")
        if isinstance(wish.dispatch_number, str):
            await _set_apart(house, tenant, after.id, wish.dispatch_number)
        return after

    return await _change(house, tenant, service, changed)


def _worded(service: _Stored, wish: ServiceChange, wording: Wording) -> _Stored:
    """Whoever says where an app is asked says in which words."""
    if wish.intercept_url is UNSET and wish.out_of_session_url is UNSET:
        return service
    return msgspec.structs.replace(service, webhook_wording=wording)


async def _set_apart(house: House, tenant: str, service: str, spelled: str) -> None:
    """A dispatch number takes calls and no leases: whom it leads to is never known before it is dialled."""
    number = read("", spelled)
    found = await house.inventory.find(number) if number is not None else None
    if found is None or (found.tenant, found.service) != (tenant, service) or found.state not in CALLABLE:
        problem, expected = "is no number that the service takes calls on", "one of its own, active or draining"
        raise Invalid.field("dispatch_number", problem, expected)
    if found.state == "active":
        await house.inventory.set_state(tenant, service, found.number, "draining")


async def rotate_secret(house: House, tenant: str, service: str) -> WebhookSecret:
    """A new secret for what the service asks its app; the one before it signs beside it for a day."""

    async def rotated(now: _Stored) -> _Stored:
        at = moment(house.now())
        return msgspec.structs.replace(now, webhook_secrets=now.webhook_secrets + 1, webhook_secret_rotated_at=at)

    after = await _change(house, tenant, service, rotated)
    return WebhookSecret(service=after.name, secret=webhooks.told_secret(webhook_keys(house, after)[0]))


def webhook_keys(house: House, service: Service) -> list[bytes]:
    """What its questions are signed with, the newest first."""
    generations = [service.webhook_secrets]
    rotated = service.webhook_secret_rotated_at
    if service.webhook_secrets > 1 and rotated is not None and house.now() - seconds(rotated) < webhooks.ROTATION:
        generations.append(service.webhook_secrets - 1)
    return [house.keyring.derived(f"service secret {service.id} {one}") for one in generations]


async def _change(house: House, tenant: str, service: str, wish: Callable[[_Stored], Awaitable[_Stored]]) -> Service:
    for _ in range(16):
        raw = (await _find(house, tenant, service))[1]
        now = msgspec.json.decode(raw, type=_Stored)
        try:
            return await _keep(house, tenant, raw, await wish(now), now.unique_name)
        except _Stale:
            continue
    raise Conflict("The service is being changed by many at once; try again.")


class _Stale(Exception):
    """The service changed between reading and writing."""


async def _find(house: House, tenant: str, service: str) -> tuple[Service, bytes]:
    key = f"svc:{tenant}"
    raw: bytes | None = await house.redis.script(FIND, [key], [service])
    if raw is None and service in ("default", default_id(tenant)):
        first = Service(id=default_id(tenant), unique_name="default", created_at=moment(house.now()), record="always")
        await house.redis.script(KEEP, [key], [first.id, "", msgspec.json.encode(first), "", "default"])
        raw = await house.redis.script(FIND, [key], [service])
    if raw is None or service.startswith("name:"):
        raise NotFound("No such service.")
    return _decode(raw), raw


async def late_call(house: House, tenant: str, service: Service) -> KeptLateCall:
    """What its sessions' late callers meet, sealed for the service's id."""
    if service.late_call.policy != "forward":
        return KeptLateCall(policy=service.late_call.policy)
    return msgspec.json.decode((await _find(house, tenant, service.id))[1], type=_Stored).late_call


async def _keep(house: House, tenant: str, held: bytes | None, new: _Stored, name: str | None = None) -> Service:
    kept = msgspec.json.encode(new)
    words = [new.id, held or "", kept, name or "", new.unique_name or ""]
    outcome: bytes = await house.redis.script(KEEP, [f"svc:{tenant}"], words)
    house.seen.pop(_seen(tenant), None)
    house.seen.pop(_looked(tenant), None)
    if outcome == b"stale":
        raise _Stale
    if outcome != b"ok":
        raise UniqueNameConflict("Another service has this unique_name.", service=outcome.decode())
    return _decode(kept)


def default_id(tenant: str) -> str:
    """The id of a tenant's service `default`: always the same, so nobody has to make it first."""
    return "svc_" + letters(blake2b(f"{tenant}/{DEFAULT_TENANT}".encode(), digest_size=22).digest())


def _check(house: House, wish: ServiceChange) -> None:
    countries = house.config.countries
    if isinstance(wish.unique_name, str) and wish.unique_name.startswith(("svc_", "name:")):
        raise Invalid.field("unique_name", "looks like an id", "a name of your own")
    for field in ("unique_name", "friendly_name"):
        text = getattr(wish, field)
        if isinstance(text, str) and spells_a_number(text, countries):
            error = FieldError(field, "is or contains a phone number", "a text without phone numbers")
            raise ContainsPhoneNumber(f"{field} contains a phone number.", [error])
    if isinstance(wish.consent_policy, ConsentPolicy):
        consent.checked(wish.consent_policy)
    if isinstance(wish.recording_storage, RecordingStorage):
        keeping.check(house.config, wish.recording_storage)
    if isinstance(wish.announcements, Announcements):
        sentences.checked(house, wish.announcements)
    for field in ("intercept_url", "out_of_session_url"):
        url = getattr(wish, field)
        if isinstance(url, str):
            webhooks.check_url(house, url, field)


@lru_cache(maxsize=256)  # every call looks at its own
def _decode(raw: bytes) -> Service:
    """The service as it is shown: without its support number."""
    return msgspec.json.decode(raw, type=Service)


def _pairs(flat: list[bytes]) -> list[tuple[bytes, bytes]]:
    return list(zip(flat[::2], flat[1::2], strict=True))
