"""A total estimated by a ratio: right on average, and its interval holds as often as it says."""

from __future__ import annotations

import math

import numpy as np
import pytest

from revec.statistics.ratios import ratio


def test_the_interval_holds_in_nineteen_of_twenty_samples() -> None:
    """Of a thousand samples, of texts with long tails, whose tokens follow their bytes roughly."""
    rng = np.random.default_rng(5)
    size = rng.lognormal(6, 1, 20_000)
    tokens = size / 4.2 * rng.lognormal(0, 0.2, size.size)
    truth, held, widths = tokens.sum() / size.sum(), 0, []
    for _ in range(1_000):
        at = rng.choice(size.size, 400, replace=False)
        found = ratio(size[at].tolist(), tokens[at].tolist(), size.size)
        held += found.lower <= truth <= found.upper
        widths.append((found.upper - found.lower) / truth)
    assert 0.92 <= held / 1_000 <= 0.98
    assert float(np.mean(widths)) < 0.1


def test_all_of_them_are_no_estimate() -> None:
    found = ratio([1.0, 2.0, 3.0], [2.0, 2.0, 2.0], 3)
    assert (found.value, found.lower, found.upper, found.n) == (1.0, 1.0, 1.0, 3)


def test_what_is_known_of_nothing_and_of_one() -> None:
    """Nothing is a ratio of nothing; one unit says nothing of how units differ."""
    assert ratio([], [], 10).value == 0.0
    one = ratio([4.0], [2.0], 10)
    assert (one.value, one.lower, one.upper) == (0.5, 0.0, math.inf)
    with pytest.raises(ValueError, match="each unit"):
        ratio([1.0], [], 2)
