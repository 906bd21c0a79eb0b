"""Twilio's callbacks: a service of Twilio's face tells its app of interactions and asks it about calls in Twilio's
words, as forms that are signed as Twilio signs (`X-Twilio-Signature`). They hold SIDs and virtual numbers, never a
person's number.

What Twilio's libraries check a signature with is the auth token, and that is the API key the app calls us with. So the
key that last made or changed the service through the face is kept, sealed with the installation's own: a copy of Redis
opens nothing, as before.

CallbackUrl              a webhook endpoint (`masking.webhooks`) that wants the calls of the service alone
InterceptCallbackUrl     the service's `intercept_url`: 403 blocks the call, all else lets it go on
OutOfSessionCallbackUrl  its `out_of_session_url`: JSON for a session with the caller; TwiML is not understood
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

import msgspec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from masking import sids, webhooks
from masking.events import moment
from masking.questions import Answer
from masking.webhooks import Kept, WebhookEndpoint

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncConnection

    from masking.events import EventType
    from masking.house import House
    from masking.interactions import Interaction
    from masking.questions import Question

TOLD: Final[tuple[EventType, ...]] = (
    "call.initiated", "call.ringing", "call.answered", "call.ended", "call.refused",
)  # fmt: skip
FORM: Final = "application/x-www-form-urlencoded"
NONCE: Final = 12

# Ours -> the caller's leg, the callee's. Twilio has no word for a call that was declined, nor for one not let through.
STATUSES: Final[dict[str, tuple[str, str | None]]] = {
    "ringing": ("ringing", "ringing"),
    "in_progress": ("in-progress", "in-progress"),
    "completed": ("completed", "completed"),
    "busy": ("busy", "busy"),
    "declined": ("busy", "busy"),
    "no_answer": ("no-answer", "no-answer"),
    "canceled": ("canceled", "canceled"),
    "failed": ("failed", "failed"),
    "refused": ("failed", None),
}
# As of an event, however late it is sent.
AS_OF: Final[dict[str, tuple[str, str | None]]] = {
    "call.initiated": ("ringing", "initiated"),
    "call.ringing": STATUSES["ringing"],
    "call.answered": STATUSES["in_progress"],
}


def at(moment: datetime | None) -> str | None:
    """A time as Twilio writes them (of ours, which are all UTC)."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ") if moment is not None else None


# ---- who signs -----------------------------------------------------------------------------------------------------


class Signer(msgspec.Struct, frozen=True):
    """As whom the app knows us: its account, and the key that both have. Its repr does not show that."""

    account: str
    key: str

    def __repr__(self) -> str:
        return f"<Signer {self.account}>"

    def headers(self, url: str, form: Mapping[str, str]) -> dict[str, str]:
        """HMAC-SHA1 over the URL and, in the order of their names, every parameter's name and value."""
        signed = url + "".join(name + form[name] for name in sorted(form))
        seal = base64.b64encode(hmac.digest(self.key.encode(), signed.encode(), "sha1")).decode()
        return {"content-type": FORM, "x-twilio-signature": seal}


async def sign_as(house: House, tenant: str, service: str, signer: Signer) -> None:
    """The service's callbacks are signed so from now on."""
    nonce = house.random(NONCE)
    sealed = nonce + _seal(house).encrypt(nonce, signer.key.encode(), f"{tenant}/{service}".encode())
    await house.redis.command("HSET", _signers(tenant), service, msgspec.msgpack.encode([signer.account, sealed]))


async def signer_of(house: House, tenant: str, service: str) -> Signer:
    """LookupError for a service that the face never changed."""
    raw = await house.redis.command("HGET", _signers(tenant), service)
    if raw is None:
        raise LookupError("the service has nobody to sign for it")
    account, sealed = msgspec.msgpack.decode(raw, type=tuple[str, bytes])
    key = _seal(house).decrypt(sealed[:NONCE], sealed[NONCE:], f"{tenant}/{service}".encode())
    return Signer(account, key.decode())


def _seal(house: House) -> AESGCM:
    return AESGCM(house.keyring.derived("twilio callbacks"))


def _signers(tenant: str) -> str:
    return f"twilio:signers:{tenant}"


# ---- CallbackUrl ---------------------------------------------------------------------------------------------------


async def tell(house: House, tenant: str, service: str, url: str | None, since: int) -> None:
    """Where the service's interactions are told, those after the archive's position `since`; None: nowhere. `Invalid`
    and its kin for a URL that cannot be used."""
    if url is None:
        await webhooks.forget(house, tenant, endpoint_of(service))
        return
    webhooks.check_url(house, url, "CallbackUrl")
    await webhooks.make_room(house, tenant, endpoint_of(service))
    endpoint = WebhookEndpoint(
        id=endpoint_of(service),
        url=url,
        events=list(TOLD),
        description="CallbackUrl of a service of Twilio's face",
        status="enabled",
        created_at=moment(house.now()),
    )
    await webhooks.keep(house, Kept(tenant=tenant, endpoint=endpoint, since=since, service=service))


async def told_at(house: House, tenant: str) -> dict[str, str]:
    """The tenant's services that tell somebody, and where."""
    return {
        kept.service: kept.endpoint.url for kept in await webhooks.listing(house, tenant) if kept.service is not None
    }


def endpoint_of(service: str) -> str:
    """The id of the endpoint that stands for the service's CallbackUrl."""
    return "whk_" + service.removeprefix("svc_")


