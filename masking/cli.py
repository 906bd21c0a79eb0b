"""The command `masking`. Every command takes `--config` and `--json`.

`serve` and `demo` run the service; `keys` writes to Redis; everything else speaks to a running service over its REST
API, with the key of `--key`, `MASKING_API_KEY` or the configuration's bootstrap key.

It exits 0 when it did its work, 1 when it could not, or what it checked does not hold, 2 when it was typed wrongly, and
130 when it was interrupted.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import httpx2
from cyclopts import App, Parameter
from rich.markup import escape
from rich.progress import DownloadColumn, Progress
from rich.table import Table

from masking.accounts import keys, usage
from masking.blocks import spread
from masking.children import NotReady
from masking.config import BadConfig
from masking.console import (
    SMALL_BATCH,
    Common,
    Remote,
    ask,
    asked,
    batches,
    client,
    err,
    out,
    problem_text,
    read_config,
    write_json,
)
from masking.errands import Failed, run, watched
from masking.importing import Mistake, Row, mistakes_in, rows_of
from masking.refusals import Refused
from pools.keyring import KeyringError
from pools.redis import RedisError

app = App(name="masking", help="A number-masking service: sessions, leased virtual numbers, a SIP edge that records.")
numbers = App(name="numbers", help="Virtual phone numbers.")
sessions = App(name="sessions", help="Sessions.")
recordings = App(name="recordings", help="Recordings.")
for group in (keys, numbers, sessions, recordings):
    app.command(group)
app.command(usage)


@app.command
def completion(shell: Literal["bash", "zsh", "fish"], *, common: Common = Common()) -> None:
    """Writes what makes the shell complete `masking` and its words.

    Example: `eval "$(masking completion bash)"` in ~/.bashrc; `masking completion fish | source` in config.fish.
    """
    script = app.generate_completion(shell=shell)
    write_json({"shell": shell, "script": script}) if common.json else sys.stdout.write(script)


@app.command
def serve(common: Common = Common()) -> None:
    """Runs the service until SIGTERM or Ctrl-C; prints one JSON line when it accepts traffic.

    Example: `masking serve --config masking.toml`
    """
    from masking import logs
    from masking.serve import serve as keep

    logs.configure()
    asyncio.run(keep(read_config(common), common.config, write_json))


@app.command
def demo(*, once: bool = False, common: Common = Common()) -> int:
    """Places a real masked call between two softphones and shows what each of them saw.

    Example: `masking demo --once --json`
    """
    from masking.demo import run as demonstrate

    return asyncio.run(demonstrate(once=once, machine=common.json))


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
    """Puts numbers and blocks of them (FIRST-LAST) into a state.

    Example: `masking numbers state draining +842471000000-+842471000099`
    """
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

    Example: `masking numbers replace +842471000000-+842471000009 --overlap 600`
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


@sessions.command(name="open")
def open_session(
    *participants: str, unique_name: str | None = None, service: str = "default", ttl: int | None = None,
    record: str | None = None, remote: Remote = Remote(),
) -> None:  # fmt: skip
    """Opens a session. Each participant is NUMBER:ROLE.

    Example: `masking sessions open +84901234567:customer +84907654321:driver --unique-name order-1042`
    """
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
    """Shows a session.

    Example: `masking sessions show ses_… --json`
    """
    with client(remote) as http:
        show_session(ask(http, "GET", f"/v1/sessions/{session}"), remote)


@sessions.command
def close(session: str, *, remote: Remote = Remote()) -> None:
    """Closes a session; its pairs hear "that trip has ended" from now on.

    Example: `masking sessions close ses_…`
    """
    with client(remote) as http:
        show_session(ask(http, "POST", f"/v1/sessions/{session}:close"), remote)


@recordings.command
def fetch(recording: str, *, output: Annotated[Path, Parameter(name=["--output", "-o"])], reason: str,
          remote: Remote = Remote()) -> None:  # fmt: skip
    """Downloads a recording, as Ogg/Opus where the file's name ends in .opus or .ogg, else as WAV. The reason is kept
    with the access.

    Example: `masking recordings fetch rec_… -o call.wav --reason "dispute 17"`
    """
    form = "opus" if output.suffix.lower() in (".opus", ".ogg") else "wav"
    path = f"/v1/recordings/{recording}/media?format={form}"
    with client(remote) as http, http.stream("GET", path, headers={"X-Reason": reason}) as answer:
        if answer.status_code != 200:
            answer.read()
            raise Failed(problem_text(answer))
        bar = Progress(*Progress.get_default_columns(), DownloadColumn(), console=err, disable=remote.json)
        with output.open("wb") as file, bar:
            task = bar.add_task("fetching", total=int(answer.headers.get("Content-Length", 0)) or None)
            for part in answer.iter_bytes():
                bar.advance(task, file.write(part))
    write_json({"recording": recording, "file": str(output)}) if remote.json else out.print(f"{output}")


@app.command
def doctor(*, common: Common = Common()) -> int:
    """Looks for what keeps a service from working, or will hurt it, and says how to mend each; fails on a fault.

    Example: `masking doctor --config masking.toml`
    """
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

    Example: `masking export -o masking.zip --config masking.toml`
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

    Example: `masking import masking.zip --keys keys.json --config new.toml`
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
    """Says step by step what a call from SOURCE (a number, or `withheld`) to TARGET would meet; nothing is done.

    Example: `masking explain +84901234567 +842471000001 --trunk carrier-vn`
    """
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
    """Shows what each country's pool holds and is sure to carry.

    Example: `masking capacity --service food`
    """
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


@recordings.command
def verify(*, heads: Path | None = None, common: Common = Common()) -> None:
    """Checks the chain of evidence and every stored recording against it; names what was altered.

    Reads the archive and the store of this configuration directly. `--heads`: the `evidence.checkpoint` events that a
    webhook receiver kept, one JSON object a line; with them a chain that was rewritten as a whole is found too.

    Example: `masking recordings verify --heads checkpoints.jsonl`
    """
    words = ["--heads", str(heads)] if heads else []
    faults: list[dict[str, Any]] = []
    said = kept_back(run("masking.courier.verification", words, common.config, "verified"), faults)
    summary = watched(said, err, hidden=common.json)
    if common.json:
        write_json({"faults": faults, **{name: summary[name] for name in ("entries", "recordings", "heads")}})
    else:
        show_faults(faults, summary)
    if faults:
        raise SystemExit(1)


def kept_back(lines: Iterable[dict[str, Any]], faults: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The lines that are no faults."""
    for line in lines:
        if line["event"] == "fault":
            faults.append(line)
        else:
            yield line


def show_faults(faults: list[dict[str, Any]], summary: dict[str, Any]) -> None:
    if faults:
        table = Table("what", "tenant", "entry", "recording")
        for fault in faults:
            table.add_row(fault["kind"], fault["tenant"], str(fault["seq"] or ""), fault["recording"] or "")
        out.print(table)
    verdict = f"{len(faults)} faults" if faults else "all as it was"
    out.print(f"{summary['entries']} entries, {summary['recordings']} recordings, {summary['heads']} heads: {verdict}")


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
    except KeyboardInterrupt:
        sys.exit(130)
    except (BadConfig, Failed, NotReady, Refused, RedisError, KeyringError, OSError) as problem:
        err.print(f"masking: {problem}", markup=False)
        sys.exit(1)
    except ExceptionGroup as group:  # of a task group: its first cause is what the person needs
        err.print(f"masking: {group.exceptions[0]}", markup=False)
        sys.exit(1)
    sys.exit(result if isinstance(result, int) else 0)
