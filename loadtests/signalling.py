"""Calls per CPU-second and the wait for an answer: our service, sippy's B2BUA and Kamailio under the same load in
turn.

INVITE with 17 headers and SDP, 100, 180, 200, ACK, half a second, BYE, 200; no RTP flows. Ours does what a real call
needs: the lease is looked up and the call slot claimed in Redis, ports are allocated and the SDP anchored at the
relay, events are written. The media range is widened so that ports resting after a call do not end the run. The load
runs on the first core, the peer on the second: of ours that is the edge, and Redis, relay and courier share the first
with the load. Every run starts its peer anew, so that none inherits another's state.
"""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from loadtests.goals import alone
from loadtests.measure import Row, absent, cpu_seconds, family, quantile, row, seconds_without_core
from loadtests.probe import Probe
from tests.system.service import Person, Place, Service, Trunk, take_place

HERE = Path(__file__).parent / "sip"
PAIRS = 600
NUMBERS = 60
LOAD_CORE, PEER_CORE = "0", str(min(1, (os.cpu_count() or 1) - 1))


@dataclass(frozen=True)
class Peer:
    """Something that takes calls: the pids whose CPU counts, pairs it connects, and where ACK and BYE go; `pause`: the
    seconds that a datagram of late waited at the most."""

    pids: Callable[[], list[int]]
    all_pids: Callable[[], list[int]]
    pairs: list[tuple[str, str]]
    to_edge: bool = False
    pause: Callable[[], float] = lambda: float("nan")


@dataclass(frozen=True)
class Run:
    """One run at one rate."""

    calls: int
    failed: int
    cpu: float
    all_cpu: float
    p50: float
    p99: float
    pause: float
    without_core: float  # ms of a second in which it could have run and other programs did

    @property
    def calls_per_cpu(self) -> float:
        return self.calls / self.cpu if self.cpu else 0.0


@contextmanager
def ours(folder: Path, place: Place, ports: str = "10000-32767", pairs: int = PAIRS) -> Iterator[Peer]:
    """The whole service. Its edge has the peer's core to itself; what the edge asks shares the other with the load."""
    trunk = Trunk(
        "load", f"sip:{place.callee}:5080", [place.caller, place.callee], more={"max_cps": 5000, "max_calls": 20000}
    )
    settings = {"media": {"ports": ports}}
    service = Service(folder, place=place, trunks=[trunk], settings=settings)
    with service:
        service.import_numbers([f"+84247200{n:04d}" for n in range(NUMBERS)], "load")
        opened = []
        for n in range(pairs):
            people = [Person("customer", f"+84907{n:06d}"), Person("driver", f"+84908{n:06d}")]
            session = service.open_session(*people)
            opened.append((people[0].number, str(session["participants"][0]["proxies"][0]["number"])))
        edges = service.pids_of("edge")
        for pid in service.pids():
            pin(pid, PEER_CORE if pid in edges else LOAD_CORE)
        yield Peer(
            lambda: service.pids_of("edge"),
            service.pids,
            opened,
            pause=lambda: service.metric("masking_sip_longest_pause_seconds"),
        )


def pin(pid: int, core: str) -> None:
    """Holds every thread of a process to that core."""
    for thread in os.listdir(f"/proc/{pid}/task"):
        os.sched_setaffinity(int(thread), {int(core)})


@contextmanager
def on_core(core: str) -> Iterator[None]:
    """What is started meanwhile runs on that core alone."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {int(core)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def started(command: list[str], place: Place, folder: Path, *, to_edge: bool) -> Iterator[Peer]:
    """A peer that connects anybody with anybody."""
    environment = dict(os.environ, SIPLOG_BEND="none")
    with on_core(PEER_CORE), (folder / "peer.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        time.sleep(1.5)
        pairs = [(f"+8490{n:07d}", f"+8424{n:07d}") for n in range(PAIRS)]
        yield Peer(lambda: family(process.pid), lambda: family(process.pid), pairs, to_edge)
    finally:
        for pid in reversed(family(process.pid)):
            os.kill(pid, signal.SIGTERM)
        try:
            process.wait(3)
        except subprocess.TimeoutExpired:
            for pid in reversed(family(process.pid)):
                os.kill(pid, signal.SIGKILL)
            process.wait()


def sippy(folder: Path, place: Place) -> Iterator[Peer]:
    program = Path(sys.executable).parent / "b2bua_simple"
    command = [sys.executable, str(program), "-f", "-l", place.edge, "-p", "5060", "-n", f"{place.callee}:5080"]
    with started(command, place, folder, to_edge=True) as peer:
        yield peer


def kamailio(folder: Path, place: Place) -> Iterator[Peer]:
    config = folder / "kamailio.cfg"
    config.write_text((HERE / "kamailio.cfg").read_text().replace("CALLEE", f"{place.callee}:5080"))
    command = ["kamailio", "-DD", "-E", "-f", str(config), "-l", f"udp:{place.edge}:5060", "-m", "256", "-M", "16",
               "-P", str(folder / "kamailio.pid"), "-Y", str(folder)]  # fmt: skip
    with started(command, place, folder, to_edge=False) as peer:
        yield peer


PEERS = {"sippy": contextmanager(sippy), "kamailio": contextmanager(kamailio), "ours": ours}


def available(peer: str) -> bool:
    if peer == "sippy":
        return (Path(sys.executable).parent / "b2bua_simple").exists()
    return peer == "ours" or shutil.which(peer) is not None


def measure(name: str, rate: int, seconds: float) -> Run:
    """One peer, started for this run alone, at `rate` calls a second plus the probe's forty."""
    with tempfile.TemporaryDirectory(prefix="masking-bench-") as temporary:
        folder = Path(temporary)
        place = take_place()
        with PEERS[name](folder, place) as peer:
            return load(peer, place, rate, seconds, folder)


