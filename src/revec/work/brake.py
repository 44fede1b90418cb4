"""The brake: how fast a backfill may go, seen what it does to searches and to the database.

Multiplicative both ways: down by as much as it is too slow, at most to half; back up by a quarter. A look
is STEP after the last one and sees twice that: half of it is what the last step came to. Never to
nothing, so that every backfill ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from revec.postgres.pulses import DATABASE, SEARCH

STEP = 5.0  # seconds between two looks
WINDOW = 2 * STEP
FLOOR = 0.05  # of full speed
STRONGEST, RELEASE = 0.5, 1.25  # what one look may do to the speed
TOO_SLOW, CALM_AGAIN = 1.2, 1.1  # times the quiet time
NOTICED = {SEARCH: 5.0, DATABASE: 5.0}  # milliseconds more that anybody notices
ENOUGH = {SEARCH: 20, DATABASE: 5}  # of them in a window, or it is chance


@dataclass(frozen=True, slots=True)
class Seen:
    """How long something took in the last window, and takes in quiet times, in milliseconds."""

    kind: str  # search or database
    name: str  # of the collection, or of the host that asks
    n: int
    calm: float
    ms: float

    def is_above(self, times: float, share: float = 1.0) -> bool:
        """By so many times and by a share of what is noticed."""
        more = self.ms - self.calm
        return (
            self.n >= ENOUGH[self.kind] and self.ms > times * self.calm and more > share * NOTICED[self.kind]
        )

    @property
    def limit(self) -> float:
        return max(TOO_SLOW * self.calm, self.calm + NOTICED[self.kind])

    def __str__(self) -> str:
        what = f"searches of {self.name} take" if self.kind == SEARCH else f"the database takes {self.name}"
        return f"{what} {self.ms:.0f} ms, {self.calm:.0f} ms in quiet times"


@dataclass(frozen=True, slots=True)
class Brake:
    speed: float = 1.0  # of the backfill: FLOOR to 1
    why: str | None = None  # it is below 1


def brake(seen: Sequence[Seen], before: Brake) -> Brake:
    """The next position, from what was seen at the last one; what was seen too seldom counts for nothing."""
    too_slow = [each for each in seen if each.is_above(TOO_SLOW)]
    if too_slow:
        worst = min(too_slow, key=lambda each: each.limit / each.ms)
        speed = before.speed * max(STRONGEST, worst.limit / worst.ms)
        return Brake(max(FLOOR, speed), str(worst))
    if any(each.is_above(CALM_AGAIN, share=0.5) for each in seen):
        return before
    speed = before.speed * RELEASE
    return Brake(speed, before.why) if speed < 1 else Brake()
