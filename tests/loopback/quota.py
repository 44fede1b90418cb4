"""Requests and tokens per minute, as providers count them: a bucket that refills all the time.

A bucket holds one minute's worth and starts full. What is refused takes nothing out of it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate

MINUTE = 60.0


class Clock:
    """The provider's own time: it starts with ours and runs `speed` times as fast."""

    def __init__(self, speed: float = 1.0, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.speed = speed
        self._monotonic = monotonic
        self._began, self._epoch = monotonic(), time.time()

    def now(self) -> float:
        """Seconds since 1970."""
        return self._epoch + (self._monotonic() - self._began) * self.speed


@dataclass(slots=True)
class Bucket:
    """`limit` a minute."""

    limit: float
    at: float  # provider's time of `level`
    level: float = math.nan
    stolen: float = 0.0  # share of the refill that goes to somebody else

    def __post_init__(self) -> None:
        self.level = self.limit

    def refill(self, now: float) -> None:
        """The thief drinks as it flows in; of a full bucket he takes only what is added."""
        rate = self.limit / MINUTE * (1 - self.stolen)
        self.level = min(self.limit, self.level + (now - self.at) * rate)
        self.at = now

    def wait(self, amount: float) -> float:
        """Seconds until there is as much, as the provider sees it: nobody knows what others will take."""
        return max(0.0, amount - self.level) / (self.limit / MINUTE)


class Exhausted(Exception):
    """Too much for now."""

    def __init__(self, what: str, wait: float) -> None:
        super().__init__(what)
        self.what, self.wait = what, wait  # requests or tokens; seconds


@dataclass(slots=True)
class Quota:
    """The buckets of one model. `None`: no such limit."""

    rpm: float | None
    tpm: float | None
    clock: Clock
    stolen: float = 0.0
    buckets: dict[str, Bucket] = field(default_factory=dict)

    def __post_init__(self) -> None:
        now = self.clock.now()
        for what, limit in (("requests", self.rpm), ("tokens", self.tpm)):
            if limit is not None:
                self.buckets[what] = Bucket(limit, now, stolen=self.stolen)

    def steal(self, share: float) -> None:
        now = self.clock.now()
        for bucket in self.buckets.values():
            bucket.refill(now)  # what was before is ours
            bucket.stolen = share

    def take(self, tokens: int) -> None:
        """One request of so many tokens.

        Raises:
            Exhausted: there is not enough of the one or the other; nothing was taken.
        """
        now, amounts = self.clock.now(), {"requests": 1, "tokens": tokens}
        for what, bucket in self.buckets.items():
            bucket.refill(now)
            if bucket.level < amounts[what]:
                raise Exhausted(what, bucket.wait(amounts[what]))
        for what, bucket in self.buckets.items():
            bucket.level -= amounts[what]

    def headers(self) -> dict[str, str]:
        """As OpenAI writes them; `reset` is the time until the bucket is full again.

        The limit is a minute's of whoever asks: on a fast clock that is more.
        """
        now, said = self.clock.now(), {}
        for what, bucket in self.buckets.items():
            bucket.refill(now)
            said[f"x-ratelimit-limit-{what}"] = f"{bucket.limit * self.clock.speed:.0f}"
            said[f"x-ratelimit-remaining-{what}"] = str(int(bucket.level))
            said[f"x-ratelimit-reset-{what}"] = duration(bucket.wait(bucket.limit))
        return said


def duration(seconds: float) -> str:
    """`12ms`, `1.5s`, `6m0s`."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    minutes, rest = divmod(seconds, MINUTE)
    return f"{minutes:.0f}m{rest:.3g}s" if minutes else f"{rest:.4g}s"


def retry_after(style: str, wait: float, now: float) -> Mapping[str, str]:
    """`none`, `seconds` (whole ones, rounded up, as most send), `date`, or the very words."""
    if style == "none":
        return {}
    if style == "seconds":
        return {"Retry-After": str(math.ceil(wait))}
    if style == "date":
        return {"Retry-After": formatdate(math.ceil(now + wait), usegmt=True)}
    return {"Retry-After": style}
