"""The command `masking`. Every command takes `--config` and `--json`, and exits non-zero when it did not do its work.

`serve` and `demo` run the service; `keys` writes to Redis; everything else speaks to a running service over its REST
API, with the key of `--key`, `MASKING_API_KEY` or the configuration's bootstrap key.
"""

from __future__ import annotations

import asyncio
import csv
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlencode

import httpx2
import msgspec
from cyclopts import App, Parameter
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Column, Table

from masking.blocks import spread
from masking.children import NotReady
from masking.config import BadConfig, Config, load
from masking.errands import Failed, run, watched
from masking.events import moment
from masking.importing import Mistake, Row, mistakes_in, rows_of
from masking.refusals import NotFound

app = App(name="masking", help="A number-masking service: sessions, leased virtual numbers, a SIP edge that records.")
keys = App(name="keys", help="API keys (a tenant exists by its first), and the keys that recordings are sealed to.")
numbers = App(name="numbers", help="Virtual phone numbers.")
sessions = App(name="sessions", help="Sessions.")
recordings = App(name="recordings", help="Recordings.")
for group in (keys, numbers, sessions, recordings):
    app.command(group)

T = TypeVar("T")
IMPORT_BATCH = 200  # numbers a request
SMALL_BATCH = 20  # of a request that does much for each
USED = (
    "from", "to", "service", "sessions", "calls", "call_seconds", "billed_seconds", "recordings", "recording_seconds",
    "recording_gb_days", "number_days",
)  # fmt: skip
out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


@Parameter(name="*")
@dataclass(frozen=True)
class Common:
    """What every command takes."""

    config: Path | None = None
    "The configuration file; without it the defaults and the environment count."
    json: bool = False
    "Answer in JSON."


@Parameter(name="*")
@dataclass(frozen=True)
class Remote(Common):
    """What every command that speaks to a running service takes."""

    key: Annotated[str | None, Parameter(env_var="MASKING_API_KEY")] = None
    "API key; otherwise the configuration's bootstrap key."
    url: str | None = None
    "Address of the service; otherwise the configuration's http.listen."


def read_config(common: Common) -> Config:
    return load(common.config, os.environ)


def write_json(value: Any) -> None:
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")
    sys.stdout.flush()


@app.command
def serve(common: Common = Common()) -> None:
    """Runs the service until SIGTERM or Ctrl-C; prints one JSON line when it accepts traffic."""
    from masking import logs
    from masking.serve import serve as keep

    logs.configure()
    asyncio.run(keep(read_config(common), common.config, write_json))


@app.command
def demo(*, once: bool = False, common: Common = Common()) -> int:
    """Places a real masked call between two softphones and shows what each of them saw."""
    from masking.demo import run as demonstrate

    return asyncio.run(demonstrate(once=once, machine=common.json))


@keys.command
def create(*, tenant: str, scope: list[str], common: Common = Common()) -> None:
    """Makes an API key; it is shown once."""
    from masking import access
    from masking.house import open_house

    unknown = set(scope) - set(access.SCOPES)
    if unknown:
        raise Failed(f"--scope: no such scope: {', '.join(sorted(unknown))}; known are: {', '.join(access.SCOPES)}")

    async def make() -> str:
        config = read_config(common)
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

    async def found() -> list[access.Key]:
        async with open_house(read_config(common), now=time.time, random=os.urandom, archive=False) as house:
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

    async def end() -> None:
        async with open_house(read_config(common), now=time.time, random=os.urandom, archive=False) as house:
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


@numbers.command(name="import")
def import_numbers(source: str, *, service: str = "default", trunk: str | None = None, dry_run: bool = False,
                   remote: Remote = Remote()) -> int:  # fmt: skip
    """Imports a CSV file with the columns phone_number (a number or a block) and (optional) trunk; or one block.

    A block is FIRST-LAST in E.164: +842471000000-+842471000099. `--trunk`: of numbers that name none. Everything is
    checked before the first number is added; what is wrong is told by its line. `--dry-run` ends there.

    Example: `masking numbers import numbers.csv --trunk carrier-vn --dry-run`
    """
    rows, mistakes = rows_of(source, trunk)
    path = f"/v1/services/{service}/phone_numbers"
    found: Counter[str] = Counter()
    with client(remote) as http:
        for batch in batches(rows, "checking", remote):
            body = {"phone_numbers": [row.wish for row in batch], "dry_run": True}
            checked = asked(http, "POST", path, json=body)
            if checked.status_code == 200:
                found.update(one["found"] for one in checked.json()["data"])
            else:
                mistakes += told_of(checked, batch)
        if not mistakes and not dry_run:
            for batch in batches(rows, "importing", remote):
                ask(http, "POST", path, json={"phone_numbers": [row.wish for row in batch]})
    for mistake in sorted(mistakes, key=lambda one: one.line):
        err.print(str(mistake), markup=False)
    done = 0 if mistakes or dry_run else len(rows)
    if remote.json:
        wrong = [mistake._asdict() for mistake in sorted(mistakes, key=lambda one: one.line)]
        write_json({"imported": done, "service": service, "found": dict(found), "errors": wrong})
    elif mistakes:
        out.print(f"Nothing was imported: {len(mistakes)} mistakes.")
    elif dry_run:
        out.print(f"{found['new']} numbers are new, {found['here']} are here already, {found['retired']} come back.")
    else:
        out.print(f"{done} numbers are in service {service}.")
    return int(bool(mistakes))


