"""How much a sample weighs, whether it is the one that was drawn, and what its units are."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from revec.statistics.samples import effective_size, per_session, sample_ratio


def test_what_weights_are_worth() -> None:
    """By hand: equal ones count, one of all counts once; none, nothing."""
    assert effective_size([3.0] * 40) == pytest.approx(40)
    assert effective_size([5.0, 0.0, 0.0]) == 1.0
    assert effective_size([3.0, 1.0]) == pytest.approx(16 / 10)
    assert effective_size([]) == effective_size([0.0]) == 0.0


def test_twenty_thousand_requests_are_a_few_queries() -> None:
    """By Zipf's law: what a request counts depends on how many have asked the same."""
    weights = 1 / np.arange(1, 20_001)
    counts = np.bincount(np.random.default_rng(0).choice(20_000, 20_000, p=weights / weights.sum()))
    assert effective_size(counts.tolist()) < 100


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=30), st.floats(0.1, 10))
def test_the_unit_of_weights_does_not_matter(weights: list[float], unit: float) -> None:
    """Nor are they ever worth more than their number."""
    found = effective_size(weights)
    assert 1 - 1e-9 <= found <= len(weights) + 1e-9
    assert effective_size([unit * weight for weight in weights]) == pytest.approx(found)


@pytest.mark.parametrize(
    ("square", "parts", "p"),
    # As tables of chi-square have them.
    [
        (3.841, 2, 0.05),
        (10.828, 2, 0.001),
        (5.991, 3, 0.05),
        (7.815, 4, 0.05),
        (18.307, 11, 0.05),
        (29.588, 11, 0.001),
    ],
)
def test_values_that_are_printed_in_tables(square: float, parts: int, p: float) -> None:
    """Counts that have just this chi-square: two parts moved against each other."""
    each = 1_000_000
    moved = round(math.sqrt(square * each / 2))
    counts = [each + moved, each - moved, *[each] * (parts - 2)]
    assert sample_ratio(counts, [1 / parts] * parts) == pytest.approx(p, rel=0.005)


def test_a_broken_sample_is_noticed() -> None:
    """Two of a hundred were asked for: 2.0% is that, 2.4% of a hundred thousand is not."""
    assert sample_ratio([2_010, 97_990], [0.02, 0.98]) > 0.5
    assert sample_ratio([2_400, 97_600], [0.02, 0.98]) < 1e-9
    assert sample_ratio([50, 50], [0.5, 0.5]) == 1.0


def test_too_little_to_tell_is_no_healthy_sample() -> None:
    """Nothing, hardly anything, or shares that are none: never a p of 1."""
    for counts, shares in [([0, 0], [0.5, 0.5]), ([2, 100], [0.02, 0.98]), ([-5, 500], [0.5, 0.5])]:
        with pytest.raises(ValueError, match="sample more"):
            sample_ratio(counts, shares)
    for counts, shares in [
        ([50], [1.0]),
        ([50, 50], [0.5, 0.6]),
        ([50, 50], [math.nan, 0.5]),
        ([9, 9], [1.0]),
    ]:
        with pytest.raises(ValueError, match="shares sum to 1"):
            sample_ratio(counts, shares)
    for odd in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="a weight is a number"):
            effective_size([1.0, odd])


async def test_a_query_counts_once_and_a_session_once() -> None:
    """In the first session that asked it; who asked nothing new has no value."""
    sessions = ["ann", "bob", "ann", "ann", "bob", "cy"]
    queries = ["refund", "refund", "card", "card", "pin", "pin"]
    d = [0.1, 0.1, 0.3, 0.3, -0.5, -0.5]
    assert per_session(sessions, queries, d) == pytest.approx([0.2, -0.5])
    assert per_session([], [], []) == []
    with pytest.raises(ValueError, match="shorter"):
        per_session(["ann"], ["refund"], [])
