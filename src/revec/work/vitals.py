"""What a worker says of itself with each heartbeat."""

from __future__ import annotations

import time
from collections import deque

MINUTE = 60.0  # seconds


class Tempo:
    """Documents a second over the last minute, from a count that only grows."""

    def __init__(self) -> None:
        self._counts = deque([(time.monotonic(), 0)])

    def per_second(self, count: int) -> float:
        now = time.monotonic()
        self._counts.append((now, count))
        while now - self._counts[1][0] >= MINUTE:
            self._counts.popleft()
        since, before = self._counts[0]
        return (count - before) / max(now - since, 1e-3)
