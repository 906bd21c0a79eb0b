"""The calling side (UAC, RFC 3261 8.1, 9.1, 13.2, 15.1.1): requests we send and what comes back."""

from __future__ import annotations

from msgspec.structs import replace

from sipedge.sip.core import COOKIE, REL, Core, Headers, Leg, Stage
from sipedge.sip.dialogs import Dialog
from sipedge.sip.digest import ASKED_BY, Authorisation, Credentials
from sipedge.sip.events import Answered, Cause, Failed, Progressed, Responded
from sipedge.sip.flows import Flow
from sipedge.sip.lengthy import LONGEST, moved
from sipedge.sip.messages import Response, write_headers
from sipedge.sip.transactions import Action, Asked, ClientTransaction, Draft, Input, Narrow, State

MAX_FORKS = 16  # phones of one call whose reliable responses we follow
_STATUS = {Cause.TIMEOUT: 408, Cause.TRANSPORT: 503, Cause.CANCELLED: 487}  # RFC 3261 8.1.3.1


def _given(status: int) -> Input:
    return Input.R1XX if status < 200 else Input.R2XX if status < 300 else Input.RFAIL


def _in_order(transaction: ClientTransaction, tag: str, rseq: int) -> bool:
    """Is this reliable response the next one of its phone? One heard before was acknowledged, and its PRACK looks
    after itself; one that comes too early is sent again by its phone (RFC 3262 4)."""
    last = transaction.rseqs.get(tag)
    if (last is not None and rseq != last + 1) or (last is None and len(transaction.rseqs) == MAX_FORKS):
        return False
    transaction.rseqs = {**transaction.rseqs, tag: rseq}
    return True


