"""Does the approximate index find what an exact scan finds?"""

from __future__ import annotations

from typing import Any

from revec.migrate.gates.base import RECALL, Case
from revec.model.verdict import Figures, Outcome, Verdict
from revec.statistics.rates import binomial_lower_bound

QUERIES, AT, NEEDED = 300, 10, 0.97
TIE = 1e-6  # scores this close are one rank


async def judge(case: Case) -> Verdict:
    """The approximate index finds what an exact scan finds, ties counted as found."""
    database, store, index = case.tools.database, case.tools.store, case.index
    if not index.kind.is_approximate:
        return Verdict(RECALL, Outcome.NOT_CONFIGURED, "an exact scan misses nothing")
    hits = trials = 0
    sample = await store.sample(database, index, QUERIES)
    queries = [vector for *_, vector in sample.rows]
    truth = await store.ahead(index, queries, limit=AT, tenant=None, exactly=True)
    near = await store.ahead(index, queries, limit=AT, tenant=None)
    for query in queries:
        async with database.transaction("worker") as conn:
            exact = await truth.exact(conn, index, query, limit=AT, tenant=None)
            found = await near.nearest(conn, index, query, limit=AT, tenant=None)
        bar = exact[-1][1] - TIE if exact else 0.0
        trials += len(exact)
        hits += min(len(exact), sum(score >= bar for _, score in found))
    trials += sample.lost * min(AT, sample.drawn)  # no scan of what a store has finds what it lost
    bound = binomial_lower_bound(hits, trials)
    evidence: dict[str, Any] = {
        "queries": len(queries),
        "lost": sample.lost,
        "recall": hits / max(trials, 1),
        "bound": bound,
    }
    figures = Figures(now=hits / max(trials, 1), bound=bound, limit=NEEDED, n=len(queries))
    why = f"recall@{AT} {hits / max(trials, 1):.4f}, at least {bound:.4f} at 95%"
    asked = len(queries) + sample.lost
    if len(queries) == sample.drawn < QUERIES and hits == trials:  # asked for all there are: no chance in it
        why = f"each of {len(queries)} vectors finds what an exact scan finds"
        return Verdict(RECALL, Outcome.PASSED, why, evidence, figures)
    if asked < QUERIES and bound < NEEDED:
        return Verdict(RECALL, Outcome.INCONCLUSIVE, f"only {len(queries)} vectors: {why}", evidence, figures)
    passed = bound >= NEEDED
    return Verdict(RECALL, Outcome.PASSED if passed else Outcome.FAILED, why, evidence, figures)