def told_of(answer: httpx2.Response, batch: list[Row]) -> list[Mistake]:
    """What the service found wrong with these numbers; `Failed` when it is something else."""
    try:
        found = mistakes_in(answer.json(), batch)
    except ValueError:
        found = []
    if not found:
        raise Failed(problem_text(answer))
    return found


@numbers.command
def state(new: Literal["active", "draining", "suspended", "retired"], *blocks: str, service: str = "default",
          remote: Remote = Remote()) -> None:  # fmt: skip
    """Puts numbers and blocks of them (FIRST-LAST) into a state."""
    chosen = [number for place, block in enumerate(blocks, 1) for number in spread_block(block, f"block {place}")]
    if not chosen:
        raise Failed("no numbers: name some, or blocks such as +842471000000-+842471000099")
    with client(remote) as http:
        for batch in batches(chosen, new, remote):
            ask(http, "PATCH", f"/v1/services/{service}/phone_numbers", json={"phone_numbers": batch, "state": new})
    if remote.json:
        write_json({"changed": len(chosen), "state": new, "service": service})
    else:
        out.print(f"{len(chosen)} numbers of service {service} are {new}.")


@numbers.command
def replace(*blocks: str, service: str = "default", overlap: int = 300, remote: Remote = Remote()) -> int:
    """Drains numbers and blocks, and gives every open session on them another number; both work for OVERLAP seconds.

    Fails when a session had to keep its number, and says which and why; asked again, it goes on where it stopped.
    """
    chosen = [number for place, block in enumerate(blocks, 1) for number in spread_block(block, f"block {place}")]
    if not chosen:
        raise Failed("no numbers: name some, or blocks such as +842471000000-+842471000099")
    replaced = 0
    kept: list[dict[str, str]] = []
    with client(remote) as http:
        for batch in batches(chosen, "replacing", remote, SMALL_BATCH):
            body = {"phone_numbers": batch, "state": "draining", "replace": True, "overlap": overlap}
            more = True
            while more:
                told = ask(http, "PATCH", f"/v1/services/{service}/phone_numbers", json=body)
                replaced += told["replaced"]
                more = told["more"] and told["replaced"] > 0
            kept += told["kept"]
    if remote.json:
        write_json({"drained": len(chosen), "replaced": replaced, "kept": kept})
    else:
        out.print(f"{len(chosen)} numbers drain; {replaced} sessions have another one, {len(kept)} kept theirs.")
        for one in kept:
            out.print(f"{one['session']} {one['number']}: {one['code']}: {one['problem']}", markup=False)
    return int(bool(kept))


def spread_block(block: str, place: str) -> list[str]:
    try:
        return list(spread(block))
    except ValueError as why:
        raise Failed(f"{place}: {why}") from None


def batches(items: list[T], about: str, remote: Remote, size: int = IMPORT_BATCH) -> Iterable[list[T]]:
    """The items by requests, under a progress bar."""
    parts = [items[start : start + size] for start in range(0, len(items), size)]
    return track(parts, about, console=err, disable=remote.json)


@sessions.command(name="open")
def open_session(
    *participants: str, unique_name: str | None = None, service: str = "default", ttl: int | None = None,
    record: str | None = None, remote: Remote = Remote(),
) -> None:  # fmt: skip
    """Opens a session. Each participant is NUMBER:ROLE, e.g. +84901234567:customer."""
    people: list[dict[str, str]] = []
    for person in participants:
        identifier, _, role = person.partition(":")
        people.append({"identifier": identifier, "role": role or f"party{len(people) + 1}"})
    given = {"unique_name": unique_name, "ttl": ttl, "record": record}
    body = {"service": service, "participants": people} | {k: v for k, v in given.items() if v is not None}
    with client(remote) as http:
        show_session(ask(http, "POST", "/v1/sessions", json=body), remote)


@sessions.command
def show(session: str, *, remote: Remote = Remote()) -> None:
    """Shows a session."""
    with client(remote) as http:
        show_session(ask(http, "GET", f"/v1/sessions/{session}"), remote)


