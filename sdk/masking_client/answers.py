"""What the API answers. Unknown fields are left out, so a newer service is no trouble.

Written by scripts/client from the table of the API: change that, not this.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Generic, TypeVar

import msgspec

T = TypeVar("T")


class Page(msgspec.Struct, Generic[T], frozen=True):
    """One page of a list; `next` is null on the last one."""

    data: list[T]
    next: str | None = None


class Alive(msgspec.Struct, frozen=True, kw_only=True):
    """The process serves."""

    status: str


class Announcements(msgspec.Struct, frozen=True, kw_only=True):
    """The sentence of each situation, where it is not ours; null: nothing is said. Whoever is recorded is told so, and
    who has to key something is asked to: those are never null."""

    recording_notice: str | None = None
    connecting: str | None = None
    press_key: str | None = None
    enter_pin: str | None = None
    wrong_pin: str | None = None
    enter_extension: str | None = None
    no_binding: str | None = None
    trip_ended: str | None = None
    not_allowed: str | None = None
    callee_busy: str | None = None
    no_answer: str | None = None
    not_connected: str | None = None


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One link of the chain: `hash` covers the event and, through the entry before, all that came earlier."""

    seq: int
    hash: str
    event: Event


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """A block as the API shows it; `who` and `to` are masked (`+8490…67`), `service` is its id."""

    id: str
    scope: str
    who: str
    to: str | None
    service: str | None
    direction: str
    reason: str
    created_at: datetime


class CalleeSees(msgspec.Struct, frozen=True, kw_only=True):
    """The virtual number that the callee sees and dials to call back, and the trunk it leaves by (null: any of its
    country)."""

    number: str
    country: str
    trunk: str | None


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """How the person is named when they call and nobody is bound to them."""

    caller: str


class Capacities(msgspec.Struct, frozen=True, kw_only=True):
    """What each country's pool of the service can carry."""

    service: str
    number_model: str
    pair_quarantine: int
    pools: list[Capacity]


class Capacity(msgspec.Struct, frozen=True, kw_only=True):
    """What a country's pool is sure to carry: a session of two people finds a shared number while the numbers that
    they hold or have in quarantine, this session's included, come to `guaranteed` + 1 at most, as they do while
    neither has more than `degree`."""

    country: str
    size: int
    active: int
    live: int
    quarantined: int
    guaranteed: int
    degree: int


class ChangedPhoneNumbers(msgspec.Struct, frozen=True, kw_only=True):
    """Every number that was asked for, in that order. With `replace`: how many sessions have another number, and which
    could get none. `more`: some sessions are still to be looked at; ask once more."""

    data: list[PhoneNumber]
    replaced: int
    kept: list[Kept]
    more: bool


class Channel(msgspec.Struct, frozen=True, kw_only=True):
    """Who is heard on a channel: 1 is what the caller's phone sent, 2 what the callee's sent."""

    index: int
    participant: str | None
    role: str | None


class ConsentPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """What is owed in each place, and everywhere else."""

    default: str | None = None
    places: dict[str, str] | None = None


class Degree(msgspec.Struct, frozen=True, kw_only=True):
    """The numbers that one person of the role holds (`live`) and has in quarantine (`resting`) at most."""

    role: str
    live: int
    resting: int
    degree: int


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One event and one endpoint. `status` is that of the receiver's last answer, `error` the word for why there was
    none or it does not count: `timeout`, `unreachable`, `forbidden_address`, `tls`, `broken`, `redirect`. `duration`
    is the last attempt's, in seconds."""

    event: str
    type: str
    session: str | None
    state: str
    attempts: int
    first_attempt_at: datetime | None
    last_attempt_at: datetime | None
    next_attempt_at: datetime | None
    status: int | None
    error: str | None
    duration: float | None


class Demanded(msgspec.Struct, frozen=True, kw_only=True):
    """What was passed on to the edge, for these calls."""

    action: str
    interactions: list[str]


class Dispute(msgspec.Struct, frozen=True, kw_only=True):
    """A dispute as the API shows it. `sessions` are those it covers."""

    id: str
    unique_name: str | None
    sessions: list[str]
    reason: str
    requested_by: str
    approved_by: str | None
    status: str
    created_at: datetime
    expires_at: datetime | None


