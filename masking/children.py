"""Child processes of `masking serve`: started, awaited until ready, restarted when they die, ended in order.

A child says that it is ready by one JSON line on its stdout, `{"event": "ready", …}`; its stderr (the log) is ours.
Every child asks the kernel to be killed when its parent dies (PR_SET_PDEATHSIG): no orphan keeps a port or a lock.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import structlog

log = structlog.get_logger("masking.serve")

RESTART_DELAY = 0.2  # seconds after a death; doubled up to
RESTART_DELAY_LIMIT = 1.5  # so that a dead child is back within 2 s
STABLE_AFTER = 10.0  # a child that lived so long starts again at the first delay

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def _die_with_parent() -> None:
    """Runs in the child between fork and exec."""
    if _libc is not None:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class NotReady(RuntimeError):
    """A child ended, or stayed silent, before it said that it is ready."""


@dataclass(eq=False)
class Child:
    """One process and what it is for.

    `announces`: whether it prints the ready line itself; otherwise it counts as ready once `probe` answers.
    """

    role: str
    command: Sequence[str]
    pass_fds: tuple[int, ...] = ()
    announces: bool = True
    log: int | None = None  # a file descriptor for its stderr; None: ours
    patience: float = 20.0
    grace: float = 10.0
    ready: dict[str, Any] = field(default_factory=dict)
    process: asyncio.subprocess.Process | None = None
    stopping: bool = False

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process is not None and self.process.returncode is None else None

    async def start(self) -> None:
        """Starts the process and returns when it is ready; `NotReady` otherwise."""
        self.process = await asyncio.create_subprocess_exec(
            *self.command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE if self.announces else (self.log or 2),
            stderr=self.log,
            pass_fds=self.pass_fds,
            preexec_fn=_die_with_parent,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
            process_group=0,  # Ctrl-C reaches the supervisor alone, which then ends its children in order
        )
        if not self.announces:
            return
        try:
            self.ready = await asyncio.wait_for(self._ready_line(), self.patience)
        except TimeoutError:
            raise NotReady(f"{self.role}: not ready after {self.patience:g} s") from None

    async def _ready_line(self) -> dict[str, Any]:
        assert self.process is not None and self.process.stdout is not None
        async for line in self.process.stdout:
            try:
                said = msgspec.json.decode(line, type=dict[str, Any])
            except msgspec.DecodeError:
                continue
            if said.get("event") == "ready":
                return said
        code = await self.process.wait()
        raise NotReady(f"{self.role}: ended with exit code {code} before it was ready; its log says why")

    async def keep_alive(self) -> None:
        """Restarts the process whenever it dies; returns when it was stopped on purpose."""
        delay = RESTART_DELAY
        loop = asyncio.get_running_loop()
        while True:
            assert self.process is not None
            born = loop.time()
            code = await self._drained_wait()
            if self.stopping:
                return
            if loop.time() - born > STABLE_AFTER:
                delay = RESTART_DELAY
            log.error("child_died", role=self.role, exit_code=code, restart_in=delay)
            await asyncio.sleep(delay)
            delay = min(2 * delay, RESTART_DELAY_LIMIT)
            if self.stopping:
                return
            try:
                await self.start()
            except NotReady as problem:
                log.error("child_not_ready", role=self.role, problem=str(problem))
                await self.kill()

    async def _drained_wait(self) -> int:
        """Waits for the end, reading what the child still prints so that it never blocks on a full pipe."""
        assert self.process is not None
        if self.process.stdout is not None:
            while await self.process.stdout.read(65536):
                pass
        return await self.process.wait()

    async def stop(self) -> None:
        """SIGTERM, then SIGKILL after `grace` seconds."""
        self.stopping = True
        if self.process is None or self.process.returncode is not None:
            return
        self.process.terminate()
        try:
            await asyncio.wait_for(self.process.wait(), self.grace)
        except TimeoutError:
            log.warning("child_killed", role=self.role, after=self.grace)
            await self.kill()

    async def kill(self) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()
