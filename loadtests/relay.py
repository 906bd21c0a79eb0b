"""What relaying and recording a call costs, beside rtpengine in userspace and a socket loop that only relays.

`run()` starts, in turn, a loop in C that checks, rewrites and records nothing, our relay with every call bridged and
recorded, rtpengine (which records nothing either), and our relay recording nothing, under the same phones, and compares
packets per CPU-second. Without gcc the loop is plain Python; without rtpengine its row says so. Relay and phones have a
core each where the machine has two.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from loadtests import rtpengine
from loadtests.goals import alone
from loadtests.measure import Row, absent, row
from sipedge.media import plane, wire
from sipedge.media.plane import Reply, Request, Terms

HERE = Path(__file__).parent
TICKS = os.sysconf("SC_CLK_TCK")
SEAL = plane.Seal("load", "k1", bytes([9]).ljust(32, b"\0"))  # a public key; nobody reads what is recorded here
WINDOW = 0.8  # seconds: what the tap collects for, so that each window has all there is to a recording


@dataclass(frozen=True)
class Run:
    """One run: packets through the relay per CPU-second of its process, delay in ms, the part lost."""

    packets_per_cpu: float
    cpu: float
    p50: float
    p99: float
    loss: float


def run(calls: int = 300, seconds: float = 4.0, runs: int = 5, turns: int = 16) -> list[Row]:
    """Rows of `bench.json`: medians of interleaved runs, and of as many `turns` of the recorder."""
    ours, bare, loop, peer = [], [], [], []
    missing = ""
    with tempfile.TemporaryDirectory() as folder:
        tools = Tools(Path(folder))
        for _ in range(runs):
            loop.append(measure_loop(tools, calls, seconds))
            ours.append(measure_ours(tools, calls, seconds, record=True))
            try:
                peer.append(measure_rtpengine(tools, calls, seconds))
            except rtpengine.Unavailable as error:
                missing = str(error)
            bare.append(measure_ours(tools, calls, seconds, record=False))
        recorder = measure_recorder(tools, calls, turns)
    rows = [compared("relay-recording", ours, tools.peer, loop), compared("relay", bare, tools.peer, loop)]
    if missing:
        rows += [absent(one, "rtpengine", missing) for one in rows]
    else:
        rows += [compared("relay-recording", ours, "rtpengine", peer), compared("relay", bare, "rtpengine", peer)]
    return [
        *rows,
        row("relay-delay-p99", "ms", [one.p99 for one in ours], tools.peer, [one.p99 for one in loop], 3),
        alone("relay-loss", "part lost", [one.loss for one in ours], 5),
        alone("recorder", "us CPU per call-second", recorder.cost),
        alone("recorder-kept", "part of packets", [recorder.kept], 5),
    ]


def compared(name: str, ours: Sequence[Run], peer: str, theirs: Sequence[Run]) -> Row:
    """Packets per CPU-second, ours and a peer's."""
    per_cpu = [one.packets_per_cpu for one in ours], [one.packets_per_cpu for one in theirs]
    return row(name, "packets/CPU-s", per_cpu[0], peer, per_cpu[1], 0)


@dataclass(frozen=True)
class Recorder:
    """What recording added to one relay: µs of CPU a second of a call, one figure a turn; the part of packets kept."""

    cost: list[float]
    kept: float


