"""Masked calls in which both phones say everything about themselves in every message they can send."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from tests.proof.canaries import CALLEE, CALLER, Bird
from tests.proof.lines import PORTS
from tests.proof.phones import RawPhone, body, header
from tests.system.service import Person, Service

ASKED = ("INFO", "UPDATE", "OPTIONS", "REFER", "MESSAGE", "NOTIFY", "SUBSCRIBE", "PUBLISH", "FOO")
EARLY = ("tcp",)  # transports whose trunk passes the callee's early media
BY_INFO = ("tls",)  # transports whose phones take key presses as INFO alone
REFUSALS = (302, 305, 380, 400, 401, 403, 404, 407, 410, 415, 420, 433, 480, 484, 486, 488, 600, 603, 604, 607, 699)


class Pair:
    """A caller and a callee on one transport, in one session."""

    def __init__(
        self,
        service: Service,
        held: ExitStack,
        transport: str,
        batch: str,
        people: tuple[Person, Person],
        session: dict[str, Any],
    ) -> None:
        place = service.place
        edge = (place.edge, PORTS[transport])
        self.session: str = session["id"]
        self.dialled: str = session["participants"][0]["proxies"][0]["number"]
        self.pin: str = session["participants"][0]["proxies"][0]["pin"] or ""
        caller, callee = (sorted(service.legs[person.name])[0] for person in people)
        self.callee = RawPhone(
            held, transport, (callee, 5080), edge, people[1].number, Bird(CALLEE), batch, dials=False
        )
        self.caller = RawPhone(held, transport, (caller, 0), edge, people[0].number, Bird(CALLER), batch, dials=True)

        for phone in self.phones:
            phone.corpus.keys = transport not in BY_INFO

    @property
    def phones(self) -> tuple[RawPhone, RawPhone]:
        return self.caller, self.callee

    def other(self, phone: RawPhone) -> RawPhone:
        return self.callee if phone is self.caller else self.caller


@contextmanager
def pair(service: Service, transport: str, batch: str, **fields: Any) -> Iterator[Pair]:
    """Two people who have never called before. `fields`: of their session."""
    hosts = HOSTS[transport]
    people = tuple(service.person(role, service.place.at(host)) for role, host in zip(("c", "d"), hosts, strict=True))
    with ExitStack() as held:
        session = service.open_session(*people, service=f"over-{transport}", **fields)
        yield Pair(service, held, transport, batch, (people[0], people[1]), session)


HOSTS = {"udp": (11, 21), "tcp": (12, 22), "tls": (13, 23)}
"""Which of a place's hosts are this transport's caller and callee."""


def connect(call: Pair, *, kind: str = "") -> tuple[bytes, bytes]:
    """INVITE to ACK, with every provisional response on the way, reliable and not; gives both INVITEs."""
    caller, callee = call.phones
    branch = caller.dials(call.dialled, kind=kind)
    caller.hear("SIP/2.0 100")
    invite = callee.is_called()
    callee.answer(invite, "100", "100")
    reliable = "100rel" in header(invite, "Supported")
    asks = ("Require: 100rel", f"RSeq: {callee.bird.port}") if reliable else ()
    callee.answer(invite, "180", "180", more=asks)
    if reliable:
        callee.answer(callee.hear("PRACK "), "200", "200 to PRACK")
    callee.answer(invite, "181", "181")
    callee.answer(invite, "182", "182")
    callee.answer(invite, "183", "183", content=callee.corpus.description("183"))
    callee.answer(invite, "199", "199")
    invited = caller.cseq
    for status in ("180", "183") if caller.transport in EARLY else ("180",):
        said = caller.hear(f"SIP/2.0 {status}")
        caller.connected(said)
        caller.request("PRACK", f"PRACK of {status}", more=(f"RAck: {header(said, 'RSeq')} {invited} INVITE",))
        caller.hear("SIP/2.0 200", "PRACK")
    answer_kind, answer = "application/sdp", callee.corpus.description("200")
    if kind == "parts":
        answer_kind, answer = callee.corpus.parts("200")
    callee.answer(invite, "200", "200", content=answer, kind=answer_kind)
    callee.hear("ACK ")
    final = caller.hear("SIP/2.0 200", "INVITE")
    caller.connected(final)
    caller.acknowledge(int(header(final, "CSeq").split()[0]))
    assert branch
    return body(final), body(invite)


def connect_by_pin(call: Pair) -> None:
    """The caller keys its PIN in, by INFO with everything else it can say; then the callee rings and answers."""
    caller, callee = call.phones
    caller.dials(call.dialled)
    final = caller.hear("SIP/2.0 200", "INVITE")
    caller.connected(final)
    caller.acknowledge(int(header(final, "CSeq").split()[0]))
    for key in f"{call.pin}#":
        told = f"Signal={key}\r\nDuration=160\r\nX={caller.bird.plant('a key press')}\r\n".encode()
        caller.request("INFO", "INFO", content=told, kind="application/dtmf-relay")
        caller.hear("SIP/2.0 200", "INFO")
    invite = callee.is_called()
    callee.answer(invite, "180", "180")
    callee.answer(invite, "200", "200", content=callee.corpus.description("200"))
    callee.hear("ACK ")


def ask_inside(phone: RawPhone, other: RawPhone) -> None:
    """Every method there is within the call, then new descriptions by UPDATE and re-INVITE (and RFC 4916's identity in
    all of them)."""
    for method in ASKED:
        told = phone.bird.plant(f"body of {method}").encode() if method in ("INFO", "MESSAGE") else b""
        if method == "INFO":
            told = b"Signal=5\r\nDuration=160\r\nX=" + told + b"\r\n"
        phone.request(method, method, content=told, kind="application/dtmf-relay" if method == "INFO" else "text/plain")
        phone.hear("SIP/2.0 ", method)
        if method == "INFO" and phone.transport in BY_INFO:  # the key crosses, in words of ours
            pressed = other.hear("INFO ")
            assert body(pressed) == b"Signal=5\r\nDuration=160\r\n"
            other.answer(pressed, "200", "200 to INFO")
    phone.request("UPDATE", "UPDATE with SDP", content=phone.corpus.description("UPDATE", 2))
    phone.hear("SIP/2.0 ", "UPDATE")
    held = phone.corpus.description("reINVITE", 3).replace(b"a=sendrecv", b"a=sendonly")
    phone.request("INVITE", "reINVITE", content=held)
    final = phone.hear("SIP/2.0 200", "INVITE")
    phone.acknowledge(int(header(final, "CSeq").split()[0]), "ACK of reINVITE")


def ask_outside(phone: RawPhone, number: str) -> dict[str, int]:
    """Every method there is in no call, to a virtual number; the status each met."""
    met = {}
    for method in (*ASKED, "REGISTER", "BYE", "CANCEL", "PRACK"):
        phone.begins(number)
        told = phone.corpus.fill("{w} {n}", f"text of {method}").encode() if method == "MESSAGE" else b""
        phone.request(method, f"{method} outside", content=told, kind="text/plain")
        met[method] = int(phone.hear("SIP/2.0 ", method).split()[1])
    return met


def hang_up(phone: RawPhone, other: RawPhone) -> None:
    phone.request("BYE", "BYE")
    phone.hear("SIP/2.0 200", "BYE")
    other.answer(other.hear("BYE "), "200", "200 to BYE")


def refuse(call: Pair, status: int) -> None:
    """The callee's network refuses with everything it has."""
    caller, callee = call.phones
    branch = caller.dials(call.dialled)
    invite = callee.is_called()
    more = (f"Retry-After: {callee.bird.port} ({callee.bird.plant('Retry-After')})", f"Min-Expires: {callee.bird.port}")
    callee.answer(invite, str(status), f"{status}", more=more)
    callee.hear("ACK ")
    caller.refused(branch, caller.hear("SIP/2.0 4") if status < 600 else caller.hear("SIP/2.0 "))


def cancel(call: Pair) -> None:
    """The caller gives up while it rings."""
    caller, callee = call.phones
    branch = caller.dials(call.dialled)
    invite = callee.is_called()
    callee.answer(invite, "180", "180")
    caller.hear("SIP/2.0 180")
    caller.request("CANCEL", "CANCEL", cseq=caller.cseq, branch=branch)
    caller.hear("SIP/2.0 200", "CANCEL")
    caller.refused(branch, caller.hear("SIP/2.0 487"))
    callee.answer(callee.hear("CANCEL "), "200", "200 to CANCEL")
    callee.answer(invite, "487", "487")
    callee.hear("ACK ")
