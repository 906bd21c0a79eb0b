"""What operators and machines ask: is it alive, is it ready, how busy is it, what does it speak."""

from __future__ import annotations

import ipaddress

import msgspec
import sqlalchemy as sql
from sqlalchemy.exc import SQLAlchemyError

from masking import explaining
from masking.access import authenticate
from masking.api import docs, metrics, openapi, pool_metrics
from masking.api.operations import Answer, Asked
from masking.api.problems import Declined
from pools.redis import Unavailable

FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip")


class Alive(msgspec.Struct, frozen=True):
    """The process serves."""

    status: str = "alive"


class Ready(msgspec.Struct, frozen=True):
    """What requests stand on answers: each part is `ok` or `gone`."""

    status: str
    redis: str
    archive: str


async def healthz(asked: Asked) -> Answer:
    return Answer(200, Alive())


async def readyz(asked: Asked) -> Answer:
    redis, archive = await _redis(asked), await _archive(asked)
    if asked.desk.draining:
        return Answer(503, Ready("draining", redis, archive), {"Retry-After": "1"})
    if redis == archive == "ok":
        return Answer(200, Ready("ready", redis, archive))
    return Answer(503, Ready("not_ready", redis, archive), {"Retry-After": "1"})


async def _redis(asked: Asked) -> str:
    try:
        await asked.house.redis.command("PING")
    except Unavailable:
        return "gone"
    return "ok"


async def _archive(asked: Asked) -> str:
    try:
        async with asked.archive.connect() as connection:
            await connection.execute(sql.text("SELECT 1"))
    except (SQLAlchemyError, OSError):
        return "gone"
    return "ok"


async def explain_route(asked: Asked) -> Answer:
    return Answer(200, await explaining.explain(asked.house, asked.access, asked.body))


async def metrics_page(asked: Asked) -> Answer:
    """Without a key on loopback only, and not through a proxy that happens to stand there."""
    if not _is_local(asked):
        scheme, _, token = asked.headers.get("authorization", "").partition(" ")
        who = await authenticate(asked.house, token.strip()) if scheme.lower() == "bearer" and token else None
        if who is None:
            raise Declined(
                "unauthenticated",
                "Beyond loopback the metrics need an API key.",
                headers={"WWW-Authenticate": 'Bearer realm="masking"'},
            )
        if "admin" not in who.scopes:
            raise Declined("insufficient_scope", "Beyond loopback the metrics need a key with the scope admin.")
    page = await metrics.page(asked.desk.metrics, asked.house.config.run_dir)
    return Answer(200, page + await pool_metrics.page(asked.house), media_type=metrics.MEDIA_TYPE)


def _is_local(asked: Asked) -> bool:
    if any(name in asked.headers for name in FORWARDED):
        return False
    try:
        return ipaddress.ip_address(asked.client).is_loopback
    except ValueError:
        return False


async def openapi_document(asked: Asked) -> Answer:
    return Answer(200, openapi.encoded())


async def docs_page(asked: Asked) -> Answer:
    return Answer(200, docs.page(), media_type="text/html; charset=utf-8", headers=docs.HEADERS)