def measure_recorder(tools: Tools, calls: int, turns: int) -> Recorder:
    """One relay under one load, recording by turns: two runs differ by more than what is measured here."""
    long = 10 * (2 * turns + 1) * 2 * WINDOW + 60.0  # they are stopped when all is measured
    with (
        our_relay(tools, calls) as (relay, path),
        tools.start(tools.command("phones", 2 * calls, long), 0) as talking,
        Edge(path) as edge,
    ):
        theirs = list(map(int, line_of(talking).split()))
        begin(talking, [port for index in range(calls) for port in edge.bridged(index, theirs, None)])

        def spent() -> float:
            time.sleep(WINDOW)  # until it is as it will be
            before = cpu_of(relay.pid)
            time.sleep(WINDOW)
            return cpu_of(relay.pid) - before

        idle, busy, packets, dropped = [spent()], [], 0, 0
        for turn in range(turns):
            spool = tools.folder / f"spool-{turn}"
            for index in range(calls):
                edge.ask(plane.Record(f"call-{index}", f"rec_{index}", str(spool), SEAL))
                edge.ask(plane.Keep(f"call-{index}"))
            busy.append(spent())
            for index in range(calls):
                recorded = edge.ask(plane.End(f"call-{index}"))
                assert isinstance(recorded, plane.Recorded) and recorded.packets
                packets += recorded.packets
                dropped += recorded.dropped
            shutil.rmtree(spool)
            idle.append(spent())
    around = [(before + after) / 2 for before, after in pairwise(idle)]
    cost = [(with_it - without) / (calls * WINDOW) * 1e6 for with_it, without in zip(busy, around, strict=True)]
    return Recorder(cost, 1 - dropped / packets)


class Tools:
    """The peer and the phones, compiled where there is a compiler."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.peer = "socket-loop"
        self._commands = {name: [sys.executable, "-m", "loadtests.relay_peers", name] for name in ("loop", "phones")}
        compiler = shutil.which("gcc") or shutil.which("cc")
        if compiler:
            self.peer = "c-loop"
            for name in self._commands:
                binary = folder / name
                subprocess.run([compiler, "-O2", "-o", str(binary), str(HERE / "c" / f"{name}.c")], check=True)
                self._commands[name] = [str(binary)]

    @contextlib.contextmanager
    def start(self, command: Sequence[str], cpu: int) -> Iterator[subprocess.Popen[str]]:
        """A process with a core of its own, ended at the end."""
        cpus = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {sorted(cpus)[cpu % len(cpus)]})  # inherited: every thread of it begins there
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=HERE.parent, bufsize=1
            )
        finally:
            os.sched_setaffinity(0, cpus)
        try:
            yield process
        finally:
            process.terminate()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()

    def command(self, name: str, *arguments: object) -> list[str]:
        """How a tool is called."""
        return [*self._commands[name], *map(str, arguments)]


def free_ports(count: int) -> int:
    """The first of so many consecutive ports of loopback nobody holds."""
    while True:
        first = random.randrange(11_000, 29_000, 2)
        try:
            for port in range(first, first + count):
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
                    one.bind(("127.0.0.1", port))
            return first
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise


def cpu_of(pid: int) -> float:
    """Seconds of CPU a process has used, kernel and all: to the nanosecond where the kernel keeps such books."""
    books = list(Path(f"/proc/{pid}/task").glob("*/schedstat"))
    if books:
        return sum(int(book.read_text().split()[0]) for book in books) / 1e9
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def line_of(process: subprocess.Popen[str]) -> str:
    """The next line a tool says."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError("a tool of the benchmark ended early")
    return line


def measured(relay: subprocess.Popen[str], phones: subprocess.Popen[str], ports: Sequence[int]) -> Run:
    """Lets the phones talk through these ports."""
    begin(phones, ports)
    before = cpu_of(relay.pid)
    assert line_of(phones) == "over\n"
    cpu = cpu_of(relay.pid) - before
    said = json.loads(line_of(phones))
    loss = 1 - said["received"] / said["sent"]
    return Run(said["received"] / max(cpu, 0.01), cpu, said["p50"] / 1000, said["p99"] / 1000, loss)


def begin(phones: subprocess.Popen[str], ports: Sequence[int]) -> None:
    """Returns when the phones have talked through these ports for a second."""
    assert phones.stdin is not None
    phones.stdin.write(" ".join(map(str, ports)) + "\n")
    phones.stdin.flush()
    assert line_of(phones) == "counted\n"


