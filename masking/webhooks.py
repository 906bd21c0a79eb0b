"""Webhook endpoints: where a tenant's events go, and how a receiver knows that they are ours.

The signatures are those of Standard Webhooks: `webhook-id`, `webhook-timestamp` and `webhook-signature`, an HMAC-SHA256
over `id.timestamp.body` for every secret in use. A secret is derived from the installation's keys and the endpoint's
generation, so a copy of Redis holds none. For a day after a rotation the old secret signs beside the new one.
"""

from __future__ import annotations

import base64
import contextlib
import hmac
import ipaddress
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Final, Literal, get_args
from urllib.parse import SplitResult, unquote, urlsplit

import msgspec
from msgspec import UNSET, Meta, UnsetType

from masking import sids
from masking.events import EventType, moment
from masking.numbering import spells_a_number
from masking.refusals import Conflict, ContainsPhoneNumber, FieldError, Invalid, NotFound

if TYPE_CHECKING:
    from masking.house import House

MOST: Final = 20  # endpoints of a tenant
ROTATION: Final = 86_400.0  # seconds for which the secret before the last rotation still signs
VERSION: Final = "hooks"  # counts the changes of all endpoints, so that the courier knows when to read them anew
FAMILIES: Final = tuple(dict.fromkeys(name.partition(".")[0] + ".*" for name in get_args(EventType)))

Url = Annotated[str, Meta(min_length=1, max_length=2048)]
Description = Annotated[str, Meta(max_length=255)]
EventName = Annotated[str, Meta(max_length=64, description="An event type, or a family of them as `call.*`.")]
EventNames = Annotated[list[EventName], Meta(max_length=64, description="Empty: all.")]
Status = Literal["enabled", "disabled"]


class WebhookEndpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A receiver of events. `disabled`: nothing is sent, and what happens meanwhile is not sent later either (fetch it
    by `GET /v1/events`, or have it replayed)."""

    id: str
    url: str
    events: list[str]
    description: str | None
    status: Status
    created_at: datetime


class WebhookEndpointSecret(WebhookEndpoint, frozen=True, kw_only=True):
    """The same and, this once, the secret its deliveries are signed with."""

    secret: str


class NewWebhookEndpoint(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /v1/webhook_endpoints`."""

    url: Url
    events: EventNames = []
    description: Description | None = None


class WebhookEndpointChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`PATCH`: only what is said changes."""

    url: Url | UnsetType = UNSET
    events: EventNames | UnsetType = UNSET
    description: Description | None | UnsetType = UNSET
    status: Status | UnsetType = UNSET


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint as Redis holds it. `since`: the position in the archive after which events are sent. `service`: it is
    told of that service's calls alone, in Twilio's words (`masking.callbacks`)."""

    tenant: str
    endpoint: WebhookEndpoint
    since: int
    generation: int = 1
    rotated_at: float = 0.0
    service: str | None = None

    def wants(self, kind: str, session: str | None) -> bool:
        """True for an event of a type, and of a session, that this endpoint asked for."""
        if self.service is not None and not sids.is_of(session, self.service):
            return False
        asked = self.endpoint.events
        return not asked or kind in asked or kind.partition(".")[0] + ".*" in asked


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    """A wish to have events sent again, on its way to the courier. Times are seconds since 1970."""

    tenant: str
    endpoint: str
    session: str | None = None
    since: float | None = None
    until: float | None = None
    only_dead: bool = False


REPLAYS: Final = "hooks:replays"


async def create(house: House, tenant: str, new: NewWebhookEndpoint, since: int) -> WebhookEndpointSecret:
    """A new endpoint, told from the archive's position `since` on; `Invalid`, `Conflict` beyond twenty."""
    _check(house, new.url, new.events, new.description)
    await make_room(house, tenant, "")
    made = WebhookEndpoint(
        id=house.token("whk_"),
        url=new.url,
        events=list(dict.fromkeys(new.events)),
        description=new.description,
        status="enabled",
        created_at=moment(house.now()),
    )
    kept = Kept(tenant=tenant, endpoint=made, since=since)
    await keep(house, kept)
    return _with_secret(house, kept)


async def make_room(house: House, tenant: str, endpoint: str) -> None:
    """`Conflict` where there is no room for one more, unless it is there."""
    there = await house.redis.command("HKEYS", _key(tenant))
    if len(there) >= MOST and endpoint.encode() not in there:
        raise Conflict(f"A tenant has at most {MOST} webhook endpoints.")


async def get(house: House, tenant: str, endpoint: str) -> Kept:
    """`NotFound` for what is not there or not the tenant's."""
    raw = await house.redis.command("HGET", _key(tenant), endpoint)
    if raw is None:
        raise NotFound("No such webhook endpoint.")
    return msgspec.json.decode(raw, type=Kept)


async def listing(house: House, tenant: str) -> list[Kept]:
    """The tenant's endpoints, oldest first."""
    rows = await house.redis.command("HVALS", _key(tenant))
    found = [msgspec.json.decode(raw, type=Kept) for raw in rows]
    return sorted(found, key=lambda kept: (kept.endpoint.created_at, kept.endpoint.id))


async def change(house: House, tenant: str, endpoint: str, wish: WebhookEndpointChange, since: int) -> WebhookEndpoint:
    """Applies what `wish` says. One that is enabled again is told from the position `since` on."""
    kept = await get(house, tenant, endpoint)
    said = {name: value for name in wish.__struct_fields__ if (value := getattr(wish, name)) is not UNSET}
    after = msgspec.structs.replace(kept.endpoint, **said)
    _check(house, after.url, after.events, after.description)
    woken = kept.endpoint.status == "disabled" and after.status == "enabled"
    await keep(house, msgspec.structs.replace(kept, endpoint=after, since=since if woken else kept.since))
    return after


