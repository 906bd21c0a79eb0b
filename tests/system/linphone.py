"""linphone as a phone: it plays a tone, keeps what it hears, and is told what to do on its standard input.

Its SIP stack (belle-sip) is nobody's cousin here: reliable provisional responses and session timers are its own. It
listens on every address of the machine, so a phone is known by its port, and its media comes from the machine's own.
"""

from __future__ import annotations

import array
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Self

from tests.conftest import missing_peer
from tests.system.baresip import channels, tone

READY = "linphonec>"


class Linphone:
    """One phone of `number`, by one `transport`, on `port`. `expires`: the session timer it asks for, 0 none.
    Called, it gives its description before it answers (`early`), wants a PRACK for that (`reliable`), answers by itself
    (`answers`). `authorities`: whom it trusts over TLS."""

    def __init__(
        self, folder: Path, number: str, address: str, port: int, *, transport: str = "tcp", hertz: int = 440,
        expires: int = 0, reliable: bool = False, early: bool = False, answers: bool = False, authorities: str = "",
    ) -> None:  # fmt: skip
        program = shutil.which("linphonec")
        if not program:
            missing_peer("linphonec")
        assert program
        self.folder = folder / f"linphone-{number[-4:]}-{port}-{time.monotonic_ns()}"
        (self.folder / ".local/share/linphone").mkdir(parents=True)
        self.port = port
        first = 28000 + time.monotonic_ns() // 1000 % 4000 // 4 * 4
        ports = {kind: port if kind == transport else 0 for kind in ("udp", "tcp", "tls")}
        config = {
            "sip": {
                "sip_port": ports["udp"], "sip_tcp_port": ports["tcp"], "sip_tls_port": ports["tls"],
                "bind_address": address, "guess_hostname": 0, "contact": f"<sip:{number}@{address}>",
                "auto_net_state_mon": 0, "use_ipv6": 0, "default_proxy": -1, "media_encryption": "none",
                "100rel_support_level": 2 if reliable else 1,
                "incoming_calls_early_media": int(early),
                "root_ca": authorities, "verify_server_certs": 1, "verify_server_cn": 1, "keepalive_period": 30000,
                "session_expires_value": expires, "session_expires_enabled": int(expires > 0),
            },
            "rtp": {"bind_address": address, "audio_rtp_port": first, "audio_adaptive_jitt_comp_enabled": 0},
            "sound": {"echocancellation": 0, "remote_ring": "", "local_ring": ""},
            "net": {"mtu": 1300, "nat_policy_ref": ""},
            "audio_codec_0": {"mime": "PCMA", "rate": 8000, "channels": 1, "enabled": 1},
            "misc": {"uuid": "", "log_collection": 0},
        }  # fmt: skip
        self.media = {f"{address}:{port}" for port in range(first, first + 2)}
        text = "".join(f"[{name}]\n" + "".join(f"{k}={v}\n" for k, v in keys.items()) for name, keys in config.items())
        (self.folder / "rc").write_text(text)
        (self.folder / "log").touch()
        with (self.folder / "out").open("wb") as out:
            self.process = subprocess.Popen(
                [program, "-c", str(self.folder / "rc"), "-d", "6", "-l", str(self.folder / "log")],
                stdin=subprocess.PIPE, stdout=out, stderr=out, cwd=self.folder,
                env={"HOME": str(self.folder), "PATH": "/usr/bin:/bin", "LINPHONE_WORKAROUND_REQUIRED": "no"},
            )  # fmt: skip
        self.does(
            "soundcard use files", f"play {tone(self.folder / 'tone.wav', hertz)}", f"record {self.folder}/heard.wav"
        )
        if answers:
            self.does("autoanswer enable")
        deadline = time.monotonic() + 20.0
        while "Creating listening point" not in (self.folder / "log").read_text(errors="replace"):
            assert time.monotonic() < deadline, f"linphone does not listen:\n{self.out()[-3000:]}"
            time.sleep(0.05)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.does("terminate", "quit")
            assert self.process.stdin is not None
            self.process.stdin.close()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def does(self, *commands: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("".join(f"{command}\n" for command in commands).encode())
        self.process.stdin.flush()

    def out(self) -> str:
        return (self.folder / "out").read_text(errors="replace")

    def says(self, pattern: str, within: float = 20.0) -> re.Match[str]:
        """Waits until its screen shows that."""
        deadline = time.monotonic() + within
        while not (found := re.search(pattern, self.out())):
            assert time.monotonic() < deadline, f"linphone never said {pattern!r}:\n{self.out()[-3000:]}"
            time.sleep(0.05)
        return found

    def heard(self) -> array.array[int]:
        """What it was sent, once it is gone."""
        return channels((self.folder / "heard.wav").read_bytes())[0]

    def messages(self, start: str) -> list[str]:
        """The SIP messages of its log that begin so."""
        log = (self.folder / "log").read_text(errors="replace")
        return re.findall(rf"^{start}.*?\n\s*\n", log, re.M | re.S)
