"""What the API is asked: the keyword arguments of the calls.

Written by scripts/client from the table of the API: change that, not this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, Required, TypedDict


class AboutToCall(TypedDict, total=False):
    """Who is about to call: `participant`, and `to` whom; without it anybody."""

    participant: Required[str]
    to: str | None


class Announcements(TypedDict, total=False):
    """The sentence of each situation, where it is not ours; null: nothing is said. Whoever is recorded is told so, and
    who has to key something is asked to: those are never null."""

    recording_notice: str
    connecting: str | None
    press_key: str
    enter_pin: str
    wrong_pin: str
    enter_extension: str
    no_binding: str | None
    trip_ended: str | None
    not_allowed: str | None
    callee_busy: str | None
    no_answer: str | None
    not_connected: str | None


class Approval(TypedDict, total=False):
    """`POST …:approve`."""

    approved_by: Required[str]


class Batch(TypedDict, total=False):
    """Each of `sessions` as the body of `POST /v1/sessions`."""

    sessions: Required[Sequence[Mapping[str, Any]]]


class ConsentPolicy(TypedDict, total=False):
    """What is owed in each place, and everywhere else."""

    default: Literal["beep", "never", "notice", "one_party"]
    places: Mapping[str, Literal["beep", "never", "notice", "one_party"]]


class Demand(TypedDict, total=False):
    """What is to be done, and to which call; all of the session that are up, if it is not said."""

    action: Required[Literal["pause", "resume", "start", "stop"]]
    interaction: str | None


class Expected(TypedDict, total=False):
    """A load to plan for. One role: people of one kind among themselves; several: one of each in a session.
    `session_length`: seconds; what is null is the service's."""

    roles: Required[Sequence[RoleLoad]]
    session_length: int | None
    pair_quarantine: int | None
    number_model: Literal["auto", "extension", "one_party", "per_party", "shared"] | None


class Extension(TypedDict, total=False):
    """The new end: `ttl` seconds from now, or `expires_at`, which wins. With neither, the service's own ttl."""

    ttl: int | None
    expires_at: datetime | str | None


class LateCallWish(TypedDict, total=False):
    """What late callers shall meet; `forward_to` (E.164) goes with `forward`. Its repr does not show it."""

    policy: Required[Literal["announce", "forward", "reopen"]]
    forward_to: str | None


class Lookup(TypedDict, total=False):
    """Whose handle is asked for. Its repr does not show it."""

    identifier: Required[str]


class NewBlock(TypedDict, total=False):
    """`POST /v1/blocks`. `direction`: may `who` not call (`outbound`), not be called (`inbound`), or neither. `to`:
    the other one of a `pair`; `service`: where a block of `scope: service` holds."""

    scope: Required[Literal["number", "pair", "service"]]
    who: Required[Someone]
    to: Someone | None
    service: str | None
    direction: Literal["both", "inbound", "outbound"]
    reason: Required[str]


class NewDispute(TypedDict, total=False):
    """`POST /v1/disputes`: one of `unique_name` and `session`. `approval: second_person` leaves the grant until
    another API key's holder approves. `expires_in`: seconds the grant lasts."""

    unique_name: str | None
    session: str | None
    reason: Required[str]
    requested_by: Required[str]
    approval: Literal["none", "second_person"]
    expires_in: int


class NewParticipant(TypedDict, total=False):
    """A person who joins: `identifier` is the real number, E.164, or `caller_token` stands for that of somebody who is
    calling (`call.out_of_session`), for a minute and once. Its repr does not show it."""

    identifier: str
    role: str | None
    friendly_name: str | None
    language: str | None
    identifiers: Sequence[str] | None
    ring: Literal["first", "sequential"] | None
    caller_token: str | None


class NewPhoneNumber(TypedDict, total=False):
    """A virtual number in E.164, or a block of them (`+842471000000-+842471000099`), and the trunk it leaves by (null:
    any trunk of its country)."""

    phone_number: Required[str]
    trunk: str | None


class NewPhoneNumbers(TypedDict, total=False):
    """The numbers to be added, 1000 with those of blocks at most: all of them or, when one cannot be, none. `dry_run`:
    nothing is added, the answer says of each what would be."""

    phone_numbers: Required[Sequence[NewPhoneNumber]]
    dry_run: bool


