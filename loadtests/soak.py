"""`python -m loadtests.soak [--only NAME…] [--seed N] [--sessions N] [--messages N] [--bent N] [--tries N]
[--seconds N] [--faults N] [--examples N] [--tamperings N]`: the long runs.

The same code that `make test` runs small: creators through two API processes one of which dies; millions of bent
messages at every parser (`--messages` of SIP, and as many of SDP, RTP and RTCP together); bent SIP at the service
beside slow connections and calls; schemathesis over the API as two tenants; tampering with evidence; kill -9 of every
process in turn; how long each kind of refusal takes; and coverage-guided fuzzing. Prints one row a run and exits 1 when
any promise was broken; a failed run is repeated by giving its seed.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from pathlib import Path

from rich.console import Console

from loadtests import fuzz, mutations
from tests.courier import tampering
from tests.pools.history import overlaps
from tests.proof import refusals
from tests.proof.conftest import fill, open_service
from tests.system import chaos, crowd_killed, faults, hostile, lease_run, schema_run
from tests.system.live import live_call
from tests.system.service import Service
from tests.system.sipp import Phones

MEMORY = 200 << 20
APART = 5.0  # ms between the medians of two kinds of refusal
Broken = list[str]
"""What was not as promised, in words; empty after a good run."""


@contextmanager
def fresh_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="masking-soak-") as folder:
        yield Path(folder)


def leases(asked: argparse.Namespace, console: Console) -> Broken:
    with fresh_folder() as folder, lease_run.two_apis(folder) as service:
        done = asyncio.run(lease_run.run(service, asked.sessions, asked.seed))
        found = overlaps(done.history)
        console.print(
            f"leases: {done.opened} opened, {done.closed} closed, {done.exhausted} exhausted, {done.retried} asked"
            f" again, {len(done.history)} grants, {len(found)} doubles, {done.seconds:.0f} s"
        )
        broken = [f"{len(found)} pairs of live bindings share (X, caller)"] if found else []
        return broken + quiet(service)


def mutated(asked: argparse.Namespace, console: Console) -> Broken:
    broken = []
    for kind, part in (("sip", 1), ("sdp", 3), ("rtp", 3), ("rtcp", 3)):
        began = time.monotonic()
        found = mutations.run(kind, -(-asked.messages // part), asked.seed)
        rate = found.messages / (time.monotonic() - began)
        console.print(
            f"mutations of {kind}: {found.messages} read, {rate:.0f} a second, {len(found.failures)} crashes, "
            f"{found.slowest * 1e3:.2f} ms for the slowest, memory +{found.growth >> 10} KiB"
        )
        broken += found.broken
    return broken


def attack(asked: argparse.Namespace, console: Console) -> Broken:
    with fresh_folder() as folder, Service(folder / "service") as service:
        service.import_numbers([f"+8424710000{n:02d}" for n in range(20)], "vn-main")
        phones = Phones(folder / "sipp", service.place.edge)
        calls = 0

        def call() -> None:
            nonlocal calls
            with live_call(service, phones, seconds=0.3) as live:
                live.ended()
            calls += 1

        done = hostile.attack_beside(call, service, asked.bent, asked.seed, trunk=service.place.moscow)
        grown = done.memory_peak - done.memory_before
        console.print(
            f"attack: {done.sent} sent, {calls} calls beside, {sum(done.answers.values())} answers to the trunk, "
            f"{done.bytes_to_strangers} bytes to the stranger, memory +{grown >> 20} MiB at most"
        )
        broken = ["the stranger got bytes"] if done.bytes_to_strangers else []
        return broken + ([f"memory grew by {grown >> 20} MiB"] if grown > MEMORY else []) + quiet(service)


def kills(asked: argparse.Namespace, console: Console) -> Broken:
    broken = []
    for turn in range(asked.faults):
        for role in faults.ROLES:
            with fresh_folder() as folder:
                after = faults.one_fault(folder, role)
                wrong = faults.broken_promises(after)
                times = f"back after {after.back_after:.1f} s, ended after {after.ended_after:.1f} s"
                settled = f"recording settled after {after.settled_after:.1f} s"
                console.print("; ".join([f"kill -9 of {role}, {turn + 1}: {times}, {settled}", *wrong]))
                broken += [f"{role}: {one}" for one in wrong]
    return broken


def deaths(asked: argparse.Namespace, console: Console) -> Broken:
    broken = []
    for seed in range(asked.seed, asked.seed + asked.faults):
        with fresh_folder() as folder:
            after = chaos.run(folder, seed, seconds=60.0)
        killed = ", ".join(f"{role} {count}" for role, count in sorted(after.kills.items()))
        console.print(
            f"deaths, seed {seed}: killed {killed}; {after.answered} calls answered, {after.failed} not,"
            f" {after.interactions} interactions, recordings {dict(after.recordings)}, {len(after.wrong)} wrong"
        )
        broken += [f"seed {seed}: {one}" for one in after.wrong]
    return broken


def crowd(asked: argparse.Namespace, console: Console) -> Broken:
    with fresh_folder() as folder:
        after = crowd_killed.run(folder, asked.calls)
    console.print(
        f"crowd: edge and relay killed in {after.calls} recorded calls: recordings {after.statuses}, all settled after"
        f" {after.settled_after:.1f} s, {max(after.lost, default=inf):.2f} s lost before the fault at most"
    )
    return [f"crowd: {one}" for one in after.wrong]


def quiet(service: Service) -> Broken:
    return ["a traceback in the log"] if "Traceback" in service.log() else []


def refused(asked: argparse.Namespace, console: Console) -> Broken:
    """Can a caller tell one kind of "no" from another by how long it takes?"""
    with fresh_folder() as folder, open_service(folder / "service") as service:
        fill(service)
        times = refusals.medians(service, refusals.kinds(service), asked.tries)
        broken = quiet(service)
    for name, (first, final) in sorted(times.items(), key=lambda one: one[1][1]):
        console.print(f"refusals: {name}: {first:.2f} ms to the first answer, {final:.2f} ms to the last")
    for at, what in enumerate(("first", "last")):
        apart = max(one[at] for one in times.values()) - min(one[at] for one in times.values())
        console.print(f"refusals: medians of {asked.tries} tries lie {apart:.2f} ms apart ({what} answer)")
        if apart >= APART:
            broken.append(f"refusals differ by {apart:.1f} ms in their {what} answer")
    return broken


def schema(asked: argparse.Namespace, console: Console) -> Broken:
    with fresh_folder() as folder, Service(folder / "service") as service:
        done = schema_run.run(service, folder / "schemathesis", examples=asked.examples, seed=asked.seed)
        broken = quiet(service)
    console.print(f"schemathesis: {done.cases} requests of two tenants, {done.seconds:.0f} s")
    if not done.clean:
        console.print(done.said, markup=False)
    return broken + ([] if done.clean else ["schemathesis found what is told above"])


def tampered(asked: argparse.Namespace, console: Console) -> Broken:
    with fresh_folder() as folder:
        began = time.monotonic()
        done = asyncio.run(tampering.run(folder, asked.tamperings, asked.seed))
        ways = ", ".join(f"{way} {count}" for way, count in done.tried.items())
        took = time.monotonic() - began
        console.print(f"tampering: {ways}; {len(done.wrong)} of {done.tried.total()} not named, {took:.0f} s")
    return done.wrong


def fuzzed(asked: argparse.Namespace, console: Console) -> Broken:
    """Each target in a process of its own, guided by coverage, where atheris is installed."""
    broken: Broken = []
    for target in fuzz.NAMES:
        command = [sys.executable, "-m", "loadtests.fuzz", target, f"--seconds={asked.seconds}", f"--seed={asked.seed}"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode == fuzz.MISSING:
            console.print(f"fuzz: left out: {done.stderr.strip()}")
            return broken
        runs = re.search(r"number_of_executed_units: (\d+)", done.stderr)
        memory = re.search(r"peak_rss_mb: +(\d+)", done.stderr)
        told = f"{runs[1]} inputs" if runs else "no figures"
        console.print(f"fuzz: {target}: {told} in {asked.seconds} s, {memory[1] if memory else '?'} MiB at most")
        if done.returncode:
            broken.append(f"fuzz: {target}: {done.stderr.strip().splitlines()[-1]}; its input lies in fuzz/{target}")
    return broken


RUNS: dict[str, Callable[[argparse.Namespace, Console], Broken]] = {
    "leases": leases, "mutations": mutated, "attack": attack, "kills": kills, "deaths": deaths, "crowd": crowd,
    "refusals": refused, "schemathesis": schema, "tampering": tampered, "fuzz": fuzzed,
}  # fmt: skip


def main() -> int:
    arguments = argparse.ArgumentParser(prog="python -m loadtests.soak", description="The long runs.")
    arguments.add_argument("--only", nargs="+", choices=sorted(RUNS), default=list(RUNS))
    arguments.add_argument("--seed", type=int, default=int(time.time()))
    arguments.add_argument("--sessions", type=int, default=50_000)
    arguments.add_argument("--messages", type=int, default=10_000_000, help="bent ones, of SIP and of all media")
    arguments.add_argument("--bent", type=int, default=100_000, help="messages at the running service")
    arguments.add_argument("--tries", type=int, default=2_000, help="refused calls of each kind")
    arguments.add_argument("--seconds", type=int, default=120, help="of coverage-guided fuzzing, each target")
    arguments.add_argument("--examples", type=int, default=300, help="of each call of the API, by schemathesis")
    arguments.add_argument("--tamperings", type=int, default=10_000, help="of a chain of evidence and its files")
    arguments.add_argument("--calls", type=int, default=200, help="recorded, while edge and relay are killed")
    arguments.add_argument("--faults", type=int, default=5, help="kills of each process")
    asked = arguments.parse_args()
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"seed {asked.seed}")
    broken: Broken = []
    for name in asked.only:
        broken += RUNS[name](asked, console)
    for one in broken:
        console.print(f"[red]broken:[/red] {one}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
