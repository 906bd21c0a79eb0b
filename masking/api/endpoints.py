"""From bytes to an operation and back: what every request goes through, once, in this order.

method → key → scope → query → body → Idempotency-Key → handler → answer, and one line in the log.

Every failure becomes a problem here. A value of a request never reaches the log or an error: the log has the route's
template in place of the path, no query, and of an unexpected error its kind and place alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import parse_qsl

import anyio
import msgspec
import structlog
from sqlalchemy.exc import SQLAlchemyError
from starlette.types import Receive, Scope, Send

from masking import access, quotas, refusals
from masking.access import Access
from masking.api import problems
from masking.api.bodies import read_body
from masking.api.desk import Desk
from masking.api.idempotency import Held
from masking.api.identifiers import refuse_identifiers
from masking.api.operations import Answer, Asked, Handler, NoQuery, Operation, not_built_yet
from masking.api.problems import Declined
from masking.api.validation import body_of, query_of
from masking.logs import place
from pools.redis import Unavailable
from recordings.store import StoreFailed

HANDLER_LIMIT = 10.0  # seconds; shorter than an Idempotency-Key's claim, so that a claim outlives its request
RETRY_AFTER = 1  # seconds, beside 503

NOBODY = Access(tenant="", key="", scopes=frozenset())
JSON = msgspec.json.Encoder()
SOON = {"retry_after": 1}
CHALLENGE = {"WWW-Authenticate": 'Bearer realm="masking"'}

log = structlog.get_logger("masking.api")


class Endpoint:
    """All operations of one path, as an ASGI application."""

    def __init__(self, desk: Desk, route: str, operations: list[Operation]) -> None:
        self.desk = desk
        self.route = route
        self.operations: dict[str, Operation] = {operation.method: operation for operation in operations}
        methods = set(self.operations) | ({"HEAD"} if "GET" in self.operations else set())
        self.allow = ", ".join(sorted(methods))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = self.desk.clock()
        method = str(scope["method"])
        request = _Request(self.desk, scope, receive)
        try:
            answer = await request.answer(self._operation(method))
        except Declined as declined:
            answer = _problem(declined)
        except refusals.Refused as refused:
            answer = _problem(problems.from_core(refused))
        except (Unavailable, SQLAlchemyError, StoreFailed, TimeoutError) as error:
            # A SQLAlchemyError's text holds the statement's values: only its kind is told.
            log.warning("unavailable", route=self.route, kind=type(error).__name__)
            answer = _problem(problems.unavailable(RETRY_AFTER))
        except Exception as error:
            log.error("internal_error", route=self.route, kind=type(error).__name__, at=place(error))
            answer = _problem(Declined("internal_error", "The request was well; the service was not. It is logged."))
        known = method if method in self.operations or method == "HEAD" else "other"
        seconds = self.desk.clock() - began
        self.desk.metrics.answered(known, self.route, answer.status, seconds)
        log.info(
            "request",
            method=known,
            route=self.route,
            status=answer.status,
            ms=round(seconds * 1000, 2),
            key=request.access.key,
        )
        await send_answer(answer, receive, send, head=method == "HEAD")

    def _operation(self, method: str) -> Operation:
        operation = self.operations.get("GET" if method == "HEAD" else method)
        if operation is None:
            if not self.operations:
                raise Declined("not_found", "There is nothing at this path.")
            raise Declined("method_not_allowed", f"Served here: {self.allow}.", headers={"Allow": self.allow})
        return operation


class _Request:
    """One request on its way in."""

    def __init__(self, desk: Desk, scope: Scope, receive: Receive) -> None:
        self.desk = desk
        self.scope = scope
        self.receive = receive
        self.headers: Mapping[str, str] = {name.decode("latin-1"): v.decode("latin-1") for name, v in scope["headers"]}
        self.access = NOBODY

    async def answer(self, operation: Operation) -> Answer:
        if not operation.public:
            self.access = self._shared(operation) or await self._authenticated()
            if not await quotas.one_request_more(self.desk.house, self.access.tenant):
                raise Declined("rate_limited", "The tenant's requests of this second are used up.", extra=SOON)
            if operation.scopes and self.access.scopes.isdisjoint(operation.scopes):
                wanted = " or ".join(operation.scopes)
                raise Declined("insufficient_scope", f"This call needs a key with the scope {wanted}.")
        handler = operation.handler or not_built_yet
        if operation.handler is None:
            return await handler(self._asked({}, None))
        query = await self._query(operation)
        if operation.method == "GET":
            return await _in_time(handler, self._asked(query, None))
        raw = await self._body()
        key = self.headers.get("idempotency-key") if operation.method == "POST" else None
        if key is None:
            return await _in_time(handler, self._asked(query, self._decoded(operation, raw)))
        return await self._once(operation, handler, key, query, raw)

    def _asked(self, query: Any, body: Any, token: str | None = None) -> Asked:
        return Asked(
            desk=self.desk,
            method=self.scope["method"],
            access=self.access,
            path=self.scope.get("path_params", {}),
            query=query,
            body=body,
            headers=self.headers,
            client=(self.scope.get("client") or ("", 0))[0],
            token=token,
        )

    def _shared(self, operation: Operation) -> Access | None:
        """What a share link opens, without any key."""
        if not operation.shareable:
            return None
        token = dict(parse_qsl(self.scope["query_string"].decode("latin-1"))).get("grant", "")
        return access.by_share(self.desk.house, token, self.scope.get("path_params", {}).get("recording", ""))

    async def _authenticated(self) -> Access:
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        if not token or scheme.lower() != "bearer":
            raise Declined("unauthenticated", "Send `Authorization: Bearer <API key>`.", headers=CHALLENGE)
        who = await access.authenticate(self.desk.house, token.strip())
        if who is None:
            raise Declined("unauthenticated", "The API key is not one that is in use.", headers=CHALLENGE)
        return who

    async def _query(self, operation: Operation) -> Any:
        text = self.scope["query_string"]
        if not text:
            return operation.query()
        try:
            pairs = parse_qsl(text.decode("ascii"), keep_blank_values=True, max_num_fields=50, errors="strict")
        except ValueError:  # UnicodeDecodeError and too many fields are ValueErrors
            raise Declined("malformed_request", "The query cannot be read.") from None
        values = dict(pairs)
        if len(values) != len(pairs):
            raise Declined("invalid_parameter", "A query parameter stands twice.")
        if any("\x00" in value for value in values.values()):
            raise Declined("invalid_parameter", "A query parameter holds a control character.")
        await refuse_identifiers(self.desk.house, self.access.tenant, pairs)
        return query_of(values, operation.query) if operation.query is not NoQuery or values else NoQuery()

    async def _body(self) -> bytes:
        raw = await read_body(self.headers, self.receive)
        if raw:
            _check_media_type(self.headers.get("content-type"))
        return raw

    def _decoded(self, operation: Operation, raw: bytes) -> Any:
        if not raw and not operation.body_required:
            raw = b"{}"
        if not raw:
            raise Declined("malformed_request", "The call needs a JSON body.")
        return body_of(raw, operation.body, operation.not_built)

    async def _once(self, operation: Operation, handler: Handler, key: str, query: Any, raw: bytes) -> Answer:
        """The same key and the same request: the same answer, however often it is asked."""
        scope = self.scope
        request = b"\n".join((scope["method"].encode(), scope["path"].encode("utf-8", "replace"), raw))
        held = await self.desk.idempotency.claim(self.access.tenant, key, request)
        if isinstance(held, Answer):
            return held
        try:
            body = self._decoded(operation, raw)
            answer = await _in_time(handler, self._asked(query, body, held.token))
        except Declined as declined:
            answer = _problem(declined)
        except refusals.Refused as refused:
            answer = _problem(problems.from_core(refused))
        except BaseException:
            await self._let_go(held)
            raise
        if answer.status >= 500 or "Retry-After" in answer.headers:
            await self._let_go(held)  # an answer that says "come again" is no answer to keep
        else:
            await self.desk.idempotency.settle(held, _encoded(answer))
        return _encoded(answer)

    async def _let_go(self, held: Held) -> None:
        try:
            await self.desk.idempotency.release(held)
        except Unavailable:
            log.warning("claim_left")  # it lapses by itself


async def _in_time(handler: Handler, asked: Asked) -> Answer:
    async with asyncio.timeout(HANDLER_LIMIT):
        return await handler(asked)


def _check_media_type(content_type: str | None) -> None:
    if content_type is None or content_type == "application/json":
        return
    kind, *parameters = (part.strip().lower() for part in content_type.split(";"))
    charset = next((part.removeprefix("charset=").strip('"') for part in parameters if part.startswith("charset=")), "")
    if kind != "application/json" or charset not in ("", "utf-8", "utf8", "us-ascii"):
        raise Declined("unsupported_media_type", "Send `Content-Type: application/json`, in UTF-8.")


def _problem(declined: Declined) -> Answer:
    return Answer(declined.status, declined.problem(), declined.headers, problems.MEDIA_TYPE)


def _encoded(answer: Answer) -> Answer:
    body = answer.body
    if isinstance(body, msgspec.Struct):
        return Answer(answer.status, JSON.encode(body), answer.headers, answer.media_type)
    return answer


async def send_answer(answer: Answer, receive: Receive, send: Send, *, head: bool) -> None:
    body = JSON.encode(answer.body) if isinstance(answer.body, msgspec.Struct) else answer.body
    headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in answer.headers.items()]
    if body is not None:
        headers.append((b"content-type", answer.media_type.encode()))
    if isinstance(body, bytes) and "Content-Length" not in answer.headers:  # which HEAD says itself
        headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    if not isinstance(body, AsyncIterator):
        await send({"type": "http.response.body", "body": b"" if head or body is None else body})
        return
    try:
        if not head:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_until_gone, receive, tasks.cancel_scope)
                async for chunk in body:
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                tasks.cancel_scope.cancel()
    finally:
        close = getattr(body, "aclose", None)
        if close is not None:
            await close()
    await send({"type": "http.response.body", "body": b""})


async def _until_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    """Ends a long answer when nobody is there any more to read it."""
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
