"""What becomes of a recording: held, let go, erased, or shared for a few minutes. Each with a reason, each on the chain
of evidence."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec

from masking.access import share
from masking.api.operations import Answer, Asked
from masking.api.problems import Declined
from masking.api.recordings import check_reason, found, told
from masking.events import moment
from recordings.catalogue import Hold

Reason = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
SHARE_LASTS = 300.0  # seconds


class Why(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The reason, kept with who asked."""

    reason: Reason


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """A link that plays this one recording without an API key until `expires_at`; every hearing is on the audit."""

    url: str
    expires_at: datetime


async def hold_recording(asked: Asked) -> Answer:
    """A hold is stronger than retention and erasure."""
    why: Why = asked.body
    check_reason(asked, "reason", why.reason)
    recording = (await found(asked)).recording
    if recording.status == "erased":
        raise Declined("recording_not_available", "The recording is erased.")
    hold = Hold(reason=why.reason, key=asked.access.key, since=moment(asked.house.now()))
    await told(asked, recording, "recording.held", {"reason": why.reason, "hold": msgspec.to_builtins(hold)})
    return Answer(200, msgspec.structs.replace(recording, hold=hold))


async def release_recording(asked: Asked) -> Answer:
    why: Why = asked.body
    check_reason(asked, "reason", why.reason)
    recording = (await found(asked)).recording
    if recording.hold is not None:
        await told(asked, recording, "recording.released", {"reason": why.reason})
    return Answer(200, msgspec.structs.replace(recording, hold=None))


async def erase_recording(asked: Asked) -> Answer:
    """The sound is deleted within seconds; that there was a recording, and its hash, stay."""
    why: Why = asked.body
    check_reason(asked, "reason", why.reason)
    recording = (await found(asked)).recording
    if recording.hold is not None:
        raise Declined("recording_held", "The recording is held; release it first.")
    if recording.status == "recording":
        raise Declined("recording_not_available", "The call is still going on.")
    if recording.status != "erased":
        await told(asked, recording, "recording.erased", {"reason": why.reason})
    return Answer(200, msgspec.structs.replace(recording, status="erased"))


async def share_recording(asked: Asked) -> Answer:
    why: Why = asked.body
    check_reason(asked, "reason", why.reason)
    recording = (await found(asked)).recording
    if recording.status != "available":
        raise Declined("recording_not_available", f"The recording is {recording.status}.")
    until = asked.house.now() + SHARE_LASTS
    name, token = share(asked.house, asked.tenant, recording.id, until)
    await told(asked, recording, "recording.shared", {"reason": why.reason, "share": name, "until": moment(until)})
    return Answer(201, Share(url=f"/v1/recordings/{recording.id}/media?grant={token}", expires_at=moment(until)))
