"""Digest authentication, asked and asking: RFC 3261 22, RFC 7616, RFC 8760."""

from __future__ import annotations

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipedge.sip import digest, gate
from sipedge.sip.digest import Authorisation, Challenge, Credentials
from sipedge.sip.endpoint import Endpoint
from sipedge.sip.events import Acked, Answered, Ended, Failed, Invited, Requested, Responded
from sipedge.sip.gate import Gate, Verdict
from sipedge.sip.grammar import Malformed
from sipedge.sip.messages import Request, Response, parse
from sipedge.sip.transactions import ServerTransaction
from tests.sip.test_calls import on, over, sent
from tests.sip.world import ALICE, SDP, World, entropy

ALICE_IS = Credentials("alice", 'open "sesame" \\ now', "carrier.example")
MUFASA = Credentials("Mufasa", "Circle of Life", "http-auth@example.org")


@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ],
)
def test_the_examples_of_rfc_7616_3_9_1(algorithm: str, expected: str) -> None:
    nonce = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v"
    cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"
    asked = Challenge("http-auth@example.org", nonce, algorithm)
    assert digest.response(MUFASA, asked, "GET", "/dir/index.html", cnonce, "00000001") == expected


def test_the_example_of_rfc_2069_whose_peers_know_no_qop() -> None:
    asked = Challenge("testrealm@host.com", "dcd98b7102dd2f0e8b11d0f600bfb0c093", "MD5", qop=False)
    who = Credentials("Mufasa", "CircleOfLife", "testrealm@host.com")
    assert digest.response(who, asked, "GET", "/dir/index.html", "", "") == "1949323746fe6a43ef61f9606e7febea"
    assert "qop" not in digest.write_answer(who, asked, "GET", "/", "c") and "nc=" not in digest.write_answer(
        who, asked, "GET", "/", "c"
    )


@pytest.mark.parametrize("algorithm", ["MD5", "MD5-SESS", "SHA-256", "SHA-256-SESS"])
def test_another_implementation_answers_a_challenge_as_we_do(algorithm: str) -> None:
    value = f'Digest realm="carrier.example", nonce="n0nce", qop="auth", algorithm={algorithm}, opaque="o"'
    theirs = httpx2.DigestAuth("alice", "secret")
    flow = theirs.auth_flow(request := httpx2.Request("GET", "http://carrier.example/"))
    next(flow)
    flow.send(httpx2.Response(401, headers={"www-authenticate": value}, request=request))
    said = digest.read_pairs(request.headers["authorization"])
    asked = digest.read_challenge(value)
    assert asked is not None and asked.session == algorithm.endswith("SESS") and asked.opaque == "o"
    who = Credentials("alice", "secret", "carrier.example")
    assert digest.response(who, asked, "GET", said["uri"], said["cnonce"], said["nc"]) == said["response"]


def challenged(status: int, *challenges: str) -> Response:
    header = "WWW-Authenticate" if status == 401 else "Proxy-Authenticate"
    lines = [
        f"SIP/2.0 {status} Prove it",
        "Via: SIP/2.0/UDP a;branch=z9hG4bKx",
        "From: <sip:a@a>;tag=1",
        "To: <sip:b@b>;tag=2",
        "Call-ID: c",
        "CSeq: 1 INVITE",
        *[f"{header}: {value}" for value in challenges],
    ]
    message = parse(("\r\n".join(lines) + "\r\n\r\n").encode())
    assert isinstance(message, Response)
    return message


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (["MD5", "SHA-256"], "SHA-256"),
        (["SHA-256", "MD5", "SHA-512-256"], "SHA-512-256"),
        (["MD5-sess", "SHA3-512"], "MD5"),
        (["md5"], "MD5"),
        (["TOKEN"], None),
    ],
)
def test_the_strongest_algorithm_offered_is_chosen(offered: list[str], chosen: str | None) -> None:
    values = [f'Digest realm="r", nonce="n", qop="auth", algorithm={name}' for name in offered]
    found = digest.choose(challenged(407, *values), Credentials("u", "p", "r"))
    assert (found.algorithm if found else None) == chosen


