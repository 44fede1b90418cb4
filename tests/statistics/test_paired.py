"""One look at a fixed set: bounds that hold where most differences are 0, and verdicts that mirror."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.differences import SHAPES, drawn
from revec.statistics.margins import Finding
from revec.statistics.paired import bounds, noninferior, randomisation
from revec.statistics.rates import binomial_upper_bound

MARGIN = 0.02
differences = st.lists(st.one_of(st.just(0.0), st.floats(-1, 1)), max_size=60)
quickly = settings(max_examples=40, deadline=None)


@pytest.mark.parametrize(("losses", "queries"), [(0, 50), (1, 50), (3, 50), (5, 225), (20, 1_000)])
def test_of_lost_and_kept_it_is_the_exact_bound(losses: int, queries: int) -> None:
    """Where a query is lost altogether or stays as it is: Clopper and Pearson, known in another way."""
    lower, _ = bounds([-1.0] * losses + [0.0] * (queries - losses))
    assert -lower == pytest.approx(binomial_upper_bound(losses, queries), rel=0.02)


async def test_fifty_queries_without_a_difference_prove_nothing() -> None:
    """One query in thirty might be lost, and chance left it out; of 225 it would not."""
    few = noninferior([0.0] * 50, MARGIN)
    assert (few.finding, few.more) == (Finding.CANNOT_TELL, 100)
    assert noninferior([0.0] * 225, MARGIN).finding is Finding.SAME


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [50, 225])
def test_bounds_cover_where_the_shape_is_worst(shape: str, size: int) -> None:
    """At the margin, where a mistake is likeliest: at most one in twenty on either side."""
    lower, upper = bounds(drawn(shape, -MARGIN, (1_000, size), np.random.default_rng(2)))
    assert (lower > -MARGIN).mean() <= 0.05
    assert (upper < -MARGIN).mean() <= 0.05


def test_the_normal_curve_does_not_cover_there() -> None:
    """The complement, why it is not Student's t: it passes every set that chance left without a loss."""
    d = np.where(np.random.default_rng(2).random((1_000, 50)) < MARGIN, -1.0, 0.0)
    error = 1.68 * d.std(axis=-1, ddof=1) / math.sqrt(50)
    assert (d.mean(axis=-1) - error > -MARGIN).mean() > 0.3
    assert (bounds(d)[0] > -MARGIN).mean() <= 0.05


def test_for_many_queries_they_are_students() -> None:
    """Within a twentieth of a standard error, and what one imagined query of 3,000 weighs."""
    d = drawn("banking77", 0.0, (3_000,), np.random.default_rng(2))
    error = float(d.std(ddof=1)) / math.sqrt(d.size)
    found = noninferior(d, MARGIN)
    assert found.lower == pytest.approx(found.mean - 1.645 * error, abs=0.08 * error + 1 / d.size)
    assert found.upper == pytest.approx(found.mean + 1.645 * error, abs=0.08 * error + 1 / d.size)


def test_it_is_quick() -> None:
    """Judging is no reason to wait: below a second for 3,000 queries, of work, on whatever machine."""
    d = drawn("banking77", 0.0, (3_000,), np.random.default_rng(2))
    took = []
    for _ in range(3):
        began = time.process_time()
        noninferior(d, MARGIN)
        took.append(time.process_time() - began)
    assert min(took) < 1.0


@quickly
@given(differences)
def test_swapping_old_and_new_mirrors_every_figure(d: list[float]) -> None:
    """To the last bit, whatever the order of the queries."""
    found, other = noninferior(d, MARGIN), noninferior([-each for each in d], MARGIN)
    assert (found.lower, found.upper, found.sd) == (-other.upper, -other.lower, other.sd)
    assert -1 <= found.lower <= found.upper <= 1
    again = noninferior(d[::-1], MARGIN)
    assert (again.lower, again.upper) == (found.lower, found.upper)


@quickly
@given(differences.filter(bool), st.data())
def test_a_better_query_never_lowers_a_bound(d: list[float], data: st.DataObject) -> None:
    """Monotone in every difference."""
    at = data.draw(st.integers(0, len(d) - 1))
    better = [*d[:at], data.draw(st.floats(d[at], 1)), *d[at + 1 :]]
    (lower, upper), (lower_too, upper_too) = bounds(d), bounds(better)
    assert lower <= lower_too + 1e-12
    assert upper <= upper_too + 1e-12


