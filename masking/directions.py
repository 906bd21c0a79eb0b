"""Who of a session may call whom: `both`, `none`, or the ways that are open.

a_to_b                        the first participant calls the second, not the other way round
customer->driver              by roles; so does `customer_to_driver`
customer->driver,driver->hub  several ways; every other one is closed
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from masking.refusals import Invalid

if TYPE_CHECKING:
    from masking.pins import Way
    from masking.records import Line, Person

EXPECTED: Final = "both, none, a_to_b, b_to_a, or ways by role such as customer->driver"


def denied(direction: str, people: Sequence[Person], lines: Sequence[Line] = (), field: str = "direction") -> str:
    """The closed ways as the pools' route reads them: `from|to` with spaces between; of `lines`, those to somebody who
    is not there yet. `Invalid` for a direction that names nobody, said of `field`."""
    there = {person.id for person in people}
    lonely = {way for line in lines for way in line.ways if way[1] not in there}
    return " ".join(f"{source}|{target}" for source, target in sorted(_closed(direction, people, field) | lonely))


def _closed(direction: str, people: Sequence[Person], field: str) -> set[Way]:
    if direction == "both":
        return set()
    ways = {(one.id, other.id) for one in people for other in people if one is not other}
    if direction != "none":
        for way in direction.split(","):
            arrow = "->" if "->" in way else "_to_"
            source, _, target = (part.strip() for part in way.partition(arrow))
            allowed = {(one.id, other.id) for one in _named(source, people) for other in _named(target, people)}
            if not allowed & ways:
                raise Invalid.field(field, "names no way between the participants", EXPECTED)
            ways -= allowed
    return ways


def _named(name: str, people: Sequence[Person]) -> Sequence[Person]:
    """The people of that role; `a` and `b` are the first two where nobody has such a role."""
    found = [person for person in people if person.role == name]
    return found or (people["ab".index(name) :][:1] if name in ("a", "b") else [])
