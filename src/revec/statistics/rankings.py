"""How alike two rankings of the same documents are. Alike is not as good: a better model ranks otherwise.

Ids are distinct within a ranking, best first; ties stand as they come. 1 is the same, 0 nothing in common.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

PERSISTENCE = 0.9  # with it the first ten ranks carry 86% of the weight


def overlap(one: Sequence[Hashable], other: Sequence[Hashable], k: int) -> float:
    """Shared ids among the first k of each, per possible one: where both are shorter, the longer counts."""
    room = min(k, max(len(one), len(other)))
    return len(set(one[:k]) & set(other[:k])) / room if room else 1.0


def same_first(one: Sequence[Hashable], other: Sequence[Hashable]) -> bool:
    """Whether both have the same best, or neither has any."""
    return list(one[:1]) == list(other[:1])


def rbo(one: Sequence[Hashable], other: Sequence[Hashable], p: float = PERSISTENCE) -> float:
    """Rank-biased overlap, extrapolated: RBO_EXT (Webber, Moffat and Zobel, 2010, equation 32).

    With X_d shared ids among the first d of both, and s <= l the lengths of the rankings:

        (1 - p)/p (sum_{d<=l} X_d/d p^d + sum_{s<d<=l} X_s (d - s)/(s d) p^d) + ((X_l - X_s)/l + X_s/s) p^l

    Two empty rankings are the same, an empty and another one have nothing in common.

    Raises:
        ValueError: p is not between 0 and 1, or an id stands twice in a ranking.
    """
    if not 0 < p < 1:
        raise ValueError(f"the persistence is between 0 and 1, and this is {p}")
    if len(set(one)) < len(one) or len(set(other)) < len(other):
        raise ValueError("an id stands twice in a ranking: rank documents, not chunks")
    short, long = sorted((one, other), key=len)
    s, l = len(short), len(long)  # noqa: E741 - the paper's names
    if not s:
        return float(not l)
    shared = _shared(short, long)
    upto_s, upto_l = shared[s - 1], shared[-1]
    agreed = sum(x / d * p**d for d, x in enumerate(shared, start=1))
    extended = sum(upto_s * (d - s) / (s * d) * p**d for d in range(s + 1, l + 1))
    return (1 - p) / p * (agreed + extended) + ((upto_l - upto_s) / l + upto_s / s) * p**l


def _shared(short: Sequence[Hashable], long: Sequence[Hashable]) -> list[int]:
    """X_d for d = 1 … len(long)."""
    return [len(set(short[:d]) & set(long[:d])) for d in range(1, len(long) + 1)]