@pytest.mark.parametrize(
    "value",
    [
        'Digest realm="elsewhere", nonce="n"',
        'Basic realm="r"',
        'Digest realm="r"',
        'Digest realm="r", nonce="n", qop="auth-int"',
        'Digest realm="r", nonce="n',
        'Digest realm="r", nonce="',
        'Digest nonce="',
        "Digest realm=r, realm=r, nonce=n",
        "Digest realm=r, nonce",
        "Digest",
        'Digest realm="r",, nonce="n"',
        'Digest realm="r, nonce="n"x',
    ],
)
def test_a_challenge_that_is_not_ours_to_answer_is_not_answered(value: str) -> None:
    assert digest.choose(challenged(401, value), Credentials("u", "p", "r")) is None
    assert not Authorisation(Credentials("u", "p", "r")).take(challenged(401, value), "INVITE", "sip:b@b", lambda: "c")


@given(st.text(max_size=80))
def test_no_header_makes_trouble(text: str) -> None:
    for read in (digest.read_pairs, digest.read_challenge):
        try:
            read(f"Digest {text}")
        except Malformed:
            continue


def test_credentials_do_not_print_themselves() -> None:
    assert "sesame" not in repr(ALICE_IS) and "alice" not in f"{ALICE_IS}"


# ---- asked: requests of ours -----------------------------------------------------------------------------------------


class Asker:
    """Bob lets nobody in who does not know the password."""

    def __init__(self, world: World, who: Credentials = ALICE_IS) -> None:
        self.world = world
        self.gate = Gate(entropy("gate"))
        self.who = who
        self.verdicts: list[Verdict] = []
        self.once_more = 0  # so often a good answer is called stale
        on(world.bob, Invited, lambda event: self.judge(event.transaction, event.request))
        on(world.bob, Requested, lambda event: self.judge(event.transaction, event.request))

    def judge(self, transaction: ServerTransaction, request: Request) -> None:
        world, now = self.world, self.world.now
        verdict = self.gate.judge(request, self.who, ALICE[0], now)
        if verdict is Verdict.WELCOME and self.once_more:
            self.once_more, verdict = self.once_more - 1, Verdict.STALE
        self.verdicts.append(verdict)
        if verdict is Verdict.WELCOME:
            body = SDP if request.method == "INVITE" else b""
            world.bob.endpoint.respond(transaction, 200, now, body=body)
            return
        headers = self.gate.challenges(self.who, ALICE[0], now, stale=verdict is Verdict.STALE)
        world.bob.endpoint.respond(transaction, 401, now, headers=headers)


def dial(world: World, who: Credentials = ALICE_IS) -> str:
    leg = world.alice.endpoint.invite(
        world.flow(world.alice),
        "sip:bob@192.0.2.2:5070",
        world.now,
        from_="<sip:alice@192.0.2.1>",
        to="<sip:bob@192.0.2.2>",
        headers=[("P-Asserted-Identity", "<sip:alice@192.0.2.1>")],
        body=SDP,
        credentials=who,
    )
    world.run(world.now + 0.2)
    return leg


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_challenged_invite_is_sent_again_in_the_same_dialog(transport: str) -> None:
    world = World(transport=transport)
    asker = Asker(world)
    leg = dial(world)
    first, second = sent(world, "alice", b"INVITE")
    assert [first.cseq.number, second.cseq.number] == [1, 2]
    assert (first.call_id, first.from_.tag) == (second.call_id, second.from_.tag)
    assert first.via.branch != second.via.branch and not second.to.tag
    assert first.body == second.body and first.headers["contact"] == second.headers["contact"]
    assert second.header("p-asserted-identity") and "authorization" not in first.headers
    assert "algorithm=SHA-256" in (second.header("authorization") or "")
    assert asker.verdicts == [Verdict.UNKNOWN, Verdict.WELCOME]
    world.alice.one(Answered)
    world.bob.one(Acked)
    (ack,) = [one for one in sent(world, "alice", b"ACK") if one.cseq.number == 2]
    assert ack.headers["authorization"] == second.headers["authorization"]  # RFC 3261 13.2.2.4
    world.alice.endpoint.bye(leg, world.now)
    world.run(world.now + 0.1)
    world.bob.one(Ended)
    over(world)


