"""The Lua scripts, each read from its file with what it shares with others in front."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pools.redis import Script

# Read once, at import: nobody reads files inside the event loop.
_TEXTS: Final = {path.stem: path.read_text() for path in Path(__file__).parent.glob("*.lua")}


class ShardScripts:
    """The scripts that decide inside one shard. `clock`: Lua that defines ``server_time()``; tests bring their own."""

    def __init__(self, clock: str | None = None) -> None:
        first = (_TEXTS["time"] if clock is None else clock) + _TEXTS["shard"]

        def script(name: str, *shared: str) -> Script:
            return Script(name, first + "".join(_TEXTS[part] for part in (*shared, name)))

        self.bind = script("bind", "secrets", "journal", "wakes")
        self.extend = script("extend", "secrets", "journal", "entries")
        self.release = script("release", "secrets", "journal", "entries")
        self.reopen = script("reopen", "secrets", "journal", "entries", "wakes")
        self.amend = script("amend", "secrets", "journal")
        self.undo = script("undo", "secrets", "entries")
        self.route = script("route")
        self.append = script("append", "journal", "wakes")
        self.health = script("health", "well")


SHARD: Final = ShardScripts()
_TAG: Final = "local tag = string.sub(KEYS[1], 1, -2)\n"
PLACE: Final = Script("place", _TAG + _TEXTS["well"] + _TEXTS["place"])
SILENCE: Final = Script("silence", _TAG + _TEXTS["well"] + _TEXTS["silence"])
ADD: Final = Script("add", _TEXTS["time"] + _TEXTS["rest"] + _TEXTS["add"])
STATE: Final = Script("state", _TEXTS["time"] + _TEXTS["rest"] + _TEXTS["state"])
