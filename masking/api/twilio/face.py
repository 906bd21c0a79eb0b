"""Twilio's Proxy v1 on our listener: `/v1/Services…`, so that its client only changes a base URL.

method → credentials → scope → query → form → handler → answer, and one line in the log, as `masking.api.endpoints` does
for our own API; a value of a request never reaches the log or an error. Whoever asks says who they are by HTTP Basic:
any `AC…` (or, where an app had one of Twilio's API keys, `SK…`) as the user, an API key of ours as the password.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

import msgspec
import structlog
from sqlalchemy.exc import SQLAlchemyError
from starlette.types import Receive, Scope, Send

from masking import access, quotas
from masking.access import Scope as KeyScope
from masking.api import endpoints, operations
from masking.api.bodies import read_body
from masking.api.desk import Desk
from masking.api.identifiers import refuse_identifiers
from masking.api.problems import Declined
from masking.api.twilio import (
    errors,
    interactions,
    message_interactions,
    participants,
    phone_numbers,
    services,
    sessions,
)
from masking.api.twilio.asked import Answer, Asked
from masking.api.twilio.errors import Trouble
from masking.api.validation import query_of
from masking.logs import place
from masking.refusals import Refused
from pools.redis import Unavailable

PATH: Final = "/v1/Services"
ACCOUNT: Final = re.compile(r"(?:AC|SK)([0-9A-Za-z_-]{0,62})", re.ASCII)
HOST: Final = re.compile(r"[A-Za-z0-9._:\[\]-]{1,255}", re.ASCII)
LISTS: Final = frozenset({"Participants", "MediaUrl"})
CHALLENGE: Final = {"WWW-Authenticate": 'Basic realm="masking"'}

log = structlog.get_logger("masking.api")


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """No form."""


class TextForm(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """A text that is not sent: it is not looked at."""


class Row(msgspec.Struct, frozen=True):
    """One call: who handles it, what its form is, which scope its key needs."""

    handler: Callable[[Asked], Awaitable[Answer]]
    scope: KeyScope | None = None
    form: type[msgspec.Struct] = Nothing


SERVICE, NUMBERS, SESSIONS = ("Services",), ("Services", "PhoneNumbers"), ("Services", "Sessions")
PEOPLE, CALLS = (*SESSIONS, "Participants"), (*SESSIONS, "Interactions")
TEXTS = (*PEOPLE, "MessageInteractions")

# The collections of a path, whether it ends with the id of one thing, and the method.
ROWS: Final[dict[tuple[tuple[str, ...], bool], dict[str, Row]]] = {
    (SERVICE, False): {"GET": Row(services.read), "POST": Row(services.create, "admin", services.ServiceForm)},
    (SERVICE, True): {
        "GET": Row(services.fetch),
        "POST": Row(services.update, "admin", services.ServiceForm),
        "DELETE": Row(services.delete, "admin"),
    },
    (NUMBERS, False): {
        "GET": Row(phone_numbers.read, "numbers"),
        "POST": Row(phone_numbers.create, "numbers", phone_numbers.NumberForm),
    },
    (NUMBERS, True): {
        "GET": Row(phone_numbers.fetch, "numbers"),
        "POST": Row(phone_numbers.update, "numbers", phone_numbers.NumberChange),
        "DELETE": Row(phone_numbers.delete, "numbers"),
    },
    (SESSIONS, False): {
        "GET": Row(sessions.read, "sessions"),
        "POST": Row(sessions.create, "sessions", sessions.SessionForm),
    },
    (SESSIONS, True): {
        "GET": Row(sessions.fetch, "sessions"),
        "POST": Row(sessions.update, "sessions", sessions.SessionUpdate),
        "DELETE": Row(sessions.delete, "sessions"),
    },
    (PEOPLE, False): {
        "GET": Row(participants.read, "sessions"),
        "POST": Row(participants.create, "sessions", participants.ParticipantForm),
    },
    (PEOPLE, True): {"GET": Row(participants.fetch, "sessions"), "DELETE": Row(participants.delete, "sessions")},
    (CALLS, False): {"GET": Row(interactions.read, "sessions")},
    (CALLS, True): {"GET": Row(interactions.fetch, "sessions"), "DELETE": Row(interactions.delete, "sessions")},
    (TEXTS, False): {
        "GET": Row(message_interactions.read, "sessions"),
        "POST": Row(message_interactions.create, "sessions", TextForm),
    },
    (TEXTS, True): {"GET": Row(message_interactions.fetch, "sessions")},
}


class Face:
    """The face as an ASGI application."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = self.desk.clock()
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        names, path = _placed(scope["path"])
        route = "/".join(("/v1", *names)) if (names, bool(path)) in ROWS or names else PATH
        extra: dict[str, str] = {}
        try:
            answer = await self._answer(scope, receive, headers, names, path)
        except (Trouble, Declined, Refused) as error:
            trouble = errors.of(error)
            answer = Answer(trouble.status, trouble.body)
            extra = dict(getattr(error, "headers", {})) if trouble.status != 401 else CHALLENGE
        except (Unavailable, SQLAlchemyError, TimeoutError) as error:
            log.warning("unavailable", route=route, kind=type(error).__name__)
            answer = Answer(503, Trouble(20503, "Nothing was changed half-way; try again.", 503).body)
            extra = {"Retry-After": str(endpoints.RETRY_AFTER)}
        except Exception as error:
            log.error("internal_error", route=route, kind=type(error).__name__, at=place(error))
            answer = Answer(500, Trouble(20500, "The request was well; the service was not. It is logged.", 500).body)
        method = scope["method"] if scope["method"] in ("GET", "POST", "DELETE") else "other"
        seconds = self.desk.clock() - began
        self.desk.metrics.answered(method, route, answer.status, seconds)
        log.info("request", method=method, route=route, status=answer.status, ms=round(seconds * 1000, 2))
        body = msgspec.json.encode(answer.body) if answer.body is not None else None
        await endpoints.send_answer(operations.Answer(answer.status, body, extra), receive, send, head=False)

    async def _answer(
        self, scope: Scope, receive: Receive, headers: Mapping[str, str], names: tuple[str, ...], path: dict[str, str]
    ) -> Answer:
        account, key, who = await self._authenticated(headers)
        if not await quotas.one_request_more(self.desk.house, who.tenant):
            raise Declined("rate_limited", "The tenant's requests of this second are used up.", extra=endpoints.SOON)
        rows = ROWS.get((names, names[-1] in path)) if names else None
        if rows is None:
            raise Declined("not_found", "There is nothing at this path.")
        row = rows.get(scope["method"])
        if row is None:
            allowed = ", ".join(sorted(rows))
            raise Declined("method_not_allowed", f"Served here: {allowed}.", headers={"Allow": allowed})
        if row.scope is not None and row.scope not in who.scopes:
            raise Declined("insufficient_scope", f"This call needs a key with the scope {row.scope}.")
        query = await self._query(scope["query_string"], who.tenant)
        form = _form(await read_body(headers, receive), headers, row.form) if scope["method"] == "POST" else None
        asked = Asked(
            desk=self.desk,
            access=who,
            account=account,
            key=key,
            base=_base(scope, headers),
            path=path,
            query=query,
            form=form,
        )
        async with asyncio.timeout(endpoints.HANDLER_LIMIT):
            return await row.handler(asked)

    async def _authenticated(self, headers: Mapping[str, str]) -> tuple[str, str, access.Access]:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        try:
            user, _, key = base64.b64decode(given.strip(), validate=True).decode().partition(":")
        except (binascii.Error, ValueError):
            user = key = ""
        named = ACCOUNT.fullmatch(user)
        if scheme.lower() == "basic" and named is not None:
            who = await access.authenticate(self.desk.house, key)
            if who is not None:
                return "AC" + named[1], key, who
        raise Declined("unauthenticated", "Authenticate: an account SID (AC…) as the user, an API key as the password.")

    async def _query(self, text: bytes, tenant: str) -> dict[str, str]:
        pairs = _pairs(text)
        await refuse_identifiers(self.desk.house, tenant, pairs)
        return dict(pairs)


