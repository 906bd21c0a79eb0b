"""The relay's log: one JSON object a line on stderr, in the words the other processes use."""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from pathlib import PurePath


class Lines(logging.Formatter):
    """Formats a record; an exception is named with the places it came through, never with its text."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        said: dict[str, object] = {
            "role": "relay",
            "event": record.getMessage(),
            "level": record.levelname.lower(),
            "timestamp": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03}Z",
        }
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            frames = traceback.extract_tb(error.__traceback__)[-3:]
            said["kind"] = type(error).__name__
            said["at"] = " < ".join(f"{PurePath(frame.filename).name}:{frame.lineno}" for frame in reversed(frames))
        return json.dumps(said)


def to_stderr() -> None:
    """Everything from INFO on goes to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Lines())
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
