"""Whether a sample is what it should be, how much it weighs, and what its units are."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Iterator, Sequence


def effective_size(weights: Sequence[float]) -> float:
    """As many equal weights would say as much: (sum w)² / sum w² (Kish, 1965). 0 of none.

    Raises:
        ValueError: a weight is negative or no number.
    """
    if not all(0 <= weight < math.inf for weight in weights):
        raise ValueError("a weight is a number from 0 on: look for NaN and negative counts")
    squares = math.fsum(weight**2 for weight in weights)
    return math.fsum(weights) ** 2 / squares if squares else 0.0


def sample_ratio(counts: Sequence[int], shares: Sequence[float]) -> float:
    """The p of a sample's parts having the sizes that were asked for: Pearson's chi-square (1900), with one
    degree of freedom less than parts. Below 0.001 the sampling is broken, and no other figure of it counts.

    counts and shares belong to the same parts; shares sum to 1.

    Raises:
        ValueError: fewer than two parts, shares that do not sum to 1, or a part of which fewer than five are
            expected: this p would be no p.
    """
    total = sum(counts)
    if len(counts) != len(shares) or len(counts) <= 1 or not math.isclose(math.fsum(shares), 1.0):
        raise ValueError("a sample has at least two parts, each with its count and share; shares sum to 1")
    if min(counts) < 0 or not total * min(shares) >= 5:  # noqa: PLR2004 - Cochran's rule; also where one is NaN
        raise ValueError(f"of {total} so few are expected in a part that nothing can be said: sample more")
    expected = [total * share for share in shares]
    square = math.fsum((seen - due) ** 2 / due for seen, due in zip(counts, expected, strict=True))
    return _beyond(square, len(counts) - 1)


def per_session(
    sessions: Iterable[Hashable], queries: Iterable[Hashable], differences: Iterable[float]
) -> list[float]:
    """One value a session, in the order of their first new queries: the mean difference of those that it was
    the first to ask. A session that asked nothing new has none.

    The three belong to the same requests, in the order in which they came; queries are normalised. What one
    person asks in one go is of a kind, and what was asked before is known already: so neither a request nor a
    query of a session is a unit for `sequences`. Hand in sessions that are over.
    """
    of: dict[Hashable, list[float]] = {}
    for session, is_new, difference in zip(sessions, _first_asked(queries), differences, strict=True):
        if is_new:
            of.setdefault(session, []).append(difference)
    return [math.fsum(values) / len(values) for values in of.values()]


def _first_asked(queries: Iterable[Hashable]) -> Iterator[bool]:
    known: set[Hashable] = set()
    for query in queries:
        yield query not in known
        known.add(query)


def _beyond(square: float, freedom: int) -> float:
    """P(chi-square > square): Q(f/2, x/2) from Q(1/2, y) = erfc(sqrt(y)) or Q(1, y) = exp(-y), and
    Q(a + 1, y) = Q(a, y) + y^a exp(-y) / gamma(a + 1) (Abramowitz and Stegun, 6.5.21).
    """
    y = square / 2
    if y == 0:
        return 1.0
    a, found = (0.5, math.erfc(math.sqrt(y))) if freedom % 2 else (1.0, math.exp(-y))
    while a < freedom / 2:
        found += math.exp(a * math.log(y) - y - math.lgamma(a + 1))
        a += 1
    return min(1.0, found)
