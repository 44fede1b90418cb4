"""Bounds against values that were computed in another way: by exact fractions and by closed forms."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from revec.statistics.rates import (
    binomial_interval,
    binomial_lower_bound,
    binomial_upper_bound,
    rule_of_three,
)


def at_least(hits: int, trials: int, p: Fraction) -> Fraction:
    """P(X >= hits), exactly."""
    q = 1 - p
    return sum((math.comb(trials, k) * p**k * q ** (trials - k) for k in range(hits, trials + 1)), Fraction())


def bound_by_fractions(hits: int, trials: int, alpha: Fraction, steps: int = 24) -> float:
    """The same definition, bisected without a float: right to 2^-24."""
    low, high = Fraction(0), Fraction(1)
    for _ in range(steps):
        middle = (low + high) / 2
        low, high = (low, middle) if at_least(hits, trials, middle) > alpha else (middle, high)
    return float(low)


@pytest.mark.parametrize(
    ("hits", "trials", "known"),
    # One-sided 95% lower limits, as tables of Clopper and Pearson have them.
    [(0, 10, 0.0), (10, 10, 0.7411), (1, 10, 0.0051), (5, 10, 0.2224), (9, 10, 0.6058), (97, 100, 0.9243)],
)
def test_values_that_are_printed_in_tables(hits: int, trials: int, known: float) -> None:
    """To the four places that are printed."""
    assert binomial_lower_bound(hits, trials) == pytest.approx(known, abs=6e-5)


@pytest.mark.parametrize("alpha", ["0.05", "0.01"])
@pytest.mark.parametrize(("hits", "trials"), [(1, 1), (1, 7), (6, 7), (13, 20), (37, 40), (58, 60)])
def test_against_exact_fractions(hits: int, trials: int, alpha: str) -> None:
    """No logarithm, no gamma function, the same number."""
    exact = bound_by_fractions(hits, trials, Fraction(alpha))
    assert binomial_lower_bound(hits, trials, float(alpha)) == pytest.approx(exact, abs=1e-6)


@given(st.integers(1, 5_000))
def test_all_hits_have_a_closed_form(trials: int) -> None:
    """The p to the power of n is alpha."""
    assert binomial_lower_bound(trials, trials) == pytest.approx(0.05 ** (1 / trials), abs=1e-9)


@given(st.integers(1, 150).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_a_bound_is_below_what_was_seen_and_grows_with_it(seen: tuple[int, int]) -> None:
    """More hits, a higher bound; more trials at the same rate, a higher one too; never above the rate."""
    hits, trials = seen
    bound = binomial_lower_bound(hits, trials)
    assert 0.0 <= bound <= hits / trials
    if hits < trials:
        assert binomial_lower_bound(hits + 1, trials) > bound
    assert binomial_lower_bound(3 * hits, 3 * trials) >= bound


def test_nothing_tried_bounds_nothing() -> None:
    """No trials, no claim."""
    assert binomial_lower_bound(0, 0) == 0.0
    assert rule_of_three(0) == 1.0


def test_the_gate_of_recall_at_its_size() -> None:
    """300 queries of 10: 2,926 found is the least that proves 97%."""
    assert binomial_lower_bound(2_925, 3_000) < 0.97 <= binomial_lower_bound(2_926, 3_000)


@pytest.mark.parametrize("trials", [10, 299, 3_000])
def test_the_rule_of_three_is_the_bound_of_none_bad(trials: int) -> None:
    """0 bad of n: the exact limit is 1 - 0.05^(1/n), and 3/n is just above it."""
    exact = 1 - binomial_lower_bound(trials, trials)
    assert exact < rule_of_three(trials) < exact * 1.17


@pytest.mark.parametrize(
    ("hits", "trials", "known"),
    # Two-sided 95% limits, as tables of Clopper and Pearson have them.
    [(0, 10, (0.0, 0.3085)), (10, 10, (0.6915, 1.0)), (5, 10, (0.1871, 0.8129)), (0, 0, (0.0, 1.0))],
)
def test_both_limits_at_once(hits: int, trials: int, known: tuple[float, float]) -> None:
    """Each is passed by chance once in forty times; of nothing, nothing is known."""
    assert binomial_interval(hits, trials) == pytest.approx(known, abs=6e-5)


@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_upper_bound_is_the_lower_one_of_the_misses(seen: tuple[int, int]) -> None:
    """Above what was seen; of nothing tried it is 1."""
    hits, trials = seen
    assert binomial_upper_bound(hits, trials) == 1 - binomial_lower_bound(trials - hits, trials)
    assert binomial_upper_bound(hits, trials) >= hits / trials
    assert binomial_upper_bound(0, 0) == 1.0