class Calling(Core):
    """What a user agent client does."""

    # -- a call we make ---------------------------------------------------------------------------------------------

    def invite(
        self,
        flow: Flow,
        uri: str,
        now: float,
        *,
        from_: str,
        to: str,
        headers: Headers = (),
        body: bytes = b"",
        content_type: str = "application/sdp",
        max_forwards: int = 70,
        credentials: Credentials | None = None,
    ) -> str:
        """Sends an INVITE and returns its leg. `from_` and `to` are name-addr values without tag, e.g.
        `<sip:+84…@host>`. A 401 or 407 for the realm of the `credentials` is answered by sending it again, here and
        within the leg; `Failed` tells of one that cannot be."""
        token = self._entropy.token
        leg, tag, call_id, branch = token(), token(), token(), COOKIE + token()
        dialog = Dialog(leg, call_id, tag, "", from_, to, uri, flow, local_seq=1)
        draft = self._draft(flow, branch, uri, (), dialog.from_, to, call_id, 1, max_forwards)
        # Without an offer of ours a reliable response would hold the peer's, and its PRACK our answer: not asked for.
        supported = self._supported(reliable=bool(body))
        extra = f"{self._contact(dialog, flow)}Allow: {self._allow}\r\n{supported}{write_headers(headers)}"
        data = draft.write("INVITE", headers=extra, body=body, content_type=content_type)
        transaction = self._ask("INVITE", flow, branch, draft, data, now, leg=leg, dialog=dialog)
        transaction.offered = bool(body)
        opened = Leg(dialog, transaction)
        opened.credentials = credentials
        if credentials is not None:
            transaction.asked = Asked(Authorisation(credentials), extra, body, content_type)
        self._open(opened)
        return leg

    def cancel(self, leg: str, now: float, *, headers: Headers = ()) -> None:
        """Gives up an unanswered INVITE. Before any 1xx the CANCEL is held back and the INVITE no longer resent
        (RFC 3261 9.1).

        `Failed` follows in every case. A leg that is not an unanswered one of ours is left alone.
        """
        found = self._legs.get(leg)
        if found is None or found.stage is not Stage.UNANSWERED or not isinstance(found.invite, ClientTransaction):
            return
        found.withdrawn = True
        found.invite.cancel_headers = write_headers(headers)
        self._feed_client(found.invite, Input.CANCEL, now, None)

    def acknowledge(self, leg: str, body: bytes, now: float, *, content_type: str = "application/sdp") -> None:
        """ACKs the 2xx of an INVITE we sent without an offer; `body` is our answer."""
        found = self._legs.get(leg)
        if found is not None and isinstance(found.invite, ClientTransaction) and found.stage is Stage.UP:
            transaction, found.invite = found.invite, None
            self._ack_success(transaction, found.dialog, body, content_type)

    # -- inside a call ----------------------------------------------------------------------------------------------

    def bye(self, leg: str, now: float, *, headers: Headers = ()) -> str | None:
        """Ends an answered leg and returns the transaction. None when nothing went out: the leg is over or unanswered
        (`cancel` or `respond` end that one), or our 2xx still waits for its ACK and BYE with it (RFC 3261 15.1.1)."""
        found = self._legs.get(leg)
        if found is None or found.stage is not Stage.UP:
            return None
        if found.unacked is not None:
            found.held_bye = headers
            return None
        found.stage = Stage.ENDING
        return self.request(leg, "BYE", now, headers=headers)

    def request(
        self, leg: str, method: str, now: float, *, headers: Headers = (), body: bytes = b"", content_type: str = ""
    ) -> str | None:
        """Sends a request inside an answered leg (INFO, UPDATE, re-INVITE, …) and returns the transaction; `Responded`
        brings the answer. The 2xx of a re-INVITE without an offer wants `acknowledge`, as that of an `Answered` does.
        None when the leg is over, unanswered, or busy with another INVITE (RFC 3261 14.1)."""
        found = self._legs.get(leg)
        if found is None or found.stage is Stage.UNANSWERED or (method == "INVITE" and found.invite is not None):
            return None
        dialog = found.dialog
        flow, branch, draft = self._draft_inside(dialog, dialog.next_seq())
        extra = write_headers(headers)
        if method in ("INVITE", "UPDATE"):
            extra = self._contact(dialog, flow) + extra
        data = draft.write(method, headers=extra, body=body, content_type=content_type)
        transaction = self._ask(method, flow, branch, draft, data, now, leg=leg)
        if found.credentials is not None:
            transaction.asked = Asked(Authorisation(found.credentials), extra, body, content_type)
        if method == "INVITE":
            transaction.dialog, transaction.offered, transaction.again = dialog, bool(body), True
            found.invite = transaction
        return transaction.key

    def dialog(self, leg: str) -> Dialog | None:
        """The leg's dialog: its snapshot for another worker. None once the leg is over."""
        found = self._legs.get(leg)
        return None if found is None else found.dialog

    def restore(self, dialog: Dialog, credentials: Credentials | None = None) -> None:
        """Takes over an answered leg from a snapshot."""
        leg = Leg(dialog, None, Stage.UP)
        leg.credentials = credentials
        self._open(leg)

    # -- outside any dialog -----------------------------------------------------------------------------------------

    def send_request(
        self,
        flow: Flow,
        method: str,
        uri: str,
        now: float,
        *,
        from_: str,
        to: str,
        headers: Headers = (),
        body: bytes = b"",
        content_type: str = "",
        max_forwards: int = 70,
        call_id: str = "",
        seq: int = 1,
        credentials: Credentials | None = None,
    ) -> str:
        """Sends OPTIONS, REGISTER, … and returns the transaction; `Responded(leg=None)` brings the answer. A series of
        requests that belong together (RFC 3261 10.2) names its own `call_id` and `seq`; each may use up to
        `digest.MAX_TRIES` numbers more where it is challenged."""
        token = self._entropy.token
        branch = COOKIE + token()
        draft = self._draft(flow, branch, uri, (), f"{from_};tag={token()}", to, call_id or token(), seq, max_forwards)
        extra = write_headers(headers)
        data = draft.write(method, headers=extra, body=body, content_type=content_type)
        transaction = self._ask(method, flow, branch, draft, data, now)
        if credentials is not None:
            transaction.asked = Asked(Authorisation(credentials), extra, body, content_type)
        return transaction.key

    # -- machinery --------------------------------------------------------------------------------------------------

    def _ask(
        self,
        method: str,
        flow: Flow,
        branch: str,
        draft: Draft,
        data: bytes,
        now: float,
        *,
        leg: str | None = None,
        dialog: Dialog | None = None,
    ) -> ClientTransaction:
        """Starts a client transaction; it is known by its branch and method (RFC 3261 17.1.3)."""
        narrow = None
        if len(data) > LONGEST and flow.transport == "udp" and (wide := self._widen(flow)) is not None:
            narrow = Narrow(flow, draft, data)
            draft, data = moved(narrow, wide, self._advertise(flow), self._advertise(wide))
            flow = wide
        transaction = ClientTransaction(f"{branch} {method}", method, flow, leg, draft, dialog)
        transaction.last, transaction.narrow = data, narrow
        self._clients[transaction.key] = transaction
        self._send(flow, data)
        transaction.begin(now, self._timers)
        return transaction

    def _unsent(self, transaction: ClientTransaction, now: float) -> None:
        """It could not be sent. One that was only moved to a stream for its length goes by UDP after all (RFC 3261
        18.1.1), unless it was given up meanwhile."""
        narrow, transaction.narrow = transaction.narrow, None
        if narrow is None or transaction.state is not transaction.machine.start:
            self._feed_client(transaction, Input.TRANSPORT, now, None)
            return
        transaction.draft, transaction.last = narrow.draft, narrow.data
        transaction.restart(narrow.flow, now, self._timers)
        self._send(narrow.flow, narrow.data)

    def _take_response(self, response: Response, now: float) -> bool:
        """Gives a response to its transaction; False when there is none: it is dropped (RFC 6026 8.9)."""
        transaction = self._clients.get(f"{response.via.branch} {response.cseq.method}")
        if transaction is None:
            return False
        self._feed_client(transaction, _given(response.status), now, response)
        return True

    def _feed_client(self, transaction: ClientTransaction, given: Input, now: float, response: Response | None) -> None:
        """Moves a client transaction along its table and does what the row says."""
        for action in transaction.step(given, now, self._timers) or ():
            if action is Action.SEND:
                self._send(transaction.flow, transaction.last)
            elif action is Action.ACK:
                assert response is not None
                transaction.last = transaction.draft.write("ACK", to=response.headers["to"][0])
                self._send(transaction.flow, transaction.last)
            elif action is Action.UP:
                assert response is not None
                self._answer_came(transaction, response, now)
            elif action is Action.SEND_CANCEL:
                self._send_cancel(transaction, now)
            else:
                cause = Cause.TIMEOUT if action is Action.TIMED_OUT else Cause.TRANSPORT
                self._ended(transaction, _STATUS[cause], cause, None)
        if transaction.state is State.TERMINATED:
            self._clients.pop(transaction.key, None)

    def _answer_came(self, transaction: ClientTransaction, response: Response, now: float) -> None:
        if transaction.asked is not None and response.status in ASKED_BY:
            if self._authorise(transaction, transaction.asked, response, now):
                return
        if transaction.method != "INVITE":
            self._ended(transaction, response.status, Cause.RESPONSE, response)
            transaction.shrink()
        elif response.status >= 300:
            self._ended(transaction, response.status, Cause.RESPONSE, response)
        else:
            transaction.last = b""  # an INVITE that was heard is not sent again
            if response.status >= 200:
                self._success(transaction, response, now)
                transaction.shrink()
            elif not transaction.again:
                self._progress(transaction, response, now)

    def _authorise(self, transaction: ClientTransaction, asked: Asked, response: Response, now: float) -> bool:
        """Answers a challenge by sending the request again under the next CSeq, all else being equal (RFC 3261 22.2).
        False where it cannot be answered, or nobody wants the answer any more."""
        method, draft, dialog = transaction.method, transaction.draft, transaction.dialog
        leg = self._legs.get(transaction.leg or "")
        if transaction.leg is not None and (leg is None or leg.withdrawn):
            return False
        if not asked.by.take(response, method, draft.target, self._entropy.token):
            return False
        before, branch = transaction.key.partition(" ")[0], COOKIE + self._entropy.token()
        seq = draft.seq + 1 if leg is None else leg.dialog.next_seq()
        draft = replace(draft, head=draft.head.replace(before, branch, 1), seq=seq)
        data = draft.write(
            method, headers=asked.headers + asked.by.lines, body=asked.body, content_type=asked.content_type
        )
        again = self._ask(method, transaction.flow, branch, draft, data, now, leg=transaction.leg, dialog=dialog)
        again.asked, again.name = asked, transaction.name
        again.offered, again.again = transaction.offered, transaction.again
        if leg is not None and leg.invite is transaction:
            leg.invite = again
        return True

    def _progress(self, transaction: ClientTransaction, response: Response, now: float) -> None:
        dialog = transaction.dialog
        assert dialog is not None
        rseq = response.reliable if transaction.offered and REL in self.extensions else None
        if rseq is not None and not _in_order(transaction, response.to.tag, rseq):
            return
        if response.to.tag:
            dialog.learn(response)  # an early dialog (RFC 3261 12.1); the last fork heard is the one we know
        if rseq is not None:
            self._prack(transaction, dialog, rseq, now)
        self._events.append(Progressed(dialog.leg, response.status, response))

    def _prack(self, transaction: ClientTransaction, dialog: Dialog, rseq: int, now: float) -> None:
        """Acknowledges a reliable response (RFC 3262 4), to the phone that sent it."""
        flow, branch, draft = self._draft_inside(dialog, dialog.next_seq())
        data = draft.write("PRACK", headers=f"RAck: {rseq} {transaction.draft.seq} INVITE\r\n")
        self._ask("PRACK", flow, branch, draft, data, now).quiet = True

    def _success(self, transaction: ClientTransaction, response: Response, now: float) -> None:
        """A 2xx to an INVITE: the first confirms, its repetitions are ACKed again, other forks are ended (RFC 3261
        13.2.2.4)."""
        dialog = transaction.dialog
        assert dialog is not None
        known = transaction.acks.get(response.to.tag)
        if known is not None:
            if known[1]:
                self._send(*known)
            return
        leg = self._legs.get(dialog.leg)
        if transaction.acks or leg is None or (leg.withdrawn and not transaction.again):
            self._end_fork(transaction, dialog.fork(response), now)
            if leg is not None and leg.invite is transaction:
                self._ended(transaction, _STATUS[Cause.CANCELLED], Cause.CANCELLED, None)
            return
        if transaction.again:
            dialog.refresh_from(response)
        else:
            dialog.learn(response)
            dialog.confirmed = True
            leg.stage = Stage.UP
        if transaction.offered:
            leg.invite = None
            self._ack_success(transaction, dialog, b"", "")
        else:
            transaction.acks = {response.to.tag: (transaction.flow, b"")}  # `acknowledge` will say it
        if transaction.again:
            self._events.append(
                Responded(dialog.leg, transaction.name, "INVITE", response.status, Cause.RESPONSE, response)
            )
        else:
            self._events.append(Answered(dialog.leg, response))

    def _ack_success(self, transaction: ClientTransaction, dialog: Dialog, body: bytes, content_type: str) -> None:
        """The ACK of a 2xx is a request of its own (RFC 3261 13.2.2.4), kept to be sent again for each repetition."""
        flow, _, draft = self._draft_inside(dialog, transaction.draft.seq)
        lines = "" if transaction.asked is None else transaction.asked.by.lines  # RFC 3261 13.2.2.4: as its INVITE
        ack = draft.write("ACK", headers=lines, body=body, content_type=content_type)
        transaction.acks = {**transaction.acks, dialog.remote_tag: (flow, ack)}
        self._send(flow, ack)

    def _end_fork(self, transaction: ClientTransaction, fork: Dialog, now: float) -> None:
        """A phone answered a call that nobody wants any more: ACK, then BYE; nobody waits for the outcome."""
        self._ack_success(transaction, fork, b"", "")
        flow, branch, draft = self._draft_inside(fork, fork.next_seq())
        self._ask("BYE", flow, branch, draft, draft.write("BYE"), now).quiet = True

    def _send_cancel(self, transaction: ClientTransaction, now: float) -> None:
        """CANCEL repeats the INVITE's branch (RFC 3261 9.1), so it is known by the same one under its own method."""
        branch = transaction.key.partition(" ")[0]
        draft = transaction.draft
        data = draft.write("CANCEL", headers=transaction.cancel_headers)
        self._ask("CANCEL", transaction.flow, branch, draft, data, now).quiet = True

    def _ended(self, transaction: ClientTransaction, status: int, cause: Cause, response: Response | None) -> None:
        """A request of ours is over without a dialog to show for it, or is no INVITE at all."""
        if transaction.method == "INVITE" and not transaction.again:
            dialog = transaction.dialog
            assert dialog is not None
            self._drop(dialog)
            self._events.append(Failed(dialog.leg, status, cause, response))
            return
        leg = self._legs.get(transaction.leg or "")
        if leg is not None and leg.invite is transaction:
            leg.invite = None
        if leg is not None and leg.stage is Stage.ENDING and transaction.method == "BYE":
            self._drop(leg.dialog)
        if not transaction.quiet:
            self._events.append(
                Responded(transaction.leg, transaction.name, transaction.method, status, cause, response)
            )
