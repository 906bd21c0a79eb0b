"""Work that a command leaves to a child process, because it needs a room that the command line may not enter."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import Progress, TaskID


class Failed(Exception):
    """What the command could not do, in words for the person who typed it."""


def run(module: str, words: list[str], config: Path | None, last: str) -> Iterator[dict[str, Any]]:
    """The JSON lines of `python -m MODULE`; `Failed` with its last word unless they end with an event `last`."""
    command = [sys.executable, "-m", module, *words, *(["--config", str(config)] if config else [])]
    event = ""
    with tempfile.TemporaryFile("w+") as trouble:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=trouble, text=True) as child:
            assert child.stdout is not None, "asked for"
            for line in child.stdout:
                said = msgspec.json.decode(line)
                event = said["event"]
                yield said
        trouble.seek(0)
        words_left = trouble.read().strip().splitlines()
    if event != last:
        raise Failed(words_left[-1] if words_left else f"{module} ended with {child.returncode}")


def watched(lines: Iterable[dict[str, Any]], console: Console, *, hidden: bool) -> dict[str, Any]:
    """The last line; those that tell of progress become bars."""
    said: dict[str, Any] = {}
    progress = Progress(console=console, disable=hidden)
    bars: dict[str, TaskID] = {}
    try:
        for said in lines:
            if said["event"] == "progress":
                progress.start()
                what = said["what"]
                if what not in bars:
                    bars[what] = progress.add_task(what)
                progress.update(bars[what], completed=said["done"], total=said["total"])
    finally:
        if bars:
            progress.stop()
    return said
