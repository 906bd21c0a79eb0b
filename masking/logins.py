"""Names and passwords of trunks, as the configuration gives them. A password is never printed: not by `repr`, so not by
a log line or a dump of the configuration either."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

from masking.sections import Section


class LoginSection(Section, frozen=True):
    """Who somebody is at a digest challenge of `realm`. The password stands here, in a file (its first line), or in an
    environment variable. `algorithms`: what may be used, the preferred first; empty: SHA-256 and MD5, and what is
    stronger where the other side offers it."""

    username: str = ""
    realm: str = ""
    password: str = ""
    password_file: str = ""
    password_env: str = ""
    algorithms: list[Literal["SHA-512-256", "SHA-256", "MD5"]] = []

    def __repr__(self) -> str:
        return f"LoginSection(username={self.username!r}, realm={self.realm!r}, password=…)" if self.given else "none"

    @property
    def given(self) -> bool:
        return self != LoginSection()

    def with_password(self, environment: Mapping[str, str]) -> LoginSection:
        """Itself with its password read. Raises ValueError, whose text says what to mend and quotes no secret."""
        if not self.given:
            return self
        for key in ("username", "realm"):
            value = getattr(self, key)
            if not value or not value.isprintable():
                raise ValueError(f"{key}: expected a printable text, as the other side knows it")
        if sum(map(bool, (self.password, self.password_file, self.password_env))) != 1:
            raise ValueError("expected one of password, password_file and password_env")
        password = self.password or self._read(environment)
        if not password or not password.isprintable():
            raise ValueError("the password is empty or holds a character that cannot be printed")
        return msgspec.structs.replace(self, password=password)

    def _read(self, environment: Mapping[str, str]) -> str:
        if self.password_env:
            if self.password_env not in environment:
                raise ValueError(f"password_env: {self.password_env} is not in the environment")
            return environment[self.password_env]
        try:
            return Path(self.password_file).read_text(encoding="utf-8").partition("\n")[0].rstrip("\r")
        except (OSError, UnicodeDecodeError):
            raise ValueError(f'password_file: "{self.password_file}" cannot be read') from None
