"""Names and passwords of trunks: where they may stand, and that they are never printed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from masking.config import BadConfig, Config, load
from tests.ground.test_config import TRUNK

WHO = 'username = "u", realm = "r"'


def read(tmp_path: Path, more: str, environment: Mapping[str, str] | None = None) -> Config:
    path = tmp_path / "masking.toml"
    path.write_text(TRUNK + more)
    return load(path, environment or {})


def test_a_password_stands_in_the_file_or_in_another_or_in_the_environment(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("from a file\nand more\n")
    for key, expected in (
        ('password = "plain"', "plain"),
        (f'password_file = "{tmp_path}/secret"', "from a file"),
        ('password_env = "CARRIER_PASSWORD"', "from outside"),
    ):
        config = read(tmp_path, f"auth = {{ {WHO}, {key} }}", {"CARRIER_PASSWORD": "from outside"})
        assert config.trunk[0].auth.password == expected
        assert config.trunk[0].auth.given and not config.trunk[0].authenticate.given
        assert expected not in repr(config) and "username='u'" in repr(config)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (f"auth = {{ {WHO} }}", "trunk carrier-vn: auth: expected one of password, password_file and password_env"),
        (f'auth = {{ {WHO}, password = "s3cret", password_env = "X" }}', "expected one of password"),
        ('authenticate = { username = "u", password = "s3cret" }', "authenticate: realm: expected a printable text"),
        ('auth = { realm = "r", password = "s3cret" }', "auth: username: expected a printable text"),
        (f'auth = {{ {WHO}, password = "s3cret\\t" }}', "holds a character that cannot be printed"),
        (f'auth = {{ {WHO}, password_env = "NOT_THERE" }}', "NOT_THERE is not in the environment"),
        (f'auth = {{ {WHO}, password_file = "/not/there" }}', '"/not/there" cannot be read'),
        (f'auth = {{ {WHO}, pasword = "s3cret" }}', "pasword"),
        ("register = true", "register: it needs auth"),
        (f'register_expires = 5\nauth = {{ {WHO}, password = "s3cret" }}', "register_expires: expected 60..86400"),
        (
            f'authenticate = {{ {WHO}, password = "s3cret" }}\n{TRUNK.replace("carrier-vn", "twin")}'
            f'authenticate = {{ {WHO}, password = "s3cret" }}',
            'username "u" stands twice',
        ),
        ('prefixes = ["8490"]', 'prefixes: "8490": expected how E.164 numbers begin'),
    ],
)
def test_what_cannot_be_used_stops_the_start_and_quotes_no_secret(tmp_path: Path, more: str, said: str) -> None:
    with pytest.raises(BadConfig) as problem:
        read(tmp_path, more)
    assert said in str(problem.value)
    assert "s3cret" not in str(problem.value)
