"""The app's side of the REST API: keep-alive connections over the standard library, a few microseconds a request.

A load generator must not be what is measured: a client with pools and middleware of its own waits for itself.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

IDLE = 3.0  # seconds a connection is kept for the next request; servers close theirs after five
PATIENCE = 15.0


class NoAnswer(Exception):
    """The request brought no HTTP answer; the text is the kind of failure."""


@dataclass(frozen=True)
class Answer:
    """An HTTP answer."""

    status: int
    content: bytes

    def json(self) -> Any:
        return json.loads(self.content)


class Api:
    """One service's API and a key to it. Used by any number of threads at a time."""

    def __init__(self, base: str, key: str) -> None:
        place = urlsplit(base)
        self._host, self._port = place.hostname or "", place.port or 80
        self._headers = {"Authorization": f"Bearer {key}"}
        self._idle: list[tuple[float, http.client.HTTPConnection]] = []
        self._lock = threading.Lock()

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Asks, and reads the whole answer. Raises `NoAnswer`."""
        sent = dict(self._headers, **headers or {})
        data = None
        if body is not None:
            data, sent["Content-Type"] = json.dumps(body).encode(), "application/json"
        connection = self._connection()
        try:
            connection.request(method, f"{path}?{urlencode(query)}" if query else path, data, sent)
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException) as problem:
            connection.close()
            raise NoAnswer(type(problem).__name__) from None
        if answer.will_close:
            connection.close()
        else:
            with self._lock:
                self._idle.append((time.monotonic(), connection))
        return Answer(answer.status, content)

    def _connection(self) -> http.client.HTTPConnection:
        """The one used last: the others grow old and are closed."""
        with self._lock:
            while self._idle:
                used, connection = self._idle.pop()
                if time.monotonic() - used < IDLE:
                    return connection
                connection.close()
        return http.client.HTTPConnection(self._host, self._port, timeout=PATIENCE)

    def close(self) -> None:
        with self._lock:
            while self._idle:
                self._idle.pop()[1].close()
