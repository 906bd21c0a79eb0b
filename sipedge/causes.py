"""Why a call ended, in the two languages networks say it: SIP status codes and Q.850 causes.

The tables are those of RFC 3398; a Reason header (RFC 3326) that names a Q.850 cause wins over them, since it is what
the switch at the far end said. What crosses from one leg to the other is the cause alone, never a text.
"""

from __future__ import annotations

from typing import Final

NORMAL: Final = 16  # normal call clearing: BYE and CANCEL (RFC 3398 8.1.3, 8.2.7.1)
NO_ANSWER: Final = 19
ROUTING_ERROR: Final = 25  # 482, 483 (RFC 3398 8.2.6.1)
UNSPECIFIED: Final = 31
NO_CIRCUIT: Final = 34
TEMPORARY: Final = 41
CONGESTION: Final = 42
TIMER_EXPIRED: Final = 102

# RFC 3398 8.2.6.1: the cause that a final code stands for when nobody named one.
_CAUSES: Final = {
    400: 41,
    401: 21,
    402: 21,
    403: 21,
    404: 1,
    405: 63,
    406: 79,
    407: 21,
    408: 102,
    410: 22,
    413: 127,
    414: 127,
    415: 79,
    416: 127,
    420: 127,
    421: 127,
    423: 127,
    480: 18,
    481: 41,
    482: 25,
    483: 25,
    484: 28,
    485: 1,
    486: 17,
    487: NORMAL,  # the answer to CANCEL, whose own cause is 16 (8.2.7.1)
    488: 88,  # "by Warning"; ours is always about the media
    500: 41,
    501: 79,
    502: 38,
    503: 41,
    504: 102,
    505: 127,
    513: 127,
    600: 17,
    603: 21,
    604: 1,
    606: 88,
}
# A code the table does not have means what the first of its class means (RFC 3261 8.1.3.2).
_CLASSES: Final = {3: UNSPECIFIED, 4: 41, 5: 41, 6: 21}

# RFC 3398 7.2.4.1: the final code that a cause stands for. 16 has none: it is no failure.
_STATUSES: Final = {
    1: 404,
    2: 404,
    3: 404,
    17: 486,
    18: 408,
    19: 480,
    20: 480,
    21: 603,  # "403, or 603 when the user said it": with us it is always the person who is called
    22: 410,
    23: 410,
    26: 404,
    27: 502,
    28: 484,
    29: 501,
    31: 480,
    34: 503,
    38: 503,
    41: 503,
    42: 503,
    47: 503,
    55: 403,
    57: 403,
    58: 503,
    65: 488,
    70: 488,
    79: 501,
    87: 403,
    88: 503,
    102: 504,
    111: 500,
    127: 500,
}
# What only somebody who was reached can mean, whatever code a gateway put it in: busy, no answer, absent, declined.
PERSON: Final = frozenset({17, 19, 20, 21})


def cause_of(status: int) -> int | None:
    """The Q.850 cause a final code stands for; None for success."""
    return _CAUSES.get(status) or _CLASSES.get(status // 100)


def status_of(cause: int) -> int | None:
    """The final code a Q.850 cause stands for, 500 for one the table does not have; None where it is no failure."""
    return None if cause == NORMAL else _STATUSES.get(cause, 500)


def human(status: int, cause: int | None) -> int:
    """The code an answer really means: a failure of the network that names a person's cause is that person's answer."""
    if cause is None or cause not in PERSON or not (status == 408 or 500 <= status < 600):
        return status
    return _STATUSES[cause]


def reason(cause: int | None) -> list[tuple[str, str]]:
    """The Reason header (RFC 3326): a cause, never a text."""
    return [] if cause is None else [("Reason", f"Q.850;cause={cause}")]
