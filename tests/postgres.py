"""A PostgreSQL cluster of our own for the tests, on a unix socket, as a user that is not root."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
import uuid
from pathlib import Path

UNPRIVILEGED = ("postgres", "nobody")


def programs() -> Path | None:
    """Where Debian keeps the newest `initdb` and `postgres`, or None."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


class PostgresServer:
    """Started once for a run; every test gets an empty database of it."""

    def __init__(self, binaries: Path) -> None:
        self._binaries = binaries
        # Not pytest's own folder: that is closed to the other user, and too long for a socket's path.
        self._folder = Path(tempfile.mkdtemp(prefix="pg-"))
        self._user = self._unprivileged()
        self._process: subprocess.Popen[bytes] | None = None

    def _unprivileged(self) -> pwd.struct_passwd | None:
        if os.geteuid() != 0:
            return None
        known = {entry.pw_name: entry for entry in pwd.getpwall()}
        return next(known[name] for name in UNPRIVILEGED if name in known)

    def _run(self, *words: str) -> None:
        user = self._user
        done = subprocess.run(
            words,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self._folder,
            user=user.pw_uid if user else None,
            group=user.pw_gid if user else None,
            extra_groups=[] if user else None,
        )
        assert done.returncode == 0, done.stdout.decode()

    def start(self) -> None:
        if self._user is not None:
            os.chown(self._folder, self._user.pw_uid, self._user.pw_gid)
        data = self._folder / "data"
        self._run(str(self._binaries / "initdb"), "-D", str(data), "-U", "masking", "-A", "trust", "-E", "UTF8", "-N")
        options = ["-c", "listen_addresses=", "-c", f"unix_socket_directories={self._folder}", "-c", "fsync=off"]
        user = self._user
        with open(self._folder / "log", "ab") as log:
            self._process = subprocess.Popen(
                [str(self._binaries / "postgres"), "-D", str(data), *options],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._folder,
                user=user.pw_uid if user else None,
                group=user.pw_gid if user else None,
                extra_groups=[] if user else None,
            )
        deadline = time.monotonic() + 30
        while subprocess.run(self._psql("SELECT 1"), capture_output=True).returncode != 0:
            assert self._process.poll() is None, (self._folder / "log").read_text()
            assert time.monotonic() < deadline, "PostgreSQL does not answer"
            time.sleep(0.05)

    def _psql(self, text: str) -> list[str]:
        return [str(self._binaries / "psql"), "-h", str(self._folder), "-U", "masking", "-d", "postgres", "-c", text]

    def database(self) -> str:
        """The URL of a new, empty database, as `archive.url` takes it."""
        name = f"t{uuid.uuid4().hex}"
        subprocess.run(self._psql(f"CREATE DATABASE {name}"), check=True, capture_output=True)
        return f"postgresql+asyncpg://masking@/{name}?host={self._folder}"

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)
        shutil.rmtree(self._folder, ignore_errors=True)
