"""schemathesis over the whole API of a running service, as two tenants who each have one of everything.

It reads the service's own OpenAPI document, makes requests that fit it and requests that do not, follows its links from
what one call made to the calls that use it, and holds every answer against the document; `two_tenants` adds that no
answer shows a tenant what is the other's. `run` is what `make test` runs small and `make soak` long.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from masking import access
from masking.access import SCOPES
from masking.api.app import App
from masking.api.desk import Desk
from masking.config import load
from masking.house import House, open_house
from recordings.store import open_store
from recordings.vault import open_vault
from tests.api.belongings import Here, belongings
from tests.api.client import Client
from tests.api.test_recordings import Shelf
from tests.system.service import Service

TENANTS = {"acme": "+842471000000", "other": "+842471000100"}
ENDLESS = "/v1/events:stream"  # answers for as long as its reader stays: schemathesis waits for the end
ROOT = Path(__file__).parents[2]


@dataclass
class Done:
    """What schemathesis said, and whether it found everything as it should be."""

    clean: bool
    said: str
    cases: int
    seconds: float


def run(service: Service, folder: Path, *, examples: int, seed: int, phases: str = "coverage,fuzzing,stateful") -> Done:
    """`examples`: cases of each operation and of stateful stories."""
    began = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    keys, theirs = asyncio.run(_tenants(service))
    (folder / "auth.json").write_text(json.dumps({"auth": [_header(name, key) for name, key in keys.items()]}))
    (folder / "schemathesis.toml").write_text(_configuration(folder, theirs))
    program = Path(sys.executable).parent / "schemathesis"
    words = ["--config-file", "schemathesis.toml", "run", service.ready["http"] + "/openapi.json"]
    # What the document itself marks as not served yet answers 501.
    words += ["--exclude-path", ENDLESS, "--exclude-by", "/x-not-implemented == true"]
    words += ["--phases", phases, "--max-examples", str(examples), "--seed", str(seed), "--continue-on-failure"]
    words += ["--no-color", "--generation-database", "none"]
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "SCHEMATHESIS_HOOKS": "tests.system.two_tenants",
        "SCHEMATHESIS_KNOWN": json.dumps(_known(theirs)),
        "SCHEMATHESIS_TENANTS": json.dumps({f"Bearer {key}": name for name, key in keys.items()}),
    }
    done = subprocess.run([program, *words], env=environment, cwd=folder, capture_output=True, text=True)
    cases = re.search(r"(\d+) generated", done.stdout)
    return Done(
        done.returncode == 0, done.stdout + done.stderr, int(cases[1]) if cases else 0, time.monotonic() - began
    )


async def _tenants(service: Service) -> tuple[dict[str, str], list[Here]]:
    """Of each tenant a key of every scope, and what it has."""
    config = await asyncio.to_thread(load, service.config_path, {})
    async with open_house(config, now=time.time, random=os.urandom, budget=2.0) as house:
        store = await open_store(config.recordings_url, lambda: os.urandom(8).hex(), **config.recordings.place)
        assert house.archive is not None
        vault = open_vault(house.archive, store, config.keys, house.keyring.derived, os.urandom)
        transport = httpx2.ASGITransport(App(Desk.of(house, vault, time.monotonic)))
        keys, theirs = {}, []
        for tenant, x in TENANTS.items():
            keys[tenant] = (await access.create_key(house, tenant, list(SCOPES)))[1]
            who = Client(transport, keys[tenant])
            theirs.append(await belongings(who, house, Shelf(house, vault), tenant, x, _left_to_the_courier))
    return keys, theirs


async def _left_to_the_courier(house: House, told: dict[str, Any], tenant: str) -> None:
    """The service has one."""


def _known(theirs: list[Here]) -> dict[str, list[str]]:
    """What stands in bodies, by the field's name."""
    words = {name: [one[name] for one in theirs] for name in ("session", "participant", "interaction", "endpoint")}
    x = [one["x"] for one in theirs]
    words |= {"about": words["participant"], "reported_by": words["participant"]}
    return words | {"number": x, "phone_number": x, "phone_numbers": x}


def _header(name: str, key: str) -> dict[str, Any]:
    return {"name": name, "fixedHeaders": [{"name": "Authorization", "value": f"Bearer {key}"}]}


def _configuration(folder: Path, theirs: list[Here]) -> str:
    """Paths name what one of the tenants has more often than not, whichever of them asks."""
    lines = ["[auth.wfc]", f'path = "{folder / "auth.json"}"', f"peers = {json.dumps(list(TENANTS))}"]
    # A schema cannot say all that is asked of a telephone number or of a name.
    lines += ["[checks.positive_data_acceptance]", "enabled = false"]
    named = sorted(set(theirs[0]) - {"x", "participant"})
    lines += ["[parameters]"] + [f'"path.{name}" = {{ dictionary = "{name}", probability = 0.6 }}' for name in named]
    for name in named:
        values = [one[name] for one in theirs] + (["default"] if name == "service" else [])
        lines += [f"[dictionaries.{name}]", f"values = {json.dumps(values)}"]
    return "\n".join(lines) + "\n"
