"""masking.toml and the environment: what is read, and what each mistake is told."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from masking.config import BadConfig, Config, load

TRUNK = """
[[trunk]]
name = "carrier-vn"
uri = "sip:127.0.0.1:5070;transport=udp"
sources = ["127.0.0.0/8", "127.0.0.1:5070"]
country = "VN"
"""


def read(tmp_path: Path, text: str, environment: Mapping[str, str] | None = None) -> Config:
    path = tmp_path / "masking.toml"
    path.write_text(text)
    return load(path, environment or {})


def test_no_file_means_the_documented_defaults() -> None:
    config = load(None, {})
    assert config.http.address == ("127.0.0.1", 8080)
    assert [str(listener) for listener in config.sip.listeners] == ["udp:127.0.0.1:5060", "tcp:127.0.0.1:5060"]
    assert config.media.port_range == (20000, 29999)


def test_a_trunk_needs_four_keys_and_derives_the_rest(tmp_path: Path) -> None:
    trunk = read(tmp_path, TRUNK).trunk[0]
    assert (trunk.carrier_name, trunk.served_countries) == ("carrier-vn", ["VN"])
    assert [str(network) for network in trunk.media_networks] == ["127.0.0.0/8", "127.0.0.1/32"]
    assert [source.port for source in trunk.source_entries] == [None, 5070]


def test_the_environment_overrides_the_file_by_the_type_of_the_key(tmp_path: Path) -> None:
    environment = {"MASKING_HTTP__WORKERS": "2", "MASKING_SIP__LISTEN": "udp:127.0.0.1:5099", "MASKING_API_KEY": "k"}
    config = read(tmp_path, "[http]\nworkers = 1", environment)
    assert config.http.workers == 2
    assert config.sip.listen == ["udp:127.0.0.1:5099"]


def test_sockets_of_a_deep_data_folder_have_a_path_the_kernel_takes() -> None:
    config = load(None, {"MASKING_SERVICE__DATA_DIR": "/srv/" + "deep/" * 30})
    assert len(str(config.relay_socket)) < 107
    assert config.relay_socket.parent == config.valkey_socket.parent


@pytest.mark.parametrize(
    ("text", "environment", "said"),
    [
        ("[htpp]\nlisten = 'x'", {}, 'did you mean "http"'),
        ("[http]\nlisen = 'x'", {}, 'http.lisen: no such key; did you mean "listen"'),
        (TRUNK + "sorces = []", {}, 'did you mean "sources"'),
        ("[http]\nworkers = 'two'", {}, "http.workers: Expected `int`"),
        ("", {"MASKING_HTTP__WORKERS": "two"}, "MASKING_HTTP__WORKERS"),
        ("", {"MASKING_HTTP__WORKRES": "2"}, 'did you mean "workers"'),
        ("", {"MASKING_HPTT__WORKERS": "2"}, 'did you mean "http"'),
        ("", {"MASKING_WEBHOOKS__ALLOW_PRIVATE": "maybe"}, "not true or false"),
        ("[http]\nlisten = '8080'", {}, "expected HOST:PORT"),
        ("[http]\nworkers = 0", {}, "expected 1..64"),
        ("[media]\nports = '30000-20000'", {}, "is no range"),
        ("[media]\nplane = 'rtpengine'", {}, "not_implemented"),
        ("[recordings]\nurl = 'gs://calls'", {}, "recordings.url: expected file:///"),
        ("[recordings]\nurl = 's3://calls'", {}, "recordings.region: empty"),
        ("[recordings]\nendpoint = 'minio:9000'", {}, "recordings.endpoint: expected https"),
        ("[keys]\nprovider = 'aws-kms'", {}, "keys.kms_key: empty"),
        ("[keys]\nprovider = 'aws-kms'\nkms_key = 'alias/calls'", {}, "keys.kms_region: empty"),
        ("[sip]\nworkers = 4", {}, "not_implemented"),
        ("[sip]\nlisten = ['tls:127.0.0.1:5061']", {}, "sip.tls.certificate: empty"),
        ("[sip.tls]\ncertificate = '/etc/hosts'", {}, "certificate and key go together"),
        (
            "[sip.tls]\ncertificate = '/nowhere.pem'\nkey = '/etc/hosts'",
            {},
            'certificate: "/nowhere.pem": cannot be read',
        ),
        ("[sip.tls]\nauthorites = ''", {}, 'sip.tls.authorites: no such key; did you mean "authorities"?'),
        ("", {"MASKING_SIP__TLS__KEYS": "x"}, 'did you mean "key"'),
        ("", {"MASKING_SIP__TLS": "x"}, "MASKING_SIP__TLS: no such key"),
        ("", {"MASKING_SIP__TLS__AUTHORITIES": "/nowhere.pem"}, "sip.tls.authorities"),
        ("[sip]\nlisten = ['sctp:127.0.0.1:5061']", {}, "expected udp:HOST:PORT"),
        ("[sip]\nsession_expires = 60", {}, "expected 90..86400"),
        ("[sip]\nresolver = 'dns.example'", {}, "sip.resolver"),
        ("[sip]\nresolver = '10.0.0.0/24'", {}, "sip.resolver"),
        ("[media]\nsilence_timeout = 1", {}, "expected 5..86400"),
        ("[sip]\nlisten = []", {}, "nothing to listen on"),
        ("[redis]\nurl = 'http://x'", {}, "expected redis://"),
        ("[archive]\nurl = 'mysql://x'", {}, "expected postgresql://"),
        ("[service]\nbootstrap_key = 'short'", {}, "shorter than 16"),
        ("trunk = 1", {}, "expected a table"),
        (
            "[[trunk]]\nname = 'a'\nuri = 'sip:h'\ncountry = 'VN'",
            {},
            "trunk a: Object missing required field `sources`",
        ),
        (TRUNK.replace("127.0.0.0/8", "127.0.0.1/8"), {}, "expected an address or a network"),
        (TRUNK.replace('"VN"', '"vn"'), {}, "is no ISO 3166 code"),
        (TRUNK.replace("transport=udp", "transport=tls"), {}, "sip.listen has no tls: address"),
        (TRUNK.replace("transport=udp", "transport=sctp"), {}, "expected sip:HOST:PORT;transport=udp, tcp or tls"),
        (TRUNK.replace("sip:", "sips:"), {}, "expected sip:HOST:PORT"),  # with transport=udp
        (TRUNK + "tls = {mutal = true}", {}, 'trunk.tls.mutal: no such key; did you mean "mutual"?'),
        (TRUNK.replace('["127.0.0.0/8", "127.0.0.1:5070"]', "[]"), {}, "sources: empty"),
        (TRUNK.replace("carrier-vn", "Carrier VN"), {}, "expected up to 64 lower-case"),
        (TRUNK + TRUNK, {}, "stands twice"),
        (TRUNK + "max_cps = 'many'", {}, "trunk carrier-vn: max_cps: Expected `int`"),
        ("= 1", {}, "not valid TOML"),
    ],
)
def test_a_mistake_is_told_with_its_key_and_the_mend(
    tmp_path: Path, text: str, environment: dict[str, str], said: str
) -> None:
    with pytest.raises(BadConfig, match="(?s).*") as caught:
        read(tmp_path, text, environment)
    assert said in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match="cannot be read"):
        load(tmp_path / "nowhere.toml", {})
