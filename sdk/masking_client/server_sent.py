"""Server-sent events (WHATWG HTML, section 9.2.6), from bytes to messages, without a socket."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(slots=True)
class Messages:
    """`last_id` is where to go on: the id of the last message, or of a block that only said it."""

    last_id: str = ""
    _rest: bytes = b""
    _data: list[str] = field(default_factory=list)
    _id: str = ""

    def feed(self, data: bytes) -> Iterator[str]:
        """The data of each message that is complete now."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            yield from self._line(line.removesuffix(b"\r").decode())

    def _line(self, line: str) -> Iterator[str]:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            self.last_id = self._id or self.last_id
            if self._data:
                yield "\n".join(self._data)
            self._data, self._id = [], ""
        elif name == "data":
            self._data.append(value)
        elif name == "id":
            self._id = value
