"""Numbers to be imported, from a CSV file or a block, and what is wrong with them, told by the line it stands on."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from masking.blocks import spread
from masking.errands import Failed

COLUMNS: Final = ("phone_number", "trunk")
_FIELD: Final = re.compile(r"phone_numbers\[(\d+)\]\.?(\w*)")


class Row(NamedTuple):
    """One number, the trunk it names or "", and where it stands: a line of the file."""

    place: str
    number: str
    trunk: str

    @property
    def wish(self) -> dict[str, str]:
        """As the API takes it."""
        return {"phone_number": self.number} | ({"trunk": self.trunk} if self.trunk else {})


class Mistake(NamedTuple):
    """What is wrong where, and what would be right."""

    place: str
    field: str
    problem: str
    expected: str

    @property
    def line(self) -> int:
        """Of the file; 0 for a block."""
        number = self.place.rpartition(" ")[2]
        return int(number) if number.isdecimal() else 0

    def __str__(self) -> str:
        return f"{self.place}: {self.field} {self.problem}; expected {self.expected}"


def rows_of(source: str, trunk: str | None) -> tuple[list[Row], list[Mistake]]:
    """The numbers of a file, or of a block, each once; `trunk`: of those that name none. `Failed` when there is
    nothing to read."""
    rows: dict[str, Row] = {}
    mistakes: list[Mistake] = []
    for place, block, own in [("block", source, "")] if source.startswith("+") else _lines(Path(source)):
        leaves = own or trunk or ""
        try:
            numbers = list(spread(block))
        except ValueError as why:
            mistakes.append(Mistake(place, "phone_number", "is no block of numbers", str(why)))
            continue
        for number in numbers:
            first = rows.setdefault(number, Row(place, number, leaves))
            if first.trunk != leaves:
                mistakes.append(Mistake(place, "trunk", f"is another than in {first.place}", "one trunk a number"))
                break
    return list(rows.values()), mistakes


def _lines(file: Path) -> Iterator[tuple[str, str, str]]:
    """Of each line that says something its place, the number or block, and the trunk or ""."""
    try:
        with file.open(newline="", encoding="utf-8-sig") as text:
            reader = csv.DictReader(text, skipinitialspace=True)
            rows = [(reader.line_num, row) for row in reader]
            head = reader.fieldnames or []
    except OSError as error:
        raise Failed(f"{file}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error):
        raise Failed(f"{file}: is no CSV text in UTF-8") from None
    if not rows or "phone_number" not in head:
        raise Failed(f"{file}: expected a header line with phone_number (and trunk), then one number or block a line")
    if unknown := [name for name in head if name not in COLUMNS]:
        raise Failed(f"{file}: line 1: no such column: {', '.join(unknown)}; known are: {', '.join(COLUMNS)}")
    for line, row in rows:
        number, trunk = ((row.get(name) or "").strip() for name in COLUMNS)
        if number or trunk:
            yield f"{file}: line {line}", number, trunk


def mistakes_in(problem: dict[str, Any], batch: list[Row]) -> list[Mistake]:
    """What the API said of a batch, by the lines its numbers stand on; nothing when it is about something else."""
    found: dict[Mistake, None] = {}
    for error in problem.get("errors") or []:
        match = _FIELD.fullmatch(error["field"])
        if match is None or int(match[1]) >= len(batch):
            return []
        place = batch[int(match[1])].place
        found[Mistake(place, match[2] or "phone_number", error["problem"], error["expected"])] = None
    return list(found)
