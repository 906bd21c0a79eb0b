"""The recording of a call: begun with the answer or at the app's word, and told to both before a sample is kept."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final

import msgspec
import structlog

from masking import interactions, locks, routes
from masking.interactions import Channel, RecordingFault
from sipedge.circuits import media_failed
from sipedge.media import spoken
from sipedge.media.plane import CaptureFailed, PlaneError, RecordingFailed, Seal
from sipedge.media.spoken import Asset

if TYPE_CHECKING:
    from masking.demands import Action
    from masking.routes import Route
    from sipedge.calls import Call

log = structlog.get_logger("sipedge.calls")

FULL: Final = frozenset(map(os.strerror, (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)))
"""How a relay says that there is no room left."""


async def begin(call: Call, route: Route) -> None:
    """Begins the recording the route asks for; one that cannot begin is neither announced nor kept."""
    if not route.record or route.recording is None:
        return
    try:
        lock = await locks.lock_of(call.house, route.tenant)
        seal = Seal(route.tenant, lock.key, lock.public)
        await call.circuit.plane.record(call.id, route.recording, str(call.house.config.spool_dir), seal)
    except (PlaneError, locks.NoLock) as problem:
        call.exchange.counts["recordings_not_begun"] += 1
        log.error("recording_not_begun", interaction=call.id, recording=route.recording, problem=problem.code)
        if call.facts is not None:
            call.facts.recording = None
            call.tell(interactions.recording_failed_fact, route.recording, _reason(problem))
        return
    call.recorded = True
    channels = (
        Channel(index=1, participant=route.from_participant, role=route.from_role),
        Channel(index=2, participant=route.to_participant, role=route.to_role),
    )
    call.tell(interactions.recording_started_fact, channels)


def broken(call: Call, event: RecordingFailed) -> None:
    """The relay's disk refuses what is recorded; the call goes on."""
    call.exchange.counts["recordings_broken"] += 1
    log.error("recording_broken", interaction=call.id, recording=event.recording)
    if call.facts is not None:
        call.tell(interactions.recording_failed_fact, event.recording, _disk(event.detail))


def _reason(problem: PlaneError | locks.NoLock) -> RecordingFault:
    if isinstance(problem, locks.NoLock):
        return "no_key"
    return _disk(problem.detail) if isinstance(problem, CaptureFailed) else "media"


def _disk(detail: str) -> RecordingFault:
    return "disk_full" if detail in FULL else "disk_error"


async def tell_both(call: Call, route: Route) -> None:
    """The notice, to both at once, each in its own language, or the beep. Nobody is recorded who was not told where
    somebody has to be: without the notice there is no recording."""
    if not call.recorded or route.told == "nothing":
        return
    notices = (_notice(call, route, 1, route.caller_language), _notice(call, route, 2, route.callee_language))
    try:
        await call.circuit.speak(notices)
    except PlaneError as problem:
        log.error("notice_not_spoken", interaction=call.id, problem=problem.code)
        call.recorded = False
        try:
            await call.circuit.plane.end(call.id)
        except PlaneError as worse:
            raise media_failed(worse) from None


def _notice(call: Call, route: Route, leg: int, language: str | None) -> Asset:
    """What a leg hears before it is recorded."""
    return spoken.BEEP if route.told == "beep" else call.prompt("recording_notice", language, leg)


async def beep(call: Call) -> None:
    """Both hear that the recording still runs, where a beep says so."""
    if not call.recorded:
        return
    try:
        await call.circuit.plane.play(call.id, 1, str(spoken.BEEP.path))
        await call.circuit.plane.play(call.id, 2, str(spoken.BEEP.path))
    except PlaneError as problem:
        log.warning("no_beep", interaction=call.id, problem=problem.code)


def demanded(call: Call, route: Route) -> Route:
    """The route of a call that is recorded because the app asked for it."""
    if route.record or not route.recordable or call.facts is None:
        return route
    name = routes.recording_of(route.interaction)
    call.facts.recording = name
    return msgspec.structs.replace(route, record=True, recording=name)


async def obey(call: Call, route: Route, action: Action) -> None:
    """Does what the app asks, where it means anything. A recording is announced before its first sample is kept. One
    that was stopped is over, and its call has no other."""
    plane = call.circuit.plane
    try:
        if action == "start" and not call.recorded and not call.stopped and route.recordable:
            wanted = demanded(call, route)
            await begin(call, wanted)
            await tell_both(call, wanted)
            if call.recorded:
                await plane.keep(call.id)
        elif action == "pause" and call.recorded:
            await plane.pause(call.id)
            call.tell(interactions.recording_changed_fact, "paused")
        elif action == "resume" and call.recorded:
            await plane.keep(call.id)
            call.tell(interactions.recording_changed_fact, "resumed")
        elif action == "stop" and call.recorded:
            await plane.end(call.id)
            call.recorded, call.stopped = False, True
            call.tell(interactions.recording_changed_fact, "stopped")
    except PlaneError as problem:
        log.error("demand_not_met", interaction=call.id, action=action, problem=problem.code)
