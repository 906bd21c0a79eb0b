"""`python -m loadtests.city --minutes 2 --orders-per-second 5 --peak 3`: a city against a service of its own.

Starts the whole service, lets Locust run the citizens, and writes `city/`: Locust's `report.html` with the pictures
beside it, `city.json` with the figures. Exit code 0 when everything was as promised, 1 when anything was not, 2 for
arguments that cannot be.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from loadtests.city.ground import Ground, Load, Step, read_moments, read_steps
from loadtests.city.orders import Demand
from loadtests.measure import cpu_seconds, family, quantile
from tests.system.service import KEY, Service, Trunk

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
ROLES = ("edge", "relay", "api", "courier", "valkey")
NUMBERS = 300
LONGEST_MINUTES, MOST_ORDERS = 60.0, 50.0
CITIZENS = 5  # one shop, four dispute desks
TOO_LATE = 0.05  # part of the packets that the phones may fail to send before what they hear means nothing
GRACE = 90.0  # seconds after the last order's arrival that Locust gets


class Watch:
    """What every role of the service, and Locust, use of the processor, second by second."""

    def __init__(self, service: Service, citizens: int) -> None:
        self._service, self._citizens = service, citizens
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.loads: list[Load] = []
        self.seconds: dict[str, float] = {}  # CPU-seconds of each over the whole run
        self.memory = 0  # bytes of our processes, the most seen

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _used(self) -> dict[str, float]:
        used = {role: cpu_seconds(self._service.pids_of(role)) for role in ROLES}
        return used | {"the city itself": cpu_seconds(family(self._citizens))}

    def _watch(self) -> None:
        began = before_at = time.monotonic()
        first = before = self._used()
        while not self._over.wait(1.0):
            now, used = time.monotonic(), self._used()
            cores = {role: max(0.0, used[role] - before[role]) / (now - before_at) for role in used}
            self.loads.append(Load(now - began, cores))
            self.seconds = {role: max(self.seconds.get(role, 0.0), used[role] - first[role]) for role in used}
            self.memory = max(self.memory, self._service.memory())
            before_at, before = now, used


@contextmanager
def service_of(folder: Path) -> Iterator[Service]:
    """A service with one carrier, whose exchange holds every phone of the city."""
    service = Service(folder, trunks=[], settings={"media": {"ports": "10000-19999"}})
    place = service.place
    carrier = Trunk("city", f"sip:{place.callee}:5080", [place.callee], more={"max_cps": 5000, "max_calls": 20000})
    service.config_path.write_text(service.config_path.read_text() + carrier.toml())
    with service:
        service.import_numbers([f"+84248800{n:04d}" for n in range(NUMBERS)], "city")
        yield service


def run_citizens(ground: Ground, service: Service, folder: Path) -> tuple[int, Watch]:
    """Locust, headless; its exit code, and what the processes used meanwhile."""
    told = folder / "ground.json"
    ground.write(told)
    longest = f"{round(ground.seconds + GRACE)}s"
    command = [sys.executable, "-m", "locust", "-f", str(HERE / "citizens.py"), "--headless", "--only-summary"]
    command += ["-u", str(CITIZENS), "-r", str(CITIZENS), "-t", longest, "--stop-timeout", "5"]
    command += ["--html", str(folder / "report.html"), "--csv", str(folder / "locust"), "--loglevel", "WARNING"]
    environment = dict(os.environ, CITY_GROUND=str(told), PYTHONPATH=str(ROOT))
    with (folder / "locust.log").open("wb") as log:
        locust = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    with Watch(service, locust.pid) as watch:
        try:
            return locust.wait(ground.seconds + GRACE + 30), watch
        except subprocess.TimeoutExpired:
            return -1, watch
        finally:
            if locust.poll() is None:
                locust.kill()
                locust.wait()


def left_over(service: Service) -> list[str]:
    """What may not be there once everybody has gone home."""
    deadline = time.monotonic() + 10
    found: list[str] = []
    while time.monotonic() < deadline:
        counts = {
            "calls at the edge": service.metric("masking_sip_calls"),
            "calls at the relay": service.metric("masking_media_now", what="calls"),
            "recordings at the relay": service.metric("masking_rtp_recordings"),
            "facts Redis never got": service.metric("masking_sip_facts_untold"),
        }
        found = [f"{what}: {count:g}" for what, count in counts.items() if count]
        if not found:
            break
        time.sleep(0.5)
    dropped = service.metric("masking_rtp_recorder_dropped_total")
    if dropped:
        found.append(f"packets the recorder had no room for: {dropped:g}")
    if "Traceback" in service.log():
        found.append("a traceback in the service's log")
    return found


def media_of(service: Service) -> dict[str, float]:
    """What the relay did with the city's packets, by its own count."""
    counts = {"received": service.metric("masking_media_packets_total", what="received")}
    for reason in ("spray", "outside", "wrong_port", "bad_version", "payload", "flood", "late", "rtcp"):
        counts[reason] = service.metric("masking_media_dropped_total", reason=reason)
    return {what: count for what, count in counts.items() if count}


