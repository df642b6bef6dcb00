"""How many requests are sent at the same time: one more after each round that went well, half after congestion.

Additive increase, multiplicative decrease (Chiu and Jain, 1989), as in TCP; https://doi.org/10.1016/0169-7552(89)90019-6
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from medstudy.utils.seeding import uniform

START = 4  # requests at the same time, before anything is known of the server
FIRST_SECONDS, LONGEST_SECONDS = 0.5, 60.0  # between attempts, unless the server says more


class Stopped(Exception):
    """Another request failed for good, so this one is not sent any more."""


class Pace:
    """Admits requests. most: at the same time, whatever the server bears."""

    def __init__(self, most: int):
        self.most, self.limit = most, float(min(START, most))
        self.active = self.highest = 0
        self._since = self._until = 0.0  # of the last decrease; before which nothing is sent
        self._stop, self._change = False, threading.Condition()

    @contextmanager
    def place(self) -> Iterator[float]:
        """Hold one place while a request is under way; yields when it began. Raises Stopped."""
        with self._change:
            while not self._stop and (self.active >= int(self.limit) or (left := self._until - time.monotonic()) > 0):
                self._change.wait(left if self.active < int(self.limit) else None)
            self._go()
            self.active += 1
            self.highest = max(self.highest, self.active)
        try:
            yield time.monotonic()
        finally:
            with self._change:
                self.active -= 1
                self._change.notify_all()

    def went_well(self) -> None:
        """One more at the same time for each `limit` answers."""
        with self._change:
            self.limit = min(self.most, self.limit + 1 / self.limit)
            self._change.notify_all()

    def congested(self, began: float, wait: float = 0.0) -> None:
        """Half as many at the same time, once for all requests that were under way then; nothing for `wait` seconds."""
        with self._change:
            if began >= self._since:
                self.limit, self._since = max(1.0, self.limit / 2), time.monotonic()
            self._until = max(self._until, time.monotonic() + wait)

    def sleep(self, seconds: float) -> None:
        """Wait before the next attempt. Raises Stopped."""
        end = time.monotonic() + seconds
        with self._change:
            while not self._stop and (left := end - time.monotonic()) > 0:
                self._change.wait(left)
            self._go()

    def stop(self) -> None:
        """Send nothing more."""
        with self._change:
            self._stop = True
            self._change.notify_all()

    def _go(self) -> None:
        if self._stop:
            raise Stopped


def delay(key: str, attempt: int, asked: float | None) -> float:
    """Seconds before attempt number `attempt` (1: the second) of a request: doubled each time, a random half of it off.

    asked: what the server asks for (Retry-After); it is kept at least.
    """
    longest = min(LONGEST_SECONDS, FIRST_SECONDS * 2 ** (attempt - 1))
    return max(asked or 0.0, longest * (0.5 + 0.5 * uniform(key, attempt)))
