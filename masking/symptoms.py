"""What the doctor says: how a thing was found, and which of the common mistakes (`docs/operations.md`) it is."""

from __future__ import annotations

from typing import Literal

import msgspec


class Finding(msgspec.Struct, frozen=True):
    """What was looked at, how it is, and, where it is not well, how to mend it. `mistake`: its number in
    `docs/operations.md`; 0: none."""

    check: str
    state: Literal["ok", "warning", "fault"]
    found: str
    mend: str = ""
    mistake: int = 0


def well(check: str, found: str) -> Finding:
    return Finding(check, "ok", found)


def fault(mistake: int, check: str, found: str, mend: str) -> Finding:
    """It will not work so."""
    return Finding(check, "fault", found, mend, mistake)


def warning(mistake: int, check: str, found: str, mend: str) -> Finding:
    """It works, and will hurt."""
    return Finding(check, "warning", found, mend, mistake)
