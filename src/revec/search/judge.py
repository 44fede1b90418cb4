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


def _discounted(gains: np.ndarray) -> float:
    return float((gains / np.log2(np.arange(2, gains.size + 2))).sum())
