"""Phone numbers of people: a type that cannot print itself.

A person's number exists in this program only as a :class:`Number`. Everything that could carry it out by accident
(``str``, ``repr``, ``format``, a log line, JSON, pickle, a dataclass's repr) shows ``+8490…67`` or refuses;
:meth:`Number.reveal` is the one way out, so ``grep reveal`` lists every exit.
"""

from __future__ import annotations

import re
from typing import Final, NoReturn

_E164: Final = re.compile(r"\+[1-9][0-9]{6,14}", re.ASCII)


class Number:
    """One phone number in E.164, ``+`` and 7 to 15 digits, immutable and hashable. Made by :meth:`parse` alone."""

    __slots__ = ("__e164",)
    __e164: str

    def __init__(self) -> None:
        raise TypeError("a Number is made by Number.parse")

    @classmethod
    def parse(cls, text: str) -> Number:
        """The number that ``text`` spells in strict E.164; else ValueError, which never repeats the text."""
        if not isinstance(text, str) or _E164.fullmatch(text) is None:
            raise ValueError("not a phone number in E.164, like +84901234567")
        number = object.__new__(cls)
        object.__setattr__(number, "_Number__e164", text)
        return number

    def reveal(self) -> str:
        """The number in clear. Only where it must leave: on that person's own leg, or into a seal."""
        return self.__e164

    def __str__(self) -> str:
        """First digits and last two. A short number shows fewer, so that the rest is never a handful of guesses."""
        shown = 5 if len(self.__e164) > 10 else 3
        return f"{self.__e164[:shown]}…{self.__e164[-2:]}"

    def __repr__(self) -> str:
        return f"<Number {self}>"

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Number) and self.__e164 == other.__e164

    def __hash__(self) -> int:
        return hash((Number, self.__e164))

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("a Number does not change")

    def __copy__(self) -> Number:
        return self

    def __deepcopy__(self, memo: object) -> Number:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Number is never pickled; seal it with pools.keyring.Keyring.seal")