def test_what_is_challenged_within_the_leg_is_sent_again_too_and_known_by_its_first_name() -> None:
    world = World()
    asker = Asker(world)
    leg = dial(world)
    for method, body in (("INVITE", SDP), ("INFO", b"")):
        asked = world.alice.endpoint.request(leg, method, world.now, body=body, content_type="application/sdp")
        world.run(world.now + 0.2)
        answer = world.alice.told(Responded)[-1]
        assert (answer.transaction, answer.status) == (asked, 200)
    assert [one.cseq.number for one in sent(world, "alice", b"INFO")] == [5, 6]
    assert asker.verdicts.count(Verdict.WELCOME) == 3
    world.alice.endpoint.bye(leg, world.now)
    over(world)


def test_whoever_takes_a_call_over_is_known_by_the_same_credentials() -> None:
    world = World()
    asker = Asker(world)
    leg = dial(world)
    dialog = world.alice.endpoint.dialog(leg)
    assert dialog is not None
    world.alice.endpoint = Endpoint(entropy=entropy("carol"))
    world.alice.endpoint.restore(dialog, ALICE_IS)
    world.alice.endpoint.request(leg, "INFO", world.now)
    world.run(world.now + 0.2)
    assert world.alice.one(Responded).status == 200
    assert asker.verdicts[-2:] == [Verdict.UNKNOWN, Verdict.WELCOME]


def test_a_wrong_password_is_said_once_and_then_the_call_has_failed() -> None:
    world = World()
    Asker(world)
    dial(world, ALICE_IS._replace(password="guess"))
    assert world.alice.one(Failed).status == 401
    assert len(sent(world, "alice", b"INVITE")) == 2
    over(world)


@pytest.mark.parametrize(("stale", "invites", "ends"), [(1, 3, Answered), (9, 4, Failed)])
def test_an_answer_whose_nonce_grew_old_is_given_anew_a_few_times(stale: int, invites: int, ends: type) -> None:
    world = World()
    Asker(world).once_more = stale
    leg = dial(world)
    assert len(world.alice.told(ends)) == 1
    assert len(sent(world, "alice", b"INVITE")) == invites
    world.alice.endpoint.bye(leg, world.now)
    over(world)


def test_another_realm_gets_nothing_of_us() -> None:
    world = World()
    Asker(world, ALICE_IS._replace(realm="evil.example"))
    dial(world)
    assert world.alice.one(Failed).status == 401
    assert len(sent(world, "alice", b"INVITE")) == 1
    over(world)


def test_a_proxy_and_the_called_side_may_each_ask() -> None:
    world = World()

    def ask(event: Invited) -> None:
        headers = event.request.headers
        status = 407 if "proxy-authorization" not in headers else 401 if "authorization" not in headers else 486
        name = "Proxy-Authenticate" if status == 407 else "WWW-Authenticate"
        challenge = (name, 'Digest realm="carrier.example", nonce="n", opaque="o"')
        world.bob.endpoint.respond(event.transaction, status, world.now, headers=[challenge])

    on(world.bob, Invited, ask)
    dial(world)
    assert world.alice.one(Failed).status == 486
    assert [one.cseq.number for one in sent(world, "alice", b"INVITE")] == [1, 2, 3]
    over(world)


