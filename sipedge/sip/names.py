"""The words of SIP messages: header names with their compact and usual spellings, methods, reason phrases."""

from __future__ import annotations

from collections.abc import Iterable

from sipedge.sip import grammar

COMPACT = {
    "a": "accept-contact",
    "b": "referred-by",
    "c": "content-type",
    "d": "request-disposition",
    "e": "content-encoding",
    "f": "from",
    "i": "call-id",
    "j": "reject-contact",
    "k": "supported",
    "l": "content-length",
    "m": "contact",
    "n": "identity-info",
    "o": "event",
    "r": "refer-to",
    "s": "subject",
    "t": "to",
    "u": "allow-events",
    "v": "via",
    "x": "session-expires",
    "y": "identity",
}
# A second one of these would let two readers of one message disagree on what it says.
SINGLE = frozenset(
    "from to call-id cseq max-forwards content-length content-type content-encoding content-disposition expires min-se"
    " session-expires retry-after date subject event refer-to rack rseq".split()
)
REASONS = {
    100: "Trying",
    180: "Ringing",
    181: "Call Is Being Forwarded",
    182: "Queued",
    183: "Session Progress",
    200: "OK",
    202: "Accepted",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    406: "Not Acceptable",
    407: "Proxy Authentication Required",
    408: "Request Timeout",
    410: "Gone",
    413: "Request Entity Too Large",
    415: "Unsupported Media Type",
    416: "Unsupported URI Scheme",
    420: "Bad Extension",
    422: "Session Interval Too Small",
    433: "Anonymity Disallowed",
    480: "Temporarily Unavailable",
    481: "Call/Transaction Does Not Exist",
    482: "Loop Detected",
    483: "Too Many Hops",
    484: "Address Incomplete",
    486: "Busy Here",
    487: "Request Terminated",
    488: "Not Acceptable Here",
    491: "Request Pending",
    500: "Server Internal Error",
    501: "Not Implemented",
    503: "Service Unavailable",
    504: "Server Time-out",
    505: "Version Not Supported",
    513: "Message Too Large",
    600: "Busy Everywhere",
    603: "Decline",
}

_WELL_KNOWN = """
accept accept-encoding accept-language alert-info allow authorization call-info diversion error-info history-info
in-reply-to mime-version organization p-access-network-info p-asserted-identity p-called-party-id p-charging-vector
p-early-media p-preferred-identity path priority privacy proxy-authenticate proxy-authorization proxy-require rack
reason record-route remote-party-id replaces reply-to require route rseq server service-route timestamp unsupported
user-agent user-to-user warning www-authenticate x-masking-trunk
""".split()
_COMMON = (*COMPACT.values(), *SINGLE, *_WELL_KNOWN)


def _spellings(name: str) -> Iterable[str]:
    written = {"call-id": "Call-ID", "cseq": "CSeq", "min-se": "Min-SE", "rack": "RAck", "rseq": "RSeq"}
    return (name, name.title(), name.upper(), written.get(name, name))


@grammar.remembered(1_024)
def long_name(written: str) -> str | None:
    """The long lower-case name of a header; None when it is no token.

    White space may stand before the colon (RFC 3261 25.1, HCOLON), but not behind an `X-` name: `X :` would pass a
    front that deletes `X:`.
    """
    name = written.rstrip(" \t").lower()
    if not grammar.is_token(name) or (len(name) < len(written) and name.startswith("x-")):
        return None
    return COMPACT.get(name, name)


# Known spellings → long lower-case name. Never grows: what is not here is looked at (`long_name`).
KNOWN = {spelling: name for name in _COMMON for spelling in _spellings(name)}
KNOWN |= {spelling: name for short, name in COMPACT.items() for spelling in (short, short.upper())}
METHODS = frozenset(
    "INVITE ACK BYE CANCEL OPTIONS PRACK UPDATE INFO REGISTER MESSAGE REFER SUBSCRIBE NOTIFY PUBLISH".split()
)