async def delivery(
    house: House, connection: AsyncConnection, kept: Kept, kind: str, body: str
) -> tuple[dict[str, str], bytes]:
    """Headers and body of one event for such an endpoint. LookupError when there is nobody to sign it."""
    from masking import archive
    from masking.interactions import Interaction

    service = str(kept.service)
    signer = await signer_of(house, kept.tenant, service)
    name = msgspec.json.decode(body)["data"].get("interaction")
    raw = await archive.interaction_body(connection, kept.tenant, name) if isinstance(name, str) else None
    form = _common(signer, service)
    if raw is not None:
        found = msgspec.json.decode(raw, type=Interaction)
        form |= _of_interaction(found, AS_OF.get(kind) or STATUSES[found.status])
    return signer.headers(kept.endpoint.url, form), urlencode(form).encode()


def _common(signer: Signer, service: str) -> dict[str, str]:
    return {"interactionAccountSid": signer.account, "interactionServiceSid": sids.service(service)}


def _of_interaction(one: Interaction, statuses: tuple[str, str | None]) -> dict[str, str]:
    inbound, outbound = statuses
    kind = "message" if one.type == "message" else "call"
    said: dict[str, str | None] = {
        "interactionSid": sids.interaction(one.id),
        "interactionSessionSid": sids.session(one.session) if one.session is not None else None,
        "interactionType": "Message" if one.type == "message" else "Voice",
        "interactionData": data_of(one),
        "interactionDateCreated": at(one.started_at),
        "interactionDateUpdated": at(touched(one)),
        "inboundParticipantSid": sids.participant(one.from_) if one.from_ is not None else None,
        "inboundResourceSid": sids.leg(one.id, 1),
        "inboundResourceStatus": inbound,
        "inboundResourceType": kind,
    }
    if outbound is not None and one.to is not None:
        said |= {
            "outboundParticipantSid": sids.participant(one.to),
            "outboundResourceSid": sids.leg(one.id, 2),
            "outboundResourceStatus": outbound,
            "outboundResourceType": kind,
        }
    return {name: value for name, value in said.items() if value is not None}


def data_of(one: Interaction) -> str:
    """What Twilio tells of an interaction beyond its legs: how long was talked."""
    return msgspec.json.encode({} if one.type == "message" else {"duration": str(round(one.conversation))}).decode()


def touched(one: Interaction) -> datetime | None:
    return one.ended_at or one.answered_at or one.ringing_at or one.started_at


# ---- questions -----------------------------------------------------------------------------------------------------


class Opened(msgspec.Struct, rename="camel"):
    """The session that an app answers with to a caller whom nobody is bound to; what else it says is not looked at."""

    participant_identifier: str
    participant_friendly_name: str | None = None
    participant_proxy_identifier: str | None = None
    unique_name: str | None = None
    mode: str | None = None
    ttl: int | None = None
    date_expiry: str | None = None


class Twilio:
    """Twilio's wording (`masking.questions.Wording`)."""

    async def write(self, house: House, question: Question) -> tuple[dict[str, str], bytes]:
        signer = await signer_of(house, question.tenant, question.service.id)
        form = _common(signer, question.service.id)
        form |= _asked(question) if question.type == "call.intercept" else _stranger(question, signer.account)
        return signer.headers(question.url, form), urlencode(form).encode()

    def read(self, question: Question, status: int, body: bytes) -> Answer | None:
        if question.type == "call.intercept":
            return Answer(verdict="deny", reason="intercepted") if status == 403 else Answer()
        if not 200 <= status < 300:
            return None
        if not body.strip():
            return Answer()
        try:
            return _opened(question, msgspec.json.decode(body, type=Opened))
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None


def _asked(question: Question) -> dict[str, str]:
    data = question.data
    interaction = str(data["interaction"])
    return {
        "interactionSid": sids.interaction(interaction),
        "interactionSessionSid": sids.session(str(question.session)),
        "interactionType": "Voice",
        "interactionDateCreated": str(at(moment(question.at))),
        "inboundParticipantSid": sids.participant(data["from"]["participant"]),
        "inboundResourceSid": sids.leg(interaction, 1),
        "inboundResourceStatus": "ringing",
        "inboundResourceType": "call",
        "outboundParticipantSid": sids.participant(data["to"]["participant"]),
    }


def _stranger(question: Question, account: str) -> dict[str, str]:
    """Twilio puts the caller's number here; ours is a handle, the same for every call of one phone."""
    data = question.data
    caller = str((data["caller"] or {}).get("id", "anonymous"))
    return {
        "AccountSid": account,
        "CallSid": sids.leg(str(data["interaction"]), 1),
        "CallStatus": "ringing",
        "Direction": "inbound",
        "From": caller,
        "Caller": caller,
        "To": str(data["dialled"]),
        "Called": str(data["dialled"]),
    }


def _opened(question: Question, said: Opened) -> Answer | None:
    """The session between the caller, who stands for themselves by a token, and the one whom the app names."""
    caller = question.data["caller"]
    if caller is None or said.participant_proxy_identifier is not None:
        return None
    partner = {"identifier": said.participant_identifier, "friendly_name": said.participant_friendly_name}
    session: dict[str, Any] = {"participants": [{"caller_token": caller["token"]}, partner]}
    named = {"unique_name": said.unique_name, "ttl": said.ttl, "expires_at": said.date_expiry}
    session |= {name: value for name, value in named.items() if value is not None}
    if said.mode is not None:
        session["mode"] = said.mode.replace("-", "_")
    return Answer(session=session)
