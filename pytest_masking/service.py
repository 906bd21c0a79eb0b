"""A whole masked service on loopback: processes, numbers, phones, and somebody who receives its webhooks."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import phonenumbers

from masking_client import Client, answers, bodies
from masking_client.bodies import NewPhoneNumber
from pytest_masking.inbox import Inbox
from sipedge.softphone.carrier import Carrier, Handset

NUMBERS = 40  # virtual numbers of each country
REST = 60  # seconds that two people rest on a number, so that tests with the same two people find others
STOPPING = 45.0  # seconds for the service to end
# The service, which ends with whoever started it, however that ends (PR_SET_PDEATHSIG, where the kernel has it).
PROGRAM = """\
import ctypes, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
from masking.cli import main
main()
"""
CONFIGURATION = """\
[service]
data_dir = {folder}
bootstrap_key = {key}

[http]
listen = "127.0.0.1:0"

[sip]
listen = ["udp:127.0.0.1:0"]

[media]
ports = "{media}"

[webhooks]
allow_private = true
"""
TRUNK = """
[[trunk]]
name = "carrier-{name}"
carrier = "the-only-one"
uri = "sip:{carrier};transport=udp"
sources = ["{carrier}"]
country = "{country}"
announce = "none"
options_ping = 0
"""


class NotStarted(Exception):
    """The service did not start; the text says where its log is."""


@dataclass(frozen=True)
class Service:
    """`client` has every scope. `numbers`: the virtual numbers, by country. `configuration`: the file it runs with."""

    url: str
    sip: str
    key: str = field(repr=False)
    client: Client
    carrier: Carrier
    webhooks: Inbox
    endpoint: str  # the inbox's
    default: answers.Service  # as every test finds it
    numbers: dict[str, list[str]] = field(repr=False)
    configuration: Path

    def phone(self, number: str) -> Handset:
        """The phone of the person with that number (E.164)."""
        return self.carrier.phone(number)

    def tidy(self) -> None:
        """Ends all calls and sessions, takes back blocks, endpoints and what was changed of the service `default`; the
        events of it all are not shown to the next test."""
        self.carrier.quiet()
        past = []
        for status in ("open", "in_progress"):
            for session in self.client.list_sessions(status=status):
                self.client.close_session(session.id)
                past.append(session.id)
        for block in self.client.list_blocks():
            self.client.remove_block(block.id)
        for endpoint in self.client.list_webhook_endpoints():
            if endpoint.id != self.endpoint:
                self.client.remove_webhook_endpoint(endpoint.id)
        if changed := changes(self.client.get_service("default"), self.default):
            self.client.change_service("default", **changed)
        self.webhooks.forget(past)


def changes(now: answers.Service, before: answers.Service) -> bodies.ServiceChange:
    """What makes a service again what it was."""
    fields = [name for name in bodies.ServiceChange.__annotations__ if getattr(now, name) != getattr(before, name)]
    found = msgspec.to_builtins({name: getattr(before, name) for name in fields})
    for name, value in found.items():
        if isinstance(value, dict):
            found[name] = {inner: said for inner, said in value.items() if said is not None}
    return found  # type: ignore[no-any-return]


@contextlib.contextmanager
def running(folder: Path, countries: Sequence[str]) -> Iterator[Service]:
    """Starts everything in an empty folder, on ports that are free; ends everything. The log is `service.log` there."""
    folder = folder.absolute()
    with Carrier(edge="") as carrier, Inbox() as webhooks:
        key, path = secrets.token_urlsafe(24), folder / "masking.toml"
        path.write_text(configuration(folder, key, carrier.address, countries), encoding="utf-8")
        with processes(path, folder / "service.log") as ready:
            carrier.edge = ready["sip"][0].partition(":")[2]
            with Client(ready["http"], key) as client:
                numbers = stocked(client, countries)
                endpoint = client.create_webhook_endpoint(url=webhooks.url)
                webhooks.secret = endpoint.secret
                yield Service(
                    url=ready["http"],
                    sip=carrier.edge,
                    key=key,
                    client=client,
                    carrier=carrier,
                    webhooks=webhooks,
                    endpoint=endpoint.id,
                    default=client.get_service("default"),
                    numbers=numbers,
                    configuration=path,
                )


def configuration(folder: Path, key: str, carrier: str, countries: Sequence[str]) -> str:
    """Every country's trunk is the one carrier: a call belongs to the trunk that owns the number it dials. Refusals
    come at once, without their announcement."""
    media = 20_000 + 1_000 * (os.getpid() % 40)
    text = CONFIGURATION.format(
        folder=json.dumps(str(folder / "var")), key=json.dumps(key), media=f"{media}-{media + 999}"
    )
    return text + "".join(TRUNK.format(name=one.lower(), carrier=carrier, country=one) for one in countries)


@contextlib.contextmanager
def processes(path: Path, log: Path) -> Iterator[dict[str, Any]]:
    """`masking serve`; gives its ready line."""
    command = [sys.executable, "-c", PROGRAM, "serve", "--config", str(path)]
    with log.open("w") as told:
        serving = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=told, cwd=path.parent)
    assert serving.stdout is not None
    try:
        line = serving.stdout.readline()
        if not line:
            raise NotStarted(f"the service did not start; see {log}:\n{log.read_text()[-2000:]}")
        yield json.loads(line)
    finally:
        serving.send_signal(signal.SIGTERM)
        try:
            serving.wait(STOPPING)
        except subprocess.TimeoutExpired:
            serving.kill()  # its children end with it
            serving.wait()
        serving.stdout.close()


def stocked(client: Client, countries: Sequence[str]) -> dict[str, list[str]]:
    """Virtual numbers for the service `default`, whose calls are not recorded unless a session says so: tests do not
    wait for the notice."""
    client.change_service("default", record="never", pair_quarantine=REST)
    numbers = {country: virtual_numbers(country) for country in countries}
    wanted: list[NewPhoneNumber] = [
        {"phone_number": number, "trunk": f"carrier-{country.lower()}"}
        for country, block in numbers.items()
        for number in block
    ]
    client.add_phone_numbers("default", phone_numbers=wanted)
    return numbers


def virtual_numbers(country: str) -> list[str]:
    """Landline numbers of that country, beginning with the one that books of numbering plans print."""
    example = phonenumbers.example_number_for_type(country, phonenumbers.PhoneNumberType.FIXED_LINE)
    if example is None:
        raise NotStarted(f"masking_countries: {country} is no country of ISO 3166 with landlines")
    found: list[str] = []
    first = int(phonenumbers.format_number(example, phonenumbers.PhoneNumberFormat.E164))
    for digits in itertools.count(first):
        if phonenumbers.is_valid_number(phonenumbers.parse(f"+{digits}")):
            found.append(f"+{digits}")
        if len(found) == NUMBERS:
            return found
    raise AssertionError("there is always another number")
