"""What every command of the command line shares: its options, what it writes, and how it asks a running service."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar
from urllib.parse import urlencode

import httpx2
import msgspec
from cyclopts import Parameter
from rich.console import Console
from rich.progress import track

from masking.config import Config, load
from masking.errands import Failed

T = TypeVar("T")
IMPORT_BATCH = 200  # numbers a request
SMALL_BATCH = 20  # of a request that does much for each
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


def batches(items: list[T], about: str, remote: Remote, size: int = IMPORT_BATCH) -> Iterable[list[T]]:
    """The items by requests, under a progress bar."""
    parts = [items[start : start + size] for start in range(0, len(items), size)]
    return track(parts, about, console=err, disable=remote.json)


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
