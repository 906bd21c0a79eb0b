"""The control socket: errors are answers, edges come and go, and nothing an edge sends ends the relay."""

from __future__ import annotations

import random
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from recordings.capture import Closed, writer_lives
from sipedge.media import plane, wire
from sipedge.media.plane import Bridge, Claim, Close, Done, Failed, Held, Measure, Measures, Open, Ports
from tests.relay.peers import SEAL, Edge, Phone, Relay, talk, written


def test_an_edge_says_who_it_is_first(relay: Relay) -> None:
    with relay.edge("") as edge:
        assert edge.ask(Open("c"), Failed).code == "bad_request"
        edge.ask(plane.Hello("late"), Held)
        edge.ask(Open("late-call"), Ports)
        edge.close("late-call")


def test_what_makes_no_sense_is_answered(edge: Edge, call: str, alice: Phone) -> None:
    for command in (
        Close("nobody"),
        Bridge("nobody"),
        plane.Stop("nobody", 1),
        plane.Record("nobody", "rec_1", "/tmp", SEAL),
        plane.Connect("nobody", 1, alice.terms()),
    ):
        assert edge.ask(command, Failed).code == "unknown_call"
    edge.open(call, legs=1)
    assert edge.ask(Open(call), Failed).code == "call_exists"
    assert edge.ask(Open("other", silent_after=float("nan")), Failed).code == "bad_request"
    assert edge.ask(Bridge(call), Failed).code == "bad_request"
    assert edge.ask(plane.Connect(call, 2, alice.terms()), Failed).code == "bad_request"
    assert edge.ask(plane.Connect(call, 1, alice.terms(cidrs=("ten",))), Failed).code == "bad_request"


def test_noise_is_answered_and_the_connection_goes_on(edge: Edge, call: str) -> None:
    chance = random.Random(5)
    bodies = [chance.randbytes(chance.randrange(1, 80)) for _ in range(200)]
    for body in [*bodies, b"", b"\x91" * 1000, msgspec.msgpack.encode({"id": 77, "command": {"type": "fly"}})]:
        edge.socket.sendall(len(body).to_bytes(4, "big") + body)
    failed = edge.result(77)
    assert isinstance(failed, Failed) and failed.code == "bad_request"
    edge.open(call)


def test_an_over_long_frame_ends_the_connection_and_nothing_else(relay: Relay, edge: Edge) -> None:
    with relay.edge("loud") as loud:
        loud.socket.sendall(b"\xff\xff\xff\xff" + b"x" * 1000)
        with pytest.raises((ConnectionError, OSError)):
            while True:
                loud.read()
    edge.ask(Measure(), Measures)


def test_requests_sent_in_one_go_are_all_answered(edge: Edge, call: str) -> None:
    ids = [edge.send(Measure()) for _ in range(300)]
    assert all(isinstance(edge.result(id), Measures) for id in ids)


def test_an_edge_that_never_reads_counts_as_gone(own_relay: Relay) -> None:
    with own_relay.edge("deaf") as deaf:
        deaf.open("c1")
        deaf.socket.settimeout(0.5)
        many = b"".join(wire.encode(plane.Request(9, Measure())) for _ in range(500))
        with pytest.raises((TimeoutError, BrokenPipeError, ConnectionResetError)):
            for _ in range(500):
                deaf.socket.sendall(many)
    with own_relay.edge("other") as other:
        assert own_relay.process.poll() is None
        other.ask(Measure(), Measures)


def test_the_range_is_used_up_and_comes_back_after_its_rest(tmp_path: Path) -> None:
    base = random.randrange(20_000, 25_000, 2)
    with Relay(tmp_path, ports=f"{base}-{base + 7}") as relay, relay.edge() as edge:
        first = edge.open("c1")
        second = edge.open("c2")
        assert sorted(first + second) == [base, base + 2, base + 4, base + 6]
        assert edge.ask(Open("c3"), Failed).code == "no_ports"
        edge.close("c1")
        edge.close("c2")
        assert edge.ask(Open("c3"), Failed).code == "no_ports"  # under four seconds
        measures = edge.ask(Measure(), Measures)
        assert (measures.calls, measures.ports_used, measures.ports_resting, measures.ports_free) == (0, 0, 4, 0)
        began = time.monotonic()
        while isinstance(answer := edge.result(edge.send(Open("c3"))), Failed):
            assert time.monotonic() - began < 6
            time.sleep(0.05)
        assert isinstance(answer, Ports) and answer.ports == first
        assert time.monotonic() - began > 3.5


def test_a_call_of_two_legs_takes_no_port_when_only_one_is_left(tmp_path: Path) -> None:
    base = random.randrange(25_000, 30_000, 2)
    with Relay(tmp_path, ports=f"{base}-{base + 5}") as relay, relay.edge() as edge:
        edge.open("c1")
        assert edge.ask(Open("c2"), Failed).code == "no_ports"
        assert edge.open("c3", legs=1) == (base + 4,)