async def disable(house: House, kept: Kept) -> None:
    """What 410 Gone from a receiver asks for."""
    after = msgspec.structs.replace(kept.endpoint, status="disabled")
    await keep(house, msgspec.structs.replace(kept, endpoint=after))


async def remove(house: House, tenant: str, endpoint: str) -> None:
    """Ends it; what it is still owed is not sent any more. `NotFound`."""
    if not await house.redis.command("HDEL", _key(tenant), endpoint):
        raise NotFound("No such webhook endpoint.")
    await house.redis.command("INCR", VERSION)


async def forget(house: House, tenant: str, endpoint: str) -> None:
    """Ends it, when there is one."""
    with contextlib.suppress(NotFound):
        await remove(house, tenant, endpoint)


async def rotate_secret(house: House, tenant: str, endpoint: str) -> WebhookEndpointSecret:
    """A new secret; deliveries carry the old one's signature too for a day."""
    kept = await get(house, tenant, endpoint)
    after = msgspec.structs.replace(kept, generation=kept.generation + 1, rotated_at=house.now())
    await keep(house, after)
    return _with_secret(house, after)


async def ask_replay(house: House, replay: Replay) -> None:
    """Leaves the wish for the courier."""
    await house.redis.command("RPUSH", REPLAYS, msgspec.json.encode(replay))


def headers(house: House, kept: Kept, event: str, body: bytes, at: int) -> dict[str, str]:
    """The signed headers of one delivery. `at`: seconds since 1970, of this attempt."""
    generations = [kept.generation]
    if kept.generation > 1 and house.now() - kept.rotated_at < ROTATION:
        generations.append(kept.generation - 1)
    return signed([_key_bytes(house, kept, one) for one in generations], event, body, at)


def signed(keys: Iterable[bytes], name: str, body: bytes, at: int) -> dict[str, str]:
    """The headers of Standard Webhooks for the message `name`, signed with each of the keys."""
    said = f"{name}.{at}.".encode() + body
    signatures = ["v1," + base64.b64encode(hmac.digest(key, said, "sha256")).decode() for key in keys]
    return {"webhook-id": name, "webhook-timestamp": str(at), "webhook-signature": " ".join(signatures)}


def told_secret(key: bytes) -> str:
    """A key as its receiver is told it."""
    return "whsec_" + base64.b64encode(key).decode()


def _key(tenant: str) -> str:
    return f"hooks:{tenant}"


async def keep(house: House, kept: Kept) -> None:
    await house.redis.command("HSET", _key(kept.tenant), kept.endpoint.id, msgspec.json.encode(kept))
    await house.redis.command("INCR", VERSION)


def _key_bytes(house: House, kept: Kept, generation: int) -> bytes:
    return house.keyring.derived(f"webhook secret {kept.endpoint.id} {generation}")


def _with_secret(house: House, kept: Kept) -> WebhookEndpointSecret:
    secret = told_secret(_key_bytes(house, kept, kept.generation))
    return WebhookEndpointSecret(**msgspec.structs.asdict(kept.endpoint), secret=secret)


def _check(house: House, url: str, names: list[str], description: str | None) -> None:
    known = {*get_args(EventType), *FAMILIES}
    for place, name in enumerate(names):
        if name not in known:
            raise Invalid.field(f"events[{place}]", "is no event type", f"one of {', '.join(sorted(known))}")
    countries = house.config.countries
    if description is not None and spells_a_number(description, countries):
        raise _number_in("description")
    check_url(house, url)


def check_url(house: House, url: str, field: str = "url") -> None:
    """What can be said of a URL without asking anybody; what its name leads to is looked at anew at each connection."""
    allow_private, countries = house.config.webhooks.allow_private, house.config.countries
    schemes = ("https", "http") if allow_private else ("https",)
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises for a port that is none
    except ValueError:
        raise Invalid.field(field, "cannot be read", "an absolute https URL") from None
    if parts.scheme not in schemes or not parts.hostname or not url.isascii() or not url.isprintable() or " " in url:
        raise Invalid.field(field, "cannot be used", f"an absolute {' or '.join(schemes)} URL")
    if parts.username is not None or parts.fragment:
        raise Invalid.field(field, "has a user or a fragment", "a URL without; the signature says that it is us")
    if any(spells_a_number(unquote(text), countries) for text in _texts(parts)):
        raise _number_in(field)
    try:
        address = ipaddress.ip_address(parts.hostname)
    except ValueError:
        return
    if not may_reach(str(address), allow_private):
        raise Invalid.field(field, "leads to a private address", "an address of the public Internet")


def _texts(parts: SplitResult) -> list[str]:
    return [*parts.path.split("/"), *(value for pair in parts.query.split("&") for value in pair.split("="))]


def _number_in(field: str) -> ContainsPhoneNumber:
    error = FieldError(field, "contains a phone number", "a text without phone numbers")
    return ContainsPhoneNumber(f"{field} contains a phone number.", [error])


def may_reach(address: str, allow_private: bool) -> bool:
    """May a delivery go to this IP address? Without `allow_private` only to the public Internet, in whatever spelling
    IPv6 has for an IPv4 address; link-local addresses (a cloud's metadata service stands there) never."""
    found: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        within = found.ipv4_mapped or found.sixtofour or (found.teredo[1] if found.teredo else None)
        if within is None and found in _NAT64:
            within = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        found = within or found
    if found.is_multicast or found.is_unspecified or found.is_link_local:
        return False
    return found.is_global or (allow_private and (found.is_private or found.is_loopback))


_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
