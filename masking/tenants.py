"""`[[tenant]]`: what the operator grants a tenant, and how its calls are billed. Who is not named has no limit.

It stands in the configuration and not behind the API: a tenant's own keys, `admin` ones too, must not raise it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from masking.sections import BadConfig, Section
from masking.trunks import TrunkSection

_ROUNDING: Final = re.compile(r"([1-9]\d{0,3})/([1-9]\d{0,3})", re.ASCII)


class Rounding(NamedTuple):
    """How a call's seconds are billed: the first `first` at once, then by `step`: 1/1 by the second, 60/60 by the
    minute, 30/6 half a minute and then tenths of one."""

    first: int
    step: int

    @classmethod
    def parse(cls, text: str, key: str) -> Rounding:
        """`"60/60"`; `BadConfig` otherwise."""
        match = _ROUNDING.fullmatch(text)
        if match is None:
            raise BadConfig(f'{key}: "{text}": expected FIRST/STEP in seconds, e.g. "1/1", "6/6", "60/60" or "30/6"')
        return cls(int(match[1]), int(match[2]))

    def billed(self, milliseconds: int) -> int:
        """Seconds billed for a call of that length; what was not answered costs nothing."""
        if milliseconds <= 0:
            return 0
        rest = max(0, milliseconds - self.first * 1000)
        return self.first + -(-rest // (self.step * 1000)) * self.step


QUOTAS: Final = (
    "max_open_sessions", "max_numbers", "max_recordings_gb", "max_requests_per_second", "max_channels", "max_cps",
)  # fmt: skip
# What may be guaranteed, of which key of the trunk, and within which of the tenant's own.
GUARANTEES: Final = {"guaranteed_channels": ("max_calls", "max_channels"), "guaranteed_cps": ("max_cps", "max_cps")}


class TenantSection(Section, frozen=True):
    name: str
    rounding: str = "1/1"
    rounding_by_service: dict[str, str] = {}
    max_open_sessions: int = 0
    max_numbers: int = 0
    max_recordings_gb: int = 0
    max_requests_per_second: int = 0
    max_channels: int = 0
    max_cps: int = 0
    guaranteed_channels: dict[str, int] = {}
    guaranteed_cps: dict[str, int] = {}

    @property
    def shares_calls(self) -> bool:
        """Has it limits or guarantees of its own for calls?"""
        return bool(self.max_channels or self.max_cps or self.guaranteed_channels or self.guaranteed_cps)

    def rounding_of(self, service: str) -> Rounding:
        """Of the calls of that service, by the name its sessions show."""
        text = self.rounding_by_service.get(service)
        if text is not None:
            return Rounding.parse(text, f"tenant {self.name}: rounding_by_service.{service}")
        return Rounding.parse(self.rounding, f"tenant {self.name}: rounding")


def check(tenants: Sequence[TenantSection], trunks: Iterable[TrunkSection]) -> None:
    """Raises `BadConfig` for what cannot be meant, or kept."""
    for guarantee in GUARANTEES:
        _check_guarantees(guarantee, tenants, {trunk.name: trunk for trunk in trunks})
    seen: set[str] = set()
    for tenant in tenants:
        if tenant.name in seen:
            raise BadConfig(f"tenant {tenant.name}: stands twice")
        seen.add(tenant.name)
        for quota in QUOTAS:
            if getattr(tenant, quota) < 0:
                raise BadConfig(f"tenant {tenant.name}: {quota}: expected a number, or 0 for no limit")
        for service in ("", *tenant.rounding_by_service):
            tenant.rounding_of(service)


def _check_guarantees(guarantee: str, tenants: Iterable[TenantSection], trunks: Mapping[str, TrunkSection]) -> None:
    """Nobody is promised what is not there: not on a trunk that is none, not more than it takes."""
    of_trunk, of_tenant = GUARANTEES[guarantee]
    given: Counter[str] = Counter()
    for tenant in tenants:
        promised: dict[str, int] = getattr(tenant, guarantee)
        for name, count in promised.items():
            if name not in trunks:
                known = ", ".join(trunks)
                raise BadConfig(f"tenant {tenant.name}: {guarantee}.{name}: no such trunk; known are: {known}")
            if count < 0:
                raise BadConfig(f"tenant {tenant.name}: {guarantee}.{name}: expected a number, or 0 for none")
        most = getattr(tenant, of_tenant)
        if most and max(promised.values(), default=0) > most:
            raise BadConfig(f"tenant {tenant.name}: {guarantee}: more than its own {of_tenant}, {most}")
        given.update(promised)
    for name, count in given.items():
        limit = getattr(trunks[name], of_trunk)
        if limit and count > limit:
            raise BadConfig(f"{guarantee} of all tenants on trunk {name}: {count}, over its {of_trunk}, {limit}")
