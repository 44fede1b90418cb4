"""Our figures are the ones that ir-measures computes, on runs as odd as they come."""

from __future__ import annotations

import random

import pytest

from revec.search.judge import Qrels, figures, judged, ndcg, recall, reciprocal_rank

Rankings = dict[str, list[str]]


def world(seed: int) -> tuple[Rankings, dict[str, dict[str, int]]]:
    """Rankings without ties, graded judgements; some queries unanswered, short, or all wrong."""
    rng = random.Random(seed)
    documents = [f"d{n}" for n in range(60)]
    qrels, rankings = {}, {}
    for n in range(rng.randint(1, 30)):
        query = f"q{n}"
        chosen = rng.sample(documents, rng.randint(1, 25))
        qrels[query] = {document: rng.choice([0, 0, 1, 1, 2, 3]) for document in chosen}
        qrels[query][chosen[0]] = rng.randint(1, 3)  # at least one is relevant
        if rng.random() < 0.9:
            rankings[query] = rng.sample(documents, rng.choice([0, 1, 2, 5, 10, 11, 40]))
    rankings["asked by nobody"] = documents[:5]
    return rankings, qrels


@pytest.mark.parametrize("seed", range(60))
def test_the_same_figures_as_ir_measures(seed: int) -> None:
    """NDCG@10, R@3, R@10 and RR@10, to the ninth place; a query without an answer counts as 0."""
    ir_measures = pytest.importorskip("ir_measures")  # no wheel for Linux on ARM
    rankings, qrels = world(seed)
    found = figures(rankings, qrels)
    run = {
        query: {document: 1.0 / rank for rank, document in enumerate(ranking, start=1)}
        for query, ranking in rankings.items()
    }
    measures = [ir_measures.parse_measure(name) for name in ("nDCG@10", "R@3", "R@10", "RR@10")]
    per_query = ir_measures.iter_calc(measures, qrels, run)
    sums = dict.fromkeys(measures, 0.0)
    for metric in per_query:
        if metric.query_id in qrels:
            sums[metric.measure] += metric.value
    theirs = [sums[measure] / len(qrels) for measure in measures]
    ours = [found.ndcg_at_10, found.recall_at_3, found.recall_at_10, found.mrr_at_10]
    assert ours == pytest.approx(theirs, abs=1e-9)
    assert found.queries == len(qrels)


def test_a_query_without_a_relevant_document_has_no_figure() -> None:
    """Judged, and nothing found relevant: it is left out of the mean, not counted as 0."""
    qrels: Qrels = {"a": {"x": 1}, "b": {"x": 0, "y": 0}, "c": {}}
    assert judged(qrels) == ["a"]
    assert figures({"a": ["x"], "b": ["x"], "c": ["x"]}, qrels).ndcg_at_10 == 1.0
    assert figures({}, {}).queries == 0


def test_perfect_reversed_and_empty() -> None:
    """The ends of the scale."""
    grades = {"best": 3, "good": 2, "fair": 1, "bad": 0}
    perfect = ["best", "good", "fair"]
    assert ndcg(perfect, grades, 10) == 1.0
    assert 0.5 < ndcg(perfect[::-1], grades, 10) < 1.0
    assert ndcg([], grades, 10) == 0.0
    assert recall(perfect, grades, 2) == pytest.approx(2 / 3)
    assert recall(["bad"], grades, 10) == 0.0
    assert reciprocal_rank(["bad", "nobody", "fair"], grades, 10) == pytest.approx(1 / 3)
    assert reciprocal_rank(["bad", "nobody", "fair"], grades, 2) == 0.0


def test_a_grade_below_zero_is_not_relevant() -> None:
    """Some collections mark spam so: no gain, no relevance."""
    grades = {"spam": -2, "good": 1}
    assert ndcg(["spam", "good"], grades, 10) == ndcg(["other", "good"], grades, 10)
    assert recall(["spam"], grades, 10) == 0.0
    assert reciprocal_rank(["spam", "good"], grades, 10) == 0.5
