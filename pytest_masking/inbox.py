"""Somebody who receives the service's webhooks: a small HTTP server on loopback that checks and keeps them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from masking_client import NotGenuine, Receiver
from masking_client.answers import Event

PATIENCE = 10.0  # seconds


class Inbox:
    """`secret` is the endpoint's, once it is known. `events` are those of the test that runs, each once."""

    def __init__(self) -> None:
        self.secret = ""
        self._events: dict[str, Event] = {}
        self._past: set[str] = set()
        self._changed = threading.Condition()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="inbox", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/"

    @property
    def events(self) -> list[Event]:
        """What has come so far, in its order; events of a session are in theirs."""
        with self._changed:
            return list(self._events.values())

    def wait(self, type: str, *, session: str | None = None, timeout: float = PATIENCE) -> Event:
        """The first event of that type (of that session), which may have come already; AssertionError when there is
        none within so many seconds."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                for event in self._events.values():
                    if event.type == type and session in (None, event.session):
                        return event
                if not self._changed.wait(deadline - time.monotonic()):
                    came = sorted({event.type for event in self._events.values()})
                    raise AssertionError(
                        f"no {type} came within {timeout:g} s; what came: {', '.join(came) or 'nothing'}"
                    )

    def forget(self, sessions: Iterable[str]) -> None:
        """A test is over: what comes of its sessions from now on is not shown."""
        with self._changed:
            self._past |= {event.session for event in self._events.values() if event.session} | {*sessions}
            self._events.clear()

    def take(self, headers: Iterable[tuple[str, str]], body: bytes) -> bool:
        """A delivery; is it genuine?"""
        try:
            event = Receiver(self.secret).verify(headers, body)
        except (NotGenuine, ValueError):
            return False
        with self._changed:
            if event.session not in self._past:
                self._events.setdefault(event.id, event)
            self._changed.notify_all()
        return True

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        inbox = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(204 if inbox.take(self.headers.items(), body) else 400)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """A test's output is its own."""

        return Handler
