"""Rates that are watched at every look: capital by hand, errors over all looks, alarms that stay."""

from __future__ import annotations

import json
import math
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from revec.statistics.guards import EVEN, SLOW, RateWatch, discordant, guard, proof_below

MARGIN = 1.10
quickly = settings(max_examples=60, deadline=None)


def capital(watch: RateWatch, flags: list[bool]) -> float:
    """Nineteen bets, multiplied request by request."""
    rates = [watch.ceiling ** (n / 20) if watch.above else watch.ceiling * n / 20 for n in range(1, 20)]
    bets = [1.0] * 19
    for flag in flags:
        bets = [
            bet * (rate / watch.ceiling if flag else (1 - rate) / (1 - watch.ceiling))
            for bet, rate in zip(bets, rates, strict=True)
        ]
    return sum(bets) / 19


@quickly
@given(st.lists(st.booleans(), max_size=40), st.booleans())
def test_the_capital_is_what_the_bets_made(flags: list[bool], above: bool) -> None:
    """One request after the other, without a logarithm."""
    begun = guard(0.3, 1e-9, span=1_000) if above else proof_below(0.3, 1e-9)
    assert begun.capital == 1.0
    assert begun.after(flags).capital == pytest.approx(capital(begun, flags))


@quickly
@given(st.lists(st.booleans(), max_size=200), st.integers(0, 200), st.sampled_from([7, 50, 1_000]))
def test_in_pieces_or_at_once_is_the_same(flags: list[bool], cut: int, span: int) -> None:
    """However often it is stored and read in between, across the ends of bets too."""
    begun = guard(0.1, 0.01, span=span)
    pieces = RateWatch(**json.loads(json.dumps(asdict(begun.after(flags[:cut])))))
    for flag in flags[cut:]:
        pieces = pieces.after(flag)
    assert pieces == begun.after(flags)


async def test_an_alarm_stays() -> None:
    """Latched at the request that was enough: no quiet time takes it back, nor hides what set it off."""
    fired = guard(0.01).after([1] * 30)
    assert fired.enough
    assert fired.n < 30
    assert fired.after([0] * 100_000) == fired


async def test_all_bets_together_err_with_alpha() -> None:
    """What the bets may err, one after the other, never adds up to more."""
    wanted, watch = [], guard(0.01, 0.001, span=10)
    for _ in range(1_000):
        wanted.append(watch.wanted)
        watch = watch.after([0] * 10)
    assert watch.bet == 1_001
    assert 0.00099 < sum(1 / each for each in wanted) <= 0.001
    assert proof_below(0.05, 0.05).after([1] * 1_000).wanted == 20


def test_false_alarms_at_the_ceiling() -> None:
    """Of 300 guards over 20,000 requests at the very ceiling, with alpha 0.02: not more than six and chance."""
    rng = np.random.default_rng(6)
    fired = sum(guard(0.002, 0.02).after(rng.random(20_000) < 0.002).enough for _ in range(300))
    assert fired <= 6 + 7  # three standard deviations


@pytest.mark.parametrize(
    ("quiet", "rate", "within"), [(0, 0.05, 150), (0, 0.01, 2_000), (100_000, 0.05, 400)]
)
def test_a_fault_is_noticed_late_in_life_too(quiet: int, rate: float, within: int) -> None:
    """The median of 40 guards, ceiling 0.2%."""
    rng = np.random.default_rng(6)
    took = []
    for _ in range(40):
        before = guard(0.002).after(rng.random(quiet) < 0.0005)
        after = before.after(rng.random(20_000) < rate)
        assert after.enough
        took.append((after.bet - before.bet) * after.span + after.n - before.n)
    assert np.median(took) <= within


def pairs(slower: float, size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Seconds of both arms."""
    return np.exp(0.5 * rng.normal(size=size)), slower * np.exp(0.5 * rng.normal(size=size))


@pytest.mark.parametrize("off", [0.7, 1.0, 1.4])
async def test_a_wrong_threshold_never_lets_a_slower_arm_pass(off: float) -> None:
    """10% slower is the margin itself: of 200 gates, looked at after every pair, one in twenty at most."""
    rng = np.random.default_rng(8)
    threshold = off * math.exp(0.5 * 1.645)
    passed = 0
    for _ in range(200):
        old, new = pairs(MARGIN, 5_000, rng)
        passed += proof_below(EVEN).after(discordant(old, new, threshold)).enough
    assert passed <= 10 + 5  # one and a half standard deviations


def test_a_threshold_from_a_sample_does_where_one_arm_counts_alone() -> None:
    """The complement, why pairs: the percentile of a few hundred is often too high."""
    rng = np.random.default_rng(8)
    passed = 0
    for _ in range(100):
        old, new = pairs(MARGIN, 10_500, rng)
        threshold = float(np.quantile(old[:500], 0.95))
        passed += proof_below(SLOW).after(new[500:] > MARGIN * threshold).enough
    assert passed > 15


def test_an_arm_as_quick_as_the_other_passes() -> None:
    """Nearly always, within some thousand pairs."""
    rng = np.random.default_rng(8)
    found = [proof_below(EVEN).after(discordant(*pairs(1.0, 10_000, rng), 2.28)).enough for _ in range(50)]
    assert sum(found) >= 45


def test_the_discordant_pairs() -> None:
    """Both slow, neither, old alone, new alone; at the threshold is not above it."""
    old, new = [2.0, 0.5, 2.0, 0.5, 1.0], [2.0, 0.5, 0.5, 2.0, 1.1]
    assert discordant(old, new, 1.0, 1.1).tolist() == [False, True]
    assert discordant(new, old, 1.0, 1.0).tolist() == [True, False, False]


def test_an_absolute_goal() -> None:
    """500 ms at the 95th percentile, of an arm whose own is 400."""
    rng = np.random.default_rng(8)
    assert proof_below(SLOW).after(rng.exponential(400 / 3.0, 3_000) > 500).enough
    assert not proof_below(SLOW).after(rng.exponential(500 / 3.0, 3_000) > 500).enough


def test_without_data_nothing_is_proved() -> None:
    """No request, no alarm and no pass."""
    for begun in (guard(0.01), proof_below()):
        assert begun.after([]) == begun
        assert not begun.enough


async def test_what_is_no_flag_is_refused() -> None:
    """NaN, shares, and times that are none."""
    for odd in (math.nan, math.inf, 0.5, 2):
        for begun in (guard(0.01), proof_below()):
            with pytest.raises(ValueError, match="a flag is 0 or 1"):
                begun.after([0, odd])
    for old, new in [([1.0, math.nan], [1.0, 1.0]), ([1.0], [math.inf]), ([1.0], [1.0, 2.0])]:
        with pytest.raises(ValueError, match="in pairs of finite numbers"):
            discordant(old, new, 1.0)
    for threshold in (0.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="no bar"):
            discordant([1.0], [1.0], threshold)
    for deadline in (1.1, 0.5, math.nan):
        with pytest.raises(ValueError, match="time-outs pass for quick"):
            discordant([1.0], [1.1], 1.0, 1.1, deadline=deadline)
    for rate in (0.0, 1.0, math.nan):
        with pytest.raises(ValueError, match="both are rates"):
            guard(rate)
    with pytest.raises(ValueError, match="at least one request"):
        guard(0.01, span=0)
