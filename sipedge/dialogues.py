"""Keypad dialogues: what a caller is asked before anybody's phone rings.

The caller's 200 goes out first, since digits do not travel before the answer (contract: Sound and answer); then a
prompt, and digits by RFC 4733, INFO (`application/dtmf-relay`) or as tones in the audio. Keys of a dialogue reach
nobody: they are in no recording, which begins with the callee's 200, and in no log.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from masking import routes
from masking.house import Unavailable
from masking.routes import Challenge, Known, Refusal, Route
from sipedge import announcements
from sipedge.causes import NO_ANSWER
from sipedge.circuits import SIDES, SLACK, Over, media_failed
from sipedge.legs import Agreed
from sipedge.media.plane import Digit, Leg, PlaneError, PlayFinished
from sipedge.media.spoken import Asset

if TYPE_CHECKING:
    from sipedge.calls import Call, IncomingCall

FIRST_KEY: Final = 8.0  # seconds after a prompt in which the first key is waited for
NEXT_KEY: Final = 3.0  # … after a key, until the entry is thought whole without its #


class Entry:
    """The keys of one entry: `#` ends it, `*` begins it anew. `whole` says when no more are needed."""

    def __init__(self, longest: int, suffices: Callable[[str], bool]) -> None:
        self.digits = ""
        self.whole = False
        self._way = ""
        self._longest = longest
        self._suffices = suffices

    def press(self, key: str, way: str) -> None:
        """Takes a key. A phone that tells its keys in two ways is believed in one: tones yield to the others."""
        if self._way != way:
            if self._way not in ("", "tone"):
                return
            self._way, self.digits = way, ""
        match key:
            case "#":
                self.whole = bool(self.digits)
            case "*":
                self.digits = ""
            case digit if digit.isdigit():
                self.digits += digit
                self.whole = len(self.digits) >= self._longest or self._suffices(self.digits)


async def challenge(call: IncomingCall, asked: Challenge) -> Route | Refusal:
    """Asks for the extension or the PIN, or for one after the other: the route that opens."""
    claimed: Known = asked
    while isinstance(claimed, Challenge):
        claimed = await _ask(call, claimed)
    return claimed


async def _ask(call: IncomingCall, asked: Challenge) -> Known:
    """One question: what it opens, else the plain refusal, whatever was wrong with the answers."""
    if asked.route is not None:
        call.hold(asked.route)
    else:
        call.chosen = asked.announcements
    try:
        if not await routes.may_key(call.house, asked):
            return await routes.give_up(call.house, asked)
        await call.answer_ahead()
        name = "enter_extension" if asked.extension else "enter_pin"
        language = asked.route.caller_language if asked.route is not None else None
        for _ in range(1 + asked.retries):
            digits = await enter(call, call.prompt(name, language), Entry(asked.longest, asked.suffices))
            if digits:
                found = await routes.keyed(call.house, asked, digits)
                if found is not None:
                    return found
            name = "enter_extension" if asked.extension else "wrong_pin"
        return await routes.give_up(call.house, asked)
    except (Over, Unavailable) as problem:
        if asked.route is None:  # nobody's call: it is told among the events of no session
            call.ask(lambda: _gave_up(call, asked))
        if isinstance(problem, Over):
            raise
        raise Over("platform", "unavailable", 503) from None  # fail closed


async def _gave_up(call: IncomingCall, asked: Challenge) -> None:
    await routes.give_up(call.house, asked)


async def enter(call: Call, prompt: Asset, entry: Entry) -> str:
    """Plays the prompt until the first key, and gathers an entry; "" when nobody keys anything."""
    circuit = call.circuit
    try:
        play = await circuit.plane.play(call.id, 1, str(prompt.path))
        until = circuit.loop.time() + prompt.duration + SLACK + FIRST_KEY
        while not entry.whole:
            match await circuit.hear(until):
                case None:
                    break
                case PlayFinished(play=finished) if finished == play and not entry.digits:
                    until = circuit.loop.time() + FIRST_KEY
                case Digit(leg=1) as pressed:
                    if not entry.digits:
                        await circuit.plane.stop(call.id, 1)
                    entry.press(pressed.digit, pressed.way)
                    until = circuit.loop.time() + (NEXT_KEY if entry.digits else FIRST_KEY)
    except PlaneError as problem:
        raise media_failed(problem) from None
    return entry.digits


async def confirm(call: Call, leg: Leg, language: str | None, theirs: Agreed) -> None:
    """Whoever answered presses any key before the call goes on: a voicemail never does, and is no answer."""
    circuit = call.circuit
    prompt = call.prompt("press_key", language, leg)
    try:
        await circuit.plane.connect(call.id, leg, theirs.terms)
        await circuit.plane.listen(call.id, leg)
        await circuit.plane.play(call.id, leg, str(prompt.path))
        until = circuit.loop.time() + prompt.duration + FIRST_KEY
        while (event := await circuit.hear(until)) is not None:
            if isinstance(event, Digit) and event.leg == leg:
                await circuit.plane.stop(call.id, leg)
                return
    except PlaneError as problem:
        raise media_failed(problem) from None
    raise Over(SIDES[leg], "no_answer", 480, NO_ANSWER)


async def say_why(call: Call, over: Over) -> None:
    """What the second leg answered, spoken: the caller's own answer can no longer say it."""
    why = call.sentence(announcements.UNREACHED.get(over.reason, "not_connected"))
    if over.blame == "caller" or why is None:
        return
    try:
        await call.circuit.speak((why,))
    except (Over, PlaneError):  # the interaction says it still
        return
