"""A thread for what may block on a disk: jobs go in from the loop, answers come back to it by `Loop.post`."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import TypeAlias

Job: TypeAlias = Callable[[], None]

log = logging.getLogger("sipedge.relay")


class Background:
    """One thread that does jobs in the order given. A job that raises is logged; the next ones are done."""

    def __init__(self, name: str) -> None:
        self._queue: SimpleQueue[Sequence[Job] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def do(self, *jobs: Job) -> None:
        """Adds jobs; one call wakes the thread once."""
        self._queue.put(jobs)

    def finish(self, patience: float) -> bool:
        """Lets the thread end after what it was given; False when that takes longer than `patience` seconds."""
        self._queue.put(None)
        self._thread.join(patience)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while (jobs := self._queue.get()) is not None:
            for job in jobs:
                try:
                    job()
                except Exception:
                    log.exception("a job failed")