def measure_loop(tools: Tools, calls: int, seconds: float) -> Run:
    """The loop that only relays."""
    first = free_ports(4 * calls)
    with (
        tools.start(tools.command("loop", first, 2 * calls), 1) as relay,
        tools.start(tools.command("phones", 2 * calls, seconds), 0) as phones,
    ):
        assert line_of(relay) == "ready\n"
        line_of(phones)
        return measured(relay, phones, [first + 2 * index for index in range(2 * calls)])


def measure_rtpengine(tools: Tools, calls: int, seconds: float) -> Run:
    """rtpengine with a worker thread. Raises `rtpengine.Unavailable`."""
    control_port = free_ports(8 * calls + 2)
    first = control_port + 2
    command = rtpengine.command(control_port, first, first + 8 * calls - 1, tools.folder)
    with (
        tools.start(command, 1) as relay,
        tools.start(tools.command("phones", 2 * calls, seconds), 0) as phones,
        rtpengine.Control(control_port) as control,
    ):
        control.wait()
        theirs = list(map(int, line_of(phones).split()))
        ours = [port for index in range(calls) for port in control.call(index, theirs[2 * index : 2 * index + 2])]
        return measured(relay, phones, ours)


@contextlib.contextmanager
def our_relay(tools: Tools, calls: int) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Our relay, and the path of its control socket."""
    first = free_ports(8 * calls)
    path = str(tools.folder / "relay.sock")
    command = [sys.executable, "-m", "sipedge.relay", "--socket", path]
    with tools.start([*command, "--ports", f"{first}-{first + 8 * calls - 1}"], 1) as relay:
        line_of(relay)
        yield relay, path


def measure_ours(tools: Tools, calls: int, seconds: float, record: bool) -> Run:
    """Our relay, every call bridged, and recorded where asked."""
    with (
        our_relay(tools, calls) as (relay, path),
        tools.start(tools.command("phones", 2 * calls, seconds), 0) as phones,
        Edge(path) as edge,
    ):
        theirs = list(map(int, line_of(phones).split()))
        spool = tools.folder / "spool"
        ours = [port for index in range(calls) for port in edge.bridged(index, theirs, spool if record else None)]
        found = measured(relay, phones, ours)
    shutil.rmtree(spool, ignore_errors=True)
    return found


class Edge:
    """Commands a relay, one request at a time."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.connect(path)
        self._frames = wire.Frames()
        self.ask(plane.Hello("bench"))

    def __enter__(self) -> Edge:
        return self

    def __exit__(self, *error: object) -> None:
        self._socket.close()

    def ask(self, command: plane.Command) -> plane.Result:
        """The answer to one command; an error raises."""
        self._socket.sendall(wire.encode(Request(1, command)))
        while True:
            for body in self._frames.feed(self._socket.recv(65_536)):
                message = wire.decode_message(body)
                if isinstance(message, Reply):
                    if isinstance(message.result, plane.Failed):
                        raise message.result.error()
                    return message.result

    def bridged(self, index: int, theirs: Sequence[int], spool: Path | None) -> Sequence[int]:
        """One call between phones 2i and 2i + 1; our two ports."""
        call = f"call-{index}"
        ports = self.ask(plane.Open(call))
        assert isinstance(ports, plane.Ports)
        for number in (1, 2):
            terms = Terms("127.0.0.1", theirs[2 * index + number - 1], "PCMA", ("127.0.0.0/8",), dtmf=101)
            self.ask(plane.Connect(call, 1 if number == 1 else 2, terms))
        if spool is not None:
            self.ask(plane.Record(call, f"rec_{index}", str(spool), SEAL))
        self.ask(plane.Bridge(call))
        return ports.ports


if __name__ == "__main__":
    for found in run(*map(int, sys.argv[1:2])):
        sys.stdout.write(json.dumps(found) + "\n")
