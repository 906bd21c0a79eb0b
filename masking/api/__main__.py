"""`python -m masking.api --config FILE [--fd N]`: one worker of the API.

Serves on the socket it was given (`--fd`, held open by the supervisor) or on `http.listen` (with SO_REUSEPORT, so that
more workers may be started beside it). Prints one JSON line when it accepts requests. SIGTERM: no new connections,
requests under way are answered, then it ends.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import uvicorn

from masking.api import metrics
from masking.api.app import App
from masking.api.connections import Connection
from masking.api.desk import Desk
from masking.config import BadConfig, Config, load
from masking.house import open_house
from masking.logs import configure
from pools.keyring import KeyringError
from pools.redis import Unavailable
from recordings.store import open_store
from recordings.vault import open_vault

if sys.platform == "win32":
    from asyncio import new_event_loop
else:
    from uvloop import new_event_loop

REDIS_BUDGET = 0.6  # seconds until Redis counts as gone: a 503 leaves within 1 s, and a busy machine is not a dead one
DRAIN = 8  # seconds that requests under way get at SIGTERM; the supervisor waits 10


class Server(uvicorn.Server):
    """Says on stdout when it accepts requests, and on the desk when it no longer does."""

    def __init__(self, config: uvicorn.Config, desk: Desk) -> None:
        super().__init__(config)
        self.desk = desk

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn's own, but the signal is not raised once more at the end: to have drained is to end well."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and sockets:
            host, port = sockets[0].getsockname()[:2]
            address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            line = {"event": "ready", "role": "api", "http": f"http://{address}"}
            sys.stdout.write(msgspec.json.encode(line).decode() + "\n")
            sys.stdout.flush()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.desk.draining = True
        await super().shutdown(sockets)


def calm_collector() -> None:
    """What was imported never dies, so it is not looked through again; what a request makes dies without the collector.
    By default a full collection stops every request under way for tens of milliseconds."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 1000)


def forget_the_dead(run_dir: Path) -> None:
    """Removes the metrics sockets of workers that were killed."""
    for path in run_dir.glob("api-*.metrics.sock"):
        try:
            os.kill(int(path.name.removeprefix("api-").partition(".")[0]), 0)
        except ProcessLookupError:
            path.unlink(missing_ok=True)
        except PermissionError:
            pass  # another user's process has the number by now; its socket answers nobody


async def serve(config: Config, listening: socket.socket) -> None:
    """Serves until SIGTERM or SIGINT."""
    async with open_house(config, now=time.time, random=os.urandom, budget=REDIS_BUDGET) as house:
        store = await open_store(config.recordings_url, lambda: os.urandom(16).hex(), **config.recordings.place)
        assert house.archive is not None, "opened with the archive"
        vault = open_vault(house.archive, store, config.keys, house.keyring.derived, os.urandom)
        desk = Desk.of(house, vault, time.monotonic)
        settings = uvicorn.Config(
            App(desk),
            http=Connection,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # who forwards whom is decided by `tools.metrics_page` alone
            backlog=1024,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=DRAIN,
        )
        forget_the_dead(config.run_dir)
        async with metrics.told(desk.metrics, config.run_dir, str(os.getpid())):
            await Server(settings, desk).serve([listening])


def listening_socket(config: Config, fd: int | None) -> socket.socket:
    """The socket that was passed, or one of our own on `http.listen`."""
    if fd is not None:
        return socket.socket(fileno=fd)
    host, port = config.http.address
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=1024, reuse_port=True)
    except OSError as error:
        raise BadConfig(f"http.listen: {host}:{port}: {os.strerror(error.errno or 0)}") from None


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m masking.api", description="One worker of the HTTP API.")
    parser.add_argument("--config", type=Path, help="masking.toml; without it the defaults and the environment")
    parser.add_argument("--fd", type=int, help="a listening socket to serve on, instead of http.listen")
    given = parser.parse_args()
    configure(sys.stderr)
    try:
        config = load(given.config, os.environ)
        listening = listening_socket(config, given.fd)
        calm_collector()
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(serve(config, listening))
    except (BadConfig, KeyringError, Unavailable) as error:
        sys.stderr.write(f"masking.api: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