class Erased(msgspec.Struct, frozen=True, kw_only=True):
    """What was erased now; what was erased before is not named again."""

    recordings: list[str]


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """What happened, in the one shape that the timeline, `GET /v1/events` and webhooks carry. `id` is made from
    session and seq, so an event read twice is the same event. `seq` starts at 1; an event of no session has `session:
    null` and counts within its tenant."""

    id: str
    type: str
    occurred_at: datetime
    session: str | None
    seq: int
    data: dict[str, Any]


class EvidenceKey(msgspec.Struct, frozen=True, kw_only=True):
    """The Ed25519 key, base64, that `evidence.checkpoint` events are signed with: keep it where we cannot reach."""

    public_key: str


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """What the call would come to. `asks`: what the caller is asked to key before anything else is decided.
    `forwarded`: the session has ended, and the call goes to its support number."""

    decision: str
    forwarded: bool
    asks: str | None
    at: datetime
    dialled: str | None
    session: str | None
    from_: str | None = msgspec.field(name="from")
    to: str | None
    sees: CalleeSees | None
    steps: list[Step]


class FieldError(msgspec.Struct, frozen=True, kw_only=True):
    """One wrong field: which (`participants[0].identifier`), what was wrong, what would be right."""

    field: str
    problem: str
    expected: str


class Gap(msgspec.Struct, frozen=True, kw_only=True):
    """Audio of a channel (1 or 2) that was lost by us, in seconds from the recording's start."""

    from_: float = msgspec.field(name="from")
    to: float
    channel: int


class Granted(msgspec.Struct, frozen=True, kw_only=True):
    """The same and, this once, the grant: give it as `?grant=` with a recording's media. Null until approved."""

    id: str
    unique_name: str | None
    sessions: list[str]
    reason: str
    requested_by: str
    approved_by: str | None
    status: str
    created_at: datetime
    expires_at: datetime | None
    grant: str | None


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """How a number fared in the last `window` seconds. `healthy` is false while something `ails` it: it is passed over
    while another number is free. Ratios are null without a call (an answered one)."""

    healthy: bool
    ails: list[str]
    calls: int
    answer_ratio: float | None
    short_call_ratio: float | None
    reports: int
    last_call_at: datetime | None


class Hold(msgspec.Struct, frozen=True, kw_only=True):
    """Why a recording is kept beyond its time, by which API key, and since when."""

    reason: str
    key: str
    since: datetime


class Intent(msgspec.Struct, frozen=True, kw_only=True):
    """`participant` is about to dial one of `numbers` (virtual ones)."""

    session: str
    participant: str
    numbers: list[str]
    expires_at: datetime


