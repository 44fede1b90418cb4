"""What two bounds of a difference say of a margin, and how many queries it takes to say it.

The difference is new - old, in [-1, 1] (nDCG, recall); the margin is the loss that nobody minds, in (0, 1].
"""

from __future__ import annotations

import math
from enum import StrEnum
from statistics import NormalDist


class Finding(StrEnum):
    """Asked the other way round, old for new, a FAIL is a PASS, NO MATERIAL DIFFERENCE stays, and of the
    others at most one passes.
    """

    PASS = "PASS"  # noqa: S105 - worse by less than the margin, if at all
    SAME = "NO MATERIAL DIFFERENCE"  # a PASS: neither is better by the margin
    FAIL = "FAIL"  # worse by more than the margin
    CANNOT_TELL = "CANNOT TELL"

    @property
    def passes(self) -> bool:
        return self in {Finding.PASS, Finding.SAME}


def finding(lower: float, upper: float, margin: float) -> Finding:
    """What one-sided bounds of a mean difference prove: non-inferiority (Piaggio et al., JAMA 2012).

    Raises:
        ValueError: a bound or the margin is no number, or the bounds are the wrong way round.
    """
    _require_margin(margin)
    if not lower <= upper:  # also where one is NaN
        raise ValueError(f"{lower} to {upper} is no interval: hand in the lower bound first")
    if upper < -margin:
        return Finding.FAIL
    if lower <= -margin:
        return Finding.CANNOT_TELL
    return Finding.SAME if upper < margin else Finding.PASS


def queries_needed(
    sd: float, margin: float, difference: float = 0.0, *, alpha: float = 0.05, power: float = 0.8
) -> int:
    """Distinct judged queries with which `paired.noninferior` passes in `power` of all cases.

    sd (of the per-query differences) and difference (the true mean) are in units of the metric. From the
    normal approximation, z = z(1 - alpha) + z(power): z sd / sqrt(n) + 1/n = margin + difference, where 1/n
    is what the bound's imagined query costs; and never below the -ln(alpha) / (margin + difference) that it
    takes where no query differs at all (the rule of three).

    Raises:
        ValueError: the difference is the margin or worse, which nothing passes; or sd is no number.
    """
    _require_margin(margin)
    room = margin + difference
    if not (room > 0 and math.isfinite(room) and sd >= 0 and math.isfinite(sd)):
        raise ValueError(f"no number of queries proves {difference} to be above -{margin} (sd {sd})")
    normal = NormalDist()
    spread = (normal.inv_cdf(1 - alpha) + normal.inv_cdf(power)) * sd
    root = (spread + math.sqrt(spread**2 + 4 * room)) / (2 * room)
    return math.ceil(max(root**2, -math.log(alpha) / room))


def _require_margin(margin: float) -> None:
    if not 0 < margin <= 1:
        raise ValueError(f"a margin is above 0 and at most 1, and this is {margin}")