def quietly(command: list[str], folder: Path) -> subprocess.Popen[bytes]:
    null = subprocess.DEVNULL
    return subprocess.Popen(command, cwd=folder, stdin=null, stdout=null, stderr=null)


def load(peer: Peer, place: Place, rate: int, seconds: float, folder: Path) -> Run:
    target = "sip:[service]@[remote_ip]:[remote_port]" if peer.to_edge else "[next_url]"
    (folder / "uac.xml").write_text((HERE / "uac.xml").read_text().replace("@target@", target))
    third = len(peer.pairs) // 3
    injected = "".join(f"{caller};{dialled}\n" for caller, dialled in peer.pairs[third:])
    (folder / "pairs.csv").write_text("SEQUENTIAL\n" + injected)
    common = ["taskset", "-c", LOAD_CORE, "sipp", "-nostdin", "-buff_size", "8000000"]
    callee = quietly(
        [*common, "-sf", str(HERE / "uas.xml"), "-i", place.callee, "-mi", place.callee, "-p", "5080"], folder
    )
    at_caller = [f"{place.edge}:5060", "-sf", "uac.xml", "-i", place.caller, "-mi", place.caller, "-p", "5070"]
    at_caller += ["-inf", "pairs.csv", "-r", str(rate), "-m", str(round(rate * seconds)), "-l", "30000"]
    at_caller += ["-trace_stat", "-stf", "stat.csv", "-fd", "1", "-timeout", str(round(seconds * 3 + 20))]
    try:
        time.sleep(0.4)
        before, all_before = cpu_seconds(peer.pids()), cpu_seconds(peer.all_pids())
        began, stood = time.monotonic(), seconds_without_core(peer.pids())
        caller = quietly([*common, *at_caller], folder)
        with Probe(place.caller, (place.edge, 5060), peer.pairs[:third], to_edge=peer.to_edge) as probe:
            time.sleep(seconds)
        caller.wait(seconds * 3 + 30)
        time.sleep(0.3)
        cpu, all_cpu = cpu_seconds(peer.pids()) - before, cpu_seconds(peer.all_pids()) - all_before
        stood = (seconds_without_core(peer.pids()) - stood) / (time.monotonic() - began) * 1000
    finally:
        callee.kill()
        callee.wait()
    with (folder / "stat.csv").open() as file:
        last = list(csv.DictReader(file, delimiter=";"))[-1]
    calls = int(last["SuccessfulCall(C)"]) + len(probe.milliseconds)
    failed = int(last["FailedCall(C)"]) + probe.failed
    waits = probe.milliseconds
    return Run(calls, failed, cpu, all_cpu, quantile(waits, 0.5), quantile(waits, 0.99), peer.pause(), stood)


def run(*, rates: tuple[int, ...] = (200, 500), seconds: float = 6.0, pairs: int = 5) -> list[Row]:
    """Interleaved runs of ours and every installed peer. sippy stands at 200 calls a second and falls at 500."""
    rows = []
    for rate in rates:
        peers = [peer for peer in ("sippy", "kamailio") if not (peer == "sippy" and rate > 200)]
        runs: dict[str, list[Run]] = {name: [] for name in ("ours", *filter(available, peers))}
        for _ in range(pairs):
            for name, found in runs.items():
                found.append(measure(name, rate, seconds))
        mine = runs["ours"]
        for peer in peers:
            rows += beside(rate, mine, peer, runs.get(peer))
        answered = [1 - one.failed / max(one.calls + one.failed, 1) for one in mine]
        rows.append(alone(f"signalling-{rate}-answered", "part of calls", answered, 5))
    return rows


def beside(rate: int, mine: list[Run], peer: str, theirs: list[Run] | None) -> list[Row]:
    """Our rows beside one peer; None: it is not installed."""
    shown = mine if theirs is None else theirs
    per_cpu = [one.calls_per_cpu for one in shown]
    whole = [one.calls / one.all_cpu for one in mine]
    rows = [
        row(f"signalling-{rate}", "calls/CPU-s", [one.calls_per_cpu for one in mine], peer, per_cpu),
        row(f"signalling-{rate}-all-processes", "calls/CPU-s", whole, peer, per_cpu),
        row(f"setup-p50-{rate}", "ms", [one.p50 for one in mine], peer, [one.p50 for one in shown], 2),
        row(f"setup-p99-{rate}", "ms", [one.p99 for one in mine], peer, [one.p99 for one in shown], 2),
        row(f"core-wait-{rate}", "ms/s", [one.without_core for one in mine], peer, [one.without_core for one in shown]),
    ]
    return rows if theirs is not None else [absent(one, peer, f"{peer} is not installed") for one in rows]
