"""What relaying and recording a call costs, beside a socket loop that only relays.

`run()` starts, in turn, our relay (every call bridged and recorded) and a loop in C that checks, rewrites and records
nothing, under the same phones, and compares packets per CPU-second. Without gcc the loop is plain Python. Relay and
phones have a core each where the machine has two.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sipedge.media import plane, wire
from sipedge.media.plane import Reply, Request, Terms

HERE = Path(__file__).parent
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Run:
    """One run: packets through the relay per CPU-second of its process, delay in ms, the part lost."""

    packets_per_cpu: float
    cpu: float
    p50: float
    p99: float
    loss: float


def run(calls: int = 300, seconds: float = 4.0, runs: int = 5) -> list[dict[str, Any]]:
    """Rows of `bench.json`: medians of interleaved runs."""
    with tempfile.TemporaryDirectory() as folder:
        tools = Tools(Path(folder))
        ours, bare, peer = [], [], []
        for _ in range(runs):
            ours.append(measure_ours(tools, calls, seconds, record=True))
            peer.append(measure_peer(tools, calls, seconds))
            bare.append(measure_ours(tools, calls, seconds, record=False))
    recording = statistics.median(one.cpu for one in ours) - statistics.median(one.cpu for one in bare)
    return [
        row("relay-recording", "packets/CPU-s", tools.peer, runs, [o.packets_per_cpu for o in ours], peer),
        row("relay", "packets/CPU-s", tools.peer, runs, [o.packets_per_cpu for o in bare], peer),
        row("relay-delay-p99", "ms", tools.peer, runs, [o.p99 for o in ours], peer, "p99"),
        row("relay-loss", "part lost", tools.peer, runs, [o.loss for o in ours], peer, "loss"),
        {
            "name": "recorder",
            "value": round(recording / (calls * seconds) * 1e6, 1),
            "unit": "us CPU per call-second",
            "peer": None,
            "peer_value": None,
            "ratio": None,
            "runs": runs,
        },
    ]


def row(
    name: str, unit: str, peer: str, runs: int, values: Sequence[float], theirs: Sequence[Run], field: str = ""
) -> dict[str, Any]:
    """One row: our median beside the peer's."""
    value = statistics.median(values)
    peer_value = statistics.median(getattr(one, field or "packets_per_cpu") for one in theirs)
    ratio = round(value / peer_value, 3) if peer_value else None
    digits = 0 if value > 1000 else 4
    return {
        "name": name,
        "value": round(value, digits),
        "unit": unit,
        "peer": peer,
        "peer_value": round(peer_value, digits),
        "ratio": ratio,
        "runs": runs,
    }


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
        cpus = sorted(os.sched_getaffinity(0))
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=HERE.parent, bufsize=1
        )
        try:
            os.sched_setaffinity(process.pid, {cpus[cpu % len(cpus)]})
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
    assert phones.stdin is not None
    phones.stdin.write(" ".join(map(str, ports)) + "\n")
    phones.stdin.flush()
    assert line_of(phones) == "counted\n"
    before = cpu_of(relay.pid)
    assert line_of(phones) == "over\n"
    cpu = cpu_of(relay.pid) - before
    said = json.loads(line_of(phones))
    loss = 1 - said["received"] / said["sent"]
    return Run(said["received"] / max(cpu, 0.01), cpu, said["p50"] / 1000, said["p99"] / 1000, loss)


def measure_peer(tools: Tools, calls: int, seconds: float) -> Run:
    """The loop that only relays."""
    first = random.randrange(11_000, 15_000, 2)
    with (
        tools.start(tools.command("loop", first, 2 * calls), 1) as relay,
        tools.start(tools.command("phones", 2 * calls, seconds), 0) as phones,
    ):
        assert line_of(relay) == "ready\n"
        line_of(phones)
        return measured(relay, phones, [first + 2 * index for index in range(2 * calls)])


def measure_ours(tools: Tools, calls: int, seconds: float, record: bool) -> Run:
    """Our relay, every call bridged, and recorded where asked."""
    first = random.randrange(11_000, 15_000, 2)
    path = str(tools.folder / "relay.sock")
    command = [sys.executable, "-m", "sipedge.relay", "--socket", path]
    with (
        tools.start([*command, "--ports", f"{first}-{first + 8 * calls}"], 1) as relay,
        tools.start(tools.command("phones", 2 * calls, seconds), 0) as phones,
    ):
        line_of(relay)
        theirs = list(map(int, line_of(phones).split()))
        spool = tools.folder / f"spool-{first}-{record}"
        with Edge(path) as edge:
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
            self.ask(plane.Record(call, f"rec_{index}", str(spool)))
        self.ask(plane.Bridge(call))
        return ports.ports


if __name__ == "__main__":
    for found in run(*map(int, sys.argv[1:2])):
        sys.stdout.write(json.dumps(found) + "\n")