@quickly
@given(differences)
def test_a_surer_bound_is_a_wider_one(d: list[float]) -> None:
    """And many sets at once have the bounds that each has alone."""
    lower, upper = bounds(d, 0.05)
    surer_lower, surer_upper = bounds(d, 0.01)
    assert surer_lower <= lower
    assert upper <= surer_upper
    together = bounds(np.array([d, d]))
    assert together[0] == pytest.approx([lower, lower], abs=1e-12)
    assert together[1] == pytest.approx([upper, upper], abs=1e-12)


def test_proved_to_be_a_little_worse_is_said() -> None:
    """It passes, and a person should know; what is no worse, and what fails, has no such mark."""
    rng = np.random.default_rng(2)
    a_little = noninferior(rng.normal(-0.01, 0.05, 3_000).clip(-1, 1), MARGIN)
    assert (a_little.finding, a_little.slightly_worse) == (Finding.SAME, True)
    no_worse = noninferior(rng.normal(0.0, 0.05, 3_000).clip(-1, 1), MARGIN)
    assert (no_worse.finding, no_worse.slightly_worse) == (Finding.SAME, False)
    worse = noninferior(rng.normal(-0.05, 0.05, 3_000).clip(-1, 1), MARGIN)
    assert (worse.finding, worse.slightly_worse) == (Finding.FAIL, False)


def test_how_many_more_is_said_where_it_cannot_tell() -> None:
    """By the mean and the spread that were seen; not where it is decided, nor where the mean is the margin."""
    d = drawn("banking77", 0.0, (100,), np.random.default_rng(5))
    found = noninferior(d, MARGIN)
    assert found.finding is Finding.CANNOT_TELL
    assert found.more is not None
    assert f"CANNOT TELL yet: ~{found.more:,} more judged queries" in str(found)
    assert noninferior(np.full(500, 0.1), MARGIN).more is None
    assert noninferior([-0.1, 0.06], MARGIN).more is None
    assert "more" not in str(noninferior(np.full(500, 0.1), MARGIN))


def test_without_judgements_it_cannot_tell() -> None:
    """None, one: never a pass."""
    none = noninferior([], MARGIN)
    assert (none.lower, none.upper, none.finding, none.more) == (-1, 1, Finding.CANNOT_TELL, None)
    assert noninferior([1.0], MARGIN).finding is Finding.CANNOT_TELL


async def test_what_is_no_difference_is_refused() -> None:
    """NaN, infinity, and percent where shares are meant."""
    for odd in (math.nan, math.inf, -math.inf, 1.5, -7.0):
        for ask in (lambda d: noninferior(d, MARGIN), bounds, randomisation):
            with pytest.raises(ValueError, match="a number from -1 to 1"):
                ask([0.1] * 60 + [odd])
    with pytest.raises(ValueError, match="no differences"):
        randomisation([])
    for alpha in (0.0, 0.5, 1.0, math.nan):
        with pytest.raises(ValueError, match="alpha is above 0"):
            bounds([0.1], alpha)


def test_random_signs_against_all_signs() -> None:
    """Eight queries have 256 signs: all of them can be gone through."""
    d = np.array([0.5, 0.25, 0.0, -0.125, 0.75, 0.5, -0.25, 0.125])
    signs = np.array([[1 if n >> bit & 1 else -1 for bit in range(8)] for n in range(256)])
    exact = float((np.abs(signs @ d) >= abs(d.sum()) - 1e-12).mean())
    mean, p = randomisation(d)
    assert mean == d.mean()
    assert p == pytest.approx(exact, abs=0.01)


@quickly
@given(st.lists(st.floats(0, 0.5), min_size=1, max_size=40), st.floats(0, 0.4))
def test_a_paired_test_knows_no_difference_from_one(scores: list[float], shift: float) -> None:
    """Of equal systems p is 1; of one that is better everywhere it is small; swapped only the sign changes."""
    assert randomisation([0.0 for _ in scores], draws=500) == (0.0, 1.0)
    d = [shift + 0.1 for _ in scores]
    mean, p = randomisation(d, draws=500)
    assert mean == pytest.approx(shift + 0.1)
    assert p <= 2 * 0.5 ** len(scores) + 0.15
    assert randomisation([-each for each in d], draws=500) == (-mean, p)