class NewReport(TypedDict, total=False):
    """`POST /v1/reports`: `reported_by` says of `about` why (`reason`). The recordings of `interaction` are held,
    without it those of every call between the two. `block`: they do not reach each other any more."""

    session: Required[str]
    reported_by: Required[str]
    about: Required[str]
    interaction: str | None
    reason: Required[str]
    block: bool


class NewSession(TypedDict, total=False):
    """The body of `POST /v1/sessions`; null means: as the service says."""

    participants: Required[Sequence[NewParticipant]]
    service: str
    unique_name: str | None
    ttl: int | None
    ttl_mode: Literal["fixed", "sliding"]
    expires_at: datetime | str | None
    mode: Literal["message_only", "voice_and_message", "voice_only"]
    direction: str
    stages: Sequence[StageWish]
    number_model: Literal["auto", "extension", "one_party", "per_party", "shared"] | None
    geo_match: Literal["country", "country/soft", "country/strict", "soft", "strict"] | None
    geo_match_level: Literal["area_code", "country", "none", "region"]
    number_selection: Literal["avoid_sticky", "prefer_sticky"] | None
    pair_quarantine: int | None
    degrade: Sequence[Literal["extension", "per_party", "pin"]]
    record: Literal["always", "never", "on_demand"] | None
    recording_notice: Literal["spoken"] | None
    announcements: Announcements | None
    pin: PinWish | None
    caller_trust: Literal["any", "verified"]
    ring_timeout: int | None
    call_time_limit: int | None
    warning_at: int | None
    max_concurrent_calls: int | None
    max_call_attempts_per_hour: int
    on_expiry_in_call: Literal["finish", "hangup"]
    answer_confirm: Literal["keypress", "none"]
    late_call: LateCallWish | None
    metadata: Mapping[str, str]


class NewWebhookEndpoint(TypedDict, total=False):
    """`POST /v1/webhook_endpoints`."""

    url: Required[str]
    events: Sequence[str]
    description: str | None


class NumberHealthWish(TypedDict, total=False):
    """When a number ails: of the calls of the last `window` seconds that showed it, `min_calls` at least, fewer than
    `min_answer_ratio` were answered, or of as many answered ones more than `max_short_ratio` ended within `short_call`
    seconds; or `max_reports` people reported who called from it (0: reports do not count)."""

    window: int
    min_calls: int
    min_answer_ratio: float
    short_call: float
    max_short_ratio: float
    max_reports: int


class PersonErasure(TypedDict, total=False):
    """Whose: the real number, E.164; `reason` is kept, with who asked. Its repr does not show the number."""

    identifier: Required[str]
    reason: Required[str]


class PersonSearch(TypedDict, total=False):
    """Whose: `participant` is the real number, E.164. Sessions: those opened before `to` that were to live until
    `from` or longer; recordings: of calls that began at `from` or later, before `to`. `reason` is kept, with who
    asked. Its repr does not show the number."""

    participant: Required[str]
    from_: datetime | str | None
    to: datetime | str | None
    reason: str


class PhoneNumberChange(TypedDict, total=False):
    """`draining`: no new sessions; `suspended`: no calls either; `retired`: both, for good."""

    state: Required[Literal["active", "draining", "retired", "suspended"]]


class PhoneNumbersChange(TypedDict, total=False):
    """Numbers of the service and blocks of them, 1000 in all at most, and the state that all of them get. `replace`:
    the open sessions on them get other numbers, 500 sessions a request; for `overlap` seconds the old ones work on,
    where their state lets them (`draining`)."""

    phone_numbers: Required[Sequence[str]]
    state: Required[Literal["active", "draining", "retired", "suspended"]]
    replace: bool
    overlap: int


class PinWish(TypedDict, total=False):
    """Who keys a PIN: nobody, callers whose number nobody is bound to (where the service's `out_of_session` is `pin`),
    or every caller. `retries`: how often a wrong one may be keyed again."""

    policy: Literal["always", "none", "unknown_caller"]
    length: int
    retries: int


class Question(TypedDict, total=False):
    """Who calls (null: withheld), what is dialled, by which trunk and when (null: now). Numbers are E.164, or spelled
    as the trunk's country does. `attestation`: what STIR would say of the caller. A past moment is told by the events
    of the archive; blocks, pauses and the number's own state are not looked back at."""

    from_: Required[str | None]
    to: Required[str]
    at: datetime | str | None
    trunk: str | None
    attestation: Literal["A", "B", "C", "failed"] | None


