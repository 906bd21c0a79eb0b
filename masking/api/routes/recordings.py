"""Recordings, and who may hear them."""

from masking import searches
from masking.api import (
    custody,
    recordings,
)
from masking.api.operations import Header, Operation, Said
from masking.api.paging import Page, Paged

ACCEPT_RANGES = (
    Header("Accept-Ranges", "`bytes`."),
    Header("ETag", "Names these bytes: give it back in If-Range."),
)

RECORDINGS = [
    Operation(
        "GET",
        "/v1/recordings",
        "List recordings, newest first.",
        recordings.list_recordings,
        {200: Said("A page of recordings.", Page[recordings.Recording])},
        query=recordings.RecordingQuery,
        scopes=("recordings",),
        tag="recordings",
    ),
    Operation(
        "POST",
        "/v1/recordings:search",
        "Find the recordings of a person's calls, with a reason, which goes on the chain of evidence.",
        recordings.search_recordings,
        {200: Said("A page of recordings, newest first.", Page[recordings.Recording])},
        body=searches.PersonSearch,
        query=Paged,
        scopes=("disputes",),
        problems=("reason_required", "invalid_phone_number", "contains_phone_number", "invalid_parameter"),
        tag="recordings",
    ),
    Operation(
        "GET",
        "/v1/recordings/{recording}",
        "Get a recording's facts.",
        recordings.get_recording,
        {200: Said("The recording.", recordings.Recording)},
        scopes=("recordings",),
        tag="recordings",
    ),
    Operation(
        "GET",
        "/v1/recordings/{recording}/media",
        "Get the sound: RIFF PCM, 16 bit, channel 1 the caller, channel 2 the callee. Each access is audited.",
        recordings.get_media,
        {
            200: Said("The whole file.", bytes, "audio/wav", ACCEPT_RANGES),
            206: Said(
                "The part asked for by Range.",
                bytes,
                "audio/wav",
                (*ACCEPT_RANGES, Header("Content-Range", "Which part, of how many bytes.")),
            ),
        },
        query=recordings.MediaQuery,
        shareable=True,
        scopes=("recordings",),
        problems=(
            "reason_required",
            "grant_refused",
            "range_not_satisfiable",
            "recording_not_available",
            "not_implemented_field",
            "contains_phone_number",
        ),
        headers=(
            Header("X-Reason", "Why it is listened to; kept with who did it.", required=True),
            Header("Range", "`bytes=0-1023`: one range."),
            Header("If-Range", "An ETag: the range only if it still names these bytes, else the whole file."),
        ),
        tag="recordings",
    ),
    Operation(
        "POST",
        "/v1/recordings/{recording}:hold",
        "Keep a recording: stronger than retention and erasure, until it is released.",
        custody.hold_recording,
        {200: Said("The recording as it is now.", recordings.Recording)},
        body=custody.Why,
        scopes=("recordings",),
        problems=("recording_not_available", "contains_phone_number", "invalid_parameter"),
        tag="recordings",
    ),
    Operation(
        "POST",
        "/v1/recordings/{recording}:release",
        "Let a held recording go.",
        custody.release_recording,
        {200: Said("The recording as it is now.", recordings.Recording)},
        body=custody.Why,
        scopes=("recordings",),
        problems=("contains_phone_number", "invalid_parameter"),
        tag="recordings",
    ),
    Operation(
        "POST",
        "/v1/recordings/{recording}:erase",
        "Erase a recording's sound; that it was, and its hash, stay.",
        custody.erase_recording,
        {200: Said("The recording as it is now.", recordings.Recording)},
        body=custody.Why,
        scopes=("recordings",),
        problems=("recording_held", "recording_not_available", "contains_phone_number", "invalid_parameter"),
        tag="recordings",
    ),
    Operation(
        "POST",
        "/v1/recordings/{recording}:share",
        "A link to this one recording that needs no API key, for five minutes.",
        custody.share_recording,
        {201: Said("The link.", custody.Share)},
        body=custody.Why,
        scopes=("recordings",),
        problems=("recording_not_available", "contains_phone_number", "invalid_parameter"),
        tag="recordings",
    ),
]
