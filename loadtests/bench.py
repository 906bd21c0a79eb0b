"""`python -m loadtests.bench [--quick] [--only NAME…]`: ours and each peer in turn in one run, a table and
`bench.json`.

Ratios are ours / peer's, medians of interleaved pairs, with CPU-seconds as the gate: on a shared machine the same
code varies by a fifth from run to run, and a ratio less. A peer that is not installed leaves its rows out and is
named below the table.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from loadtests import core, overload, parser, relay, rest, signalling
from loadtests.measure import Row

WIDTH = 130  # of the table where there is no terminal to ask
OUT = Path(__file__).parent.parent / "bench.json"


def measured_by(module: str, quick: bool) -> list[Row]:
    """The rows a room measures itself by; run as a process, since load tests share no code with the rooms they
    judge."""
    command = [sys.executable, "-m", module, "--runs", "3" if quick else "5"]
    return list(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def signalling_rows(quick: bool) -> list[Row]:
    return signalling.run(rates=(200,), seconds=4, pairs=2) if quick else signalling.run()


def relay_rows(quick: bool) -> list[Row]:
    return relay.run(calls=100, seconds=3, runs=2) if quick else relay.run()


BENCHES: dict[str, Callable[[bool], list[Row]]] = {
    "signalling": signalling_rows,
    "overload": lambda quick: overload.run(quick=quick),
    "core": lambda quick: core.run(runs=3 if quick else 7),
    "parser": lambda quick: parser.run(runs=3 if quick else 7),
    "relay": relay_rows,
    "pools": lambda quick: measured_by("tests.pools.bench", quick),  # bind, route and the Redis client
    "archive": lambda quick: measured_by("tests.courier.bench", quick),
    "rest": lambda quick: rest.run(runs=2 if quick else 5, count=1500 if quick else 3000),
}


def table(rows: list[Row]) -> Table:
    shown = Table(title=f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    for column in ("what", "ours", "unit", "peer", "peer's", "ratio", "runs"):
        shown.add_column(column, justify="left" if column in ("what", "unit", "peer") else "right")
    for one in rows:
        cells = [one[key] for key in ("name", "value", "unit", "peer", "peer_value", "ratio", "runs")]
        none = "n/a" if one.get("why") else "–"
        shown.add_row(
            *(none if cell is None else f"{cell:g}" if isinstance(cell, float) else str(cell) for cell in cells)
        )
    return shown


def main() -> int:
    arguments = argparse.ArgumentParser(prog="python -m loadtests.bench", description="Ours beside its peers.")
    arguments.add_argument("--quick", action="store_true", help="fewer and shorter runs: a look, not a measurement")
    arguments.add_argument("--only", nargs="+", choices=sorted(BENCHES), default=list(BENCHES))
    arguments.add_argument("--out", type=Path, default=OUT)
    asked = arguments.parse_args()
    console = Console() if sys.stdout.isatty() else Console(width=WIDTH)
    rows: list[Row] = []
    for name in asked.only:
        with console.status(f"measuring {name}"):
            rows += BENCHES[name](asked.quick)
    asked.out.write_text(json.dumps(rows, indent=1) + "\n")
    console.print(table(rows))
    for why in dict.fromkeys(one["why"] for one in rows if one.get("why")):
        console.print(f"n/a: {why}.")
    missing = [peer for peer in ("sippy", "kamailio") if not signalling.available(peer)]
    if missing:
        console.print(f"Not installed, so not measured beside: {', '.join(missing)}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
