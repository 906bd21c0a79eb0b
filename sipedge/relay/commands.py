"""What each command of an edge does (`sipedge.media.plane`), and which error it is answered with."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

from recordings.capture import G711
from recordings.seals import Lock
from sipedge.media import plane, sdp, telephone_events
from sipedge.media.plane import Done, Failed, FailureCode, Held, Playing, Ports, Reply, Request, Result
from sipedge.relay.background import Background
from sipedge.relay.board import Board, Owner
from sipedge.relay.calls import Call
from sipedge.relay.ports import NoPortFree
from sipedge.relay.prompts import Assets, BadWave, Frames
from sipedge.relay.streams import Leg

_DONE: Final = Done()

log = logging.getLogger("sipedge.relay")


class Refused(Exception):
    """The command is answered by `Failed`."""

    def __init__(self, code: FailureCode, detail: str = "") -> None:
        super().__init__(detail)
        self.failed = Failed(code, detail)


class Commands:
    """Answers requests. What needs a disk is done by a background thread and answered when it is done."""

    def __init__(self, board: Board, writer: Background, loader: Background) -> None:
        self._board = board
        self._writer = writer
        self._loader = loader
        self._assets = Assets()
        self._plays = itertools.count(1)

    def answer(self, owner: Owner, request: Request) -> None:
        """Does a command and sends its reply; never raises."""
        try:
            result = self._do(owner, request)
        except Refused as refused:
            result = refused.failed
        except Exception:
            log.exception("a command failed")
            result = Failed("bad_request", "the relay could not do this")
        if result is not None:
            owner.send(Reply(request.id, result))

    def _do(self, owner: Owner, request: Request) -> Result | None:
        board, now = self._board, self._board.loop.now
        match request.command:
            case plane.Hello(name):
                owner.name = name
                return Held(board.left_behind(name))
            case _ if not owner.name:
                raise Refused("bad_request", "the first request is hello")
            case plane.Open() as asked:
                return self._open(owner, asked)
            case plane.Connect(id, number, terms):
                return self._connect(self._call(id), self._leg(id, number), terms)
            case plane.Play(id, number, asset, repeat):
                return self._play(owner, request.id, id, self._leg(id, number), asset, repeat, Assets.load)
            case plane.RingBack(id, number, country):
                leg = self._leg(id, number)
                return self._play(owner, request.id, id, leg, f"ring-back {country[:2]}", True, Assets.ring_back)
            case plane.Warn(id, number):
                return self._play(owner, request.id, id, self._leg(id, number), "warning", False, Assets.warning)
            case plane.Confirm(id, number):
                leg = self._leg(id, number)
                return self._play(owner, request.id, id, leg, "confirmation", False, Assets.confirmation)
            case plane.Press(id, number, digit):
                return self._press(self._call(id), self._leg(id, number), digit)
            case plane.Stop(id, number):
                self._leg(id, number)
                self._call(id).stop(number, now)
                return _DONE
            case plane.Listen(id, number):
                self._call(id).listen(self._leg(id, number))
                return _DONE
            case plane.Bridge(id):
                if len(self._call(id).legs) < 2:
                    raise Refused("bad_request", "a bridge needs two legs")
                self._call(id).bridge(now)
                return _DONE
            case plane.Record(id) as asked:
                return self._record(owner, request.id, self._call(id), asked)
            case plane.Keep(id):
                self._recorded(id).keep(now)
                return _DONE
            case plane.Pause(id):
                self._recorded(id).pause()
                return _DONE
            case plane.End(id):
                recorded = self._recorded(id).end(now)
                assert recorded is not None
                board.ended(recorded.dropped)
                return recorded
            case plane.Close(id):
                self._call(id)
                return board.close(id)
            case plane.Claim(ids):
                return Held(board.claim(ids, owner))
            case plane.List():
                return Held(board.held())
            case plane.Measure():
                return board.measures()
            case plane.Feel():
                return plane.Felt(board.loop.lateness.lately())

    # ---- what is asked about ----

    def _call(self, id: str) -> Call:
        call = self._board.find(id)
        if call is None:
            raise Refused("unknown_call")
        return call

    def _leg(self, id: str, number: plane.Leg) -> Leg:
        leg = self._call(id).leg(number)
        if leg is None:
            raise Refused("bad_request", "the call was opened with one leg")
        return leg

    def _recorded(self, id: str) -> Call:
        call = self._call(id)
        if call.tap is None:
            raise Refused("bad_request", "no recording runs")
        return call

    # ---- calls and peers ----

    def _open(self, owner: Owner, asked: plane.Open) -> Result:
        if asked.call in self._board:
            raise Refused("call_exists")
        if not 1.0 <= asked.silent_after <= 86_400.0:
            raise Refused("bad_request", "silent_after is 1..86400 seconds")
        try:
            call = self._board.open(asked.call, asked.legs, asked.silent_after, owner)
        except NoPortFree:
            raise Refused("no_ports") from None
        return Ports(self._board.host, tuple(leg.port for leg in call.legs))

    def _connect(self, call: Call, leg: Leg, terms: plane.Terms) -> Result:
        try:
            allowed = sdp.inside(terms.host, terms.cidrs)
        except sdp.BadSdp:
            raise Refused("bad_request", "cidrs holds something that is no network") from None
        if not allowed or self._board.is_ours(terms.host, terms.port):
            raise Refused("address_refused", "not a unicast address inside the trunk's media networks")
        try:
            call.connect(leg, terms)
        except OSError as error:
            raise Refused("address_refused", error.strerror or "no way to the address") from None
        return _DONE

    # ---- prompts ----

    def _play(
        self,
        owner: Owner,
        request: int,
        id: str,
        leg: Leg,
        asset: str,
        repeat: bool,
        load: Callable[[str, plane.CodecName], Frames],
    ) -> Result | None:
        if leg.terms is None:
            raise Refused("bad_request", "the leg has no peer yet")
        codec = leg.terms.codec
        frames = self._assets.find(asset, codec)
        if frames is not None:
            return self._begin(id, leg, asset, frames, repeat)

        def loaded(frames: Frames | None, why: str) -> None:
            if frames is None:
                owner.send(Reply(request, Failed("bad_asset", why)))
                return
            self._assets.add(asset, codec, frames)
            try:
                result: Result = self._begin(id, leg, asset, frames, repeat)
            except Refused as refused:
                result = refused.failed
            owner.send(Reply(request, result))

        def job() -> None:
            try:
                frames, why = load(asset, codec), ""
            except BadWave as error:
                frames, why = None, str(error)
            self._board.loop.post(lambda: loaded(frames, why))

        self._loader.do(job)
        return None

    def _begin(self, id: str, leg: Leg, asset: str, frames: Frames, repeat: bool) -> Result:
        call = self._call(id)
        if call.leg(leg.number) is not leg:
            raise Refused("unknown_call")  # closed, and another opened under its name, while the asset was read
        play = next(self._plays)
        call.play(leg, play, asset, frames, repeat)
        return Playing(play)

    def _press(self, call: Call, leg: Leg, digit: str) -> Result:
        if leg.events_out is None:
            raise Refused("bad_request", "its peer takes no telephone-events")
        try:
            payloads = telephone_events.packets(digit)
        except ValueError:
            raise Refused("bad_request", "not a key") from None
        return Playing(call.press(leg, self._plays, payloads))

    # ---- recordings ----

    def _record(self, owner: Owner, request: int, call: Call, asked: plane.Record) -> Result | None:
        if call.tap is not None:
            raise Refused("bad_request", "a recording runs already")
        folder = Path(asked.directory)
        if not folder.is_absolute():
            raise Refused("bad_request", "the directory is not absolute")
        channels = [dict(G711) | _audio_of(leg) for leg in call.legs]
        channels += [dict(G711)] * (2 - len(channels))
        tap, spool = self._board.tap(call, asked.recording)
        call.record(tap)

        def created(why: str | None) -> None:
            if why is not None and call.tap is tap:
                call.end(self._board.loop.now)
            owner.send(Reply(request, _DONE if why is None else Failed("capture_failed", why)))

        def done(why: str | None) -> None:
            self._board.loop.post(lambda: created(why))

        wall, data_key = self._board.wall(), self._board.data_key()
        lock = Lock(asked.seal.tenant, asked.seal.key, asked.seal.public)
        self._writer.do(lambda: spool.create(folder, asked.recording, channels, wall, lock, data_key, done))
        return None


def _audio_of(leg: Leg) -> dict[int, str]:
    """The codec under the number that was agreed, when that is not its usual one."""
    terms = leg.terms
    return {} if terms is None or terms.payload is None else {terms.payload: terms.codec}
