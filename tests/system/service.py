"""The whole service as its operator starts it, on loopback addresses of its own, and what a judge needs to see of it.

Every service takes a /24 of 127.0.0.0/8 for itself: the edge listens on `.1`, callers stand on `.11`, the callees'
trunk on `.21`, and so on (`Place`). No two services share a port, and a capture of that network holds this service's
packets alone.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx2

from tests.system.baresip import host_address
from tests.system.leaks import Hit, Scanner, process_texts
from tests.system.pcap import scan_pcap
from tests.system.stores import own_archive, own_redis, postgres_texts, redis_texts, sqlite_texts

KEY = "judge-key-0123456789abcdef"
MASKING = Path(sys.executable).parent / "masking"
# Nobody else in a run uses these ranges; the leak scanner looks for the people who got a number of them.
CANARY_RANGES = {"VN": "+84907734", "RU": "+79037734"}
T = TypeVar("T")


def eventually(look: Callable[[], T | None], within: float, what: str) -> T:
    """The first true answer of `look`; an AssertionError that says `what` was awaited after `within` seconds."""
    deadline = time.monotonic() + within
    while True:
        if found := look():
            return found
        assert time.monotonic() < deadline, f"{what}: not so within {within:g} s"
        time.sleep(0.05)


@dataclass(frozen=True)
class Place:
    """The addresses of one service and of those who meet it."""

    network: str  # "127.40.7"
    media: int  # first port of its media range

    def at(self, host: int) -> str:
        return f"{self.network}.{host}"

    @property
    def edge(self) -> str:
        return self.at(1)

    @property
    def caller(self) -> str:
        return self.at(11)

    @property
    def callee(self) -> str:
        return self.at(21)

    @property
    def second_trunk(self) -> str:
        return self.at(22)

    @property
    def moscow(self) -> str:
        return self.at(31)

    @property
    def muting_carrier(self) -> str:
        """A trunk with `announce = "answer"`."""
        return self.at(41)

    @property
    def silent_carrier(self) -> str:
        """A trunk with `announce = "none"`."""
        return self.at(42)

    @property
    def small_carrier(self) -> str:
        """A trunk that takes one call at a time."""
        return self.at(43)

    @property
    def late_trunk(self) -> str:
        """A way out of its own, for calls that take long."""
        return self.at(23)

    @property
    def stranger(self) -> str:
        """Named by no trunk."""
        return self.at(66)


def take_place() -> Place:
    """A network whose `.1` has SIP free, and a media range nobody else is likely to have taken."""
    dice = random.SystemRandom()
    while True:
        place = Place(f"127.{dice.randrange(16, 240)}.{dice.randrange(1, 250)}", 10000 + 2000 * dice.randrange(10))
        with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind((place.edge, 5060))
            return place


@dataclass(frozen=True)
class Trunk:
    """One `[[trunk]]` table."""

    name: str
    uri: str
    sources: list[str]
    country: str = "VN"
    more: dict[str, Any] = field(default_factory=dict)

    def toml(self) -> str:
        keys = {"name": self.name, "uri": self.uri, "sources": self.sources, "country": self.country, "options_ping": 0}
        return table("[[trunk]]", {**keys, **self.more})


def table(name: str, keys: dict[str, Any]) -> str:
    """TOML writes strings, numbers, booleans and lists of strings as JSON does."""
    return "\n".join([name, *(f"{key} = {json.dumps(value)}" for key, value in keys.items()), "", ""])


def usual_trunks(place: Place) -> list[Trunk]:
    """One Vietnamese carrier with a second way out, Moscow, and two carriers with other ways to announce."""
    vn = {"carrier": "vn"}
    # A phone of another make sends its media from the machine's own address (see `baresip`).
    media = {"media": [place.caller, place.callee, host_address()]}
    return [
        Trunk("vn-main", f"sip:{place.callee}:5080", [place.caller, place.callee], more={**vn, **media}),
        Trunk("vn-second", f"sip:{place.second_trunk}:5080", [place.second_trunk], more={**vn, "priority": 2}),
        Trunk("vn-late", f"sip:{place.late_trunk}:5080", [place.late_trunk]),
        Trunk("ru", f"sip:{place.moscow}:5080", [place.moscow], "RU"),
        Trunk("vn-answer", f"sip:{place.muting_carrier}:5080", [place.muting_carrier], more={"announce": "answer"}),
        Trunk("vn-none", f"sip:{place.silent_carrier}:5080", [place.silent_carrier], more={"announce": "none"}),
        Trunk("vn-small", f"sip:{place.small_carrier}:5080", [place.small_carrier], more={"max_calls": 1}),
    ]


@dataclass(frozen=True)
class Person:
    """Somebody with a real number, known to the leak scanner by name."""

    name: str
    number: str


@dataclass(frozen=True)
class Exchange:
    """One HTTP request and its answer, as the leak scanner reads them: nobody's number in a URL or an answer."""

    url: str
    answer: bytes


