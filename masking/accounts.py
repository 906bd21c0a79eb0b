"""The commands about tenants: their keys, and what they used."""

from __future__ import annotations

import asyncio
import csv
import os
import sys
import time
from typing import Annotated, Literal

import msgspec
from cyclopts import App, Parameter
from rich.box import SIMPLE_HEAD
from rich.table import Column, Table

from masking.console import Common, Remote, client, err, out, pages, read_config, write_json
from masking.errands import Failed, run, watched
from masking.events import moment
from masking.refusals import NotFound

keys = App(name="keys", help="API keys (a tenant exists by its first), and the keys that recordings are sealed to.")
USED = (
    "from", "to", "service", "sessions", "calls", "call_seconds", "billed_seconds", "recordings", "recording_seconds",
    "recording_gb_days", "number_days",
)  # fmt: skip


@keys.command
def create(*, tenant: str, scope: list[str], common: Common = Common()) -> None:
    """Makes an API key; it is shown once.

    Example: `masking keys create --tenant acme --scope sessions --scope numbers`
    """
    from masking import access
    from masking.house import open_house

    unknown = set(scope) - set(access.SCOPES)
    if unknown:
        raise Failed(f"--scope: no such scope: {', '.join(sorted(unknown))}; known are: {', '.join(access.SCOPES)}")

    config = read_config(common)

    async def make() -> str:
        async with open_house(config, now=time.time, random=os.urandom, archive=False) as house:
            return (await access.create_key(house, tenant, [known for known in access.SCOPES if known in scope]))[1]

    key = asyncio.run(make())
    write_json({"tenant": tenant, "scopes": scope, "key": key}) if common.json else out.print(key)


@keys.command(name="list")
def list_keys(*, tenant: str | None = None, common: Common = Common()) -> None:
    """Lists the API keys of a tenant, or of all of them; never their secrets.

    Example: `masking keys list --tenant acme`
    """
    from masking import access
    from masking.house import open_house

    config = read_config(common)

    async def found() -> list[access.Key]:
        async with open_house(config, now=time.time, random=os.urandom, archive=False) as house:
            names = [tenant] if tenant is not None else await access.tenants(house)
            return [key for name in names for key in await access.list_keys(house, name)]

    keys = asyncio.run(found())
    if common.json:
        write_json([msgspec.structs.asdict(key) | {"created_at": moment(key.created_at)} for key in keys])
        return
    table = Table(Column("key", no_wrap=True), "tenant", "scopes", "made")
    for key in keys:
        table.add_row(key.id, key.tenant, " ".join(key.scopes), f"{moment(key.created_at):%Y-%m-%d}")
    out.print(table)


@keys.command
def revoke(key: str, *, tenant: str, common: Common = Common()) -> None:
    """Ends an API key, named by its id (`key_…`, as `keys list` shows it), within 3 seconds everywhere.

    Example: `masking keys revoke key_0Zk3… --tenant acme`
    """
    from masking import access
    from masking.house import open_house

    config = read_config(common)

    async def end() -> None:
        async with open_house(config, now=time.time, random=os.urandom, archive=False) as house:
            await access.revoke_key(house, tenant, key)

    try:
        asyncio.run(end())
    except NotFound:
        raise Failed(f"tenant {tenant} has no such key; `masking keys list` shows those it has") from None
    write_json({"tenant": tenant, "revoked": key}) if common.json else out.print(f"{key} is revoked.")


@keys.command
def rotate(*, tenant: str, common: Common = Common()) -> None:
    """Gives a tenant a new key pair for its recordings; what was recorded before stays readable under the old ones.

    Example: `masking keys rotate --tenant acme`
    """
    rotated = watched(run("masking.courier.rotation", ["--tenant", tenant], common.config, "rotated"), err, hidden=True)
    if common.json:
        write_json({"tenant": tenant, "key": rotated["key"]})
    else:
        out.print(f"New recordings of {tenant} are sealed to {rotated['key']} within ten seconds.")


def usage(*, since: Annotated[str | None, Parameter(name="--from")] = None,
          until: Annotated[str | None, Parameter(name="--to")] = None,
          by: Literal["total", "day", "service", "day_service"] = "day",
          as_csv: Annotated[bool, Parameter(name="--csv")] = False,
          remote: Remote = Remote()) -> None:  # fmt: skip
    """Shows what was used from --from (included) to --to (excluded), days in UTC; without them, this month.

    Example: `masking usage --from 2026-11-01 --to 2026-12-01 --by service --csv`
    """
    given = {"from": since, "to": until, "by": by, "limit": "500"}
    query = {name: value for name, value in given.items() if value is not None}
    with client(remote) as http:
        rows = list(pages(http, "/v1/usage", query))
    if remote.json:
        write_json(rows)
    elif as_csv:
        lines = csv.DictWriter(sys.stdout, USED, lineterminator="\n")
        lines.writeheader()
        lines.writerows(rows)
    else:
        heads = ("from", "service", "calls", "minutes", "billed", "recorded", "GB d", "X d")
        table = Table(*heads, box=SIMPLE_HEAD, pad_edge=False)  # fits 80 columns
        for row in rows:
            spoken = [f"{row[name] / 60:.1f}" for name in ("call_seconds", "billed_seconds", "recording_seconds")]
            kept, calls = f"{row['recording_gb_days']:.3f}", str(row["calls"])
            table.add_row(row["from"], row["service"] or "all", calls, *spoken, kept, str(row["number_days"]))
        out.print(table)