def _placed(path: str) -> tuple[tuple[str, ...], dict[str, str]]:
    """The collections of a path, and the ids in it by their collection. Nothing for a path that names none of ours."""
    parts = path.removeprefix("/v1/").split("/")
    names, ids = tuple(parts[::2]), parts[1::2]
    known = any(names == collections for collections, _ in ROWS)
    if not known or not all(ids):
        return (), {}
    return names, dict(zip(names, ids, strict=False))


def _pairs(text: bytes) -> list[tuple[str, str]]:
    try:
        pairs = parse_qsl(text.decode("ascii"), keep_blank_values=True, max_num_fields=100, errors="strict")
    except ValueError:
        raise Declined("malformed_request", "The parameters cannot be read.") from None
    if any(not character.isprintable() for pair in pairs for one in pair for character in one):
        raise Declined("malformed_request", "A parameter holds a control character.")
    return pairs


def _form(raw: bytes, headers: Mapping[str, str], kind: type[msgspec.Struct]) -> Any:
    content = headers.get("content-type", "").partition(";")[0].strip().lower()
    if raw and content != "application/x-www-form-urlencoded":
        raise Declined("unsupported_media_type", "Send application/x-www-form-urlencoded.")
    found: dict[str, Any] = {}
    for name, value in _pairs(raw):
        if name in LISTS:
            found.setdefault(name, []).append(value)
        elif name in found:
            raise Declined("invalid_parameter", "A parameter stands twice.")
        else:
            found[name] = value
    return query_of(found, kind)


def _base(scope: Scope, headers: Mapping[str, str]) -> str:
    """Where the client reached us, for the addresses in its answer: behind a proxy that ends TLS, as that says."""
    scheme = "https" if headers.get("x-forwarded-proto") == "https" else scope.get("scheme", "http")
    host = headers.get("host", "")
    if not HOST.fullmatch(host):
        raise Declined("malformed_request", "The Host header cannot be used.")
    return f"{scheme}://{host}/v1"
