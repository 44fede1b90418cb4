"""How sure a share of all cases is: so many hits of so many trials."""

from __future__ import annotations

import math


def binomial_lower_bound(hits: int, trials: int, alpha: float = 0.05) -> float:
    """Exact one-sided lower bound of a proportion (Clopper and Pearson, 1934).

    The p at which P(X >= hits | trials, p) = alpha; 0 where nothing was hit or tried.
    """
    if hits == 0 or trials == 0:
        return 0.0
    low, high = 0.0, hits / trials
    for _ in range(60):
        middle = (low + high) / 2
        if _at_least(hits, trials, middle) > alpha:
            high = middle
        else:
            low = middle
    return low


def binomial_upper_bound(hits: int, trials: int, alpha: float = 0.05) -> float:
    """Exact one-sided upper bound of a proportion (Clopper and Pearson, 1934): 1 where nothing was tried."""
    return 1 - binomial_lower_bound(trials - hits, trials, alpha)


def binomial_interval(hits: int, trials: int) -> tuple[float, float]:
    """Exact 95% interval of a proportion (Clopper and Pearson, 1934); 0 to 1 where nothing was tried."""
    return binomial_lower_bound(hits, trials, 0.025), binomial_upper_bound(hits, trials, 0.025)


def rule_of_three(trials: int) -> float:
    """With 0 bad of n, the bad rate is below 3/n at 95%; a rate is never above 1."""
    return min(1.0, 3 / trials) if trials else 1.0


def _at_least(hits: int, trials: int, p: float) -> float:
    """P(X >= hits) for X ~ Binomial(trials, p), summed in logarithms."""
    if p <= 0.0:
        return 0.0
    if p >= 1.0:
        return 1.0
    logs = [
        math.lgamma(trials + 1)
        - math.lgamma(k + 1)
        - math.lgamma(trials - k + 1)
        + k * math.log(p)
        + (trials - k) * math.log1p(-p)
        for k in range(hits, trials + 1)
    ]
    top = max(logs)
    return min(1.0, math.exp(top) * sum(math.exp(value - top) for value in logs))
