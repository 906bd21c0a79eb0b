"""What the two processes of a city run tell each other: the ground it stands on, and what happened."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self


@dataclass(frozen=True)
class Ground:
    """Where the service is, how the city is to be, and where its story is written."""

    http: str
    key: str
    edge: tuple[str, int]
    listen: tuple[str, int]  # where the carrier's exchange is
    seconds: float
    orders_per_second: float
    peak: float
    seed: int
    slack: float
    folder: str

    @property
    def steps(self) -> Path:
        return Path(self.folder) / "steps.jsonl"

    @property
    def moments(self) -> Path:
        return Path(self.folder) / "moments.jsonl"

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, path: str) -> Self:
        told: dict[str, Any] = json.loads(Path(path).read_text())
        return cls(**told | {"edge": tuple(told["edge"]), "listen": tuple(told["listen"])})


class Step(NamedTuple):
    """One step of somebody: when it ended (seconds into the run), what, how long it took, what was wrong."""

    at: float
    kind: str
    name: str
    seconds: float
    problem: str | None


class Moment(NamedTuple):
    """How much went on at that second: orders so far, sessions open, calls up, RTP packets sent (and unsent, the
    city being late) by phones that have hung up."""

    at: float
    orders: int
    sessions: int
    calls: float
    packets: int
    unsent: int


class Load(NamedTuple):
    """What each role used of a core around that second."""

    at: float
    cores: dict[str, float]


def read_steps(path: Path) -> list[Step]:
    return [Step(*json.loads(line)) for line in path.read_text().splitlines()]


def read_moments(path: Path) -> list[Moment]:
    return [Moment(*json.loads(line)) for line in path.read_text().splitlines()]