def test_a_call_that_was_given_up_answers_no_challenge() -> None:
    world = World()
    leg = ""

    def late(event: Invited) -> None:
        world.bob.endpoint.respond(event.transaction, 180, world.now)

    on(world.bob, Invited, late)
    leg = dial(world)
    gate_ = Gate(entropy("gate"))
    headers = gate_.challenges(ALICE_IS, ALICE[0], world.now)
    world.bob.endpoint.respond(world.bob.one(Invited).transaction, 401, world.now, headers=headers)
    world.alice.endpoint.cancel(leg, world.now)
    world.run(world.now + 0.2)
    assert world.alice.one(Failed).status in (401, 487)
    assert len(sent(world, "alice", b"INVITE")) == 1
    over(world)


def test_a_registration_keeps_its_call_id_and_counts_on() -> None:
    world = World(methods=("INVITE", "ACK", "BYE", "CANCEL", "REGISTER"))
    asker = Asker(world)
    asked = world.alice.endpoint.send_request(
        world.flow(world.alice),
        "REGISTER",
        "sip:192.0.2.2",
        world.now,
        from_="<sip:alice@192.0.2.2>",
        to="<sip:alice@192.0.2.2>",
        headers=[("Contact", "<sip:alice@192.0.2.1>"), ("Expires", "60")],
        call_id="registration-1",
        seq=7,
        credentials=ALICE_IS,
    )
    world.run(0.2)
    first, second = sent(world, "alice", b"REGISTER")
    assert first.call_id == second.call_id == "registration-1"
    assert [first.cseq.number, second.cseq.number] == [7, 8]
    answer = world.alice.one(Responded)
    assert (answer.transaction, answer.status) == (asked, 200)
    assert asker.verdicts == [Verdict.UNKNOWN, Verdict.WELCOME]
    over(world)


# ---- asking: the gate ------------------------------------------------------------------------------------------------

HOST = "192.0.2.1"


def request(*authorizations: str, called: str = "bob") -> Request:
    lines = [
        f"INVITE sip:{called}@edge.example SIP/2.0",
        "Via: SIP/2.0/UDP a;branch=z9hG4bKx",
        "From: <sip:a@a>;tag=1",
        "To: <sip:b@b>",
        "Call-ID: c",
        "CSeq: 1 INVITE",
        *[f"Authorization: {value}" for value in authorizations],
    ]
    message = parse(("\r\n".join(lines) + "\r\n\r\n").encode())
    assert isinstance(message, Request)
    return message


def answer(value: str, *, who: Credentials = ALICE_IS, uri: str = "sip:bob@elsewhere", count: int = 1) -> str:
    asked = digest.read_challenge(value)
    assert asked is not None
    return digest.write_answer(who, asked, "INVITE", uri, "cnonce", count)


def challenge(door: Gate, now: float = 10.0, host: str = HOST, which: int = 0) -> str:
    return door.challenges(ALICE_IS, host, now)[which][1]


def test_the_gate_offers_sha_256_before_md5() -> None:
    door = Gate(entropy("gate"))
    offered = [digest.read_challenge(value) for _, value in door.challenges(ALICE_IS, HOST, 1.0, stale=True)]
    assert [one.algorithm for one in offered if one] == ["SHA-256", "MD5"]
    assert all(one and one.stale and one.qop for one in offered)


def test_who_allows_one_algorithm_is_asked_and_answered_in_no_other() -> None:
    only = ALICE_IS._replace(algorithms=("MD5",))
    door = Gate(entropy("gate"))
    (value,) = [value for _, value in door.challenges(only, HOST, 10.0)]
    assert door.judge(request(answer(value)), only, HOST, 11.0) is Verdict.WELCOME
    assert door.judge(request(answer(challenge(door))), only, HOST, 11.0) is Verdict.UNKNOWN
    both = [value for _, value in door.challenges(ALICE_IS, HOST, 10.0)]
    found = digest.choose(challenged(401, *both), only)
    assert found is not None and found.algorithm == "MD5"


