"""Ranking quality against judgements, in the definitions that trec_eval and ir-measures use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Qrels = Mapping[str, Mapping[str, int]]  # query id → document id → grade (0: judged, not relevant)


@dataclass(frozen=True, slots=True)
class Figures:
    """Means over the judged queries, each in [0, 1]."""

    queries: int
    ndcg_at_10: float
    recall_at_3: float
    recall_at_10: float
    mrr_at_10: float


def judged(qrels: Qrels) -> list[str]:
    """Queries with at least one relevant document: the others have no figure."""
    return [query for query, grades in qrels.items() if any(grade > 0 for grade in grades.values())]


def ndcg(ranking: Sequence[str], grades: Mapping[str, int], k: int) -> float:
    """nDCG@k with gains = grades and log2 discounts (Järvelin and Kekäläinen, 2002)."""
    gains = np.array([max(grades.get(doc, 0), 0) for doc in ranking[:k]], dtype=np.float64)
    ideal = np.sort([max(grade, 0) for grade in grades.values()])[::-1][:k].astype(np.float64)
    best = _discounted(ideal)
    return _discounted(gains) / best if best else 0.0


def recall(ranking: Sequence[str], grades: Mapping[str, int], k: int) -> float:
    """The share of the relevant documents among the first k."""
    relevant = {doc for doc, grade in grades.items() if grade > 0}
    return len(relevant.intersection(ranking[:k])) / len(relevant) if relevant else 0.0


def reciprocal_rank(ranking: Sequence[str], grades: Mapping[str, int], k: int) -> float:
    """1 / rank of the first relevant document within k, else 0."""
    for rank, doc in enumerate(ranking[:k], start=1):
        if grades.get(doc, 0) > 0:
            return 1 / rank
    return 0.0


def figures(rankings: Mapping[str, Sequence[str]], qrels: Qrels) -> Figures:
    """Means over every judged query; one without a ranking counts as 0."""
    queries = judged(qrels)
    pairs = [(rankings.get(query, ()), qrels[query]) for query in queries]

    def mean(values: list[float]) -> float:
        return float(np.mean(values)) if values else 0.0

    return Figures(
        queries=len(queries),
        ndcg_at_10=mean([ndcg(ranking, grades, 10) for ranking, grades in pairs]),
        recall_at_3=mean([recall(ranking, grades, 3) for ranking, grades in pairs]),
        recall_at_10=mean([recall(ranking, grades, 10) for ranking, grades in pairs]),
        mrr_at_10=mean([reciprocal_rank(ranking, grades, 10) for ranking, grades in pairs]),
    )


def paired(one: Sequence[float], other: Sequence[float], *, rounds: int = 20) -> tuple[float, float]:
    """Mean of one - other over the same queries, and the two-sided p of Fisher's randomisation test: how
    often random signs make a mean as far from 0, in 500 trials a round (Smucker, Allan, Carterette, 2007).
    """
    differences = np.asarray(one, dtype=np.float64) - np.asarray(other, dtype=np.float64)
    seen = abs(differences.sum()) - 1e-12
    rng = np.random.default_rng(0)  # the same judgements, the same answer
    as_far = 0
    for _ in range(rounds):
        signs = rng.choice([-1.0, 1.0], size=(500, differences.size))
        as_far += int((np.abs(signs @ differences) >= seen).sum())
    return float(differences.mean()), (as_far + 1) / (500 * rounds + 1)


def interval(one: Sequence[float], other: Sequence[float], *, rounds: int = 20) -> tuple[float, float]:
    """The 95% interval of the mean of one - other over queries like these: the middle of the means of 500
    samples a round, drawn from the same queries with replacement (percentile bootstrap: Efron, 1979).
    """
    differences = np.asarray(one, dtype=np.float64) - np.asarray(other, dtype=np.float64)
    size = differences.size
    rng = np.random.default_rng(0)  # the same judgements, the same answer
    drawn = [rng.multinomial(size, np.full(size, 1 / size), size=500) @ differences for _ in range(rounds)]
    low, high = np.percentile(np.concatenate(drawn) / size, [2.5, 97.5])
    return float(low), float(high)


def _discounted(gains: np.ndarray) -> float:
    return float((gains / np.log2(np.arange(2, gains.size + 2))).sum())