@sessions.command
def close(session: str, *, remote: Remote = Remote()) -> None:
    """Closes a session; its pairs hear "that trip has ended" from now on."""
    with client(remote) as http:
        show_session(ask(http, "POST", f"/v1/sessions/{session}:close"), remote)


@recordings.command
def fetch(recording: str, *, output: Annotated[Path, Parameter(name=["--output", "-o"])], reason: str,
          remote: Remote = Remote()) -> None:  # fmt: skip
    """Downloads a recording as WAV. The reason is kept with the access."""
    path = f"/v1/recordings/{recording}/media"
    with client(remote) as http, http.stream("GET", path, headers={"X-Reason": reason}) as answer:
        if answer.status_code != 200:
            answer.read()
            raise Failed(problem_text(answer))
        with output.open("wb") as file:
            for part in answer.iter_bytes():
                file.write(part)
    write_json({"recording": recording, "file": str(output)}) if remote.json else out.print(f"{output}")


@app.command
def doctor(*, common: Common = Common()) -> int:
    """Checks ports, keys, Redis, archive, trunks and clock, and says how to mend each; fails when one is at fault."""
    from masking.doctor import examine

    found = asyncio.run(examine(read_config(common), time.time))
    if common.json:
        write_json(found)
    else:
        table = Table("", "what", "how it is", "how to mend it")
        marks = {"ok": "[green]ok[/]", "warning": "[yellow]look[/]", "fault": "[bold red]fault[/]"}
        for one in found:
            table.add_row(marks[one.state], one.check, escape(one.found), escape(one.mend))
        out.print(table)
    return int(any(one.state == "fault" for one in found))


MOVING = "masking.courier.moving"


@app.command(name="export")
def export_all(*, output: Annotated[Path, Parameter(name=["--output", "-o"])], without_recordings: bool = False,
               common: Common = Common()) -> None:  # fmt: skip
    """Writes the whole installation into one file, for `masking import`. The service must be stopped.

    People's numbers are in it as they are stored: sealed by keys.json, which is not. `--without-recordings`: for a
    store that the next installation uses as well.
    """
    words = ["export", str(output), *(["--without-recordings"] if without_recordings else [])]
    told = watched(run(MOVING, words, common.config, "exported"), err, hidden=common.json)
    write_json(told) if common.json else out.print(f"{output}: {moved(told)}")
    err.print(
        f"{output} opens only together with the keys {told['keyring']} ({read_config(common).key_path}), which are not"
        " in it. Bring them another way, and keep both from everybody else.",
        style="yellow",
    )


@app.command(name="import")
def import_all(file: Path, *, keys: Path | None = None, common: Common = Common()) -> None:
    """Puts an exported installation into the empty stores of this configuration.

    `--keys`: the key file the data was made with, unless it stands where keys.path says. When an import was cut short,
    the same command begins it anew; no service starts on the data in between.
    """
    words = ["import", str(file), *(["--keys", str(keys)] if keys else [])]
    told = watched(run(MOVING, words, common.config, "imported"), err, hidden=common.json)
    write_json(told) if common.json else out.print(f"imported {moved(told)}")


def moved(told: dict[str, Any]) -> str:
    kept = "recordings left where they lie" if told["recordings"] is None else f"{told['recordings']} recordings"
    return f"{told['keys']} keys of Redis, {told['rows']} rows, {kept}, {told['bytes']} bytes"


@app.command
def explain(source: str, target: str, *, trunk: str | None = None, at: str | None = None,
            remote: Remote = Remote()) -> None:  # fmt: skip
    """Says step by step what a call from SOURCE (a number, or `withheld`) to TARGET would meet; nothing is done."""
    caller = None if source == "withheld" else source
    body = {"from": caller, "to": target} | {k: v for k, v in (("trunk", trunk), ("at", at)) if v is not None}
    with client(remote) as http:
        found = ask(http, "POST", "/v1/route:explain", json=body)
    if remote.json:
        write_json(found)
        return
    table = Table("step", "found", "what it means")
    for step in found["steps"]:
        table.add_row(step["step"], step["found"], escape(step["detail"]))
    out.print(table)
    asks = f", once the {found['asks']} is keyed" if found["asks"] else ""
    out.print(f"decision: {found['decision']}{asks}")


