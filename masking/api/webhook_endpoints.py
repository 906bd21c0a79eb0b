"""Webhook endpoints over HTTP, what they were sent, and sending it again."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec

from masking import archive, webhooks
from masking.api.operations import Answer, Asked
from masking.api.paging import Page, Paged, cursor_for, page_of, position_in
from masking.api.problems import bad_field
from masking.events import append_loose, moment
from masking.refusals import Conflict

State = Literal["pending", "delivered", "dead"]
Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class DeliveryQuery(Paged, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which deliveries: all, or those in one state."""

    state: State | None = None


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One event and one endpoint. `status` is that of the receiver's last answer, `error` the word for why there was
    none or it does not count: `timeout`, `unreachable`, `forbidden_address`, `tls`, `broken`, `redirect`. `duration`
    is the last attempt's, in seconds."""

    event: str
    type: str
    session: str | None
    state: State
    attempts: int
    first_attempt_at: datetime | None
    last_attempt_at: datetime | None
    next_attempt_at: datetime | None
    status: int | None
    error: str | None
    duration: float | None


class ReplayRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which events go to `endpoint` again: those that match everything said. At least one of `session`, `from` and
    `only_dead` must be said; ten thousand at the most."""

    endpoint: Annotated[str, msgspec.Meta(max_length=64)]
    session: Annotated[str, msgspec.Meta(max_length=64)] | None = None
    since: Annotated[Moment | None, msgspec.Meta(description="Happened then or later.")] = msgspec.field(
        name="from", default=None
    )
    until: Annotated[Moment | None, msgspec.Meta(description="Happened before.")] = msgspec.field(
        name="to", default=None
    )
    only_dead: bool = False


class Replayed(msgspec.Struct, frozen=True):
    """How many events match; with `only_dead` the dead letters among them are sent."""

    endpoint: str
    events: int


async def create_webhook_endpoint(asked: Asked) -> Answer:
    return Answer(201, await webhooks.create(asked.house, asked.tenant, asked.body, await _newest(asked)))


async def list_webhook_endpoints(asked: Asked) -> Answer:
    query: Paged = asked.query
    rows = [kept.endpoint for kept in await webhooks.listing(asked.house, asked.tenant)]
    return Answer(200, page_of(rows, "webhook_endpoints", query, lambda endpoint: endpoint.id))


async def get_webhook_endpoint(asked: Asked) -> Answer:
    return Answer(200, (await webhooks.get(asked.house, asked.tenant, asked.path["endpoint"])).endpoint)


async def change_webhook_endpoint(asked: Asked) -> Answer:
    newest = await _newest(asked)
    changed = await webhooks.change(asked.house, asked.tenant, asked.path["endpoint"], asked.body, newest)
    return Answer(200, changed)


async def remove_webhook_endpoint(asked: Asked) -> Answer:
    await webhooks.remove(asked.house, asked.tenant, asked.path["endpoint"])
    return Answer(204, None)


async def test_webhook_endpoint(asked: Asked) -> Answer:
    """The test goes the way of every event: outbox, archive, delivery."""
    endpoint = await _enabled(asked, asked.path["endpoint"])
    await append_loose(asked.house, asked.tenant, "webhook.test", asked.house.now(), {"endpoint": endpoint.id})
    return Answer(202, endpoint)


async def rotate_webhook_secret(asked: Asked) -> Answer:
    return Answer(200, await webhooks.rotate_secret(asked.house, asked.tenant, asked.path["endpoint"]))


async def list_deliveries(asked: Asked) -> Answer:
    query: DeliveryQuery = asked.query
    endpoint = (await webhooks.get(asked.house, asked.tenant, asked.path["endpoint"])).endpoint.id
    before = position_in("deliveries", query.cursor, int)
    async with asked.archive.connect() as connection:
        rows = await archive.delivery_page(
            connection, endpoint, state=query.state, before=before, limit=query.limit + 1
        )
    shown = rows[: query.limit]
    following = cursor_for("deliveries", int(shown[-1].position)) if len(rows) > query.limit else None
    return Answer(
        200,
        Page(
            [
                Delivery(
                    event=row.event,
                    type=row.type,
                    session=row.session,
                    state=row.state,
                    attempts=row.attempts,
                    first_attempt_at=_moment(row.first_at),
                    last_attempt_at=_moment(row.last_at),
                    next_attempt_at=_moment(row.next_at),
                    status=row.status,
                    error=row.error,
                    duration=row.took,
                )
                for row in shown
            ],
            following,
        ),
    )


async def replay_events(asked: Asked) -> Answer:
    wish: ReplayRequest = asked.body
    endpoint = await _enabled(asked, wish.endpoint)
    if wish.session is None and wish.since is None and not wish.only_dead:
        raise bad_field("invalid_request", "from", "is missing", "one of `session`, `from` and `only_dead`")
    since = wish.since.timestamp() if wish.since is not None else None
    until = wish.until.timestamp() if wish.until is not None else None
    async with asked.archive.connect() as connection:
        count = await archive.count_events(connection, asked.tenant, session=wish.session, since=since, until=until)
    replay = webhooks.Replay(
        tenant=asked.tenant,
        endpoint=endpoint.id,
        session=wish.session,
        since=since,
        until=until,
        only_dead=wish.only_dead,
    )
    await webhooks.ask_replay(asked.house, replay)
    return Answer(202, Replayed(endpoint.id, count))


async def _enabled(asked: Asked, endpoint: str) -> webhooks.WebhookEndpoint:
    found = (await webhooks.get(asked.house, asked.tenant, endpoint)).endpoint
    if found.status == "disabled":
        raise Conflict("The endpoint is disabled; enable it first.")
    return found


async def _newest(asked: Asked) -> int:
    async with asked.archive.connect() as connection:
        return await archive.last_position(connection, asked.tenant)


def _moment(at: float | None) -> datetime | None:
    return moment(at) if at is not None else None
