"""Rates that are watched at every look: is it surely below a ceiling, or surely above it?

A bet on each request: against "the rate is at the ceiling", a capital of 1 is put on lower (or higher) rates
and multiplied by the likelihood ratio. Where the rate is at the ceiling, or on its other side, the capital
ever reaches 1/alpha with probability alpha at most (Ville, 1939), whenever and however often one looks. The
bet is spread over nineteen rates, so the capital is a mean of likelihood ratios of Bernoulli trials: an
e-process (Ramdas, Grünwald, Vovk and Shafer, 2023).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]
    Flags = NDArray[np.bool_]

SLOW = 0.05  # the share of requests above a 95th percentile
EVEN = 0.5  # the share of discordant pairs in which the new arm is the slow one, where both are alike
PARTS = np.arange(1, 20) / 20
SPAN = 5_000  # requests of one bet of a guard


@dataclass(frozen=True, slots=True)
class RateWatch:
    """Evidence that a rate is below its ceiling (`above=False`), or above it; latched once it is enough.

    Made by `proof_below` or `guard`. Eight plain values, whatever was seen: they can stand in a table's row.
    """

    ceiling: float
    above: bool
    alpha: float
    span: int  # requests after which the bet begins anew; 0: never
    n: int = 0  # requests of this bet
    hits: int = 0
    bet: int = 1
    enough: bool = False

    def after(self, flags: ArrayLike) -> RateWatch:
        """One or many requests later, in the order in which they came: flags are 0 or 1, or bool.

        Raises:
            ValueError: one is neither.
        """
        left, now = _flags(flags), self
        while left.size and not now.enough:
            room = now.span - now.n if now.span else left.size
            now, left = now._within(left[:room]), left[room:]
            if now.n == now.span and not now.enough:
                now = replace(now, n=0, hits=0, bet=now.bet + 1)
        return now

    @property
    def capital(self) -> float:
        """Of the present bet; it starts with 1."""
        with np.errstate(over="ignore"):
            return float(np.exp(_log_capital(self, np.array([self.n]), np.array([self.hits]))[0]))

    @property
    def wanted(self) -> float:
        """The capital that is evidence enough: 1/alpha, or more where bets begin anew, because the k-th may
        err with alpha / (k (k + 1)) only: all of them together with alpha.
        """
        return (self.bet * (self.bet + 1) if self.span else 1) / self.alpha

    def _within(self, flags: Flags) -> RateWatch:
        """Up to the first look that is enough."""
        n = self.n + np.arange(1, flags.size + 1)
        hits = self.hits + np.cumsum(flags)
        there = np.flatnonzero(_log_capital(self, n, hits) >= math.log(self.wanted))
        last = int(there[0]) if there.size else flags.size - 1
        return replace(self, n=int(n[last]), hits=int(hits[last]), enough=bool(there.size))


def proof_below(ceiling: float = SLOW, alpha: float = 0.05) -> RateWatch:
    """Nothing is known yet; `enough` will say that the rate is below the ceiling.

    A 95th percentile is below a goal where fewer than one request in twenty is above it: flags are
    `times > goal`. Beside another arm it takes `discordant` and the ceiling EVEN.

    Raises:
        ValueError: the ceiling or alpha is not between 0 and 1.
    """
    return _begun(ceiling, alpha, above=False, span=0)


def guard(ceiling: float, alpha: float = 0.001, *, span: int = SPAN) -> RateWatch:
    """All is well so far; `enough` will say that the rate (errors, time-outs, empty answers) is above the
    ceiling. A false alarm has probability alpha, over the guard's whole life.

    A quiet time eats the capital up, so a new bet begins after every `span` requests: a late fault is
    noticed nearly as soon as an early one.

    Raises:
        ValueError: the ceiling or alpha is not between 0 and 1, or the span is below 1.
    """
    if span < 1:
        raise ValueError(f"a bet takes at least one request, and the span is {span}")
    return _begun(ceiling, alpha, above=True, span=span)


def discordant(
    old: ArrayLike, new: ArrayLike, threshold: float, margin: float = 1.10, *, deadline: float = math.inf
) -> Flags:
    """Of pairs of one request each, those where one arm alone was slow: True where that was the new one.

    old, new: seconds (or milliseconds), shape (pairs,), measured at the same time; a time-out counts as the
    deadline. threshold: about the 95th percentile of the old arm, from EARLIER pairs; margin: how much
    slower new may be. Hand the flags to `proof_below(EVEN)`: it errs with alpha at most where new exceeds
    margin x threshold as often as old exceeds the threshold, or oftener.

    Why pairs: the rate of new alone above an *estimated* percentile is not one in twenty when both are equal.
    A threshold 5% too high lets a slower new arm pass. Both arms meet the same threshold here, so its error
    costs requests, never the error rate (McNemar, 1947, one pair at a time).

    Raises:
        ValueError: a time is no finite number, the arms differ in length, threshold or margin is not above 0,
            or the deadline is so early that a time-out would not count as slow.
    """
    ours, theirs = np.asarray(old, dtype=np.float64), np.asarray(new, dtype=np.float64)
    if ours.shape != theirs.shape or not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        raise ValueError("latencies come in pairs of finite numbers: count a time-out as its deadline")
    if not (0 < threshold < math.inf and 0 < margin < math.inf):
        raise ValueError(f"a threshold of {threshold} and a margin of {margin} are no bar: both are above 0")
    if not deadline > margin * threshold:
        raise ValueError(f"at a deadline of {deadline} time-outs pass for quick requests: wait longer")
    return _alone(ours > threshold, theirs > margin * threshold)


def _alone(slow_old: Flags, slow_new: Flags) -> Flags:
    alone: Flags = slow_new[slow_old != slow_new]
    return alone


def _begun(ceiling: float, alpha: float, *, above: bool, span: int) -> RateWatch:
    if not (0 < ceiling < 1 and 0 < alpha < 1):
        raise ValueError(f"ceiling {ceiling}, alpha {alpha}: both are rates, above 0 and below 1")
    return RateWatch(ceiling=ceiling, above=above, alpha=alpha, span=span)


def _log_capital(watch: RateWatch, n: NDArray[Any], hits: NDArray[Any]) -> Floats:
    """Natural logarithm, shape (looks,): the mean over the rates bet on of their likelihood ratio."""
    rates = watch.ceiling**PARTS if watch.above else watch.ceiling * PARTS
    won = np.log(rates / watch.ceiling)
    lost = np.log1p(-rates) - math.log1p(-watch.ceiling)
    ratios = np.multiply.outer(hits, won) + np.multiply.outer(n - hits, lost)
    top = ratios.max(axis=-1)
    mean: Floats = top + np.log(np.exp(ratios - top[..., None]).mean(axis=-1))
    return mean


def _flags(flags: ArrayLike) -> Flags:
    found = np.atleast_1d(np.asarray(flags, dtype=np.float64))
    if not np.isin(found, (0.0, 1.0)).all():
        raise ValueError("a flag is 0 or 1: look for NaN and for rates where requests are meant")
    return found.astype(np.bool_)
