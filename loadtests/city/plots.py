"""The city's day as pictures, beside Locust's report and in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

from loadtests.city.ground import Load, Moment, Step
from loadtests.city.orders import Demand
from loadtests.measure import quantile

SETUP = ("INVITE reaches the callee", "INVITE to ringing", "set-up added by the service")
BIN = 2.0  # seconds that a point of a curve stands for

Curve = tuple[list[float], list[float]]


def binned(points: Sequence[tuple[float, float]], part: float) -> Curve:
    """The quantile of each bin over time, in ms."""
    bins: dict[int, list[float]] = {}
    for at, value in points:
        bins.setdefault(int(at / BIN), []).append(value * 1000)
    return [(one + 0.5) * BIN for one in sorted(bins)], [quantile(bins[one], part) for one in sorted(bins)]


def rates(counts: Sequence[tuple[float, float]]) -> Curve:
    """How fast a count grew, by bins."""
    bins: dict[int, float] = {int(at / BIN): count for at, count in counts}
    ordered = sorted(bins)
    pairs = list(zip(ordered, ordered[1:], strict=False))
    return [(b + 0.5) * BIN for _, b in pairs], [(bins[b] - bins[a]) / ((b - a) * BIN) for a, b in pairs]


def picture(path: Path, title: str, unit: str, curves: dict[str, Curve], *, log: bool = False) -> None:
    figure, axes = pyplot.subplots(figsize=(9, 3.6), layout="constrained")
    for name, (xs, ys) in curves.items():
        axes.plot(xs, ys, label=name, linewidth=1.4)
    axes.set(title=title, xlabel="seconds", ylabel=unit)
    if log:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def draw(
    folder: Path, demand: Demand, steps: Sequence[Step], moments: Sequence[Moment], loads: Sequence[Load]
) -> list[Path]:
    """Five PNG files in that folder."""
    paths = [folder / f"{name}.png" for name in ("setup", "calls", "orders", "api", "cpu")]
    setup: dict[str, Curve] = {}
    for name in SETUP:
        points = [(step.at, step.seconds) for step in steps if step.name == name]
        setup[f"{name}, p50"] = binned(points, 0.5)
        setup[f"{name}, p99"] = binned(points, 0.99)
    picture(paths[0], "Set-up of calls", "ms", setup, log=True)
    at = [moment.at for moment in moments]
    up = {"calls up": (at, [m.calls for m in moments]), "sessions open": (at, [float(m.sessions) for m in moments])}
    picture(paths[1], "Calls and sessions", "count", up)
    meant = [demand.at(second) for second in at], "meant"
    dialled = [step.at for step in steps if step.name == SETUP[0] or "404" in step.name]
    calls = [(when, float(count)) for count, when in enumerate(sorted(dialled), 1)]
    curves = {
        meant[1]: (at, [rate if second < demand.seconds else 0.0 for rate, second in zip(meant[0], at, strict=True)]),
        "orders": rates([(moment.at, float(moment.orders)) for moment in moments]),
        "calls dialled": rates(calls),
    }
    picture(paths[2], "Orders and calls", "a second", curves)
    http = [(step.at, step.seconds) for step in steps if step.kind == "HTTP"]
    picture(paths[3], "API", "ms", {"p50": binned(http, 0.5), "p99": binned(http, 0.99)}, log=True)
    roles = sorted({role for load in loads for role in load.cores})
    times = [load.at for load in loads]
    cpu = {role: (times, [load.cores.get(role, 0.0) for load in loads]) for role in roles}
    picture(paths[4], "Processor time", "cores", cpu)
    return paths


def into_report(report: Path, pictures: Sequence[Path]) -> None:
    """Puts the pictures, by name, at the end of Locust's page."""
    images = "".join(f'<p><img src="{one.name}" alt="{one.stem}" style="max-width:100%"></p>' for one in pictures)
    page = report.read_text()
    report.write_text(page.replace("</body>", f"{images}</body>"))
