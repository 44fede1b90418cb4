"""What bounds say of a margin, and how many queries it takes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.differences import drawn
from revec.statistics.margins import Finding, finding, queries_needed
from revec.statistics.paired import bounds

MARGIN = 0.02


@pytest.mark.parametrize(
    ("lower", "upper", "said", "mirrored"),
    [
        (-0.019, 0.019, Finding.SAME, Finding.SAME),
        (-0.010, 0.030, Finding.PASS, Finding.CANNOT_TELL),
        (0.021, 0.040, Finding.PASS, Finding.FAIL),
        (-0.020, 0.010, Finding.CANNOT_TELL, Finding.PASS),  # at the margin is not above it
        (-0.030, -0.020, Finding.CANNOT_TELL, Finding.PASS),
        (-0.030, -0.021, Finding.FAIL, Finding.PASS),
        (-0.030, 0.030, Finding.CANNOT_TELL, Finding.CANNOT_TELL),
        (-1.0, 1.0, Finding.CANNOT_TELL, Finding.CANNOT_TELL),
    ],
)
def test_what_bounds_say_and_what_they_say_the_other_way_round(
    lower: float, upper: float, said: Finding, mirrored: Finding
) -> None:
    """By hand, with a margin of 0.02."""
    assert finding(lower, upper, MARGIN) is said
    assert finding(-upper, -lower, MARGIN) is mirrored
    assert said.passes == (said in {Finding.PASS, Finding.SAME})


@given(st.floats(-1, 1), st.floats(-1, 1), st.floats(0.001, 1))
def test_both_ways_pass_only_without_a_difference(one: float, other: float, margin: float) -> None:
    """And what fails one way passes the other."""
    lower, upper = sorted((one, other))
    said, mirrored = finding(lower, upper, margin), finding(-upper, -lower, margin)
    assert (said is Finding.SAME) == (mirrored is Finding.SAME) == (said.passes and mirrored.passes)
    if said is Finding.FAIL:
        assert mirrored is Finding.PASS


async def test_no_number_is_never_a_pass() -> None:
    """NaN compares with nothing, so it would slip through a comparison that was written carelessly."""
    for lower, upper in [(math.nan, 0.1), (0.1, math.nan), (math.nan, math.nan), (0.2, 0.1)]:
        with pytest.raises(ValueError, match="no interval"):
            finding(lower, upper, MARGIN)
    for margin in (0.0, -0.02, 1.5, math.nan):
        with pytest.raises(ValueError, match="a margin is above 0"):
            finding(0.0, 0.1, margin)


def test_how_many_queries_by_hand() -> None:
    """With sd 0.23 and margin 0.02 the normal formula alone says 817, and the imagined query makes it some more."""
    plain = ((1.6449 + 0.8416) * 0.23 / MARGIN) ** 2
    assert plain == pytest.approx(818, abs=1)
    assert plain < queries_needed(0.23, MARGIN) < plain + 2 / MARGIN
    assert queries_needed(0.0, MARGIN) == math.ceil(-math.log(0.05) / MARGIN) == 150  # rule of three


@given(st.floats(0, 1), st.floats(0.005, 0.5), st.floats(0, 0.5))
def test_more_is_needed_of_what_varies_more_and_for_a_smaller_margin(
    sd: float, margin: float, difference: float
) -> None:
    """And less where the new model is better."""
    needed = queries_needed(sd, margin, difference)
    assert needed <= queries_needed(sd + 0.1, margin, difference)
    assert needed >= queries_needed(sd, margin + 0.1, difference)
    assert needed >= queries_needed(sd, margin, difference + 0.1)
    assert needed <= queries_needed(sd, margin, difference, power=0.95)


@pytest.mark.parametrize("shape", ["banking77", "cranfield"])
@pytest.mark.parametrize("truth", [0.0, 0.02])
def test_with_as_many_as_needed_four_of_five_pass(shape: str, truth: float) -> None:
    """On differences like real ones; a few more than planned may pass, hardly fewer."""
    rng = np.random.default_rng(3)
    sd = float(drawn(shape, truth, (100_000,), rng).std())
    needed = queries_needed(sd, MARGIN, truth)
    lower, _ = bounds(drawn(shape, truth, (300, needed), rng))
    assert 0.68 <= (lower > -MARGIN).mean() <= 0.90


@pytest.mark.parametrize(
    ("sd", "difference"), [(0.2, -0.02), (0.2, -0.1), (0.2, math.nan), (math.nan, 0), (-1, 0)]
)
def test_no_number_of_queries_proves_what_is_not_so(sd: float, difference: float) -> None:
    """At the margin there is nothing to be proved."""
    with pytest.raises(ValueError, match="no number of queries"):
        queries_needed(sd, MARGIN, difference)
