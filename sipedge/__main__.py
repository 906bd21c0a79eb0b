"""`python -m sipedge --config FILE`: one edge worker.

Prints one JSON line when it takes calls: `{"event": "ready", "sip": ["udp:127.0.0.1:5060", …]}`. SIGTERM and SIGINT
drain: new calls get 503, live ones `--drain` seconds to end by themselves, then BYE.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import resource
import signal
import socket
import sys
import time
from pathlib import Path

import msgspec
import structlog
import uvloop

from masking.config import BadConfig, Config, load
from masking.house import Unavailable, WrongKey, open_house
from masking.logs import configure
from sipedge import metrics
from sipedge.edge import Edge
from sipedge.orphans import PREFIX

log = structlog.get_logger("sipedge")

DRAIN = 30.0
REDIS_BUDGET = 0.4  # seconds until Redis counts as gone: the 503 leaves well within 1 s


async def serve(config: Config, drain: float) -> None:
    """Serves until SIGTERM or SIGINT, then drains."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with open_house(config, now=time.time, random=os.urandom, archive=False, budget=REDIS_BUDGET) as house:
        owner = f"{PREFIX}{host_name()}.{os.getpid()}.{os.urandom(4).hex()}"
        edge = Edge(house, random=random.Random(os.urandom(32)), owner=owner, is_gone=is_gone)
        async with edge.running(config.sip.listeners, drain) as bound:
            for left in config.run_dir.glob("edge-*.metrics.sock"):  # of edges that were killed
                left.unlink(missing_ok=True)
            page = config.run_dir / f"edge-{os.getpid()}.metrics.sock"
            server = await metrics.serve(edge, str(page))
            edge.collector.tame()
            say_ready([str(listener) for listener in bound])
            await stop.wait()
            server.close()
            with contextlib.suppress(OSError):
                os.unlink(page)


def host_name() -> str:
    """This machine, as heartbeat names may spell it."""
    return "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in socket.gethostname())[:64]


def is_gone(owner: str) -> bool:
    """A predecessor on this machine whose process is no more: its calls need not wait for the heartbeat to lapse."""
    host, _, rest = owner.removeprefix(PREFIX).rpartition(".")[0].rpartition(".")
    if host != host_name() or not rest.isdigit():
        return False
    try:
        os.kill(int(rest), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def say_ready(listening: list[str]) -> None:
    line = {"event": "ready", "role": "edge", "sip": listening}
    sys.stdout.write(msgspec.json.encode(line).decode() + "\n")
    sys.stdout.flush()


def main() -> int:
    """The exit code: 0 after draining, 2 for a configuration that cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m sipedge", description="The SIP edge.")
    parser.add_argument("--config", type=Path, help="masking.toml")
    parser.add_argument("--drain", type=float, default=DRAIN, help="seconds that live calls get at SIGTERM")
    asked = parser.parse_args()
    configure()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        uvloop.run(serve(load(asked.config, os.environ), asked.drain))
    except (BadConfig, WrongKey) as problem:
        log.error("cannot_start", problem=str(problem))
        return 2
    except OSError as problem:
        log.error("cannot_listen", problem=os.strerror(problem.errno or 0))
        return 2
    except Unavailable as problem:
        log.error("redis_away", problem=str(problem))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
