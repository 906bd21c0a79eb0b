"""Where the apps of an installation are asked and told, and whether they can be reached: for `masking doctor`.

Nothing is sent: a name is looked up, a connection opened, a certificate looked at. What may be reached is judged by the
rule of every delivery (`webhooks.may_reach`).
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import msgspec

from masking import post
from masking.services import Service
from masking.webhooks import Kept, may_reach

if TYPE_CHECKING:
    from pools.redis import Redis

PATIENCE: Final = 3.0  # seconds for each receiver
AT_ONCE: Final = 16


class Receiver(msgspec.Struct, frozen=True):
    """A URL that is in use: whose, for what, and whether anybody was ever told the secret it is signed with."""

    tenant: str
    what: str
    url: str
    secret_told: bool = True


async def receivers(redis: Redis) -> list[Receiver]:
    """Those of every tenant; disabled endpoints are left out."""
    found: list[Receiver] = []
    for tenant in sorted(name.decode() for name in await redis.command("SMEMBERS", "tenants")):
        for raw in await redis.command("HVALS", f"hooks:{tenant}"):
            endpoint = msgspec.json.decode(raw, type=Kept).endpoint
            if endpoint.status == "enabled":
                found.append(Receiver(tenant, f"endpoint {endpoint.id}", endpoint.url))
        rows: list[bytes] = await redis.command("HGETALL", f"svc:{tenant}")
        for name, raw in zip(rows[::2], rows[1::2], strict=True):
            if not name.startswith(b"name:"):
                service = msgspec.json.decode(raw, type=Service)
                urls = {"intercept_url": service.intercept_url, "out_of_session_url": service.out_of_session_url}
                found += [
                    Receiver(tenant, f"{field} of service {service.name}", url, service.webhook_secrets > 0)
                    for field, url in urls.items()
                    if url is not None
                ]
    return found


async def troubles(found: list[Receiver], allow_private: bool) -> list[tuple[str, str] | None]:
    """For each receiver what keeps it from being reached and how to mend it; None for one that is."""
    room = asyncio.Semaphore(AT_ONCE)
    await asyncio.to_thread(post.trusted)

    async def one(receiver: Receiver) -> tuple[str, str] | None:
        async with room:
            return await _trouble(receiver.url, allow_private)

    return await asyncio.gather(*(one(receiver) for receiver in found))


async def _trouble(url: str, allow_private: bool) -> tuple[str, str] | None:
    parts = urlsplit(url)
    host, secure = parts.hostname or "", parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    address = ""
    try:
        async with asyncio.timeout(PATIENCE):
            known = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
            allowed = [str(entry[4][0]) for entry in known if may_reach(str(entry[4][0]), allow_private)]
            if not allowed:
                return f"{host} leads to no public address", "correct the URL, or set webhooks.allow_private"
            await _open(allowed[0], port, None)
            address = allowed[0]
            if secure:
                await _open(address, port, host)
    except socket.gaierror:
        return f"{host} has no address", "correct the URL, or the DNS"
    except (OSError, TimeoutError) as failed:
        if not address:
            return f"{host}:{port} does not take connections", "start the receiver, or open the way to it"
        why = "has no valid certificate" if isinstance(failed, ssl.SSLCertVerificationError) else "speaks no TLS"
        return f"{host}:{port} {why}", "give it a certificate that is valid for its name"
    return None


async def _open(address: str, port: int, name: str | None) -> None:
    """A connection and, with a `name`, TLS over it; nothing is sent."""
    trusted = post.trusted() if name is not None else None
    _, writer = await asyncio.open_connection(address, port, ssl=trusted, server_hostname=name)
    writer.transport.abort()
