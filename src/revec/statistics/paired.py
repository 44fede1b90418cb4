"""Two systems asked the same queries: how sure is their mean difference? ONE look at a fixed set.

Everywhere `differences` is new - old per distinct judged query, float64, shape (n,), in units of a metric in
[0, 1], so each is in [-1, 1]. Most are 0 and the rest are skewed: a bound that leans on the normal curve
(Student's t, the bootstrap, inverted sign flips) covers too rarely there. `docs/statistics.md` has figures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from revec.statistics.margins import Finding, finding, queries_needed

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

DRAWS = 10_000  # a bound is within a fiftieth of a standard error of what endless draws would give
AT_ONCE = 500  # draws in memory
ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class Comparison:
    """What one look says; bounds are one-sided, each at 1 - alpha."""

    n: int
    mean: float
    sd: float
    lower: float
    upper: float
    margin: float
    alpha: float

    @property
    def finding(self) -> Finding:
        return finding(self.lower, self.upper, self.margin)

    @property
    def slightly_worse(self) -> bool:
        """Passed, and proved to be worse all the same: a person should know."""
        return self.finding.passes and self.upper < 0

    @property
    def more(self) -> int | None:
        """About how many more queries decide it if the mean and sd stay; None where that is not to be said:
        it is decided, there are fewer than two, or the mean is the margin.
        """
        distance = abs(self.mean + self.margin)
        if self.finding is not Finding.CANNOT_TELL or self.n <= 1 or distance < ROUNDING:
            return None
        needed = queries_needed(self.sd, self.margin, distance - self.margin, alpha=self.alpha)
        return max(1, needed - self.n)

    def __str__(self) -> str:
        more = "" if self.more is None else f" yet: ~{self.more:,} more judged queries"
        return (
            f"{self.finding}{more} (mean {self.mean:+.4f}, from {self.lower:+.4f} to {self.upper:+.4f}, "
            f"margin {self.margin}, {self.n:,} queries)"
        )


def noninferior(differences: ArrayLike, margin: float, alpha: float = 0.05) -> Comparison:
    """Whether new is worse than old by the margin: once, on a set that was fixed before.

    With -differences the bounds are the same numbers, mirrored. Without queries it cannot tell.

    Raises:
        ValueError: a difference is no number in [-1, 1], or the margin is not in (0, 1].
    """
    found = checked(differences)
    lower, upper = bounds(found, alpha)
    return Comparison(
        n=found.size,
        mean=float(found.mean()) if found.size else 0.0,
        sd=float(found.std(ddof=1)) if found.size > 1 else 0.0,
        lower=float(lower),
        upper=float(upper),
        margin=margin,
        alpha=alpha,
    )


def bounds(differences: ArrayLike, alpha: float = 0.05) -> tuple[Floats, Floats]:
    """Lower and upper bound of the mean, each one-sided at 1 - alpha; over the last axis, shape (..., n).

    The queries are weighed at random, and one more is imagined, the worst there can be (-1 for the lower
    bound): weights w of shape (n + 1,) are Dirichlet(1, …, 1), and the bound is the alpha quantile of
    sum w_i d_i - w_0 (Gaffke, 2005; Learned-Miller and Thomas, 2019). Where
    differences are 0 or -1 the lower one is Clopper and Pearson's exact bound; for many queries both are
    Student's. That they cover for every distribution is conjectured, not proved; no counterexample is known.

    Raises:
        ValueError: a difference is no number in [-1, 1], or alpha is not in (0, 0.5).
    """
    if not 0 < alpha < 0.5:  # noqa: PLR2004 - above it the bounds would change places
        raise ValueError(f"alpha is above 0 and below 0.5, and this is {alpha}")
    found = checked(differences)
    sides = [_with_the_worst(found), _with_the_worst(-found)]
    rng = np.random.default_rng(0)  # the same judgements, the same answer
    means = zip(*(_weighed(sides, rng) for _ in range(0, DRAWS, AT_ONCE)), strict=True)
    lower, upper = (_quantile(np.concatenate(side, axis=-1), alpha) for side in means)
    return lower, -upper


def randomisation(differences: ArrayLike, *, draws: int = DRAWS) -> tuple[float, float]:
    """The mean, and the two-sided p of Fisher's randomisation test: how often random signs make a mean as far
    from 0 (Smucker, Allan and Carterette, 2007).

    Exact where the systems are exchangeable, each difference as likely with either sign. Of "the mean is 0"
    alone it is a test only for many queries: a margin is for `noninferior`.

    Raises:
        ValueError: a difference is no number in [-1, 1], or there is none.
    """
    found = checked(differences)
    if not found.size:
        raise ValueError("there are no differences to test: judge some queries first")
    seen = abs(found.sum()) - ROUNDING
    rng = np.random.default_rng(0)  # the same judgements, the same answer
    as_far = 0
    for start in range(0, draws, AT_ONCE):
        signs = rng.choice([-1.0, 1.0], size=(min(AT_ONCE, draws - start), found.size))
        as_far += int((np.abs(signs @ found) >= seen).sum())
    return float(found.mean()), (as_far + 1) / (draws + 1)


def checked(differences: ArrayLike) -> Floats:
    """As float64.

    Raises:
        ValueError: one is no number in [-1, 1].
    """
    found = np.asarray(differences, dtype=np.float64)
    if not (np.abs(found) <= 1 + ROUNDING).all():  # NaN is not
        raise ValueError("every difference is a number from -1 to 1: look for NaN and other scales")
    return found


def _with_the_worst(found: Floats) -> Floats:
    """Shape (..., n) → (..., n + 1). Sorted, so that the queries' order has no say in what is drawn."""
    imagined = np.full((*found.shape[:-1], 1), -1.0)
    return np.concatenate([imagined, np.sort(found, axis=-1)], axis=-1)


def _weighed(sides: list[Floats], rng: np.random.Generator) -> list[Floats]:
    """Each side's means under the same random weights, shape (..., AT_ONCE)."""
    weights = rng.standard_exponential((sides[0].shape[-1], AT_ONCE))
    total = weights.sum(axis=0)
    return [side @ weights / total for side in sides]


def _quantile(means: Floats, alpha: float) -> Floats:
    found: Floats = np.quantile(means, alpha, axis=-1, method="lower")
    return found
