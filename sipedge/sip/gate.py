"""The side of digest authentication that asks (RFC 3261 22.1, RFC 7616, RFC 8760).

A nonce says of itself when it was made and for whom, under a key of ours, so that an unauthenticated request leaves
nothing behind. What is kept is only which counts of a nonce were used, by who has shown to know the password.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from enum import IntEnum
from hashlib import blake2s
from typing import Final

from sipedge.sip import digest
from sipedge.sip.digest import Challenge, Credentials
from sipedge.sip.grammar import Malformed
from sipedge.sip.messages import Request
from sipedge.sip.uris import Uri

LIFETIME: Final = 30.0  # seconds a nonce is good for
MAX_COUNT: Final = 1_024  # requests under one nonce
MAX_NONCES: Final = 20_000
OFFERED: Final = ("SHA-256", "MD5")  # unless the credentials say which; the preferred first (RFC 8760 2.3)


class Verdict(IntEnum):
    """What a request's Authorization is worth."""

    WELCOME = 1
    STALE = 2  # it knows the password, but its nonce is old, or was used so before: ask again
    UNKNOWN = 3


class Gate:
    """Asks and judges. `entropy(n)` gives n unpredictable bytes; `now` is any clock that never runs backwards."""

    def __init__(self, entropy: Callable[[int], bytes]) -> None:
        self._entropy = entropy
        self._secret = entropy(32)
        self._used: dict[str, tuple[float, int]] = {}  # nonce → when it ends, which counts were used; oldest first

    def challenges(self, who: Credentials, host: str, now: float, *, stale: bool = False) -> list[tuple[str, str]]:
        """The headers of a 401 to `host`: one for each algorithm, the preferred first."""
        nonce = self._nonce(f"{int(now * 1000):012x}{self._entropy(6).hex()}", who.realm, host)
        more = ", stale=true" if stale else ""
        return [
            (
                "WWW-Authenticate",
                f'Digest realm={digest.quoted(who.realm)}, nonce="{nonce}", algorithm={name}, qop="auth"{more}',
            )
            for name in who.algorithms or OFFERED
        ]

    def judge(self, request: Request, who: Credentials, host: str, now: float) -> Verdict:
        """Is this request of the one who knows these credentials? Each answer to a challenge is good once."""
        for value in request.headers.get("authorization", ()):
            try:
                pairs = digest.read_pairs(value)
                count = int(pairs["nc"], 16) if len(pairs["nc"]) == 8 else 0
                algorithm = digest.read_algorithm(pairs.get("algorithm", ""))
                if algorithm is None or algorithm[0] not in (who.algorithms or OFFERED):
                    continue
                if not _is_for(pairs, who, request):
                    continue
                asked = Challenge(who.realm, pairs["nonce"], *algorithm)
                right = digest.response(who, asked, request.method, pairs["uri"], pairs["cnonce"], pairs["nc"])
                given = pairs["response"].lower()
            except (Malformed, KeyError, ValueError):
                continue
            if hmac.compare_digest(right.encode(), given.encode()):
                fresh = self._fresh(asked.nonce, who.realm, host, now) and self._use(asked.nonce, count, now)
                return Verdict.WELCOME if fresh else Verdict.STALE
        return Verdict.UNKNOWN

    def _nonce(self, head: str, realm: str, host: str) -> str:
        mark = blake2s(f"{head} {host} {realm}".encode(), key=self._secret, digest_size=16)
        return head + mark.hexdigest()

    def _fresh(self, nonce: str, realm: str, host: str, now: float) -> bool:
        """Did we make it for this host and realm, and lately?"""
        own = self._nonce(nonce[:24], realm, host)
        if not hmac.compare_digest(own.encode(), nonce.encode()):
            return False
        return now - int(nonce[:12], 16) / 1000 <= LIFETIME

    def _use(self, nonce: str, count: int, now: float) -> bool:
        """Takes note of one count of a nonce; False when it was used before, or there is no room to know."""
        while self._used and next(iter(self._used.values()))[0] < now:
            del self._used[next(iter(self._used))]
        ends, used = self._used.get(nonce, (now + LIFETIME, 0))
        if not 0 < count <= MAX_COUNT or used >> count & 1 or (not used and len(self._used) >= MAX_NONCES):
            return False
        self._used[nonce] = ends, used | 1 << count
        return True


def username(request: Request) -> str:
    """Who the first readable Authorization says it is, unproved; "" when none does."""
    for value in request.headers.get("authorization", ()):
        try:
            return digest.read_pairs(value).get("username", "")
        except Malformed:
            continue
    return ""


def _is_for(pairs: dict[str, str], who: Credentials, request: Request) -> bool:
    """Is it of this user and realm, for this very request? A proxy may have rewritten the host of the Request-URI, but
    the number that is called is what was signed. Only qop=auth counts uses (RFC 8760 2.6 wants it)."""
    if pairs["qop"].lower() != "auth" or pairs["username"] != who.username or pairs["realm"] != who.realm:
        return False
    return Uri.parse(pairs["uri"]).user == request.uri.user