class Interaction(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt to reach somebody through a session, as the API shows it."""

    id: str
    session: str | None
    type: str
    direction: str
    from_: str | None = msgspec.field(name="from")
    to: str | None
    dialled: str | None
    decision: str
    forwarded: bool
    attestation: str | None
    reason: str | None
    status: str
    answered_by: str | None
    started_at: datetime | None
    ringing_at: datetime | None
    answered_at: datetime | None
    bridged_at: datetime | None
    ended_at: datetime | None
    billable: float
    conversation: float
    hangup_by: str | None
    legs: list[Leg]
    recordings: list[str]


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one: `status` as that call alone would have answered, with the session or the problem."""

    status: int
    session: Session | None
    problem: Problem | None


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """A session that had to keep its number; `code` and `problem` as `:replace_number` would have answered."""

    session: str
    number: str
    code: str
    problem: str


class LateCall(msgspec.Struct, frozen=True, kw_only=True):
    """What a late caller meets; `display` is the support number as `+8424…00`."""

    policy: str
    display: str | None


class Leg(msgspec.Struct, frozen=True, kw_only=True):
    """One leg as it ended: the trunk it used, its last SIP code and Q.850 cause, the codec it spoke."""

    trunk: str | None
    sip_code: int | None
    q850: int | None
    codec: str | None


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """Proof that a leg (1 or 2) was told: which asset, from `at` to `to` seconds after the recording's start."""

    asset: str
    sha256: str
    leg: int
    at: float
    to: float


class NumberHealth(msgspec.Struct, frozen=True, kw_only=True):
    """When a number ails: of the calls of the last `window` seconds that showed it, `min_calls` at least, fewer than
    `min_answer_ratio` were answered, or of as many answered ones more than `max_short_ratio` ended within `short_call`
    seconds; or `max_reports` people reported who called from it (0: reports do not count)."""

    window: int
    min_calls: int
    min_answer_ratio: float
    short_call: float
    max_short_ratio: float
    max_reports: int


class NumberStates(msgspec.Struct, frozen=True, kw_only=True):
    """How many numbers are in each state; `active` ones alone take new sessions. `resting` ones were put back after
    they had been retired, and serve again when they have been out of service for long enough (`number_ageing`)."""

    active: int
    draining: int
    suspended: int
    retired: int
    resting: int


class Original(msgspec.Struct, frozen=True, kw_only=True):
    """The form a recording is kept in, and the SHA-256 and size of exactly these bytes, opened: what evidence is."""

    format: str
    sha256: str
    bytes: int


class Participant(msgspec.Struct, frozen=True, kw_only=True):
    """A person of a session as the API shows it; `display` is `+8490…67`."""

    id: str
    role: str | None
    friendly_name: str | None
    language: str | None
    display: str
    proxies: list[Proxy]


class Pause(msgspec.Struct, frozen=True, kw_only=True):
    """The recording is silence from `at` to `to` (None: to its end) on purpose, in seconds after its start."""

    at: float
    to: float | None


class PhoneNumber(msgspec.Struct, frozen=True, kw_only=True):
    """A virtual number of a service. A `resting` one was put back after it had been retired; it is active again at
    `rests_until`."""

    id: str
    phone_number: str
    service: str
    country: str
    trunk: str | None
    state: str
    rests_until: datetime | None
    health: Health


class PhoneNumbers(msgspec.Struct, frozen=True, kw_only=True):
    """Every number that was asked for, in that order."""

    data: list[PhoneNumber]


class Pin(msgspec.Struct, frozen=True, kw_only=True):
    """Who keys a PIN: nobody, callers whose number nobody is bound to (where the service's `out_of_session` is `pin`),
    or every caller. `retries`: how often a wrong one may be keyed again."""

    policy: str
    length: int
    retries: int


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How many numbers of each country the load needs in a shard, so that no session is ever refused for want of one.
    `feasible`: a shard holds as many."""

    service: str
    number_model: str
    session_length: int
    pair_quarantine: int
    degrees: list[Degree]
    needed: int
    feasible: bool
    pools: list[PoolPlan]


class PoolLoad(msgspec.Struct, frozen=True, kw_only=True):
    """A service's numbers in one country."""

    country: str
    size: int
    states: NumberStates
    live: int
    quarantined: int
    unhealthy: int
    shards: list[ShardLoad]


class PoolPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Does a country's pool carry the load? `missing`: how many active numbers more would do, in one shard."""

    country: str
    guaranteed: int
    missing: int
    enough: bool


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """The body of every answer that is not a success."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    errors: list[FieldError] | None = None
    session: str | None = None
    reason: str | None = None
    decision: str | None = None
    interaction: str | None = None
    needed: int | None = None
    retry_after: int | None = None


class Proxy(msgspec.Struct, frozen=True, kw_only=True):
    """The number a participant dials to reach `to`; of a session that is being bound, a place for it. `extension`:
    what it keys to say whom; `pin`: what it keys when its own number does not say who it is, shown where one session
    is asked for, never in lists and events."""

    to: str
    number: str
    extension: str | None
    pin: str | None


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """What requests stand on answers: each part is `ok` or `gone`."""

    status: str
    redis: str
    archive: str


class Recording(msgspec.Struct, frozen=True, kw_only=True):
    """A recording as the API shows it. What it holds is there once it is available: `duration`, `sha256` and `bytes`
    (of the WAV), `original` (as it is kept), and what it sounds like. `loudness`: each channel's mean level in dBFS
    while it speaks (-96.3: it never does); `silence` and `talk_over`: the part of the time in which nobody, and both,
    speak; `peaks`: each channel's wave, up to 200 points evenly over its length, 0..100 of full scale."""

    id: str
    session: str
    interaction: str
    unique_name: str | None
    status: str
    hold: Hold | None
    started_at: datetime
    duration: float | None
    sha256: str | None
    bytes: int | None
    gaps: list[Gap]
    pauses: list[Pause]
    channels: list[Channel]
    notices: list[Notice]
    original: Original | None
    loudness: list[float] | None
    silence: float | None
    talk_over: float | None
    peaks: list[list[int]] | None
    retain_until: datetime | None


class RecordingStorage(msgspec.Struct, frozen=True, kw_only=True):
    """`retention`: seconds a recording is kept from its call's end (null: as the installation says), another where the
    dialled number is of a country in `retention_by_country` (null there: for good). `region`: the only one where
    recordings may lie; null: wherever they do."""

    retention: int | None
    retention_by_country: dict[str, int | None]
    region: str | None


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """How many events match; with `only_dead` the dead letters among them are sent."""

    endpoint: str
    events: int


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A report as it was taken: the block it made, and the recordings it holds. `via`: how it came."""

    id: str
    session: str
    reported_by: str
    about: str
    interaction: str | None
    via: str
    reason: str
    block: str | None
    recordings: list[str]
    created_at: datetime


class Results(msgspec.Struct, frozen=True, kw_only=True):
    """One for each session asked for, in their order."""

    data: list[Item]


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """A service and the defaults its sessions start from."""

    id: str
    unique_name: str | None
    friendly_name: str | None
    created_at: datetime
    ttl: int
    record: str
    number_model: str
    geo_match: str
    number_selection: str
    pair_quarantine: int
    ring_timeout: int
    call_time_limit: int
    warning_at: int
    max_concurrent_calls: int
    out_of_session: str
    number_health: NumberHealth
    number_ageing: int
    late_call: LateCall
    consent_policy: ConsentPolicy
    announcements: Announcements
    recording_storage: RecordingStorage
    intercept_url: str | None
    intercept_timeout_ms: int
    intercept_on_error: str
    out_of_session_url: str | None
    out_of_session_timeout_ms: int
    dispatch_number: str | None
    webhook_wording: str
    webhook_secrets: int
    webhook_secret_rotated_at: datetime | None


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """A session as the API shows it. `service` is the service's unique_name, or its id where it has none."""

    id: str
    service: str
    unique_name: str | None
    status: str
    closed_reason: str | None
    created_at: datetime
    expires_at: datetime
    closed_at: datetime | None
    mode: str
    direction: str
    stages: list[Stage]
    stage: str | None
    record: str
    recording_notice: str | None
    pair_quarantine: int
    ring_timeout: int
    call_time_limit: int
    warning_at: int
    max_concurrent_calls: int
    max_call_attempts_per_hour: int
    ttl_mode: str
    ttl: int | None
    pin: Pin
    caller_trust: str
    answer_confirm: str
    on_expiry_in_call: str
    late_call: LateCall
    announcements: Announcements
    metadata: dict[str, str]
    participants: list[Participant]


class ShardLoad(msgspec.Struct, frozen=True, kw_only=True):
    """At most 256 numbers that are decided on together. `live`: sessions with numbers of it; `quarantined`: ended ones
    whose pairs still rest on theirs; `unhealthy`: active numbers that others go before."""

    shard: str
    size: int
    states: NumberStates
    live: int
    quarantined: int
    unhealthy: int


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """A link that plays this one recording without an API key until `expires_at`; every hearing is on the audit."""

    url: str
    expires_at: datetime


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a session's life: `direction` says who may call whom in it, `record` (null: as the session says)
    whether calls that begin in it are recorded."""

    name: str
    until: datetime | None
    direction: str
    record: str | None


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One look: at what, what was found in a word, and a sentence for a person."""

    step: str
    found: str
    detail: str


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What was used `from` a day (included) `to` a day (excluded), UTC. `service`: null for all of them together.
    `calls` are those with `call_seconds` (the sum of their interactions' `billable`, measured); `billed_seconds` the
    same, each call rounded as the operator agreed with the tenant. `recording_seconds`: the length of the recordings
    that became available. `recording_gb_days`: what was kept, times how long (1 GB is 10^9 bytes). `number_days`: the
    virtual numbers held, day by day."""

    from_: str = msgspec.field(name="from")
    to: str
    service: str | None
    sessions: int
    calls: int
    call_seconds: float
    billed_seconds: int
    recordings: int
    recording_seconds: float
    recording_gb_days: float
    number_days: int


class WebhookEndpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A receiver of events. `disabled`: nothing is sent, and what happens meanwhile is not sent later either (fetch it
    by `GET /v1/events`, or have it replayed)."""

    id: str
    url: str
    events: list[str]
    description: str | None
    status: str
    created_at: datetime


class WebhookEndpointSecret(msgspec.Struct, frozen=True, kw_only=True):
    """The same and, this once, the secret its deliveries are signed with."""

    id: str
    url: str
    events: list[str]
    description: str | None
    status: str
    created_at: datetime
    secret: str


class WebhookSecret(msgspec.Struct, frozen=True, kw_only=True):
    """What a service's questions to the app are signed with, told this once."""

    service: str
    secret: str
