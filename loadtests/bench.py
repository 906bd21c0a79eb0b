"""`python -m loadtests.bench [--quick] [--only NAME…]`: ours and each peer in turn in one run, a table and
`bench.json`.

Ratios are ours / peer's, medians of interleaved pairs, with CPU-seconds as the gate: on a shared machine the same
code varies by a fifth from run to run, and a ratio less. A row without a peer stands beside its goal; all goals are in
`loadtests.goals`. A peer that is not installed is said below the table, and its cells say n/a.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from loadtests import core, footprint, overload, parser, relay, rest, signalling
from loadtests.goals import judged
from loadtests.measure import Row

WIDTH = 150  # of the table where there is no terminal to ask
OUT = Path(__file__).parent.parent / "bench.json"


def measured_by(module: str, quick: bool, *more: str) -> list[Row]:
    """The rows a room measures itself by; run as a process, since load tests share no code with the rooms they
    judge."""
    command = [sys.executable, "-m", module, "--runs", "3" if quick else "5", *more]
    return list(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def signalling_rows(quick: bool) -> list[Row]:
    return signalling.run(rates=(200,), seconds=4, pairs=2) if quick else signalling.run()


def relay_rows(quick: bool) -> list[Row]:
    return relay.run(calls=100, seconds=3, runs=2, turns=6) if quick else relay.run()


def rest_rows(quick: bool) -> list[Row]:
    return rest.run(runs=2, count=1500) if quick else rest.run()


class Bench(NamedTuple):
    """One of the benchmarks: how it runs, and the rows it is there for; more may come."""

    run: Callable[[bool], list[Row]]
    names: tuple[str, ...]


SIGNALLING = ("signalling-200", "signalling-500", "setup-p50-200", "setup-p99-200")
OVERLOAD = ("overload-2x", "overload-2x-refusal", "overload-10x", "overload-10x-byes", "overload-10x-recovery")
EDGE = ("edge-call", "footprint-call", "footprint-20000")
RELAY = ("relay-recording", "relay", "relay-delay-p99", "relay-loss", "recorder", "recorder-kept")
RECORDINGS = ("sealing", "sealed-capture", "encode")
POOLS = ("bind", "route", "route-lookup", "redis-client", "binding-bytes", "bind-busy-party", "bind-100000-numbers")

RETRIEVAL = ("retrieval-sqlite", "retrieval-postgresql")

BENCHES: dict[str, Bench] = {
    "signalling": Bench(signalling_rows, SIGNALLING),
    "overload": Bench(lambda quick: overload.run(quick=quick), OVERLOAD),
    "edge": Bench(lambda quick: measured_by("tests.edge.bench", quick), EDGE),
    "footprint": Bench(lambda quick: footprint.run(seconds=20 if quick else 60), ("loop-pause", "idle-service")),
    "core": Bench(lambda quick: core.run(runs=3 if quick else 7), ("core",)),
    "parser": Bench(lambda quick: parser.run(runs=3 if quick else 7), ("parser",)),
    "relay": Bench(relay_rows, RELAY),
    "pools": Bench(lambda quick: measured_by("tests.pools.bench", quick), POOLS),
    "archive": Bench(lambda quick: measured_by("tests.courier.bench", quick), ("archive-writer", "archive-calls")),
    "webhooks": Bench(lambda quick: measured_by("tests.courier.bench_webhooks", quick), ("webhook-deliveries",)),
    "recordings": Bench(
        lambda quick: measured_by("tests.recordings.bench", quick), ("sealing", "sealed-capture", "encode")
    ),
    "retrieval": Bench(
        lambda quick: measured_by("tests.recordings.bench_retrieval", quick, *(["--count", "100000"] if quick else [])),
        RETRIEVAL,
    ),
    "rest": Bench(rest_rows, ("rest-create", "rest-create-p99")),
}

COLUMNS = ("name", "value", "unit", "peer", "peer_value", "ratio", "goal", "met", "runs")
LEFT = ("name", "unit", "peer", "goal", "met")


def shown(cell: Any) -> str:
    match cell:
        case None:
            return "n/a"
        case bool():
            return "yes" if cell else "[bold red]no[/]"
        case float():
            return f"{cell:g}"
        case _:
            return str(cell)


def table(rows: list[Row]) -> Table:
    """Every row, no cell empty."""
    title = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    drawn = Table(title=title)
    for column in COLUMNS:
        drawn.add_column(column.replace("_", " "), justify="left" if column in LEFT else "right")
    for one in rows:
        drawn.add_row(*["–" if one["goal"] == "none" and key == "met" else shown(one[key]) for key in COLUMNS])
    return drawn


def run(names: Sequence[str], quick: bool, console: Console) -> tuple[list[Row], list[str]]:
    """The rows of these benchmarks, judged, and what went wrong: one that fails takes no other's rows with it."""
    rows: list[Row] = []
    wrong: list[str] = []
    for name in names:
        began = time.monotonic()
        try:
            with console.status(f"measuring {name}"):
                found = BENCHES[name].run(quick)
        except subprocess.CalledProcessError as failed:
            wrong.append(f"{name} failed: {(failed.stderr or '').strip().splitlines()[-1:]}")
            continue
        missing = {} if quick else set(BENCHES[name].names) - {one["name"] for one in found}
        if missing:
            wrong.append(f"{name} gave no row {', '.join(sorted(missing))}")
        rows += [judged(one) for one in found]
        console.print(f"{name}: {time.monotonic() - began:.0f} s")
    return rows, wrong


def main() -> int:
    arguments = argparse.ArgumentParser(prog="python -m loadtests.bench", description="Ours beside its peers.")
    arguments.add_argument("--quick", action="store_true", help="fewer and shorter runs: a look, not a measurement")
    arguments.add_argument("--only", nargs="+", choices=sorted(BENCHES), default=list(BENCHES))
    arguments.add_argument("--out", type=Path, default=OUT)
    asked = arguments.parse_args()
    console = Console() if sys.stdout.isatty() else Console(width=WIDTH)
    rows, wrong = run(asked.only, asked.quick, console)
    asked.out.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
    console.print(table(rows))
    for why in dict.fromkeys(one["why"] for one in rows if one.get("why")):
        console.print(f"n/a: {why}.")
    for what in wrong:
        console.print(f"[bold red]{what}[/]")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
