"""Requests that each tenant may make: a bucket of tokens for each, in this process.

Several servers have several buckets: together they let through so many times as much.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from revec.model.errors import TooMuch

MOST = 10_000  # buckets kept; a full one need not be
SECONDS = 2.0  # of the flow that a bucket holds


class Purses:
    def __init__(self, per_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._flow = per_second
        self._holds = max(1.0, per_second * SECONDS)
        self._clock = clock
        self._purses: dict[str, tuple[float, float]] = {}  # whose → what was in it, when

    def take(self, whose: str) -> None:
        """One request.

        Raises:
            TooMuch: the bucket is empty.
        """
        now = self._clock()
        held = self._in(whose, now)
        if held < 1:
            seconds = (1 - held) / self._flow
            raise TooMuch(
                f"more than {self._flow:g} requests a second: again in {math.ceil(seconds)} s",
                retry_after=seconds,
            )
        self._purses.pop(whose, None)  # so that those who asked last stand last
        self._purses[whose] = (held - 1, now)
        if len(self._purses) > MOST:
            self._forget(now)

    def _in(self, whose: str, now: float) -> float:
        held, at = self._purses.get(whose, (self._holds, now))
        return min(self._holds, held + (now - at) * self._flow)

    def _forget(self, now: float) -> None:
        """Full ones are like new ones; and if none is full, the one that waited longest goes."""
        full = [whose for whose in self._purses if self._in(whose, now) >= self._holds]
        for whose in full or [next(iter(self._purses))]:
            del self._purses[whose]
