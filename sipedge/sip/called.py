"""The called side (UAS, RFC 3261 8.2, 9.2, 12.2.2, 13.3, 15.1.2): requests that come in and what we answer."""

from __future__ import annotations

from sipedge.sip import bodies, names
from sipedge.sip.calling import Calling
from sipedge.sip.core import COOKIE, REL, Headers, Leg, Stage
from sipedge.sip.dialogs import Dialog
from sipedge.sip.events import Acked, AckMissing, Cancelled, Ended, Invited, PrackMissing, Refused, Requested
from sipedge.sip.flows import Flow
from sipedge.sip.grammar import Malformed
from sipedge.sip.messages import Request, status_line, write_headers, write_message, write_refusal
from sipedge.sip.transactions import Action, ClientTransaction, Input, Provisional, Said, ServerTransaction, State

MIN_SE = 90  # RFC 4028 4
_DESCRIPTIONS = frozenset({"application/sdp", "application/*", "*/*"})
_INSIDE_ONLY = frozenset({"BYE", "UPDATE", "INFO", "PRACK"})

Refusal = tuple[int, Headers]


class Called(Calling):
    """What a user agent server does."""

    # -- answering --------------------------------------------------------------------------------------------------

    def respond(
        self,
        transaction: ServerTransaction,
        status: int,
        now: float,
        *,
        reason: str = "",
        headers: Headers = (),
        body: bytes = b"",
        content_type: str = "application/sdp",
    ) -> bool:
        """Answers `Invited` or `Requested`. Via, From, To with tag, Call-ID, CSeq, Record-Route and Contact are put
        by us.

        False: nothing was sent, because a final answer already went out (a CANCEL crossed). A 2xx to an INVITE is
        resent until `Acked` or `AckMissing`; a final ≥ 300 ends the leg of an `Invited`. Where the caller requires
        100rel a provisional response is resent until its PRACK, and what has to wait for that leaves with it.
        """
        request = transaction.request
        if request is None:
            return False
        said = Said(status, reason, headers, body, content_type)
        if _must_wait(transaction, said):
            transaction.held = (*transaction.held, said)
        else:
            self._say(transaction, request, said, now)
        return True

    def _say(self, transaction: ServerTransaction, request: Request, said: Said, now: float) -> None:
        status = said.status
        leg = self._legs.get(transaction.leg or "")
        reliable = 100 < status < 200 and _asks_reliably(transaction, request)
        if reliable and not said.body and not request.description:
            return  # the first reliable response to an INVITE without an offer must hold ours (RFC 3261 13.2.1)
        head = self._answer_lines(transaction, request, leg, status)
        more = self._number(transaction, bool(said.body)) if reliable else ""
        transaction.last = write_message(
            f"{status_line(status, said.reason)}{head}{more}{write_headers(said.headers)}", said.body, said.content_type
        )
        given = Input.S1XX if status < 200 else Input.S2XX if status < 300 else Input.SFAIL
        self._feed_server(transaction, given, now)
        if reliable and transaction.provisional is not None:
            transaction.provisional.last = transaction.last
            transaction.provisional.begin(now, self._timers)
        if status >= 200:
            if transaction.provisional is not None:
                transaction.provisional.step(given, now, self._timers)  # nobody resends it beside a final answer
            if leg is not None and transaction.method in ("INVITE", "UPDATE"):
                self._answered(leg, transaction, request, status)
            transaction.shrink()

    def _number(self, transaction: ServerTransaction, described: bool) -> str:
        """Makes a response a reliable one: the headers that ask for its PRACK (RFC 3262 3)."""
        before = transaction.provisional
        rseq = self._entropy.between(1, 0xFFFF) if before is None else before.rseq + 1
        transaction.provisional = Provisional(transaction, rseq, described)
        return f"Require: {REL}\r\nRSeq: {rseq}\r\n"

    def _answer_lines(self, transaction: ServerTransaction, request: Request, leg: Leg | None, status: int) -> str:
        """The headers an answer always has, and those that make or refresh a dialog (RFC 3261 12.1.1)."""
        if status == 100:
            return f"{transaction.head}To: {request.headers['to'][0]}\r\n"
        to = request.headers["to"][0]
        lines = f"{transaction.head}To: {to if request.to.tag else f'{to};tag={transaction.tag}'}\r\n"
        if leg is None or status >= 300 or transaction.method not in ("INVITE", "UPDATE"):
            return lines
        routes = "".join([f"Record-Route: {value}\r\n" for value in request.record_routes])
        allow = f"Allow: {self._allow}\r\n{self._supported()}" if status >= 200 else ""
        return f"{lines}{routes}{self._contact(leg.dialog, transaction.flow)}{allow}"

    def _answered(self, leg: Leg, transaction: ServerTransaction, request: Request, status: int) -> None:
        """What a final answer to an INVITE or UPDATE does to its leg."""
        if leg.invite is transaction:
            leg.invite = None
        if status < 300:
            if transaction.method == "INVITE":
                leg.unacked = transaction
            if leg.stage is Stage.UNANSWERED:
                leg.stage = Stage.UP
                leg.dialog.confirmed = True
            else:
                leg.dialog.refresh(request.contact)  # only once accepted (RFC 6141 3.3)
        elif leg.stage is Stage.UNANSWERED and transaction.method == "INVITE":
            self._drop(leg.dialog)

    def bye(self, leg: str, now: float, *, headers: Headers = ()) -> str | None:
        """As the calling side says; a re-INVITE that waits for our answer is over with the leg."""
        found = self._legs.get(leg)
        if found is not None and found.stage is Stage.UP and isinstance(found.invite, ServerTransaction):
            self.respond(found.invite, 487, now)
        return super().bye(leg, now, headers=headers)

    # -- requests ---------------------------------------------------------------------------------------------------

    def _take_request(self, request: Request, flow: Flow, now: float) -> None:
        """Gives a request to its transaction, or makes one. Raises `Malformed` before anything has changed."""
        method = request.method
        key = _key(request, flow)
        if method == "ACK":
            self._take_ack(request, key, now)
            return
        known = self._servers.get(f"{key} {method}")
        if known is not None:
            self._feed_server(known, Input.REQUEST, now)
        elif method == "CANCEL":
            self._take_cancel(request, key, flow, now)
        elif request.to.tag:
            self._take_inside(request, key, flow, now)
        else:
            self._take_outside(request, key, flow, now)

    def _take_outside(self, request: Request, key: str, flow: Flow, now: float) -> None:
        """A request outside any dialog (RFC 3261 8.2)."""
        invites = request.method == "INVITE"
        if self.refusing and invites or self._full() or self._held[flow.remote[0]] >= self._share:
            self._refuse(request, flow, 503, self._later())
            return
        merge_key = (request.call_id, request.from_.tag, request.cseq.number, request.method)
        refusal = self._screen(request) or self._screen_outside(request, merge_key)
        if refusal is not None:
            self._refuse(request, flow, *refusal)
            return
        if invites and self._admit is not None and not self._admit(request, now):
            self._refuse(request, flow, 503, self._later())
            return
        leg = tag = self._entropy.token()
        dialog = None
        if invites:
            tag = self._entropy.token()
            dialog = Dialog.called(leg, request, tag, flow)
        transaction = self._serve(request, key, flow, leg if invites else None, tag, now)
        transaction.merge_key = merge_key
        self._merges[merge_key] = transaction.key
        if dialog is None:
            self._events.append(Requested(None, transaction, request, flow))
            return
        self._open(Leg(dialog, transaction))
        self._events.append(Invited(leg, transaction, request, flow))

    def _take_inside(self, request: Request, key: str, flow: Flow, now: float) -> None:
        """A request within a dialog (RFC 3261 12.2.2)."""
        leg = self._dialogs.get((request.call_id, request.to.tag))
        if leg is None or leg.dialog.remote_tag != request.from_.tag:
            self._refuse(request, flow, 481)
            return
        if self._full(2):  # calls that stand are served long after new ones are not
            self._refuse(request, flow, 503)
            return
        method = request.method
        refusal = self._screen(request) or self._screen_inside(request, leg)
        if refusal is not None:
            self._refuse(request, flow, *refusal)
            return
        leg.dialog.remote_seq = request.cseq.number
        transaction = self._serve(request, key, flow, leg.dialog.leg, leg.dialog.local_tag, now)
        if method == "BYE":
            self._take_bye(request, leg, transaction, now)
            return
        if method == "PRACK" and self._take_prack(request, leg, transaction, now):
            return
        if method == "INVITE":
            leg.invite = transaction
        elif method == "UPDATE" and request.description:
            leg.update = transaction
        self._events.append(Requested(leg.dialog.leg, transaction, request, flow))

    def _take_prack(self, request: Request, leg: Leg, transaction: ServerTransaction, now: float) -> bool:
        """The caller has our reliable response; what waited for that goes out (RFC 3262 3). False when the PRACK holds
        an offer, which our user answers."""
        waiting = _acknowledged(leg, request)
        if waiting is None:
            self.respond(transaction, 481, now)
            return True
        if not request.description:
            self.respond(transaction, 200, now)
        self._feed_provisional(waiting, Input.PRACK, now)
        return not request.description

    def _take_bye(self, request: Request, leg: Leg, transaction: ServerTransaction, now: float) -> None:
        """The peer hangs up; what it still asked for is over too (RFC 3261 15.1.2)."""
        self.respond(transaction, 200, now)
        waiting = leg.invite
        if leg.stage is not Stage.ENDING:
            event = Cancelled if leg.stage is Stage.UNANSWERED else Ended
            self._events.append(event(leg.dialog.leg, request))
        if isinstance(waiting, ServerTransaction):
            self.respond(waiting, 487, now)
        if leg.stage is not Stage.ENDING:
            self._drop(leg.dialog)

    def _take_cancel(self, request: Request, key: str, flow: Flow, now: float) -> None:
        """CANCEL is answered on the spot: repeated, it finds the INVITE again and gets the same answer (RFC 3261
        9.2)."""
        invite = self._servers.get(f"{key} INVITE")
        if invite is None:
            self._refuse(request, flow, 481)
            return
        self._send(flow, write_refusal(request, flow.remote, 200, invite.tag))
        leg = self._legs.get(invite.leg or "")
        opening = leg is not None and leg.invite is invite and leg.stage is Stage.UNANSWERED
        if self.respond(invite, 487, now) and opening and leg is not None:
            self._events.append(Cancelled(leg.dialog.leg, request))

    def _take_ack(self, request: Request, key: str, now: float) -> None:
        """The ACK of a refusal shares its INVITE's branch; that of a 2xx is found by its dialog. Never answered."""
        transaction = self._servers.get(f"{key} INVITE")
        if transaction is None:
            leg = self._dialogs.get((request.call_id, request.to.tag))
            if leg is None or leg.unacked is None or leg.dialog.remote_tag != request.from_.tag:
                return
            transaction = leg.unacked
        if transaction.seq == request.cseq.number:
            self._feed_server(transaction, Input.ACK, now, request)

    # -- what is refused before anybody hears of it -----------------------------------------------------------------

    def _screen(self, request: Request) -> Refusal | None:
        """What we do not take from anyone (RFC 3261 8.2.1-8.2.3). Raises `Malformed`."""
        method = request.method
        if method not in self.methods:
            return 405, (("Allow", self._allow),)
        _ = request.uri
        headers = request.headers
        unknown = request.require - self.extensions if "require" in headers else None
        if unknown:
            return 420, (("Unsupported", ", ".join(sorted(unknown))),)
        if request.body and not self._readable(request):
            return 415, (("Accept", ", ".join(sorted(self.accept))),)
        if "content-encoding" in headers and headers["content-encoding"][0].lower() != "identity":
            return 415, (("Accept-Encoding", "identity"),)
        if method in ("INVITE", "UPDATE"):
            if request.contact is not None:
                _ = request.contact.uri.params
            if request.session_expires is not None:
                _ = request.refresher, request.supported
                if request.session_expires < MIN_SE:
                    return 422, (("Min-SE", str(MIN_SE)),)  # RFC 4028 9
        return None

    def _readable(self, request: Request) -> bool:
        """Is the body of a type we take, and every part of it that must be understood (RFC 3261 8.2.3, RFC 5621 8)?"""
        if request.content_type not in self.accept:
            return request.handling == "optional"
        return bodies.understood(request.parts, self.accept)

    def _screen_outside(self, request: Request, merge_key: tuple[str, str, int, str]) -> Refusal | None:
        if merge_key in self._merges:
            return 482, ()  # it forked on its way and came twice (RFC 3261 8.2.2.2)
        if request.method in _INSIDE_ONLY:
            return 481, ()
        if request.max_forwards == 0 and request.method == "INVITE":
            return 483, ()  # there is nowhere it could go on to
        _ = request.from_.uri, request.to.uri
        if request.method == "INVITE" and not _takes_descriptions(request):
            return 406, ()
        return None

    def _screen_inside(self, request: Request, leg: Leg) -> Refusal | None:
        if request.cseq.number < leg.dialog.remote_seq:
            return 500, ()  # out of order (RFC 3261 12.2.2)
        if request.method == "PRACK":
            _ = request.rack
        if leg.stage is Stage.UNANSWERED and isinstance(leg.invite, ClientTransaction) and request.method == "BYE":
            return 481, ()  # the called side refuses a call, it does not hang it up (RFC 3261 15)
        if request.method == "INVITE" or (request.method == "UPDATE" and request.description):
            return self._screen_offer(leg)
        return None

    def _screen_offer(self, leg: Leg) -> Refusal | None:
        """One offer at a time: while theirs waits for our answer it is 500, while ours waits for theirs, or for an ACK,
        491 (RFC 3261 14.2, RFC 3311 5.2)."""
        updating = leg.update is not None and leg.update.request is not None
        if updating or isinstance(leg.invite, ServerTransaction):
            return 500, (("Retry-After", str(self._entropy.between(0, 10))),)
        return (491, ()) if leg.invite is not None or leg.unacked is not None else None

    def _refuse(self, request: Request, flow: Flow, status: int, headers: Headers = ()) -> None:
        """Answers without keeping anything: repeated, the request gets the same answer (RFC 3261 8.2.7)."""
        tag = self._stateless_tag(request.via.branch, request.call_id)
        self._send(flow, write_refusal(request, flow.remote, status, tag, headers))
        # Only words of ours: a method is whatever its sender likes, and reasons are counted and shown.
        method = request.method if request.method in names.METHODS else "unknown method"
        self._events.append(Refused(status, method, flow, request))

    def _refuse_malformed(self, fault: Malformed, request: Request, size: int, flow: Flow) -> None:
        """An answer to what cannot be read is never larger than what came (`size`), and never goes to an ACK."""
        status = None if request.method == "ACK" else fault.status
        if status is not None:
            try:
                answer = write_refusal(request, flow.remote, status, "0")
            except (Malformed, KeyError):
                status = None
            else:
                if len(answer) > size:
                    status = None
                else:
                    self._send(flow, answer)
        self._events.append(Refused(status, fault.reason, flow))

    # -- machinery --------------------------------------------------------------------------------------------------

    def _later(self) -> Headers:
        return (("Retry-After", str(self._entropy.between(1, 5))),)

    @property
    def _share(self) -> int:
        """How many transactions one source may have before its new ones wait for others' sake."""
        return self.max_transactions - self.max_transactions // 4

    def _full(self, times: int = 1) -> bool:
        return len(self._servers) + len(self._clients) >= times * self.max_transactions

    def _serve(
        self, request: Request, key: str, flow: Flow, leg: str | None, tag: str, now: float
    ) -> ServerTransaction:
        """Starts a server transaction; for an INVITE 100 Trying leaves at once (RFC 3261 17.2.1)."""
        transaction = ServerTransaction(f"{key} {request.method}", request, flow, leg, tag)
        self._servers[transaction.key] = transaction
        self._held[flow.remote[0]] += 1
        transaction.begin(now, self._timers)
        if request.method == "INVITE":
            self.respond(transaction, 100, now)
        return transaction

    def _feed_server(
        self, transaction: ServerTransaction, given: Input, now: float, request: Request | None = None
    ) -> None:
        """Moves a server transaction along its table and does what the row says."""
        for action in transaction.step(given, now, self._timers) or ():
            if action is Action.SEND:
                self._send(transaction.flow, transaction.last)
            elif action is Action.UP:
                assert request is not None
                transaction.last = b""  # a 2xx that was ACKed is not sent again
                self._acked(transaction, Acked(transaction.leg or "", request), now)
            else:
                self._acked(transaction, AckMissing(transaction.leg or ""), now)
        if transaction.state is State.TERMINATED:
            self._let_go(transaction)
            transaction.shrink()
            if transaction.merge_key is not None:
                self._merges.pop(transaction.merge_key, None)

    def _let_go(self, transaction: ServerTransaction) -> None:
        """Its source has one less, however often it is told to end."""
        host = transaction.flow.remote[0]
        self._held[host] -= self._servers.pop(transaction.key, None) is not None
        if not self._held[host]:
            del self._held[host]

    def _feed_provisional(self, provisional: Provisional, given: Input, now: float) -> None:
        """Moves a reliable response along its table and does what the row says."""
        invite = provisional.invite
        for action in provisional.step(given, now, self._timers) or ():
            if action is Action.SEND:
                self._send(provisional.flow, provisional.last)
            elif action is Action.UP:
                held, invite.held = invite.held, ()
                for said in held:
                    self.respond(
                        invite, said.status, now,
                        reason=said.reason, headers=said.headers, body=said.body, content_type=said.content_type,
                    )  # fmt: skip
            else:
                leg = self._legs.get(provisional.leg or "")
                self.respond(invite, 504, now)
                if leg is not None and leg.dialog.leg not in self._legs:
                    self._events.append(PrackMissing(leg.dialog.leg))

    def _acked(self, transaction: ServerTransaction, event: Acked | AckMissing, now: float) -> None:
        """The wait for an ACK is over, one way or the other; a BYE that waited with it goes out."""
        leg = self._legs.get(event.leg)
        if leg is None or leg.unacked is not transaction:
            return
        leg.unacked = None
        self._events.append(event)
        if leg.held_bye is not None:
            headers, leg.held_bye = leg.held_bye, None
            self.bye(event.leg, now, headers=headers)