@pytest.mark.parametrize("which", [0, 1])
def test_each_answer_lets_in_once(which: int) -> None:
    door = Gate(entropy("gate"))
    asked = challenge(door, which=which)
    for count in (1, 3, 2):  # datagrams overtake each other
        again = request(answer(asked, count=count))
        assert door.judge(again, ALICE_IS, HOST, 11.0) is Verdict.WELCOME
        assert door.judge(again, ALICE_IS, HOST, 11.0) is Verdict.STALE  # a replay
    assert door.judge(request(answer(asked, count=gate.MAX_COUNT + 1)), ALICE_IS, HOST, 11.0) is Verdict.STALE
    assert door.judge(request(answer(asked, count=0)), ALICE_IS, HOST, 11.0) is Verdict.STALE


def test_a_nonce_is_for_one_host_and_a_short_while() -> None:
    door = Gate(entropy("gate"))
    good = request(answer(challenge(door)))
    assert door.judge(good, ALICE_IS, HOST, 10.1 + gate.LIFETIME) is Verdict.STALE
    assert door.judge(good, ALICE_IS, "192.0.2.9", 11.0) is Verdict.STALE
    assert Gate(entropy("another")).judge(good, ALICE_IS, HOST, 11.0) is Verdict.STALE
    assert door.judge(good, ALICE_IS, HOST, 11.0) is Verdict.WELCOME


@pytest.mark.parametrize(
    "spoil",
    [
        lambda value: value.replace("alice", "alicia"),
        lambda value: value.replace("carrier.example", "evil.example"),
        lambda value: value.replace("sip:bob@", "sip:eve@"),
        lambda value: value.replace("sip:bob@", "mail:bob@"),
        lambda value: value.replace("qop=auth", "qop=auth-int"),
        lambda value: value.replace("qop=auth, ", ""),
        lambda value: value.replace("nc=00000001", "nc=1"),
        lambda value: value.replace("nc=00000001", "nc=0000000x"),
        lambda value: value.replace("algorithm=SHA-256", "algorithm=TOKEN"),
        lambda value: value.replace("algorithm=SHA-256", "algorithm=MD5"),
        lambda value: value.replace("response=", "answer="),
        lambda value: value.replace("Digest", "Basic"),
        lambda value: value.replace('cnonce="cnonce"', 'cnonce="other"'),
    ],
)
def test_an_answer_that_was_tampered_with_is_nobodys(spoil) -> None:  # type: ignore[no-untyped-def]
    door = Gate(entropy("gate"))
    good = answer(challenge(door))
    assert door.judge(request(spoil(good)), ALICE_IS, HOST, 11.0) is Verdict.UNKNOWN
    assert door.judge(request(spoil(good), good), ALICE_IS, HOST, 11.0) is Verdict.WELCOME


def test_the_number_that_is_called_is_signed_and_so_is_the_password() -> None:
    door = Gate(entropy("gate"))
    good = answer(challenge(door))
    assert door.judge(request(good, called="eve"), ALICE_IS, HOST, 11.0) is Verdict.UNKNOWN
    assert door.judge(request(good), ALICE_IS._replace(password="x"), HOST, 11.0) is Verdict.UNKNOWN
    assert door.judge(request(), ALICE_IS, HOST, 11.0) is Verdict.UNKNOWN


def test_what_the_gate_remembers_is_bounded_and_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "MAX_NONCES", 3)
    door = Gate(entropy("gate"))
    asked = [challenge(door) for _ in range(4)]
    verdicts = [door.judge(request(answer(one)), ALICE_IS, HOST, 11.0) for one in asked]
    assert verdicts == [Verdict.WELCOME] * 3 + [Verdict.STALE]
    assert door.judge(request(answer(asked[0], count=2)), ALICE_IS, HOST, 11.0) is Verdict.WELCOME
    late = challenge(door, now=50.0)
    assert door.judge(request(answer(late)), ALICE_IS, HOST, 50.0) is Verdict.WELCOME
    assert len(door._used) == 1


def test_who_a_request_says_it_is() -> None:
    value = answer(challenge(Gate(entropy("gate"))))
    assert gate.username(request("Basic x", value)) == "alice"
    assert gate.username(request("Digest realm=r")) == ""
    assert gate.username(request("Basic x")) == gate.username(request()) == ""
