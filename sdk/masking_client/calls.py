"""Every call of the API, in the order of its table.

Written by scripts/client from the table of the API: change that, not this.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, Unpack

from masking_client import answers, bodies
from masking_client.asking import Ask, asks, files, pages, place, streams


class Calls:
    """What both clients can ask."""

    @asks
    def open_session(
        self, *, idempotency_key: str | None = None, **body: Unpack[bodies.NewSession]
    ) -> Ask[answers.Session]:
        """Open a session: its people reach each other through virtual numbers until it ends."""
        return Ask("POST", "/v1/sessions", answers.Session, body=body, idempotency_key=idempotency_key)

    @pages
    def list_sessions(
        self,
        *,
        limit: int | None = None,
        cursor: str | None = None,
        unique_name: str | None = None,
        status: Literal["closed", "failed", "in_progress", "open"] | None = None,
        number: str | None = None,
    ) -> Ask[answers.Session]:
        """List sessions, newest first."""
        return Ask(
            "GET",
            "/v1/sessions",
            answers.Page[answers.Session],
            query={"limit": limit, "cursor": cursor, "unique_name": unique_name, "status": status, "number": number},
        )

    @asks
    def get_session(self, session: str, /) -> Ask[answers.Session]:
        """Get a session, live or long closed."""
        return Ask("GET", place("/v1/sessions/{session}", session=session), answers.Session)

    @asks
    def change_session(self, session: str, /, **body: Unpack[bodies.SessionChange]) -> Ask[answers.Session]:
        """Change what is said."""
        return Ask("PATCH", place("/v1/sessions/{session}", session=session), answers.Session, body=body)

    @asks
    def close_session(self, session: str, /, *, idempotency_key: str | None = None) -> Ask[answers.Session]:
        """Close a session; closing a closed one changes nothing. Live calls go on."""
        return Ask(
            "POST",
            place("/v1/sessions/{session}:close", session=session),
            answers.Session,
            idempotency_key=idempotency_key,
        )

    @asks
    def extend_session(
        self, session: str, /, *, idempotency_key: str | None = None, **body: Unpack[bodies.Extension]
    ) -> Ask[answers.Session]:
        """Move a session's end."""
        return Ask(
            "POST",
            place("/v1/sessions/{session}:extend", session=session),
            answers.Session,
            body=body,
            idempotency_key=idempotency_key,
        )

    @asks
    def reopen_session(
        self, session: str, /, *, idempotency_key: str | None = None, **body: Unpack[bodies.Extension]
    ) -> Ask[answers.Session]:
        """Open a closed session again, with the numbers it had, while they rest for its people."""
        return Ask(
            "POST",
            place("/v1/sessions/{session}:reopen", session=session),
            answers.Session,
            body=body,
            idempotency_key=idempotency_key,
        )

    @asks
    def swap_participant(
        self, session: str, /, *, idempotency_key: str | None = None, **body: Unpack[bodies.Swap]
    ) -> Ask[answers.Session]:
        """Put another person in a participant's place; the others' numbers stay as they are."""
        return Ask(
            "POST",
            place("/v1/sessions/{session}:swap_participant", session=session),
            answers.Session,
            body=body,
            idempotency_key=idempotency_key,
        )

    @asks
    def replace_number(
        self, session: str, /, *, idempotency_key: str | None = None, **body: Unpack[bodies.Renumbering]
    ) -> Ask[answers.Session]:
        """Give a session another virtual number in the place of one; for a while both work."""
        return Ask(
            "POST",
            place("/v1/sessions/{session}:replace_number", session=session),
            answers.Session,
            body=body,
            idempotency_key=idempotency_key,
        )

    @asks
    def intend(
        self, session: str, /, *, idempotency_key: str | None = None, **body: Unpack[bodies.AboutToCall]
    ) -> Ask[answers.Intent]:
        """Say that a participant is about to call: for 60 seconds that stands in for the PIN of its next call."""
        return Ask(
            "POST",
            place("/v1/sessions/{session}:intend", session=session),
            answers.Intent,
            body=body,
            idempotency_key=idempotency_key,
        )

    @asks
    def call(
        self, session: str, /, *, idempotency_key: str | None = None, **body: Unpack[bodies.Wanted]
    ) -> Ask[answers.Interaction]:
        """Call two participants, one after the other, and connect them."""
        return Ask(
            "POST",
            place("/v1/sessions/{session}:call", session=session),
            answers.Interaction,
            body=body,
            idempotency_key=idempotency_key,
        )

    @asks
    def record(
        self, session: str, /, *, idempotency_key: str | None = None, **body: Unpack[bodies.Demand]
    ) -> Ask[answers.Demanded]:
        """Begin, pause, resume or stop the recording of a call that is up; the session's events say what came of
        it."""
        return Ask(
            "POST",
            place("/v1/sessions/{session}:record", session=session),
            answers.Demanded,
            body=body,
            idempotency_key=idempotency_key,
        )

    @asks
    def open_sessions(
        self, *, idempotency_key: str | None = None, **body: Unpack[bodies.Batch]
    ) -> Ask[answers.Results]:
        """Open many sessions at once, each for itself: the answer says of each what came of it."""
        return Ask("POST", "/v1/sessions:batch", answers.Results, body=body, idempotency_key=idempotency_key)

    @pages
    def search_sessions(
        self,
        *,
        limit: int | None = None,
        cursor: str | None = None,
        idempotency_key: str | None = None,
        **body: Unpack[bodies.PersonSearch],
    ) -> Ask[answers.Session]:
        """Find sessions by a person's number, with a reason, which goes on the chain of evidence."""
        return Ask(
            "POST",
            "/v1/sessions:search",
            answers.Page[answers.Session],
            query={"limit": limit, "cursor": cursor},
            body=body,
            idempotency_key=idempotency_key,
        )

    @asks
    def look_up_caller(
        self, *, idempotency_key: str | None = None, **body: Unpack[bodies.Lookup]
    ) -> Ask[answers.Caller]:
        """The handle of a person, as `call.out_of_session` names whoever calls: the same for every call of theirs."""
        return Ask("POST", "/v1/callers:lookup", answers.Caller, body=body, idempotency_key=idempotency_key)

    @asks
    def create_service(
        self, *, idempotency_key: str | None = None, **body: Unpack[bodies.ServiceChange]
    ) -> Ask[answers.Service]:
        """Create a service: the defaults its sessions start from, and its own pools of numbers."""
        return Ask("POST", "/v1/services", answers.Service, body=body, idempotency_key=idempotency_key)

    @pages
    def list_services(self, *, limit: int | None = None, cursor: str | None = None) -> Ask[answers.Service]:
        """List the services, `default` first."""
        return Ask("GET", "/v1/services", answers.Page[answers.Service], query={"limit": limit, "cursor": cursor})

    @asks
    def get_service(self, service: str, /) -> Ask[answers.Service]:
        """Get a service by its id or unique_name."""
        return Ask("GET", place("/v1/services/{service}", service=service), answers.Service)

    @asks
    def change_service(self, service: str, /, **body: Unpack[bodies.ServiceChange]) -> Ask[answers.Service]:
        """Change what is said; open sessions keep what they started with."""
        return Ask("PATCH", place("/v1/services/{service}", service=service), answers.Service, body=body)

    @asks
    def rotate_service_secret(
        self, service: str, /, *, idempotency_key: str | None = None
    ) -> Ask[answers.WebhookSecret]:
        """A new secret for what the service asks its app; the one before it signs beside it for a day."""
        return Ask(
            "POST",
            place("/v1/services/{service}:rotate_secret", service=service),
            answers.WebhookSecret,
            idempotency_key=idempotency_key,
        )

    @pages
    def list_pools(self, service: str, /) -> Ask[answers.PoolLoad]:
        """Per country and shard: size, numbers by state, live and quarantined sessions. Never more than one page."""
        return Ask("GET", place("/v1/services/{service}/pools", service=service), answers.Page[answers.PoolLoad])

    @asks
    def get_capacity(self, service: str, /) -> Ask[answers.Capacities]:
        """How much the pools are sure to carry."""
        return Ask("GET", place("/v1/services/{service}/capacity", service=service), answers.Capacities)

    @asks
    def plan_numbers(
        self, service: str, /, *, idempotency_key: str | None = None, **body: Unpack[bodies.Expected]
    ) -> Ask[answers.Plan]:
        """How many numbers an expected load needs, so that no session is ever refused for want of one."""
        return Ask(
            "POST",
            place("/v1/services/{service}:plan", service=service),
            answers.Plan,
            body=body,
            idempotency_key=idempotency_key,
        )

    @asks
    def add_phone_numbers(
        self, service: str, /, *, idempotency_key: str | None = None, **body: Unpack[bodies.NewPhoneNumbers]
    ) -> Ask[answers.PhoneNumbers]:
        """Add virtual numbers, all or nothing; one that is already in this service is no error."""
        return Ask(
            "POST",
            place("/v1/services/{service}/phone_numbers", service=service),
            answers.PhoneNumbers,
            body=body,
            idempotency_key=idempotency_key,
        )

    @pages
    def list_phone_numbers(
        self, service: str, /, *, limit: int | None = None, cursor: str | None = None
    ) -> Ask[answers.PhoneNumber]:
        """List the virtual numbers of a service."""
        return Ask(
            "GET",
            place("/v1/services/{service}/phone_numbers", service=service),
            answers.Page[answers.PhoneNumber],
            query={"limit": limit, "cursor": cursor},
        )

    @asks
    def change_phone_numbers(
        self, service: str, /, **body: Unpack[bodies.PhoneNumbersChange]
    ) -> Ask[answers.ChangedPhoneNumbers]:
        """Change the state of many virtual numbers and blocks of them; one that is not in the service changes none."""
        return Ask(
            "PATCH",
            place("/v1/services/{service}/phone_numbers", service=service),
            answers.ChangedPhoneNumbers,
            body=body,
        )

    @asks
    def get_phone_number(self, service: str, number: str, /) -> Ask[answers.PhoneNumber]:
        """Get a virtual number by its id, or as itself in E.164."""
        return Ask(
            "GET",
            place("/v1/services/{service}/phone_numbers/{number}", service=service, number=number),
            answers.PhoneNumber,
        )

    @asks
    def change_phone_number(
        self, service: str, number: str, /, **body: Unpack[bodies.PhoneNumberChange]
    ) -> Ask[answers.PhoneNumber]:
        """Change the state of a virtual number."""
        return Ask(
            "PATCH",
            place("/v1/services/{service}/phone_numbers/{number}", service=service, number=number),
            answers.PhoneNumber,
            body=body,
        )

    @pages
    def list_interactions(
        self, session: str, /, *, limit: int | None = None, cursor: str | None = None
    ) -> Ask[answers.Interaction]:
        """List the attempts on a session, refused ones too, oldest first."""
        return Ask(
            "GET",
            place("/v1/sessions/{session}/interactions", session=session),
            answers.Page[answers.Interaction],
            query={"limit": limit, "cursor": cursor},
        )

    @asks
    def get_interaction(self, interaction: str, /) -> Ask[answers.Interaction]:
        """Get one interaction."""
        return Ask("GET", place("/v1/interactions/{interaction}", interaction=interaction), answers.Interaction)

    @pages
    def list_session_events(
        self, session: str, /, *, limit: int | None = None, cursor: str | None = None
    ) -> Ask[answers.Event]:
        """List what happened on a session, in the order of `seq`."""
        return Ask(
            "GET",
            place("/v1/sessions/{session}/events", session=session),
            answers.Page[answers.Event],
            query={"limit": limit, "cursor": cursor},
        )

    @pages
    def list_events(self, *, limit: int | None = None, cursor: str | None = None) -> Ask[answers.Event]:
        """List what happened to you, oldest first; come back with the last cursor for what is new."""
        return Ask("GET", "/v1/events", answers.Page[answers.Event], query={"limit": limit, "cursor": cursor})

    @streams
    def stream_events(self, *, cursor: str | None = None) -> Ask[answers.Event]:
        """Events as they happen, as server-sent events; goes on after `Last-Event-ID` or `cursor`, else from now."""
        return Ask("GET", "/v1/events:stream", answers.Event, query={"cursor": cursor})

    @pages
    def list_recordings(
        self,
        *,
        limit: int | None = None,
        cursor: str | None = None,
        session: str | None = None,
        unique_name: str | None = None,
        number: str | None = None,
        participant: str | None = None,
        from_: datetime | str | None = None,
        to: datetime | str | None = None,
    ) -> Ask[answers.Recording]:
        """List recordings, newest first."""
        return Ask(
            "GET",
            "/v1/recordings",
            answers.Page[answers.Recording],
            query={
                "limit": limit,
                "cursor": cursor,
                "session": session,
                "unique_name": unique_name,
                "number": number,
                "participant": participant,
                "from": from_,
                "to": to,
            },
        )

    @pages
    def search_recordings(
        self,
        *,
        limit: int | None = None,
        cursor: str | None = None,
        idempotency_key: str | None = None,
        **body: Unpack[bodies.PersonSearch],
    ) -> Ask[answers.Recording]:
        """Find the recordings of a person's calls, with a reason, which goes on the chain of evidence."""
        return Ask(
            "POST",
            "/v1/recordings:search",
            answers.Page[answers.Recording],
            query={"limit": limit, "cursor": cursor},
            body=body,
            idempotency_key=idempotency_key,
        )

    @asks
    def get_recording(self, recording: str, /) -> Ask[answers.Recording]:
        """Get a recording's facts."""
        return Ask("GET", place("/v1/recordings/{recording}", recording=recording), answers.Recording)

    @files
    def get_media(
        self,
        recording: str,
        /,
        *,
        format: Literal["opus", "wav"] | None = None,
        grant: str | None = None,
        reason: str | None = None,
    ) -> Ask[bytes]:
        """Get the sound, RIFF PCM or Ogg/Opus: channel 1 the caller, channel 2 the callee. Each access is audited."""
        return Ask(
            "GET",
            place("/v1/recordings/{recording}/media", recording=recording),
            bytes,
            query={"format": format, "grant": grant},
            headers={"X-Reason": reason},
        )

    @asks
    def hold_recording(
        self, recording: str, /, *, idempotency_key: str | None = None, **body: Unpack[bodies.Why]
    ) -> Ask[answers.Recording]:
        """Keep a recording: stronger than retention and erasure, until it is released."""
        return Ask(
            "POST",
            place("/v1/recordings/{recording}:hold", recording=recording),
            answers.Recording,
            body=body,
            idempotency_key=idempotency_key,
        )

    @asks
    def release_recording(
        self, recording: str, /, *, idempotency_key: str | None = None, **body: Unpack[bodies.Why]
    ) -> Ask[answers.Recording]:
        """Let a held recording go."""
        return Ask(
            "POST",
            place("/v1/recordings/{recording}:release", recording=recording),
            answers.Recording,
            body=body,
            idempotency_key=idempotency_key,
        )

    @asks
    def erase_recording(
        self, recording: str, /, *, idempotency_key: str | None = None, **body: Unpack[bodies.Why]
    ) -> Ask[answers.Recording]:
        """Erase a recording's sound; that it was, and its hash, stay."""
        return Ask(
            "POST",
            place("/v1/recordings/{recording}:erase", recording=recording),
            answers.Recording,
            body=body,
            idempotency_key=idempotency_key,
        )

    @asks
    def share_recording(
        self, recording: str, /, *, idempotency_key: str | None = None, **body: Unpack[bodies.Why]
    ) -> Ask[answers.Share]:
        """A link to this one recording that needs no API key, for five minutes."""
        return Ask(
            "POST",
            place("/v1/recordings/{recording}:share", recording=recording),
            answers.Share,
            body=body,
            idempotency_key=idempotency_key,
        )

    @asks
    def erase_person(
        self, *, idempotency_key: str | None = None, **body: Unpack[bodies.PersonErasure]
    ) -> Ask[answers.Erased]:
        """Erase every recording of a person's calls, all or none: where one is held, it is named."""
        return Ask("POST", "/v1/persons:erase", answers.Erased, body=body, idempotency_key=idempotency_key)

    @asks
    def create_block(
        self, *, idempotency_key: str | None = None, **body: Unpack[bodies.NewBlock]
    ) -> Ask[answers.Block]:
        """Block a pair, a person within a service, or a person's number everywhere; in force within a second."""
        return Ask("POST", "/v1/blocks", answers.Block, body=body, idempotency_key=idempotency_key)

    @pages
    def list_blocks(self, *, limit: int | None = None, cursor: str | None = None) -> Ask[answers.Block]:
        """List the blocks, oldest first."""
        return Ask("GET", "/v1/blocks", answers.Page[answers.Block], query={"limit": limit, "cursor": cursor})

    @asks
    def remove_block(self, block: str, /) -> Ask[None]:
        """Take a block back."""
        return Ask("DELETE", place("/v1/blocks/{block}", block=block), None)

    @asks
    def report(self, *, idempotency_key: str | None = None, **body: Unpack[bodies.NewReport]) -> Ask[answers.Report]:
        """Report a participant for another: the pair is blocked, the recordings of their calls are held."""
        return Ask("POST", "/v1/reports", answers.Report, body=body, idempotency_key=idempotency_key)

    @asks
    def open_dispute(
        self, *, idempotency_key: str | None = None, **body: Unpack[bodies.NewDispute]
    ) -> Ask[answers.Granted]:
        """Open a dispute over an order: a time-boxed grant to hear the recordings of every session of that name."""
        return Ask("POST", "/v1/disputes", answers.Granted, body=body, idempotency_key=idempotency_key)

    @pages
    def list_disputes(self, *, limit: int | None = None, cursor: str | None = None) -> Ask[answers.Dispute]:
        """List disputes, oldest first."""
        return Ask("GET", "/v1/disputes", answers.Page[answers.Dispute], query={"limit": limit, "cursor": cursor})

    @asks
    def get_dispute(self, dispute: str, /) -> Ask[answers.Dispute]:
        """Get a dispute."""
        return Ask("GET", place("/v1/disputes/{dispute}", dispute=dispute), answers.Dispute)

    @asks
    def approve_dispute(
        self, dispute: str, /, *, idempotency_key: str | None = None, **body: Unpack[bodies.Approval]
    ) -> Ask[answers.Granted]:
        """The second person's word, by another API key: the grant begins."""
        return Ask(
            "POST",
            place("/v1/disputes/{dispute}:approve", dispute=dispute),
            answers.Granted,
            body=body,
            idempotency_key=idempotency_key,
        )

    @asks
    def close_dispute(self, dispute: str, /, *, idempotency_key: str | None = None) -> Ask[answers.Dispute]:
        """End a dispute and its grant."""
        return Ask(
            "POST",
            place("/v1/disputes/{dispute}:close", dispute=dispute),
            answers.Dispute,
            idempotency_key=idempotency_key,
        )

    @files
    def export_case(self, dispute: str, /) -> Ask[bytes]:
        """The case as one ZIP: sound, timeline, interactions, and a proof that `verify_case.py` in it checks
        offline."""
        return Ask("GET", place("/v1/disputes/{dispute}/export", dispute=dispute), bytes)

    @pages
    def list_audit(self, *, limit: int | None = None, cursor: str | None = None) -> Ask[answers.AuditEntry]:
        """List who heard and decided what about recordings, in the order of the chain of evidence."""
        return Ask("GET", "/v1/audit", answers.Page[answers.AuditEntry], query={"limit": limit, "cursor": cursor})

    @asks
    def evidence_key(self) -> Ask[answers.EvidenceKey]:
        """The public key of the signed checkpoints."""
        return Ask("GET", "/v1/audit:key", answers.EvidenceKey)

    @asks
    def create_webhook_endpoint(
        self, *, idempotency_key: str | None = None, **body: Unpack[bodies.NewWebhookEndpoint]
    ) -> Ask[answers.WebhookEndpointSecret]:
        """Receive events at a URL, signed as Standard Webhooks has it; the secret is told this once."""
        return Ask(
            "POST", "/v1/webhook_endpoints", answers.WebhookEndpointSecret, body=body, idempotency_key=idempotency_key
        )

    @pages
    def list_webhook_endpoints(
        self, *, limit: int | None = None, cursor: str | None = None
    ) -> Ask[answers.WebhookEndpoint]:
        """List webhook endpoints, oldest first."""
        return Ask(
            "GET",
            "/v1/webhook_endpoints",
            answers.Page[answers.WebhookEndpoint],
            query={"limit": limit, "cursor": cursor},
        )

    @asks
    def get_webhook_endpoint(self, endpoint: str, /) -> Ask[answers.WebhookEndpoint]:
        """Get a webhook endpoint."""
        return Ask("GET", place("/v1/webhook_endpoints/{endpoint}", endpoint=endpoint), answers.WebhookEndpoint)

    @asks
    def change_webhook_endpoint(
        self, endpoint: str, /, **body: Unpack[bodies.WebhookEndpointChange]
    ) -> Ask[answers.WebhookEndpoint]:
        """Change what is said: the URL, the events, or whether it is enabled."""
        return Ask(
            "PATCH", place("/v1/webhook_endpoints/{endpoint}", endpoint=endpoint), answers.WebhookEndpoint, body=body
        )

    @asks
    def remove_webhook_endpoint(self, endpoint: str, /) -> Ask[None]:
        """Remove a webhook endpoint; what it is still owed is not sent any more."""
        return Ask("DELETE", place("/v1/webhook_endpoints/{endpoint}", endpoint=endpoint), None)

    @asks
    def test_webhook_endpoint(
        self, endpoint: str, /, *, idempotency_key: str | None = None
    ) -> Ask[answers.WebhookEndpoint]:
        """Send it an event of type `webhook.test`."""
        return Ask(
            "POST",
            place("/v1/webhook_endpoints/{endpoint}:test", endpoint=endpoint),
            answers.WebhookEndpoint,
            idempotency_key=idempotency_key,
        )

    @asks
    def rotate_webhook_secret(
        self, endpoint: str, /, *, idempotency_key: str | None = None
    ) -> Ask[answers.WebhookEndpointSecret]:
        """Start a new secret; for a day deliveries carry the old one's signature beside it."""
        return Ask(
            "POST",
            place("/v1/webhook_endpoints/{endpoint}:rotate_secret", endpoint=endpoint),
            answers.WebhookEndpointSecret,
            idempotency_key=idempotency_key,
        )

    @pages
    def list_deliveries(
        self,
        endpoint: str,
        /,
        *,
        limit: int | None = None,
        cursor: str | None = None,
        state: Literal["dead", "delivered", "pending"] | None = None,
    ) -> Ask[answers.Delivery]:
        """What was sent, is still owed, or was given up, newest event first."""
        return Ask(
            "GET",
            place("/v1/webhook_endpoints/{endpoint}/deliveries", endpoint=endpoint),
            answers.Page[answers.Delivery],
            query={"limit": limit, "cursor": cursor, "state": state},
        )

    @asks
    def replay_events(
        self, *, idempotency_key: str | None = None, **body: Unpack[bodies.ReplayRequest]
    ) -> Ask[answers.Replayed]:
        """Send events to a webhook endpoint again: all that match what is said, or the dead letters among them."""
        return Ask("POST", "/v1/events:replay", answers.Replayed, body=body, idempotency_key=idempotency_key)

    @pages
    def get_usage(
        self,
        *,
        limit: int | None = None,
        cursor: str | None = None,
        from_: str | None = None,
        to: str | None = None,
        by: Literal["day", "day_service", "service", "total"] | None = None,
    ) -> Ask[answers.Usage]:
        """What was used: sessions, calls by the second and as billed, recordings made and kept, numbers held."""
        return Ask(
            "GET",
            "/v1/usage",
            answers.Page[answers.Usage],
            query={"limit": limit, "cursor": cursor, "from": from_, "to": to, "by": by},
        )

    @asks
    def explain_route(
        self, *, idempotency_key: str | None = None, **body: Unpack[bodies.Question]
    ) -> Ask[answers.Explanation]:
        """What a call would meet, step by step; nothing is claimed, and no person's number is told."""
        return Ask("POST", "/v1/route:explain", answers.Explanation, body=body, idempotency_key=idempotency_key)

    @asks
    def healthz(self) -> Ask[answers.Alive]:
        """Is the process alive?"""
        return Ask("GET", "/healthz", answers.Alive)

    @asks
    def readyz(self) -> Ask[answers.Ready]:
        """Can it serve: do Redis and the archive answer?"""
        return Ask("GET", "/readyz", answers.Ready)

    @asks
    def metrics_page(self) -> Ask[str]:
        """Counters for Prometheus; from beyond loopback with a key of scope admin."""
        return Ask("GET", "/metrics", str)

    @asks
    def openapi_document(self) -> Ask[dict[str, Any]]:
        """This document."""
        return Ask("GET", "/openapi.json", dict[str, Any])

    @asks
    def docs_page(self) -> Ask[str]:
        """This document, to be read by people."""
        return Ask("GET", "/docs", str)
