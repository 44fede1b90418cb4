"""A mean that is watched while it grows: bounds that hold at every look at once.

Values are differences in [-1, 1], one for each *unit*, never for each request: a query that is asked a
thousand times is one difference, known once. Where single queries are sampled the unit is the distinct
normalised query, taken when it is first met; where queries come in sessions, `samples.per_session` makes one
value of each session's new ones. Where traffic should weigh, with a weight w in [0, 1] that is known
beforehand, hand in w (d + margin) / (1 + margin) and ask whether its lower bound is above 0.

Popular queries are met first: what is bounded is the mean over the units met so far, so a gate that may pass
early is one on head queries until the tail was seen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from revec.statistics.paired import checked

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

BOLDEST = 0.5  # of the weights: more is lost by one bad value than won


@dataclass(frozen=True, slots=True)
class MeanSequence:
    """An empirical-Bernstein confidence sequence with predictable plug-in weights (Waudby-Smith and Ramdas,
    2024, theorem 2), for values d in [-1, 1]; the paper's X is (1 + d) / 2. With probability 1 - alpha the
    mean is above every lower bound that is ever looked at, and with the same below every upper one.

        m_i = (d_1 + … + d_i) / (i + 1),   s_i = (1 + sum (d_j - m_j)²) / (i + 1)
        w_i = min(1/2, sqrt(8 ln(1/alpha) / (s_{i-1} i ln(1 + i)))),   psi(w) = -ln(1 - w) - w
        bounds = (sum w_i d_i ± (2 ln(1/alpha) + sum (d_i - m_{i-1})² psi(w_i) / 2)) / sum w_i

    Seven numbers, whatever was seen: they can stand in a row of a table between two looks.
    """

    alpha: float = 0.05
    n: int = 0
    total: float = 0.0  # sum d_i
    squares: float = 0.0  # sum (d_i - m_i)²
    weight: float = 0.0  # sum w_i
    weighted: float = 0.0  # sum w_i d_i
    penalty: float = 0.0  # sum (d_i - m_{i-1})² psi(w_i) / 2

    def __post_init__(self) -> None:
        """
        Raises:
            ValueError: alpha is not between 0 and 1.
        """
        if not 0 < self.alpha < 1:
            raise ValueError(f"alpha is above 0 and below 1, and this is {self.alpha}")

    def after(self, values: ArrayLike) -> MeanSequence:
        """One or many values later; in pieces or at once is the same.

        Raises:
            ValueError: a value is no number in [-1, 1].
        """
        found = np.atleast_1d(checked(values))
        if not found.size:
            return self
        sums = [float(each[-1]) for each in _sums(self, found)]
        return replace(
            self,
            n=self.n + found.size,
            total=sums[0],
            squares=sums[1],
            weight=sums[2],
            weighted=sums[3],
            penalty=sums[4],
        )

    @property
    def bounds(self) -> tuple[float, float]:
        """Lower and upper, each at 1 - alpha; -1 and 1 as long as nothing is known."""
        if not self.n:
            return -1.0, 1.0
        room = 2 * math.log(1 / self.alpha) + self.penalty
        return max(-1.0, (self.weighted - room) / self.weight), min(1.0, (self.weighted + room) / self.weight)


def along(values: ArrayLike, alpha: float = 0.05) -> tuple[Floats, Floats]:
    """The bounds after each value, over the last axis: shape (..., n) → twice (..., n).

    Raises:
        ValueError: a value is no number in [-1, 1], or alpha is not between 0 and 1.
    """
    _, _, weight, weighted, penalty = _sums(MeanSequence(alpha), checked(values))
    room = 2 * math.log(1 / alpha) + penalty
    return np.maximum(-1.0, (weighted - room) / weight), np.minimum(1.0, (weighted + room) / weight)


def _sums(was: MeanSequence, d: Floats) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """The five sums after each value, each shape (..., n). Means and spreads are those before it."""
    i = was.n + np.arange(1, d.shape[-1] + 1)
    total = was.total + np.cumsum(d, axis=-1)
    squares = was.squares + np.cumsum((d - total / (i + 1)) ** 2, axis=-1)
    mean = _before(total, was.total) / i
    spread = (1 + _before(squares, was.squares)) / i
    w = np.minimum(BOLDEST, np.sqrt(8 * math.log(1 / was.alpha) / (spread * i * np.log1p(i))))
    psi = -np.log1p(-w) - w
    return (
        total,
        squares,
        was.weight + np.cumsum(w, axis=-1),
        was.weighted + np.cumsum(w * d, axis=-1),
        was.penalty + np.cumsum((d - mean) ** 2 * psi / 2, axis=-1),
    )


def _before(sums: Floats, first: float) -> Floats:
    return np.concatenate([np.full((*sums.shape[:-1], 1), first), sums[..., :-1]], axis=-1)
