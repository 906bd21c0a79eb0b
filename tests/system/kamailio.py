"""Kamailio as a carrier's softswitch: a registrar and proxy that knows us by name and password."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.conftest import missing_peer
from tests.system.sipp import bound

MODULES = ("tm", "sl", "rr", "pv", "maxfwd", "textops", "siputils", "usrloc", "registrar", "auth", "xlog")
CONFIGURATION = """#!KAMAILIO
debug=-1
log_stderror=yes
fork=yes
children=2
mpath="/usr/lib/x86_64-linux-gnu/kamailio/modules/:/usr/lib/kamailio/modules/"
LOADED
modparam("usrloc", "db_mode", 0)
modparam("registrar", "min_expires", 60)
modparam("auth", "algorithm", "ALGORITHM")
modparam("auth", "nonce_count", 1)
modparam("auth", "qop", "auth")

request_route {
  if (!mf_process_maxfwd_header("10")) { sl_send_reply("483", "Too Many Hops"); exit; }
  if (has_totag()) {
    if (loose_route() || t_check_trans()) { t_relay(); }
    exit;
  }
  if (is_method("CANCEL")) { if (t_check_trans()) { t_relay(); } exit; }
  if (is_method("REGISTER")) {
    if (!pv_www_authenticate("REALM", "PASSWORD", "0")) { www_challenge("REALM", "1"); exit; }
    save("location");
    exit;
  }
  if (!is_method("INVITE")) { sl_send_reply("405", "Method Not Allowed"); exit; }
  t_check_trans();
  if ($si == "PHONES") {
    if (!lookup("location")) { sl_send_reply("404", "Not Registered"); exit; }
  } else {
    if (!pv_proxy_authenticate("REALM", "PASSWORD", "0")) { proxy_challenge("REALM", "1"); exit; }
    consume_credentials();
    $du = "sip:PHONES:5080";
  }
  record_route();
  if (!t_relay()) { sl_reply_error(); }
}
"""


class Kamailio:
    """Listens on `address`, port 5060; what is no registration goes to the phone at `phones`, port 5080, and calls from
    there to whoever is registered."""

    def __init__(
        self, folder: Path, address: str, phones: str, *, realm: str, password: str, algorithm: str = "SHA-256"
    ) -> None:
        words = {"ALGORITHM": algorithm, "REALM": realm, "PASSWORD": password, "PHONES": phones}
        self._prepare(folder, address, CONFIGURATION, MODULES, words)

    def _prepare(self, folder: Path, address: str, text: str, modules: tuple[str, ...], words: dict[str, str]) -> None:
        """Writes the configuration: `text` with the modules loaded and the `words` in capitals filled in."""
        folder.mkdir(parents=True, exist_ok=True)
        program = shutil.which("kamailio", path="/usr/sbin:/sbin:/usr/bin")
        if not program:
            missing_peer("kamailio")
        assert program
        text = text.replace("LOADED", "\n".join(f'loadmodule "{name}.so"' for name in modules))
        for name, value in words.items():
            text = text.replace(name, value)
        self._address = address
        self._log = folder / "kamailio.log"
        config = folder / "kamailio.cfg"
        config.write_text(text)
        self._command = [
            program, "-DD", "-E", "-f", str(config), "-l", f"udp:{address}:5060", "-m", "64", "-M", "8",
            "-P", str(folder / "kamailio.pid"), "-Y", str(folder),
        ]  # fmt: skip

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + 10
        while not bound(self._address, 5060) and self._process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        assert bound(self._address, 5060), f"kamailio does not listen: {self._log.read_text()[-2000:]}"
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


FRONT_MODULES = ("tm", "sl", "rr", "pv", "maxfwd", "textops", "siputils", "xlog")
FRONT = """#!KAMAILIO
debug=-1
log_stderror=yes
fork=yes
children=1
mpath="/usr/lib/x86_64-linux-gnu/kamailio/modules/:/usr/lib/kamailio/modules/"
LOADED
HIDING

request_route {
  if (!mf_process_maxfwd_header("10")) { sl_send_reply("483", "Too Many Hops"); exit; }
  remove_hf("X-Masking-Trunk");
  if ($si != "EDGE") { append_hf("X-Masking-Trunk: TRUNK\\r\\n"); }
  if (has_totag()) {
    if (loose_route() || t_check_trans()) { t_relay(); }
    exit;
  }
  if (is_method("CANCEL")) { if (t_check_trans()) { t_relay(); } exit; }
  t_check_trans();
  if ($si == "EDGE") { $du = "sip:PHONES:5080"; } else { $du = "sip:EDGE:5060"; }
  record_route();
  if (!t_relay()) { sl_reply_error(); }
}
"""
HIDING = """loadmodule "db_text.so"
loadmodule "topos.so"
modparam("topos", "storage", "db")
modparam("topos", "db_url", "text://TABLES")
modparam("topos", "mask_callid", 1)
modparam("topos", "contact_host", "FRONT")
"""
SCHEMA = Path("/usr/share/kamailio/dbtext/kamailio")


class Front(Kamailio):
    """Our own front proxy on `address`, port 5060: it stays in the dialogs (record routing), says by which trunk a
    carrier's call came, and with `hiding` keeps each side's topology from the other (its module topos)."""

    def __init__(self, folder: Path, address: str, edge: str, phones: str, trunk: str, *, hiding: bool) -> None:
        tables = folder / "tables"
        words = {"HIDING": HIDING if hiding else "", "TABLES": str(tables), "FRONT": address, "EDGE": edge}
        self._prepare(folder, address, FRONT, FRONT_MODULES, {**words, "PHONES": phones, "TRUNK": trunk})
        if hiding:
            tables.mkdir()
            for name in ("topos_d", "topos_t", "version"):
                # An empty text is none to db_text, and topos has many.
                (tables / name).write_text((SCHEMA / name).read_text().replace("(string)", "(string,null)"))
