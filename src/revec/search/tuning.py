"""How a collection's legs should become one list: learnt from some judgements, proved on the others.

By ranks, and by scores with every share of the vectors from 0 to 1, are tried by the statement that answers
searches, from the same candidates. The way that is best is chosen on nine tenths of the queries and judged on
the tenth, ten times over (cross-validation: Stone, 1974), because a figure on the queries that chose a way
flatters it. Query by query the held-out figures stand against what is in force (`statistics.paired`).
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from revec.model.errors import Refused
from revec.model.index import Index
from revec.model.verdict import Outcome, Verdict
from revec.postgres.database import Database
from revec.search import fusion, judge
from revec.search.fusion import Fusion, named
from revec.search.judge import Qrels
from revec.statistics import paired
from revec.stores.base import Store, Vector

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Scores = NDArray[np.float64]  # shape (queries, ways): nDCG@10 in [0, 1]

SHARES = tuple(n / 20 for n in range(21))  # of the vectors; both legs alone are among them
K = 10
FOLDS = 10
FEWEST = 40  # judged queries: with fewer a difference of one hundredth is chance
SURE = 0.05  # the p below which chance is no explanation
CONFIDENCE = 0.95  # of the interval


class Embedded(Protocol):
    """The query's vector in the index's space."""

    async def __call__(self, index: Index, query: str, *, tenant: str | None) -> Vector: ...


@dataclass(frozen=True, slots=True)
class Tuning:
    """What each way of fusing gives, and whether another one than now is proved better."""

    index: Index
    tenant: str | None  # whose documents were searched; None: everybody's
    now: Fusion
    queries: int
    shares: list[tuple[float | None, float]]  # alpha, None: by ranks; nDCG@10 over all queries
    best: float | None  # chosen on all queries
    before: float  # nDCG@10 of what is in force
    held_out: float  # nDCG@10 of the choice, on queries that did not choose
    interval: tuple[float, float]  # 95%, of held_out - before
    p: float
    verdict: Verdict

    @property
    def changes(self) -> bool:
        """Whether another way is the best on these queries, proved or not."""
        return self.best != self.now.alpha

    @property
    def gain(self) -> float:
        return self.held_out - self.before

    @property
    def evidence(self) -> dict[str, Any]:
        """For programs, and for whoever asks later why."""
        return {
            "tenant": self.tenant,
            "queries": self.queries,
            "now": self.now.alpha,
            "best": self.best,
            "ndcg@10": [{"alpha": alpha, "ndcg@10": round(mean, 4)} for alpha, mean in self.shares],
            "held_out": {
                "before": round(self.before, 4),
                "after": round(self.held_out, 4),
                "gain": round(self.gain, 4),
                "interval": [round(bound, 4) for bound in self.interval],
                "p": round(self.p, 4),
                "folds": FOLDS,
            },
        }


async def measured(
    database: Database,
    store: Store,
    embedded: Embedded,
    *,
    index: Index,
    texts: Mapping[str, str],
    qrels: Qrels,
    tenant: str | None,
) -> Tuning:
    """Every way of fusing this index's legs, against judgements. Writes nothing.

    Args:
        texts: query id → what was asked, of every judged query.

    Raises:
        Refused: there is no lexical leg to fuse with, or nothing is judged.
        ProviderError: a query could not be embedded.
    """
    async with database.transaction() as conn:
        now = await fusion.in_force(conn, index.collection_id, index.space, index.query)
    queries = sorted(judge.judged(qrels))
    if now.language is None:
        raise Refused("there is no lexical leg to fuse with: `revec collections language` makes one")
    if not queries:
        raise Refused("no query has a relevant document among the judgements: nothing can be learnt")
    shares = sorted({*SHARES} | ({now.alpha} - {None}))  # type: ignore[type-var]
    ways: list[float | None] = [None, *shares]
    rows = []
    for query in queries:
        vector = await embedded(index, texts[query], tenant=tenant)
        async with database.transaction("worker" if tenant is None else "reader", tenant=tenant) as conn:
            legs = await fusion.legs(
                conn, store, index, texts[query], vector, depth=fusion.DEPTH, tenant=tenant
            )
            rankings = await fusion.tried(conn, *legs, shares=ways, tenant=tenant, limit=K)
        rows.append([judge.ndcg(ranking, qrels[query], K) for ranking in rankings])
    return _judged(np.array(rows), ways, index, now, tenant)


async def adopt(database: Database, tuning: Tuning, who: str) -> None:
    """Fuse as was proved better, wherever these legs are asked.

    Raises:
        Refused: it was not, or what it was better than is no longer in force.
    """
    if tuning.verdict.outcome is not Outcome.PASSED:
        raise Refused(f"nothing was changed: {tuning.verdict.why}")
    async with database.transaction() as conn:
        await fusion.keep(conn, tuning.index, tuning.now, tuning.best, evidence=tuning.evidence, who=who)


async def by_ranks(database: Database, index: Index, who: str) -> Fusion:
    """Fuse by ranks again; what was in force before."""
    async with database.transaction() as conn:
        was = await fusion.in_force(conn, index.collection_id, index.space, index.query)
        if was.alpha is not None:
            await fusion.keep(conn, index, was, None, evidence={"was": was.alpha}, who=who)
    return was


def chosen(scores: Scores, now: int) -> int:
    """The way with the best mean: the one in force where it is among them, else the middle one of them."""
    means = scores.mean(axis=0)
    best = np.flatnonzero(means >= means.max() - 1e-12)
    return now if now in best else int(best[len(best) // 2])


def held_out(scores: Scores, now: int) -> Scores:
    """Each query's figure by the way that the other folds' queries chose, shape (queries,)."""
    order = list(range(len(scores)))
    random.Random(0).shuffle(order)  # noqa: S311 - the same judgements, the same answer
    found = np.empty(len(scores))
    for fold in range(min(FOLDS, len(order))):
        out = order[fold::FOLDS]
        others = np.delete(scores, out, axis=0)
        found[out] = scores[out, chosen(others, now) if len(others) else now]
    return found


def _judged(
    scores: Scores, ways: Sequence[float | None], index: Index, now: Fusion, tenant: str | None
) -> Tuning:
    current = ways.index(now.alpha)
    best = chosen(scores, current)
    before, after = scores[:, current], held_out(scores, current)
    gain, p = paired.randomisation(after - before)
    lower, upper = paired.bounds(after - before, (1 - CONFIDENCE) / 2)
    bounds = float(lower), float(upper)
    outcome, why = _said(len(scores), named(ways[best]), gain, bounds, p, changes=best != current)
    return Tuning(
        index=index,
        tenant=tenant,
        now=now,
        queries=len(scores),
        shares=list(zip(ways, scores.mean(axis=0).tolist(), strict=True)),
        best=ways[best],
        before=float(before.mean()),
        held_out=float(after.mean()),
        interval=bounds,
        p=p,
        verdict=Verdict("fusion", outcome, why),
    )


def _said(
    queries: int, best: str, gain: float, bounds: tuple[float, float], p: float, *, changes: bool
) -> tuple[Outcome, str]:
    if not changes:
        return Outcome.FAILED, "no other way is better on these queries than the one in force"
    if queries < FEWEST:
        few = f"{queries} judged {'query' if queries == 1 else 'queries'}"
        return Outcome.INCONCLUSIVE, f"{few} cannot tell, at least {FEWEST} can: judge more"
    if gain <= 0:
        return Outcome.FAILED, f"{best} is better only on the queries that chose it"
    if p > SURE or bounds[0] <= 0:
        return Outcome.INCONCLUSIVE, f"{best} may be better by chance (p = {p:.3f}): judge more queries"
    return Outcome.PASSED, f"{best} is better also on queries that did not choose it"