def _asks_reliably(transaction: ServerTransaction, request: Request) -> bool:
    """Has the caller required that our provisional responses be reliable? Where it only could, they are not."""
    return transaction.method == "INVITE" and "require" in request.headers and REL in request.require


def _takes_descriptions(request: Request) -> bool:
    """Would the caller read a session description in our answer? One without Accept would (RFC 3261 20.1)."""
    ranges = [value for line in request.headers.get("accept", ()) for value in line.lower().split(",", 64)]
    return not ranges or any(value.partition(";")[0].strip(" \t") in _DESCRIPTIONS for value in ranges)


def _must_wait(transaction: ServerTransaction, said: Said) -> bool:
    """A reliable response without its PRACK holds back the next one, and a 2xx when it describes the session (RFC 3262
    3)."""
    before = transaction.provisional
    if before is None or not before.waits:
        return False
    return 100 < said.status < 200 or (said.status < 300 and before.described)


def _acknowledged(leg: Leg, prack: Request) -> Provisional | None:
    """The reliable response of ours that a PRACK names."""
    for invite in (leg.invite, leg.unacked):
        if isinstance(invite, ServerTransaction) and invite.provisional is not None:
            if prack.rack == (invite.provisional.rseq, invite.seq, invite.method):
                return invite.provisional
    return None


def _key(request: Request, flow: Flow) -> str:
    """What a request's transaction is known by, but for the method (RFC 3261 17.2.3).

    The source address is part of it, so that nobody can guess his way into another's call. A branch without the cookie
    (RFC 2543) says nothing: then the whole Via and the dialog's identifiers stand in.
    """
    via = request.via
    if via.branch.startswith(COOKIE):
        return f"{via.branch} {via.host}:{via.port} {flow.remote[0]}"
    return f"{request.vias[0]} {request.call_id} {request.from_.tag} {request.cseq.number} {flow.remote[0]}"
