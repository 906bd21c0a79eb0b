"""The log: one JSON object a line on stderr, from our own loggers and from the libraries' alike.

Two nets below the rule that no person's number is ever logged: a run of digits long enough to be one is shortened as
`Number` prints itself, and of an exception only its kind and place are told, since its text may quote a value.
"""

from __future__ import annotations

import logging
import re
import sys
import traceback
from collections.abc import MutableMapping
from pathlib import PurePath
from typing import Any, TextIO

import msgspec
import structlog

# Not inside a longer word: ids are letters and digits, and stay readable.
_DIGITS = re.compile(r"(?<![0-9A-Za-z_.:])\+?\d{9,15}(?![0-9A-Za-z_])")


def configure(stream: TextIO = sys.stderr, level: int = logging.INFO) -> None:
    """Sends everything that is logged to `stream`. Called once, by a process's entry point."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            shorten_numbers,
            _as_json,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(handlers=[_Libraries()], level=logging.WARNING, force=True)


def place(error: BaseException) -> str:
    """Where an exception came from, innermost frame first: files and lines, nothing of its text."""
    frames = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    return " < ".join(f"{PurePath(name).name}:{line}" for name, line in reversed(frames[-3:]))


def shorten_numbers(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: `+84901234567` becomes `+8490…67` in every text."""
    for name, value in event.items():
        if isinstance(value, str) and name != "timestamp":
            event[name] = _DIGITS.sub(lambda match: f"{match[0][:5]}…{match[0][-2:]}", value)
    return event


def _as_json(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> str:
    return msgspec.json.encode(event, enc_hook=str).decode()


class _Libraries(logging.Handler):
    """What libraries say through `logging`, in the same form."""

    def emit(self, record: logging.LogRecord) -> None:
        said: dict[str, Any] = {"logger": record.name}
        if record.exc_info and record.exc_info[1] is not None:
            said |= {"kind": type(record.exc_info[1]).__name__, "at": place(record.exc_info[1])}
        structlog.get_logger().log(record.levelno, record.getMessage(), **said)
