"""Digest authentication: what both sides compute, and the side that is asked (RFC 3261 22, RFC 7616, RFC 8760).

The server's side is `gate`. A challenge is answered for one realm only, the one the credentials were given for: a
peer that names another is collecting answers for somebody else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from sipedge.sip import grammar
from sipedge.sip.grammar import Malformed
from sipedge.sip.messages import Response

# Strongest first; the weakest is still what most carriers speak.
ALGORITHMS: Final[Mapping[str, str]] = {"SHA-512-256": "sha512_256", "SHA-256": "sha256", "MD5": "md5"}
SESSION: Final = "-SESS"
ASKED_BY: Final = {  # RFC 3261 22.2, 22.3: status → where the challenge stands, where its answer goes
    401: ("www-authenticate", "Authorization"),
    407: ("proxy-authenticate", "Proxy-Authorization"),
}
MAX_TRIES: Final = 3  # a proxy and the called side may each ask once, and one nonce may have gone stale


class Credentials(NamedTuple):
    """Who we are to a peer, or a peer to us; good for one realm. `algorithms`: keys of `ALGORITHMS` that may be used;
    empty: any."""

    username: str
    password: str
    realm: str
    algorithms: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return "<Credentials>"


class Challenge(NamedTuple):
    """What a server asks. `algorithm` is a key of `ALGORITHMS`; `session`: its -sess variant; `qop`: "auth" is
    offered."""

    realm: str
    nonce: str
    algorithm: str
    session: bool = False
    qop: bool = True
    opaque: str | None = None
    stale: bool = False


def read_pairs(value: str) -> dict[str, str]:
    """The `name=value, name="value"` of a Digest header, names lower case, quotes taken away. Raises `Malformed`, also
    for another scheme."""
    scheme, _, rest = value.strip(" \t").partition(" ")
    if scheme.lower() != "digest":
        raise Malformed(400, "another authentication scheme")
    pairs: dict[str, str] = {}
    for piece in grammar.split_list(rest.strip(" \t")):
        name, equals, text = piece.partition("=")
        name, text = name.strip(" \t").lower(), text.strip(" \t")
        if not equals or name in pairs:
            raise Malformed(400, "unreadable authentication parameter")
        if text.startswith('"'):
            if len(text) < 2 or not text.endswith('"'):
                raise Malformed(400, "unclosed quotes")
            text = grammar.unquote(text[1:-1])
        pairs[name] = text
    return pairs


def read_algorithm(text: str) -> tuple[str, bool] | None:
    """The algorithm and whether it is a -sess variant; None for one we do not speak. MD5 where nothing is said
    (RFC 7616 3.3)."""
    name = text.upper() or "MD5"
    session = name.endswith(SESSION)
    name = name.removesuffix(SESSION)
    return (name, session) if name in ALGORITHMS else None


def read_challenge(value: str) -> Challenge | None:
    """One challenge; None when we could not answer it. Raises `Malformed`."""
    pairs = read_pairs(value)
    algorithm = read_algorithm(pairs.get("algorithm", ""))
    offered = [one.strip(" \t").lower() for one in pairs["qop"].split(",")] if "qop" in pairs else []
    if algorithm is None or "nonce" not in pairs or (offered and "auth" not in offered):
        return None
    return Challenge(
        realm=pairs.get("realm", ""),
        nonce=pairs["nonce"],
        algorithm=algorithm[0],
        session=algorithm[1],
        qop=bool(offered),
        opaque=pairs.get("opaque"),
        stale=pairs.get("stale", "").lower() == "true",
    )


def hashed(algorithm: str, *parts: str) -> str:
    """H of the parts joined by colons, in lower-case hexadecimal."""
    made = hashlib.new(ALGORITHMS[algorithm], ":".join(parts).encode(), usedforsecurity=False)
    return made.hexdigest()


def response(who: Credentials, asked: Challenge, method: str, uri: str, cnonce: str, count: str) -> str:
    """The request-digest (RFC 7616 3.4.1); without qop that of RFC 2069, which old peers still ask for."""
    first = hashed(asked.algorithm, who.username, who.realm, who.password)
    if asked.session:
        first = hashed(asked.algorithm, first, asked.nonce, cnonce)
    second = hashed(asked.algorithm, method, uri)
    if not asked.qop:
        return hashed(asked.algorithm, first, asked.nonce, second)
    return hashed(asked.algorithm, first, asked.nonce, count, cnonce, "auth", second)


def quoted(text: str) -> str:
    """A quoted-string (RFC 3261 25.1)."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def write_answer(who: Credentials, asked: Challenge, method: str, uri: str, cnonce: str, count: int = 1) -> str:
    """The value of Authorization or Proxy-Authorization."""
    nc = f"{count:08x}"
    algorithm = asked.algorithm + ("-sess" if asked.session else "")
    pairs = [
        f"username={quoted(who.username)}",
        f"realm={quoted(asked.realm)}",
        f"nonce={quoted(asked.nonce)}",
        f"uri={quoted(uri)}",
        f'response="{response(who, asked, method, uri, cnonce, nc)}"',
        f"algorithm={algorithm}",
    ]
    if asked.qop or asked.session:
        pairs.append(f'cnonce="{cnonce}"')
    if asked.qop:
        pairs += ["qop=auth", f"nc={nc}"]
    if asked.opaque is not None:
        pairs.append(f"opaque={quoted(asked.opaque)}")
    return "Digest " + ", ".join(pairs)


def choose(answer: Response, who: Credentials) -> Challenge | None:
    """The strongest challenge of a 401 or 407 that is for our realm; None when there is none we may answer."""
    found: list[Challenge] = []
    for value in answer.headers.get(ASKED_BY[answer.status][0], ()):
        try:
            challenge = read_challenge(value)
        except Malformed:
            continue
        if challenge is None or challenge.realm != who.realm:
            continue
        if not who.algorithms or challenge.algorithm in who.algorithms:
            found.append(challenge)
    rank = list(ALGORITHMS)
    return min(found, key=lambda one: rank.index(one.algorithm), default=None)


class Authorisation:
    """What a request of ours has been asked so far, and our answers: the headers its next try carries."""

    __slots__ = ("_answers", "_tries", "_who")

    def __init__(self, who: Credentials) -> None:
        self._who = who
        self._answers: dict[str, str] = {}
        self._tries = 0

    def take(self, answer: Response, method: str, uri: str, cnonce: Callable[[], str]) -> bool:
        """Takes a 401 or 407. False: it asks what we cannot or may not answer, or has refused our answer; one whose
        nonce had only grown old is answered again."""
        header = ASKED_BY[answer.status][1]
        asked = choose(answer, self._who)
        if asked is None or self._tries == MAX_TRIES or (header in self._answers and not asked.stale):
            return False
        self._tries += 1
        self._answers[header] = write_answer(self._who, asked, method, uri, cnonce())
        return True

    @property
    def lines(self) -> str:
        """Whole header lines."""
        return "".join([f"{name}: {value}\r\n" for name, value in self._answers.items()])