def summary(steps: list[Step], watch: Watch) -> dict[str, Any]:
    """The figures of the run, by step: how many, p50 and p99 in ms, how many not as promised."""
    by_name: dict[str, list[Step]] = {}
    for step in steps:
        by_name.setdefault(f"{step.kind} {step.name}", []).append(step)
    told = {
        name: {
            "count": len(found),
            "p50": round(quantile([one.seconds for one in found], 0.5) * 1000, 1),
            "p99": round(quantile([one.seconds for one in found], 0.99) * 1000, 1),
            "broken": sum(1 for one in found if one.problem is not None),
        }
        for name, found in sorted(by_name.items())
    }
    cpu = {role: round(seconds, 2) for role, seconds in watch.seconds.items()}
    return {"steps": told, "cpu_seconds": cpu, "memory_mb": round(watch.memory / 1e6, 1)}


def show(console: Console, figures: dict[str, Any]) -> None:
    table = Table(title="A city's day")
    for column in ("step", "count", "p50 ms", "p99 ms", "not as promised"):
        table.add_column(column, justify="left" if column == "step" else "right")
    for name, found in figures["steps"].items():
        table.add_row(name, *(str(found[key]) for key in ("count", "p50", "p99", "broken")))
    console.print(table)
    cpu = ", ".join(f"{role} {seconds:g}" for role, seconds in figures["cpu_seconds"].items())
    console.print(f"CPU-seconds: {cpu}. Memory of our processes: {figures['memory_mb']:g} MB at most.")
    console.print("RTP packets: " + ", ".join(f"{what} {count:g}" for what, count in figures["packets"].items()) + ".")


def city(asked: argparse.Namespace, console: Console) -> int:
    folder = asked.out.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="masking-city-") as temporary, service_of(Path(temporary)) as service:
        ground = Ground(
            service.ready["http"], KEY, (service.place.edge, 5060), (service.place.callee, 5080), asked.minutes * 60,
            asked.orders_per_second, asked.peak, asked.seed, asked.slack, str(folder),
        )  # fmt: skip
        with console.status("the city is awake"):
            code, watch = run_citizens(ground, service, folder)
            problems, media = left_over(service), media_of(service)
        shutil.copyfile(service.root / "service.log", folder / "service.log")
    steps = read_steps(ground.steps) if ground.steps.exists() else []
    problems += sorted({f"{one.kind} {one.name}: {one.problem}" for one in steps if one.problem is not None})
    if code or not steps:
        problems.append(f"Locust ended with {code} (see {folder / 'locust.log'})")
    moments = read_moments(ground.moments) if ground.moments.exists() else []
    if moments:
        sent, unsent = moments[-1].packets, moments[-1].unsent
        media = {"sent": sent, "unsent, the city being late": unsent} | media
        if unsent > TOO_LATE * sent:
            problems.insert(
                0, f"the city was held up itself ({unsent} packets unsent): what follows judges the machine"
            )
    figures = summary(steps, watch) | {"packets": media, "problems": problems}
    (folder / "city.json").write_text(json.dumps(figures, indent=1) + "\n")
    show(console, figures)
    if steps:
        from loadtests.city import plots  # here: matplotlib takes a second, and memory, the run should have

        demand = Demand(ground.orders_per_second, ground.peak, ground.seconds)
        pictures = plots.draw(folder, demand, steps, moments, watch.loads)
        plots.into_report(folder / "report.html", pictures)
        console.print(f"Report and pictures: {folder}")
    for problem in problems:
        console.print(f"[red]not as promised[/red] {problem}")
    return 1 if problems else 0


def arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtests.city", description="A city against a service.")
    parser.add_argument("--minutes", type=float, default=2.0, help=f"that orders arrive, up to {LONGEST_MINUTES:g}")
    parser.add_argument("--orders-per-second", type=float, default=5.0, help=f"up to {MOST_ORDERS:g}")
    parser.add_argument("--peak", type=float, default=3.0, help="times as many at the height of the middle third")
    parser.add_argument("--seed", type=int, default=1, help="of everything that is left to chance")
    parser.add_argument("--slack", type=float, default=1.0, help="times the promised seconds, on a busy machine")
    parser.add_argument("--out", type=Path, default=ROOT / "city")
    asked = parser.parse_args(words)
    if not 0 < asked.minutes <= LONGEST_MINUTES or asked.peak < 1:
        parser.error(f"--minutes must be up to {LONGEST_MINUTES:g}, --peak at least 1")
    if not 0 < asked.orders_per_second * asked.peak <= MOST_ORDERS:
        parser.error(f"orders per second, times the peak, must be up to {MOST_ORDERS:g}")
    return asked


if __name__ == "__main__":
    sys.exit(city(arguments(sys.argv[1:]), Console()))
