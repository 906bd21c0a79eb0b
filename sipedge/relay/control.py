"""The unix socket over which edges command the relay: a few requests a turn, so that media never waits long."""

from __future__ import annotations

import logging
import os
import socket
import stat
from collections import deque
from typing import Final

from sipedge.media import wire
from sipedge.media.plane import Failed, Message, Reply, Request
from sipedge.relay.board import Board
from sipedge.relay.commands import Commands
from sipedge.relay.loop import MILLISECOND, Loop

_TURN: Final = 8  # requests of one connection between two looks at the media
_CHUNK: Final = 65_536
_OWED: Final = 4 * 1024 * 1024  # bytes an edge may leave unread before it counts as gone
_PATIENCE: Final = MILLISECOND  # how soon an edge that reads slowly is tried again

log = logging.getLogger("sipedge.relay")


class AlreadyRuns(Exception):
    """Another relay answers on the socket."""


class Control:
    """Listens for edges."""

    def __init__(self, loop: Loop, board: Board, commands: Commands, path: str) -> None:
        """Raises `OSError` when the path cannot be bound, `AlreadyRuns` when somebody listens there."""
        self._loop = loop
        self._board = board
        self._commands = commands
        self._path = path
        _clear(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.setblocking(False)
        before = os.umask(0o177)  # for the owner only, from its first instant
        try:
            self._socket.bind(path)
        finally:
            os.umask(before)
        self._socket.listen(64)
        loop.watch(self._socket.fileno(), self._accept)

    def _accept(self, now: int) -> None:
        try:
            connection, _ = self._socket.accept()
        except OSError:
            return
        connection.setblocking(False)
        Edge(self._loop, self._board, self._commands, connection)

    def close(self) -> None:
        """Stops listening."""
        self._loop.unwatch(self._socket.fileno())
        self._socket.close()
        os.unlink(self._path)


def _clear(path: str) -> None:
    """Removes the socket of a relay that died."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise AlreadyRuns(f"{path} is no socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        try:
            asking.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
    raise AlreadyRuns(f"another relay listens on {path}")


class Edge:
    """One connection: an `Owner` of calls."""

    def __init__(self, loop: Loop, board: Board, commands: Commands, connection: socket.socket) -> None:
        self.name = ""
        self._loop = loop
        self._board = board
        self._commands = commands
        self._socket: socket.socket | None = connection
        self._frames = wire.Frames()
        self._asked: deque[bytes] = deque()
        self._owed = bytearray()
        self._working = False
        self._corked = False
        loop.watch(connection.fileno(), self._read)

    def _read(self, now: int) -> None:
        if self._socket is None:
            return
        try:
            data = self._socket.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._gone()
            return
        try:
            self._asked.extend(self._frames.feed(data))
        except wire.BadFrame as bad:
            self.send(Reply(bad.id, Failed("bad_request", str(bad))))
            self._gone()
            return
        self._work(now)

    def _work(self, now: int) -> None:
        """Answers a few requests; the rest waits for the next turn, and reading waits for the rest."""
        idle = not self._owed
        self._corked = True  # the answers leave in one piece: an edge is woken once
        for _ in range(min(_TURN, len(self._asked))):
            self._answer(self._asked.popleft())
        self._corked = False
        if idle and self._owed:
            self._flush(now)
        socket = self._socket
        if socket is None:
            return
        waits = bool(self._asked)
        if waits != self._working:
            self._working = waits
            self._loop.pause(socket.fileno(), waits)
        if waits:
            self._loop.call_at(now, self._work)

    def _answer(self, body: bytes) -> None:
        try:
            request: Request = wire.decode_request(body)
        except wire.BadFrame as bad:
            self.send(Reply(bad.id, Failed("bad_request", str(bad))))
            return
        self._commands.answer(self, request)

    def send(self, message: Message) -> None:
        """Sends now, or keeps what the edge does not read yet; an edge that never reads counts as gone."""
        if self._socket is None:
            return
        idle = not self._owed
        self._owed += wire.encode(message)
        if len(self._owed) > _OWED:
            log.warning("an edge does not read: its connection ends")
            self._gone()
        elif idle and not self._corked:
            self._flush(self._loop.now)

    def _flush(self, now: int) -> None:
        if self._socket is None:
            return
        try:
            sent = self._socket.send(self._owed)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._gone()
            return
        del self._owed[:sent]
        if self._owed:
            self._loop.call_at(now + _PATIENCE, self._flush)

    def _gone(self) -> None:
        if self._socket is not None:
            self._loop.unwatch(self._socket.fileno())
            self._socket.close()
            self._socket = None
            self._asked.clear()
            self._board.orphan(self)
