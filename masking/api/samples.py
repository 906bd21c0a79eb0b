"""How each call is asked, in curl and in Python: read off the table of routes and one example of each body.

`openapi` puts them beside every call, `docs` shows them, and the tests send both to see that they ask what they say.
"""

from __future__ import annotations

import json
import keyword
import re
from typing import Any, get_origin

from masking.api.operations import Operation
from masking.api.paging import Page

CUSTOMER, DRIVER = "+84901234567", "+84907654321"
PEOPLE = [{"identifier": CUSTOMER, "role": "customer"}, {"identifier": DRIVER, "role": "driver"}]
BLOCK = "+842471000000-+842471000009"
PLACES = {
    "service": "default",
    "number": "+842471000001",
    "session": "ses_…",
    "interaction": "int_…",
    "recording": "rec_…",
    "dispute": "dsp_…",
    "block": "blk_…",
    "endpoint": "whk_…",
}
WHY = {"reason": "case 77"}
# By the name of the handler; a body that may be left out, or has no fields, needs none.
BODIES: dict[str, dict[str, Any]] = {
    "open_session": {"unique_name": "order-1042", "ttl": 3600, "participants": PEOPLE},
    "change_session": {"record": "always", "metadata": {"city": "HAN"}},
    "extend_session": {"ttl": 7200},
    "reopen_session": {"ttl": 1800},
    "swap_participant": {"participant": "par_…", "replacement": {"identifier": "+84987654321"}},
    "replace_number": {"number": "+842471000001", "overlap": 300},
    "intend": {"participant": "par_…"},
    "call": {"from": "par_…", "to": "par_…"},
    "record": {"action": "start"},
    "open_sessions": {"sessions": [{"participants": PEOPLE}]},
    "search_sessions": {"participant": CUSTOMER, "reason": "rider reported a threat"},
    "look_up_caller": {"identifier": CUSTOMER},
    "create_service": {"unique_name": "food", "record": "always", "pair_quarantine": 1800},
    "change_service": {"record": "always", "ttl": 5400},
    "plan_numbers": {"roles": [{"role": "customer", "concurrency": 3}, {"role": "driver", "concurrency": 4}]},
    "add_phone_numbers": {"phone_numbers": [{"phone_number": BLOCK, "trunk": "carrier-vn"}]},
    "change_phone_numbers": {"phone_numbers": [BLOCK], "state": "draining"},
    "change_phone_number": {"state": "suspended"},
    "search_recordings": {"participant": CUSTOMER, "reason": "rider reported a threat"},
    "hold_recording": WHY,
    "release_recording": WHY,
    "erase_recording": WHY,
    "share_recording": WHY,
    "erase_person": {"identifier": CUSTOMER, "reason": "asked to be forgotten"},
    "create_block": {"scope": "number", "who": {"identifier": DRIVER}, "reason": "calls at night"},
    "report": {"session": "ses_…", "reported_by": "par_…", "about": "par_…", "reason": "threats during the call"},
    "open_dispute": {"unique_name": "order-1042", "reason": "rider felt threatened", "requested_by": "anna"},
    "approve_dispute": {"approved_by": "bert"},
    "create_webhook_endpoint": {"url": "https://hooks.example.com/masking", "events": ["call.*", "session.closed"]},
    "change_webhook_endpoint": {"status": "disabled"},
    "replay_events": {"endpoint": "whk_…", "only_dead": True},
    "explain_route": {"from": CUSTOMER, "to": "+842471000001"},
}


def samples(operation: Operation) -> list[dict[str, str]]:
    """`x-codeSamples` of one call. `$BASE` is the service's address, `$KEY` an API key, `client` a Client of both."""
    return [
        {"lang": "Shell", "label": "curl", "source": _curl(operation)},
        {"lang": "Python", "label": "Python", "source": _python(operation)},
    ]


def _curl(operation: Operation) -> str:
    body = BODIES.get(operation.name)
    usual = "POST" if body is not None else "GET"
    words = ["curl -s"] + ([f"-X {operation.method}"] if operation.method != usual else [])
    words.append(f'"$BASE{operation.path.format(**PLACES)}"')
    if not operation.public:
        words.append('-H "Authorization: Bearer $KEY"')
    if _reason(operation):
        words.append(f'-H "X-Reason: {WHY["reason"]}"')
    if body is not None:
        words.append('-H "Content-Type: application/json" -d \'' + json.dumps(body, ensure_ascii=False) + "'")
    if _kind(operation) is bytes:
        words.append("-o " + _file(operation))
    return " \\\n  ".join(words)


def _python(operation: Operation) -> str:
    words = [_spelled(PLACES[name]) for name in re.findall(r"\{(\w+)\}", operation.path)]
    body = BODIES.get(operation.name, {})
    words += [f"{name + '_' if keyword.iskeyword(name) else name}={_spelled(value)}" for name, value in body.items()]
    if _reason(operation):
        words.append(f"reason={_spelled(WHY['reason'])}")
    asked = f"client.{operation.name}({', '.join(words)})"
    if len(asked) > 100:
        asked = f"client.{operation.name}(\n    " + ",\n    ".join(words) + ",\n)"
    kind = _kind(operation)
    if kind is bytes:
        return f"{asked}.save({_spelled(_file(operation))})"
    if operation.endless or get_origin(kind) is Page:
        return f"for one in {asked}:\n    print(one)"
    return asked if kind is None else f"answer = {asked}"


def _kind(operation: Operation) -> Any:
    return next(iter(operation.answers.values())).type


def _reason(operation: Operation) -> bool:
    return any(header.name == "X-Reason" for header in operation.headers)


def _file(operation: Operation) -> str:
    return "case.zip" if "zip" in next(iter(operation.answers.values())).media_type else "call.wav"


def _spelled(value: Any) -> str:
    """A value as Python spells it, with the quotes of JSON."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_spelled(name)}: {_spelled(inner)}" for name, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_spelled, value)) + "]"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
