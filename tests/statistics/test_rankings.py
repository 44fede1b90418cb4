"""How alike two rankings are, against values that were reckoned by hand or summed to the end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from revec.statistics.rankings import overlap, rbo, same_first

ids = st.permutations("abcdefghij").flatmap(lambda all_: st.integers(0, 10).map(lambda n: all_[:n]))


def to_the_end(one: str, other: str, p: float, depth: int = 2_000) -> float:
    """The sum of (1 - p) p^(d-1) A_d, with each ranking's agreement carried on beyond its end as in the paper."""
    short, long = sorted((one, other), key=len)
    s, l = len(short), len(long)  # noqa: E741
    at = {d: float(len(set(short[:d]) & set(long[:d]))) for d in range(1, l + 1)}
    total = 0.0
    for d in range(1, depth):
        if d <= s:
            agreement = at[d] / d
        elif d <= l:  # the short one goes on agreeing as it did at its end
            agreement = (at[d] + at[s] * (d - s) / s) / d
        else:
            agreement = (at[l] + at[s] * (l - s) / s) / l
        total += (1 - p) * p ** (d - 1) * agreement
    return total


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("abc", "abc"),
        ("abc", "cab"),
        ("abcdef", "ghij"),
        ("abcdefg", "ab"),
        ("ab", "bacdefg"),
        ("a", "bcda"),
        ("ae", "bcda"),
    ],
)
@pytest.mark.parametrize("p", [0.5, 0.9, 0.98])
def test_it_is_the_sum_to_the_end_also_of_unequal_lengths(one: str, other: str, p: float) -> None:
    """Every depth to 2,000, one by one."""
    assert rbo(one, other, p) == pytest.approx(to_the_end(one, other, p), abs=1e-9)


def test_rbo_by_hand() -> None:
    """They agree nowhere at depth 1 and wholly from 2 on: p. Half from 2 on, wholly at 1: 1 - p + p / 2."""
    assert rbo("ab", "ba", 0.9) == pytest.approx(0.9)
    assert rbo("ab", "ac", 0.5) == pytest.approx(0.5 + 0.5 * 0.5)


@given(ids, ids)
def test_alike_is_mutual_and_between_0_and_1(one: list[str], other: list[str]) -> None:
    """1 with itself, 0 where nothing is shared."""
    assert rbo(one, other) == pytest.approx(rbo(other, one))
    assert -1e-12 <= rbo(one, other) <= 1 + 1e-12
    assert rbo(one, one) == pytest.approx(1.0)
    assert rbo(one, [each.upper() for each in one]) == (0.0 if one else 1.0)
    assert overlap(one, other, 5) == overlap(other, one, 5)


def test_the_top_counts_most() -> None:
    """A swap at the top costs more than one at the bottom; overlap sees neither."""
    assert rbo("bacdefghij", "abcdefghij") < rbo("abcdefghji", "abcdefghij") < 1
    assert overlap("bacdefghij", "abcdefghij", 10) == 1.0


def test_overlap_and_the_first() -> None:
    """By hand; rankings shorter than k are compared as far as they go."""
    assert overlap("abcd", "dxyz", 4) == 0.25
    assert overlap("abcd", "dxyz", 2) == 0.0
    assert overlap("ab", "ab", 10) == overlap("", "", 10) == 1.0
    assert overlap("ab", "abcd", 10) == 0.5
    assert overlap("", "a", 10) == 0.0
    assert same_first("ab", "ac")
    assert same_first("", "")
    assert not same_first("ab", "ba")
    assert not same_first("", "a")


def test_what_is_no_ranking_is_refused() -> None:
    """Chunks of one document, or a persistence that is none."""
    with pytest.raises(ValueError, match="twice"):
        rbo("aba", "abc")
    for p in (0.0, 1.0):
        with pytest.raises(ValueError, match="between 0 and 1"):
            rbo("a", "a", p)
