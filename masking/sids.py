"""Twilio's SIDs (two letters and 32 hexadecimal digits) for our ids, which stay the primary ones.

KC  a session's: its shard and the letters of its id, in both directions. Only the ids of sessions that the face opens
    have so few letters in use: six zeros, two letters that stand for the service, fourteen at random.
PN  a virtual number's: its digits, in both directions
KS, KP, KI, CA  of a service, a participant, an interaction, a leg of one: hashes of our ids. Whoever asks names what
    they belong to, and there are few of those, so nothing is kept to find them again.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from hashlib import blake2b
from typing import Final

from pools.grants import holder_in, letters_of, shard_of
from pools.numbers import Number

_SHARD_ALPHABET: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
_ALPHABET: Final = _SHARD_ALPHABET + "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_ZEROS: Final = "0" * 6
_TAG: Final = 2
_HEX: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)


def service(name: str) -> str:
    return _hashed("KS", name)


def participant(name: str) -> str:
    return _hashed("KP", name)


def interaction(name: str) -> str:
    return _hashed("KI", name)


def leg(interaction: str, place: int) -> str:
    """Of the caller's leg (1) and the callee's (2)."""
    return _hashed("CA", f"{interaction}/{place}")


def _hashed(prefix: str, name: str) -> str:
    return prefix + blake2b(name.encode(), digest_size=16).hexdigest()


def number(x: str) -> str:
    """Of a virtual number in E.164."""
    return f"PN{int(x.lstrip('+')):032x}"


def number_of(sid: str) -> str | None:
    """The virtual number in E.164; None for a SID of none."""
    if not sid.startswith("PN") or not _HEX.fullmatch(sid[2:]):
        return None
    spelled = f"+{int(sid[2:], 16)}"
    try:
        Number.parse(spelled)
    except ValueError:
        return None
    return spelled


def session_letters(service: str) -> Callable[[bytes], str]:
    """Makes the letters of the ids of the service's sessions."""
    return lambda random: letters_prefix(service) + letters_of(random)[: 22 - len(_ZEROS) - _TAG]


def letters_prefix(service: str) -> str:
    """What the letters of every session that the face opens in the service begin with. Another service may have the
    same."""
    tag = blake2b(service.encode(), digest_size=_TAG).digest()
    return _ZEROS + "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in tag)


def is_of(session: str | None, service: str) -> bool:
    """Did the face open the session, in this service or in one of the same letters?"""
    return session is not None and session[10:].startswith(letters_prefix(service))


def session(name: str) -> str:
    """The SID of a session that the face opened."""
    return f"KC{_number(shard_of(name), _SHARD_ALPHABET):08x}{_number(name[-16:], _ALPHABET):024x}"


def session_of(sid: str) -> str | None:
    """The session's id; None for a SID of none."""
    if not sid.startswith("KC") or not _HEX.fullmatch(sid[2:]):
        return None
    shard, letters = _spelt(int(sid[2:10], 16), _SHARD_ALPHABET), _spelt(int(sid[10:], 16), _ALPHABET)
    if len(shard) > 6 or len(letters) > 16:
        return None
    return holder_in(shard.rjust(6, "0"), _ZEROS + letters.rjust(16, "0"))


def _number(text: str, alphabet: str) -> int:
    found = 0
    for letter in text:
        found = found * len(alphabet) + alphabet.index(letter)
    return found


def _spelt(number: int, alphabet: str) -> str:
    text = ""
    while number:
        number, place = divmod(number, len(alphabet))
        text = alphabet[place] + text
    return text