class Service:
    """`masking serve` on a folder and a place of its own. A context manager; `start` may follow a `kill_all`."""

    def __init__(
        self,
        root: Path,
        *,
        place: Place | None = None,
        trunks: list[Trunk] | None = None,
        settings: dict[str, dict[str, Any]] | None = None,
    ) -> None:
        """`settings`: section → keys, over the ones a judge needs."""
        self.root = root
        self.place = place or take_place()
        self.trunks = usual_trunks(self.place) if trunks is None else trunks
        self.people: dict[str, str] = {}
        self.legs: dict[str, set[str]] = {}
        self.exchanges: list[Exchange] = []
        self.ready: dict[str, Any] = {}
        self._counter = itertools.count(1)
        self._process: subprocess.Popen[bytes] | None = None
        self._capture: subprocess.Popen[bytes] | None = None
        self._api: httpx2.Client | None = None
        root.mkdir(parents=True, exist_ok=True)
        self._redis = own_redis(root)
        self.archive = own_archive()
        self.config_path = root / "masking.toml"
        self.config_path.write_text(self._configuration(settings or {}))

    def _configuration(self, settings: dict[str, dict[str, Any]]) -> str:
        place = self.place
        sections: dict[str, dict[str, Any]] = {
            "service": {"data_dir": str(self.root / "data"), "bootstrap_key": KEY},
            "http": {"listen": "127.0.0.1:0"},
            "sip": {"listen": [f"udp:{place.edge}:5060", f"tcp:{place.edge}:5060"]},
            "media": {"ports": f"{place.media}-{place.media + 1999}"},
        }
        if self._redis is not None:
            sections["redis"] = {"url": self._redis.url}
        if self.archive:
            sections["archive"] = {"url": self.archive}
        for section, keys in settings.items():
            sections.setdefault(section, {}).update(keys)
        written = [table(f"[{section}]", keys) for section, keys in sections.items()]
        return "".join(written + [trunk.toml() for trunk in self.trunks])

    # --- life

    def __enter__(self) -> Service:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, within: float = 40.0) -> None:
        """Starts it (and its Redis, where that is not embedded) and waits for the ready line."""
        if self._redis is not None and not self._redis.running:
            self._redis.start()
        log = (self.root / "service.log").open("ab")
        with log:
            self._process = subprocess.Popen(
                [str(MASKING), "serve", "--config", str(self.config_path)],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, start_new_session=True,
            )  # fmt: skip
        assert self._process.stdout is not None
        timer = threading.Timer(within, self._process.kill)
        timer.start()
        line = self._process.stdout.readline()
        timer.cancel()
        assert line, f"the service did not get ready:\n{self.log()[-3000:]}"
        self.ready = json.loads(line)
        assert self.ready["event"] == "ready"
        self._api = httpx2.Client(
            base_url=self.ready["http"], headers={"Authorization": f"Bearer {KEY}"}, timeout=15.0,
            event_hooks={"response": [self._record]},
        )  # fmt: skip

    def stop(self, within: float = 15.0) -> None:
        """SIGTERM; SIGKILL to its process group when that takes too long."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(within)
            except subprocess.TimeoutExpired:
                self.kill_all()
            self._close()
        if self._redis is not None:
            self._redis.stop()
        self.stop_capture()

    def kill_all(self) -> None:
        """kill -9 of every process of the service, as a power cut would."""
        assert self._process is not None
        for pid in [self._process.pid, *self.pids()]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait(10)
        if self._redis is not None:
            self._redis.kill()
        self._close()

    def _close(self) -> None:
        assert self._process is not None and self._process.stdout is not None
        self._process.stdout.close()
        if self._api is not None:
            self._api.close()

    @property
    def main_pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def pids(self) -> list[int]:
        """All processes below the supervisor."""
        found, todo = [], [self.main_pid]
        while todo:
            pid = todo.pop()
            with suppress(OSError):
                for task in os.listdir(f"/proc/{pid}/task"):
                    below = [int(word) for word in Path(f"/proc/{pid}/task/{task}/children").read_text().split()]
                    found += below
                    todo += below
        return found

    def pids_of(self, role: str) -> list[int]:
        """`role`: edge, relay, courier, api or valkey (any Redis), told by the command line."""
        if role == "valkey" and self._redis is not None:
            return [self._redis.pid]
        marks = {"edge": b"sipedge", "relay": b"sipedge.relay", "courier": b"masking.courier", "api": b"masking.api"}
        found = []
        for pid in self.pids():
            with suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                if marks.get(role) in words or (role == "valkey" and b"valkey" in words[0]):
                    found.append(pid)
        return found

    def kill(self, role: str, number: signal.Signals = signal.SIGKILL) -> int:
        """Signals the (first) process of that role; gives its pid. A Redis of our own is started again at once."""
        pid = self.pids_of(role)[0]
        os.kill(pid, number)
        if role == "valkey" and self._redis is not None and number == signal.SIGKILL:
            self._redis.kill()
            self._redis.start()
        return pid

    def memory(self) -> int:
        """Resident bytes of our own processes (Valkey left out)."""
        pages = 0
        for role in ("edge", "relay", "courier", "api"):
            for pid in self.pids_of(role):
                with suppress(OSError):
                    pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def log(self) -> str:
        return (self.root / "service.log").read_text(errors="replace")

    @property
    def redis_url(self) -> str:
        """Of the Redis that it uses."""
        if self._redis is not None:
            return self._redis.url
        for pid in self.pids_of("valkey"):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().replace("\0", " ").split()
            for at, word in enumerate(words):
                if word.endswith("unixsocket"):
                    return f"unix://{words[at + 1]}"
                if word.startswith("unixsocket:") or word.endswith(".sock"):
                    return f"unix://{word.removeprefix('unixsocket:')}"
        raise AssertionError("no embedded Valkey runs")

    # --- the API

    def _record(self, response: httpx2.Response) -> None:
        response.read()
        self.exchanges.append(Exchange(str(response.request.url), response.content + repr(response.headers).encode()))

    def call(self, method: str, path: str, body: Any = None, **more: Any) -> httpx2.Response:
        assert self._api is not None
        return self._api.request(method, path, json=body, **more)

    def get(self, path: str, **query: Any) -> Any:
        """The JSON of a 200; anything else is an AssertionError with the answer."""
        answer = self.call("GET", path, params=query or None)
        assert answer.status_code == 200, f"GET {path}: {answer.status_code} {answer.text}"
        return answer.json()

    def post(self, path: str, body: Any = None, status: int = 200, **more: Any) -> Any:
        answer = self.call("POST", path, body, **more)
        assert answer.status_code == status, f"POST {path}: {answer.status_code} {answer.text}"
        return answer.json()

    def import_numbers(self, numbers: list[str], trunk: str | None, service: str = "default") -> None:
        rows = [{"phone_number": number} | ({"trunk": trunk} if trunk else {}) for number in numbers]
        self.post(f"/v1/services/{service}/phone_numbers", {"phone_numbers": rows}, 201)

    def person(self, name: str, *addresses: str, country: str = "VN") -> Person:
        """Somebody new, whose own leg runs over these addresses."""
        count = next(self._counter)
        person = Person(f"{name} {count}", f"{CANARY_RANGES[country]}{count:03d}")
        self.people[person.name] = person.number
        self.legs[person.name] = set(addresses)
        return person

    def open_session(self, *people: Person, status: int = 201, **fields: Any) -> dict[str, Any]:
        """A session of these people; the first is the customer, the others drivers."""
        roles = ["customer", "driver", "merchant", "dispatcher"]
        participants = [
            {"identifier": person.number, "role": role} for person, role in zip(people, roles, strict=False)
        ]
        body = {"service": "default", "unique_name": f"order-{next(self._counter)}", "participants": participants}
        return dict(self.post("/v1/sessions", body | {"ttl": 3600, "record": "never"} | fields, status))

    def interactions(self, session: str) -> list[dict[str, Any]]:
        return list(self.get(f"/v1/sessions/{session}/interactions")["data"])

    def events(self) -> list[dict[str, Any]]:
        """All events of the tenant so far."""
        found: list[dict[str, Any]] = []
        page = self.get("/v1/events", limit=500)
        while page["next"] is not None:
            found += page["data"]
            page = self.get("/v1/events", limit=500, cursor=page["next"])
        return found

    def ended_interaction(self, session: str, within: float = 2.5) -> dict[str, Any]:
        """The session's newest interaction once it has ended (readable within 2 s of its call's end)."""

        def look() -> dict[str, Any] | None:
            newest = max(self.interactions(session), key=lambda found: str(found["started_at"]), default=None)
            return newest if newest is not None and newest["ended_at"] else None

        return eventually(look, within, f"an ended interaction of {session}")

    def recording(self, session: str, within: float = 10.0) -> dict[str, Any]:
        """The session's recording once it is available or failed."""

        def look() -> dict[str, Any] | None:
            found = self.get("/v1/recordings", session=session)["data"]
            return next((dict(r) for r in found if r["status"] in ("available", "failed")), None)

        return eventually(look, within, f"a finished recording of {session}")

    def media(self, recording: str) -> bytes:
        answer = self.call("GET", f"/v1/recordings/{recording}/media", headers={"X-Reason": "dispute 7"})
        assert answer.status_code == 200, f"media: {answer.status_code} {answer.text}"
        return answer.content

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples with these labels, 0 when there is none."""
        total = 0.0
        for line in self.call("GET", "/metrics").text.splitlines():
            head, _, value = line.rpartition(" ")
            if head.partition("{")[0] == name and all(f'{k}="{v}"' in head for k, v in labels.items()):
                total += float(value)
        return total

    # --- what a judge reads at the end

    def start_capture(self, *hosts: str) -> None:
        """Every packet of this service's network, and of those hosts, to `lo.pcap`; needs root and tcpdump."""
        self._capture = subprocess.Popen(
            ["tcpdump", "-i", "lo", "-U", "-n", "-s", "0", "-B", "16384", "-w", str(self.root / "lo.pcap"),
             " or ".join([f"net {self.place.network}.0/24", *(f"host {host}" for host in hosts)])],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert self._capture.stderr is not None
        while b"listening" not in (line := self._capture.stderr.readline()):
            assert line, "tcpdump ended"

    def stop_capture(self) -> None:
        if self._capture is not None:
            time.sleep(0.2)  # what the kernel still holds
            self._capture.send_signal(signal.SIGINT)
            self._capture.communicate(timeout=10)
            self._capture = None

    def leaks(self) -> list[Hit]:
        """Every place where one of `people` stands and may not; ends the capture."""
        scanner = Scanner(self.people)
        self.call("GET", "/metrics")
        hits = scanner.scan_texts(redis_texts(self.redis_url))
        hits += scanner.scan_texts(process_texts([self.main_pid, *self.pids()]))
        for path in (self.root / "data").glob("*.sqlite3"):
            hits += scanner.scan_texts(sqlite_texts(path))
        if self.archive:
            hits += scanner.scan_texts(postgres_texts(self.archive))
        if self._redis is not None:
            hits += scanner.scan_tree(self._redis.folder)
        hits += scanner.scan_tree(self.root / "data")
        hits += scanner.scan(self.log().encode(), "service.log")
        for exchange in self.exchanges:
            hits += scanner.scan(exchange.url.encode(), "a URL") + scanner.scan(exchange.answer, "an HTTP answer")
        self.stop_capture()
        if (capture := self.root / "lo.pcap").exists():
            hits += scan_pcap(scanner, capture, self.legs)
        return hits


@contextmanager
def running(root: Path, *hosts: str, **options: Any) -> Iterator[Service]:
    """A service that captures its packets (and those of `hosts`) where it may, with 20 numbers on its main trunk."""
    service = Service(root, **options)
    if os.geteuid() == 0 and any((Path(folder) / "tcpdump").exists() for folder in ("/usr/bin", "/usr/sbin")):
        service.start_capture(*hosts)
    with service:
        service.import_numbers([f"+8424710000{n:02d}" for n in range(20)], "vn-main")
        yield service
