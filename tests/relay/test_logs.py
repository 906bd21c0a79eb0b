"""The relay's log: whatever happens, one JSON object a line, without the text of an error."""

from __future__ import annotations

import json
import logging
import sys

from sipedge.relay.logs import Lines


def test_a_line_is_json_and_an_error_is_named_by_its_places_only() -> None:
    try:
        raise ValueError("+84901234567")
    except ValueError:
        record = logging.LogRecord("sipedge.relay", logging.ERROR, __file__, 1, 'a "%s"\n', ("call",), sys.exc_info())
    line = Lines().format(record)
    said = json.loads(line)
    assert "\n" not in line and "849" not in line.replace(said["timestamp"], "")
    assert (said["role"], said["level"], said["event"], said["kind"]) == ("relay", "error", 'a "call"\n', "ValueError")
    assert said["at"].startswith("test_logs.py:")
