"""The media plane: `python -m sipedge.relay --socket PATH --ports 20000-29999 --bind 127.0.0.1`.

Prints one JSON line when it takes calls. SIGTERM and SIGINT end calls and recordings in order.
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import secrets
import signal
import socket
import sys
import time

from sipedge.relay.background import Background
from sipedge.relay.board import Board
from sipedge.relay.commands import Commands
from sipedge.relay.control import AlreadyRuns, Control
from sipedge.relay.logs import to_stderr
from sipedge.relay.loop import Loop
from sipedge.relay.ports import PortRange, parse_range

WRITER_PATIENCE = 5.0


def main() -> int:
    """Runs the relay; the exit code."""
    to_stderr()
    parser = argparse.ArgumentParser(prog="python -m sipedge.relay", description="The media plane of the edge.")
    parser.add_argument("--socket", required=True, help="unix socket the edge commands it over")
    parser.add_argument("--ports", default="20000-29999", help="RTP ports, FIRST-LAST")
    parser.add_argument("--bind", default="127.0.0.1", help="address RTP is received on")
    asked = parser.parse_args()
    try:
        ports = PortRange(*parse_range(asked.ports))
        host = str(socket.getaddrinfo(asked.bind, None, type=socket.SOCK_DGRAM)[0][4][0])
    except (ValueError, OSError) as error:
        parser.error(str(error))
    # Six descriptors a call; the thread that writes must not hold the interpreter for long (default: 5 ms).
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    sys.setswitchinterval(0.0005)

    loop = Loop(time.monotonic_ns, time.sleep)
    writer, loader = Background("writer"), Background("loader")
    board = Board(loop, host, ports, writer, time.time, secrets.randbits)
    commands = Commands(board, writer, loader)
    try:
        control = Control(loop, board, commands, asked.socket)
    except (OSError, AlreadyRuns) as error:
        parser.error(f"--socket: {error}")

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: loop.post(loop.stop))
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    sys.stdout.write(json.dumps({"event": "ready", "ports": asked.ports, "bind": host}) + "\n")
    sys.stdout.flush()
    loop.run()
    control.close()
    board.shut()
    written = writer.finish(WRITER_PATIENCE)
    loop.close()
    return 0 if written else 1


if __name__ == "__main__":
    sys.exit(main())
