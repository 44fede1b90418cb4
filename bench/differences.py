"""Differences of nDCG@10, query by query, as real changes of models make them: for simulated migrations.

Quantiles (0.01, 0.03, … 0.99) of new - old where local:wordllama-256 became local:minilm-384, exact search by
vectors alone, over public collections with judgements.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Floats = np.ndarray[Any, np.dtype[np.float64]]

# 3,080 short questions of a bank's customers, many relevant documents each: 46% do not change.
BANKING77 = [
    *(-0.382, -0.203, -0.136, -0.085, -0.069, -0.063, -0.014),
    *[0.0] * 23,
    *(0.005, 0.044, 0.064, 0.066, 0.069, 0.073, 0.085, 0.11, 0.13, 0.141, 0.154, 0.178, 0.206, 0.221, 0.249),
    *(0.288, 0.347, 0.412, 0.521, 0.691),
]
# 225 long questions on aerodynamics, graded judgements: 12% do not change.
CRANFIELD = [
    *(-0.385, -0.312, -0.239, -0.206, -0.194, -0.176, -0.162, -0.138, -0.108, -0.099, -0.082, -0.07, -0.05),
    *(-0.038, -0.029, -0.02, -0.009),
    *[0.0] * 6,
    *(0.009, 0.033, 0.049, 0.064, 0.067, 0.082, 0.099, 0.113, 0.118, 0.128, 0.138, 0.153, 0.182, 0.192, 0.2),
    *(0.219, 0.225, 0.235, 0.263, 0.278, 0.289, 0.321, 0.331, 0.371, 0.441, 0.478, 0.539),
]
# 1,000 medical questions, one relevant document each: 79% do not change. Few get worse: the mirror is added.
GAINED = [*[0.0] * 40, *[0.369] * 4, 0.5, 0.569, 0.613, 0.667, 1.0, 1.0]
PUBMEDQA = [*GAINED, *(-each for each in GAINED)]
# No collection's: nearly nothing changes, and what does is lost or found altogether. Hardest on every bound.
RARE = [-1.0, *[0.0] * 98, 1.0]

SHAPES = {"banking77": BANKING77, "cranfield": CRANFIELD, "pubmedqa": PUBMEDQA, "rare": RARE}


def drawn(shape: str, truth: float, size: tuple[int, ...], rng: np.random.Generator) -> Floats:
    """Independent differences whose true mean is `truth`.

    The table's values, each more or less likely by exp(t value): of all ways to have that mean this one is
    nearest to the table (Kullback and Leibler, 1951), and leaves zeros zeros.
    """
    values = np.array(SHAPES[shape])
    low, high = -100.0, 100.0
    for _ in range(60):
        t = (low + high) / 2
        likely = np.exp(t * values - np.abs(t * values).max())
        likely /= likely.sum()
        low, high = (t, high) if likely @ values < truth else (low, t)
    return rng.choice(values, size=size, p=likely)
