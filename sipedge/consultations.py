"""The app is asked about a call while the call waits, and hears what else happens to it meanwhile.

The caller has its 100 and nobody's phone rings yet; a CANCEL, a BYE or the edge's leaving ends the wait at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from masking import introductions, routes
from masking.house import Unavailable
from masking.questions import Advice, Question
from masking.routes import Known, Route, Stranger
from sipedge import refusing
from sipedge.circuits import Advised, Over

if TYPE_CHECKING:
    from sipedge.calls import IncomingCall


async def intercept(call: IncomingCall, route: Route, question: Question) -> None:
    """May the call go on to the callee? It does when this returns."""
    try:
        advice = await _ask(call, question)
        refused = await routes.advised(call.house, route, advice, call.house.now())
    except Unavailable:  # fail closed
        raise Over("platform", "unavailable", 503) from None
    if refused is not None:
        await refusing.refuse(call, refused)


async def introduce(call: IncomingCall, stranger: Stranger) -> Known:
    """May the app make the caller known? The route over the session it named, else what every stranger meets."""
    try:
        question = await introductions.question(call.house, stranger)
        try:
            advice = await _ask(call, question)
        except Over:
            call.ask(lambda: _gave_up(call, stranger))
            raise
        return await introductions.introduced(call.house, stranger, advice)
    except Unavailable:  # fail closed
        call.exchange.unsure[call.id] = call.circuit.loop.time()
        raise Over("platform", "unavailable", 503) from None


async def _gave_up(call: IncomingCall, stranger: Stranger) -> None:
    routes.turned_away(call.house, stranger, "no_binding")


async def _ask(call: IncomingCall, question: Question) -> Advice:
    """Waits for the app; what ends the call meanwhile raises `Over`."""
    call.opened()  # it waits for an app: that is no crowd at the door
    circuit = call.circuit
    asking = circuit.loop.create_task(call.exchange.consultant.ask(question))
    asking.add_done_callback(lambda _: circuit.inbox.put(Advised()))
    try:
        while not isinstance(await circuit.hear(None), Advised):
            continue
        return asking.result()
    finally:
        asking.cancel()