@app.command
def capacity(*, service: str = "default", remote: Remote = Remote()) -> None:
    """Shows what each country's pool holds and is sure to carry."""
    with client(remote) as http:
        found = ask(http, "GET", f"/v1/services/{service}/capacity")
        pools = ask(http, "GET", f"/v1/services/{service}/pools")["data"]
    if remote.json:
        write_json(found | {"pools": [one | {"states": pool["states"], "shards": pool["shards"]}
                                      for one, pool in zip(found["pools"], pools, strict=True)]})  # fmt: skip
        return
    table = Table("country", "active", "others", "live", "resting", "sure each")
    for one, pool in zip(found["pools"], pools, strict=True):
        others = [f"{pool['states'][state]} {state}" for state in ("draining", "suspended", "retired", "resting")]
        others.append(f"{pool['unhealthy']} unhealthy")
        counts = [str(one[name]) for name in ("live", "quarantined", "degree")]
        active, shown = f"{one['active']} of {one['size']}", [other for other in others if other[0] != "0"]
        table.add_row(one["country"], active, ", ".join(shown), *counts)
    out.print(table)


@app.command
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


@recordings.command
def verify(*, heads: Path | None = None, common: Common = Common()) -> None:
    """Checks the chain of evidence and every stored recording against it; names what was altered.

    Reads the archive and the store of this configuration directly. `--heads`: the `evidence.checkpoint` events that a
    webhook receiver kept, one JSON object a line; with them a chain that was rewritten as a whole is found too.
    """
    words = ["--heads", str(heads)] if heads else []
    *faults, summary = run("masking.courier.verification", words, common.config, "verified")
    if common.json:
        write_json({"faults": faults, **{name: summary[name] for name in ("entries", "recordings", "heads")}})
    else:
        show_faults(faults, summary)
    if faults:
        raise SystemExit(1)


def show_faults(faults: list[dict[str, Any]], summary: dict[str, Any]) -> None:
    if faults:
        table = Table("what", "tenant", "entry", "recording")
        for fault in faults:
            table.add_row(fault["kind"], fault["tenant"], str(fault["seq"] or ""), fault["recording"] or "")
        out.print(table)
    verdict = f"{len(faults)} faults" if faults else "all as it was"
    out.print(f"{summary['entries']} entries, {summary['recordings']} recordings, {summary['heads']} heads: {verdict}")


def pages(http: httpx2.Client, path: str, query: dict[str, str]) -> Iterator[dict[str, Any]]:
    """Every entry of a list, page after page."""
    cursor: str | None = None
    while True:
        page = ask(http, "GET", f"{path}?" + urlencode(query | ({"cursor": cursor} if cursor else {})))
        yield from page["data"]
        cursor = page["next"]
        if cursor is None:
            return


def client(remote: Remote) -> httpx2.Client:
    config = read_config(remote)
    key = remote.key or config.service.bootstrap_key
    if not key:
        raise Failed("no API key: give --key, set MASKING_API_KEY, or set service.bootstrap_key in the configuration")
    base = remote.url or f"http://{config.http.listen}"
    return httpx2.Client(base_url=base, headers={"Authorization": f"Bearer {key}"}, timeout=30.0)


def asked(http: httpx2.Client, method: str, path: str, json: Any = None) -> httpx2.Response:
    try:
        return http.request(method, path, json=json)
    except httpx2.TransportError as error:
        raise Failed(f"{http.base_url}: no answer ({type(error).__name__}); is `masking serve` running?") from None


def ask(http: httpx2.Client, method: str, path: str, json: Any = None) -> Any:
    answer = asked(http, method, path, json)
    if answer.status_code >= 300:
        raise Failed(problem_text(answer))
    return answer.json()


def problem_text(answer: httpx2.Response) -> str:
    """RFC 9457 problem → lines a person reads."""
    try:
        problem = answer.json()
    except ValueError:
        return f"HTTP {answer.status_code}"
    return "\n".join(problem_lines(problem))


def problem_lines(problem: dict[str, Any]) -> Iterator[str]:
    yield f"{problem.get('code')}: {problem.get('detail') or problem.get('title')}"
    for error in problem.get("errors") or []:
        yield f"  {error['field']}: {error['problem']}; expected {error['expected']}"


def show_session(session: dict[str, Any], remote: Remote) -> None:
    if remote.json:
        write_json(session)
        return
    out.print(f"{session['id']}  {session['status']}  until {session['expires_at']}")
    table = Table("participant", "role", "phone", "dials")
    for person in session["participants"]:
        dials = ", ".join(f"{proxy['number']} → {proxy['to']}" for proxy in person["proxies"])
        table.add_row(person["id"], person["role"], person["display"], dials)
    out.print(table)


def main() -> None:
    """Entry point of the console script."""
    try:
        result = app(result_action="return_value")
    except (BadConfig, Failed) as problem:
        err.print(f"masking: {problem}", markup=False)
        sys.exit(1)
    except ExceptionGroup as group:  # of a task group: its first cause is what the person needs
        err.print(f"masking: {group.exceptions[0]}", markup=False)
        sys.exit(1)
    except NotReady as problem:
        err.print(f"masking: {problem}", markup=False)
        sys.exit(1)
    sys.exit(result if isinstance(result, int) else 0)
