"""A total that is known of all of one thing, and of a sample of another: as tokens are of bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

SURE = 0.95
FEW = 2  # of fewer nothing is known of how they differ


@dataclass(frozen=True, slots=True)
class Ratio:
    """How much of the one a unit of the other has; lower and upper: of its 95% interval."""

    value: float
    lower: float
    upper: float
    n: int


def ratio(known: Sequence[float], sampled: Sequence[float], population: int) -> Ratio:
    """Of the sums, by simple random sampling without replacement: the ratio estimator and its variance
    (Cochran, Sampling Techniques, 3rd ed., 1977, 6.2 and 6.4). A whole population has no error.

    known and sampled belong to the same units; population: of how many.

    Raises:
        ValueError: they are not of the same units.
    """
    n, whole = len(known), math.fsum(known)
    if n != len(sampled):
        raise ValueError("each unit has its known and its sampled figure")
    if not whole:
        return Ratio(0.0, 0.0, 0.0, n)
    value = math.fsum(sampled) / whole
    if n >= population:
        return Ratio(value, value, value, n)
    if n < FEW:
        return Ratio(value, 0.0, math.inf, n)
    squares = math.fsum((y - value * x) ** 2 for x, y in zip(known, sampled, strict=True)) / (n - 1)
    error = math.sqrt((1 - n / population) * squares / n) / (whole / n)
    margin = NormalDist().inv_cdf((1 + SURE) / 2) * error
    return Ratio(value, max(0.0, value - margin), value + margin, n)
