"""The two programs of `loadtests/c` in Python, for machines without a C compiler: same arguments, same lines.

`python -m loadtests.relay_peers loop FIRST COUNT` and `python -m loadtests.relay_peers phones COUNT SECONDS`.
"""

from __future__ import annotations

import json
import resource
import select
import socket
import struct
import sys
import time

FRAME_NS = 20_000_000
HEADER = struct.Struct("!BBHIIq")


def bound(port: int) -> socket.socket:
    """A UDP socket on loopback."""
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    one.setblocking(False)
    one.bind(("127.0.0.1", port))
    return one


def say(line: str) -> None:
    """One line on stdout, now."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def loop(first: int, count: int) -> None:
    """Sends each packet to whoever wrote first to the other port of its pair."""
    sockets = [bound(first + 2 * index) for index in range(count)]
    index_of = {one.fileno(): index for index, one in enumerate(sockets)}
    peers: list[tuple[str, int] | None] = [None] * count
    epoll = select.epoll()
    for one in sockets:
        epoll.register(one.fileno(), select.EPOLLIN)
    buffer = bytearray(2048)
    view = memoryview(buffer)
    say("ready")
    while True:
        for fd, _ in epoll.poll(-1, 256):
            index = index_of[fd]
            size, source = sockets[index].recvfrom_into(buffer)
            if peers[index] is None:
                peers[index] = source
            peer = peers[index ^ 1]
            if peer is not None:
                sockets[index ^ 1].sendto(view[:size], peer)


def phones(count: int, seconds: float) -> None:
    """Sends 50 packets a second from each of `count` sockets, and times what comes back."""
    sockets = [bound(0) for _ in range(count)]
    by_fd = {one.fileno(): one for one in sockets}
    epoll = select.epoll()
    for one in sockets:
        epoll.register(one.fileno(), select.EPOLLIN)
    say(" ".join(str(one.getsockname()[1]) for one in sockets))
    for one, port in zip(sockets, sys.stdin.readline().split(), strict=True):
        one.connect(("127.0.0.1", int(port)))
    clock = time.monotonic_ns
    begin = clock()
    counted = begin + 1_000_000_000
    end = counted + int(seconds * 1e9)
    following, sent, lines = 0, 0, [(counted, "counted"), (end, "over")]
    delays: list[int] = []
    while (at := clock()) < end + 200_000_000:
        if lines and at >= lines[0][0]:
            say(lines.pop(0)[1])
        while following * FRAME_NS // count + begin <= at < end:
            frame, phone = divmod(following, count)
            packet = HEADER.pack(0x80, 8, frame & 0xFFFF, frame * 160 & 0xFFFFFFFF, 0x10000 + phone, clock())
            sockets[phone].send(packet + b"\xd5" * 152)
            sent += at >= counted
            following += 1
        for fd, _ in epoll.poll(0.0005, 256):
            left = HEADER.unpack_from(by_fd[fd].recv(2048))[5]
            if left >= counted:
                delays.append((clock() - left) // 1000)
    for _, line in lines:  # a machine too busy to let us see the end in time
        say(line)
    delays.sort()
    last = len(delays) - 1
    p50, p99, worst = (delays[int(last * part)] for part in (0.5, 0.99, 1))
    say(json.dumps({"sent": sent, "received": len(delays), "p50": p50, "p99": p99, "worst": worst}))


if __name__ == "__main__":
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if sys.argv[1] == "loop":
        loop(int(sys.argv[2]), int(sys.argv[3]))
    else:
        phones(int(sys.argv[2]), float(sys.argv[3]))