class RecordingStorageWish(TypedDict, total=False):
    """`retention`: seconds a recording is kept from its call's end (null: as the installation says), another where the
    dialled number is of a country in `retention_by_country` (null there: for good). `region`: the only one where
    recordings may lie; null: wherever they do."""

    retention: int | None
    retention_by_country: Mapping[str, int | None]
    region: str | None


class Renumbering(TypedDict, total=False):
    """Which virtual number goes; for `overlap` seconds both work."""

    number: Required[str]
    overlap: int


class ReplayRequest(TypedDict, total=False):
    """Which events go to `endpoint` again: those that match everything said. At least one of `session`, `from` and
    `only_dead` must be said; ten thousand at the most."""

    endpoint: Required[str]
    session: str | None
    from_: datetime | str | None
    to: datetime | str | None
    only_dead: bool


class RoleLoad(TypedDict, total=False):
    """How many sessions one person of a role has at once at most. `redial_degree`: how many ended ones are to be kept
    apart besides; null: as many as end within the quarantine when each is followed by the next."""

    role: Required[str]
    concurrency: Required[int]
    redial_degree: int | None


class ServiceChange(TypedDict, total=False):
    """`POST` and `PATCH` of a service: only what is said changes."""

    unique_name: str | None
    friendly_name: str | None
    ttl: int
    record: Literal["always", "never", "on_demand"]
    number_model: Literal["auto", "extension", "one_party", "per_party", "shared"]
    geo_match: Literal["soft", "strict"]
    number_selection: Literal["avoid_sticky", "prefer_sticky"]
    pair_quarantine: int
    ring_timeout: int
    call_time_limit: int
    warning_at: int
    max_concurrent_calls: int
    out_of_session: Literal["announce", "pin"]
    number_health: NumberHealthWish
    number_ageing: int
    late_call: LateCallWish
    consent_policy: ConsentPolicy
    announcements: Announcements
    recording_storage: RecordingStorageWish
    intercept_url: str | None
    intercept_timeout_ms: int
    intercept_on_error: Literal["allow", "deny"]
    out_of_session_url: str | None
    out_of_session_timeout_ms: int
    dispatch_number: str | None


class SessionChange(TypedDict, total=False):
    """The body of `PATCH /v1/sessions/{id}`: only what is said changes; in `metadata` a null takes a key away."""

    metadata: Mapping[str, str | None]
    ttl: int
    expires_at: datetime | str
    record: Literal["always", "never", "on_demand"]
    ring_timeout: int
    call_time_limit: int
    warning_at: int
    max_concurrent_calls: int
    max_call_attempts_per_hour: int
    mode: Literal["message_only", "voice_and_message", "voice_only"]
    answer_confirm: Literal["keypress", "none"]
    on_expiry_in_call: Literal["finish", "hangup"]
    direction: str
    stages: Sequence[StageWish]
    late_call: LateCallWish


class Someone(TypedDict, total=False):
    """A person: `participant` of `session`, with all their phones, or the number itself, E.164. Its repr does not show
    it."""

    session: str | None
    participant: str | None
    identifier: str | None


class StageWish(TypedDict, total=False):
    """A part of a session's life: `direction` says who may call whom in it, `record` (null: as the session says)
    whether calls that begin in it are recorded."""

    name: Required[str]
    until: datetime | str | None
    direction: str
    record: Literal["always", "never"] | None


class Swap(TypedDict, total=False):
    """Who leaves, and who comes in their place: `role` as before, unless one is said."""

    participant: Required[str]
    replacement: Required[NewParticipant]


class Wanted(TypedDict, total=False):
    """Who is rung first, and whom they are connected to: in a session of two the other one, if not said."""

    from_: Required[str]
    to: str | None


class WebhookEndpointChange(TypedDict, total=False):
    """`PATCH`: only what is said changes."""

    url: str
    events: Sequence[str]
    description: str | None
    status: Literal["disabled", "enabled"]


class Why(TypedDict, total=False):
    """The reason, kept with who asked."""

    reason: Required[str]