def test_a_port_somebody_else_has_is_passed_over(tmp_path: Path) -> None:
    base = random.randrange(10_000, 12_000, 2)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", base + 1))
        with Relay(tmp_path, ports=f"{base}-{base + 5}") as relay, relay.edge() as edge:
            assert edge.open("c1") == (base + 2, base + 4)


def test_calls_of_a_lost_edge_go_on_and_can_be_claimed(
    own_relay: Relay, tmp_path: Path, alice: Phone, bob: Phone
) -> None:
    """What nobody claims ends after five seconds, its recording in order."""
    with own_relay.edge("edge-7") as first:
        first.bridged("c1", alice, bob)
        first.open("c2")
        first.ask(plane.Record("c2", "rec_o", str(tmp_path), SEAL), Done)
        talk(alice, bob, frames=5)
    talk(alice, bob, frames=25)
    assert len(alice.heard) == len(bob.heard) == 30
    with own_relay.edge("edge-8") as stranger, own_relay.edge("edge-7") as second:
        assert stranger.left == () and set(second.left) == {"c1", "c2"}
        assert second.ask(Claim(("c1", "gone")), Held).calls == ("c1",)
        deadline = time.monotonic() + 8
        while stranger.ask(plane.List(), Held).calls != ("c1",) or writer_lives(tmp_path / "rec_o.capture"):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert isinstance(list(written(tmp_path / "rec_o.capture"))[-1], Closed)
        talk(alice, bob, frames=5)
        assert len(alice.heard) == 35
        second.ask(plane.RingBack("c1", 1, "VN"), plane.Playing)
        assert stranger.ask(Claim(("c1",)), Held).calls == ("c1",)
        assert second.event(plane.CallLost) == plane.CallLost("c1", "claimed")
        stranger.ask(plane.Stop("c1", 1), Done)
        assert stranger.event(plane.PlayFinished).call == "c1"


def test_the_socket_is_for_its_owner_only_and_belongs_to_one_relay(relay: Relay) -> None:
    assert stat.S_IMODE(Path(relay.path).stat().st_mode) == 0o600
    second = [sys.executable, "-m", "sipedge.relay", "--socket", relay.path, "--ports", relay.ports]
    refused = subprocess.run(second, capture_output=True, text=True, timeout=20)
    assert refused.returncode == 2 and "another relay listens" in refused.stderr


def test_a_relay_starts_over_the_socket_of_one_that_was_killed(tmp_path: Path) -> None:
    with Relay(tmp_path) as first:
        first.process.send_signal(signal.SIGKILL)
        first.process.wait()
        with Relay(tmp_path) as second, second.edge() as edge:
            edge.open("c1")


@pytest.mark.parametrize(
    "wrong", [["--ports", "1-1"], ["--ports", "x"], ["--bind", "no.such.host.invalid"], ["--socket", "/no/such/dir/s"]]
)
def test_a_bad_argument_is_a_message(tmp_path: Path, wrong: list[str]) -> None:
    command = [sys.executable, "-m", "sipedge.relay", "--socket", str(tmp_path / "s"), *wrong]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert refused.returncode == 2 and "Traceback" not in refused.stderr


def test_calls_leave_nothing_behind(own_relay: Relay, tmp_path: Path, alice: Phone, bob: Phone) -> None:
    descriptors = Path(f"/proc/{own_relay.process.pid}/fd")
    with own_relay.edge() as edge:
        before = len(list(descriptors.iterdir()))
        for index in range(60):
            edge.bridged(f"c{index}", alice, bob)
            edge.connect(f"c{index}", 1, alice)
            edge.ask(plane.Record(f"c{index}", f"rec_{index}", str(tmp_path), SEAL), Done)
            edge.ask(plane.RingBack(f"c{index}", 1, "VN"), plane.Playing)
        assert len(list(descriptors.iterdir())) == before + 60 * 7  # two legs of three sockets, and a capture
        for index in range(60):
            edge.close(f"c{index}")
        edge.ask(plane.RingBack("c0", 1, "VN"), Failed)
        deadline = time.monotonic() + 5
        while len(list(descriptors.iterdir())) != before:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        measures = edge.ask(Measure(), Measures)
        assert (measures.calls, measures.ports_used, measures.recording) == (0, 0, 0)


def test_measures_tell_what_happened(own_relay: Relay, alice: Phone, bob: Phone) -> None:
    with own_relay.edge() as edge, Phone(host="127.0.0.9") as stranger:
        edge.bridged("c1", alice, bob)
        stranger.to = alice.to
        talk(alice, bob, stranger, frames=25, frequencies=(440, 880, 660))
        during = edge.ask(Measure(), Measures)
        edge.close("c1")
        after = edge.ask(Measure(), Measures)
    for measures in (during, after):
        assert (measures.received, measures.sent, measures.dropped) == (50, 50, {"wrong_port": 25})
    assert (during.calls, after.calls, after.ports_resting) == (1, 0, 2)
    assert 0 <= during.lateness_p99 <= during.lateness_max < 0.5
