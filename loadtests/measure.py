"""What every benchmark measures with: CPU-seconds of processes, medians of interleaved runs, one row each."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")

Row = dict[str, Any]
"""One object of `bench.json`: name, value, unit, peer, peer_value, ratio (ours / peer's), runs."""


def family(pid: int) -> list[int]:
    """A process and everything below it."""
    found, todo = [], [pid]
    while todo:
        found.append(one := todo.pop())
        try:
            for task in os.listdir(f"/proc/{one}/task"):
                todo += [int(word) for word in Path(f"/proc/{one}/task/{task}/children").read_text().split()]
        except OSError:
            continue  # it ended while we looked
    return found


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time of these processes so far."""
    ticks = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        except OSError:
            continue
    return ticks / TICKS


def seconds_without_core(pids: Iterable[int]) -> float:
    """How long threads of these processes were ready to run so far and other programs had the core."""
    nanoseconds = 0
    for pid in pids:
        try:
            for task in os.listdir(f"/proc/{pid}/task"):
                nanoseconds += int(Path(f"/proc/{pid}/task/{task}/schedstat").read_text().split()[1])
        except OSError:
            continue
    return nanoseconds / 1e9


def memory(pids: Iterable[int]) -> int:
    """Bytes of these processes in memory; a page that several share counts once in all (PSS)."""
    kilobytes = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        kilobytes += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return kilobytes * 1024


def quantile(values: Sequence[float], part: float) -> float:
    """The value below which `part` of the values lie; not a number when there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else float("nan")


def row(name: str, unit: str, ours: Sequence[float], peer: str, peers: Sequence[float], digits: int = 1) -> Row:
    """Medians, and the median of the ratios of interleaved pairs."""
    ratios = [mine / other for mine, other in zip(ours, peers, strict=False) if other]
    return {
        "name": name,
        "value": round(statistics.median(ours), digits),
        "unit": unit,
        "peer": peer,
        "peer_value": round(statistics.median(peers), digits),
        "ratio": round(statistics.median(ratios), 3) if ratios else None,
        "runs": len(ours),
    }


def absent(found: Row, peer: str, why: str) -> Row:
    """A row without this peer's figures, and why there are none."""
    return found | {"peer": peer, "peer_value": None, "ratio": None, "why": why}
