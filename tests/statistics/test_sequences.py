"""A mean that is watched: the formula in another way, the error over all looks at once, and rows of a table."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, astuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.differences import SHAPES, drawn
from revec.statistics.sequences import MeanSequence, along

values = st.lists(st.floats(-1, 1), min_size=1, max_size=50)
quickly = settings(max_examples=60, deadline=None)


def by_the_paper(d: list[float], alpha: float) -> tuple[float, float]:
    """One value after the other, on [0, 1], as the paper has it: both bounds from their own side."""

    def lower(x: list[float]) -> float:
        weights = weighted = penalty = 0.0
        mean, variance, total, spread = 0.5, 0.25, 0.0, 0.0
        for t, each in enumerate(x, start=1):
            weight = min(0.5, math.sqrt(2 * math.log(1 / alpha) / (variance * t * math.log(1 + t))))
            weights += weight
            weighted += weight * each
            penalty += 4 * (each - mean) ** 2 * (-math.log(1 - weight) - weight) / 4
            total += each
            mean = (0.5 + total) / (t + 1)
            spread += (each - mean) ** 2
            variance = (0.25 + spread) / (t + 1)
        return (weighted - (math.log(1 / alpha) + penalty)) / weights

    x = [(1 + each) / 2 for each in d]
    low, high = lower(x), 1 - lower([1 - each for each in x])
    return max(-1.0, 2 * low - 1), min(1.0, 2 * high - 1)


async def test_against_the_formula_of_the_paper() -> None:
    """Written down a second time, value by value."""
    rng = np.random.default_rng(1)
    for n in (1, 2, 10, 200):
        d = drawn("cranfield", -0.02, (n,), rng).tolist()
        for alpha in (0.05, 0.01):
            assert MeanSequence(alpha).after(d).bounds == pytest.approx(by_the_paper(d, alpha), abs=1e-9)


@quickly
@given(values, st.integers(0, 50))
def test_in_pieces_or_at_once_is_the_same(d: list[float], cut: int) -> None:
    """However often it is stored and read in between; and `along` has every look."""
    whole = MeanSequence().after(d)
    row = json.loads(json.dumps(asdict(MeanSequence().after(d[:cut]))))
    pieces = MeanSequence(**row)
    for each in d[cut:]:
        pieces = pieces.after(each)
    assert astuple(pieces) == pytest.approx(astuple(whole))
    lower, upper = along(d)
    assert (lower[-1], upper[-1]) == pytest.approx(whole.bounds)


@quickly
@given(values)
def test_swapping_old_and_new_mirrors_every_look(d: list[float]) -> None:
    """To the last bit."""
    lower, upper = along(d)
    swapped_lower, swapped_upper = along([-each for each in d])
    assert (swapped_lower == -upper).all()
    assert (swapped_upper == -lower).all()
    assert (lower <= upper).all()


@pytest.mark.parametrize("shape", SHAPES)
async def test_the_error_is_of_all_looks_together(shape: str) -> None:
    """Of 400 streams that are looked at 2,000 times each, at most one in twenty ever excludes the truth."""
    d = drawn(shape, -0.02, (400, 2_000), np.random.default_rng(4))
    lower, upper = along(d)
    assert (lower > -0.02).any(axis=-1).mean() <= 0.05
    assert (upper < -0.02).any(axis=-1).mean() <= 0.05


def test_looking_again_and_again_at_a_fixed_sets_interval_errs() -> None:
    """The complement, why it is not an interval for one look: every third stream or more."""
    d = drawn("banking77", -0.02, (400, 2_000), np.random.default_rng(4))
    n = np.arange(1, 2_001)
    mean = np.cumsum(d, axis=-1) / n
    error = 1.645 * np.sqrt((np.cumsum(d**2, axis=-1) / n - mean**2) / n)
    assert (mean - error > -0.02)[:, 30:].any(axis=-1).mean() > 0.2


def test_what_it_can_decide_with_how_many() -> None:
    """A spread of 0.23 without a difference: a margin of 0.05 after some 300 values, of 0.02 some 1,200."""
    d = np.random.default_rng(4).normal(0, 0.23, (200, 6_000)).clip(-1, 1)
    lower, _ = along(d)
    took = [np.median(np.argmax(lower > -margin, axis=-1) + 1) for margin in (0.05, 0.02)]
    assert 200 <= took[0] <= 400
    assert 900 <= took[1] <= 1_700


def test_nothing_seen_is_nothing_known() -> None:
    """Before the first value, and after none."""
    assert MeanSequence().bounds == (-1.0, 1.0)
    assert MeanSequence().after([]) == MeanSequence()
    for odd in (math.nan, math.inf, 1.5):
        with pytest.raises(ValueError, match="a number from -1 to 1"):
            MeanSequence().after([0.0, odd])


def test_a_row_that_was_spoilt_says_nothing() -> None:
    """A NaN that came back from a table bounds nothing; an alpha that is none is refused."""
    for spoilt in ("weight", "weighted", "penalty"):
        row = asdict(MeanSequence().after([0.5] * 1_000)) | {spoilt: math.nan}
        assert MeanSequence(**row).bounds == (-1.0, 1.0)
    for alpha in (0.0, 1.0, math.nan):
        with pytest.raises(ValueError, match="alpha is above 0"):
            MeanSequence(alpha)


def test_traffic_may_weigh() -> None:
    """Popular queries lose and the many others win: per query it is better, per request it is worse."""
    rng = np.random.default_rng(4)
    popular = rng.random(4_000) < 0.1
    d, weight = np.where(popular, -0.3, 0.05), np.where(popular, 1.0, 0.05)
    assert MeanSequence().after(d).bounds[0] > -0.02
    _, upper = MeanSequence().after(weight * (d + 0.02) / 1.02).bounds
    assert upper < 0
