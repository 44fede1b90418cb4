"""What a worker says of itself with each heartbeat."""

from __future__ import annotations

import resource
import sys
import time
from collections import deque
from pathlib import Path

STATM = Path("/proc/self/statm")
MINUTE = 60.0  # seconds


def rss_mb() -> float:
    """Memory in use; the most that ever was, where the system does not say more."""
    if STATM.exists():
        return int(STATM.read_text().split()[1]) * resource.getpagesize() / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


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
