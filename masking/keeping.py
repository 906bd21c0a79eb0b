"""How long a service keeps its recordings, and in which region they may lie at all.

A recording's end is settled when it is made, by the service its session is of and the country of the number that was
dialled. What is held is kept beyond that; what is pinned to a region is not recorded by an installation whose
recordings lie elsewhere: it refuses the service's change, and to start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from masking.refusals import Invalid

if TYPE_CHECKING:
    from masking.config import Config, RecordingsSection
    from masking.services import Service

Retention = Annotated[int, Meta(ge=60, le=3_660 * 86_400, description="Seconds from a call's end.")]
Country = Annotated[str, Meta(pattern="^[A-Z]{2}$")]


class RecordingStorage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`retention`: seconds a recording is kept from its call's end (null: as the installation says), another where the
    dialled number is of a country in `retention_by_country` (null there: for good). `region`: the only one where
    recordings may lie; null: wherever they do."""

    retention: Retention | None = None
    retention_by_country: Annotated[dict[Country, Retention | None], Meta(max_length=50)] = {}
    region: Annotated[str, Meta(min_length=1, max_length=64)] | None = None


DEFAULT = RecordingStorage()


def check(config: Config, wish: RecordingStorage) -> None:
    """`Invalid` for a region that this installation's recordings do not lie in."""
    if misplaced(config.recordings, wish):
        where = (
            f"null, or {config.recordings.region}" if config.recordings.region else "null, as no region is configured"
        )
        raise Invalid.field("recording_storage.region", "is not where this installation keeps recordings", where)


def misplaced(recordings: RecordingsSection, storage: RecordingStorage) -> bool:
    """May what is pinned like that not lie where recordings lie here?"""
    return storage.region is not None and storage.region != recordings.region


def retention_of(config: Config, service: Service, country: str | None) -> int | None:
    """For how many seconds a recording is kept; None: for good."""
    storage = service.recording_storage
    if country is not None and country in storage.retention_by_country:
        return storage.retention_by_country[country]
    return storage.retention or config.recordings.retention or None
