"""Is another model worth it? Told from a part of the bill that nobody minds, before the rest is paid.

Documents that were judged, and others spread over all, as many as that part pays for, are embedded by the new
model; the old one's vectors of them are there. Both models rank these documents for the judged queries. No
index is registered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np

from revec.migrate.gates.base import Tools
from revec.migrate.power import require_judged, serving
from revec.migrate.sample import drawn, embedded
from revec.model.index import Collection, Index, Kind
from revec.model.judging import Doc, JudgedQuery
from revec.model.space import QueryRecipe, Space
from revec.postgres import documents
from revec.providers.base import Provider
from revec.search.judging import DEPTH, NDCG, RECALL, each_of, in_words, scores
from revec.statistics.margins import queries_needed
from revec.statistics.paired import Comparison, noninferior
from revec.stores.base import Vector
from revec.work.prices import MILLION, price

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from revec.search.judging import Scores

    Matrix = NDArray[np.float32]  # shape (vectors, dims), each of norm 1


class Advice(StrEnum):
    UPGRADE = "UPGRADE"  # better, and perhaps by more than the margin
    NOT_NEEDED = "NO UPGRADE NEEDED"  # not better by the margin
    CANNOT_TELL = "CANNOT TELL"


@dataclass(frozen=True, slots=True)
class Compared:
    """What the sample says of old and new."""

    old: str
    new: str
    documents: int
    judged: int  # of them
    share: float
    tokens: int  # paid for now; less where a text was paid for already
    cost: Decimal | None  # US dollars; None: nobody knows the price
    ndcg: Comparison
    recall: Comparison

    @property
    def advice(self) -> Advice:
        """A gain below the margin is as little as the loss that nobody minds."""
        if self.ndcg.n and self.ndcg.upper < self.ndcg.margin:
            return Advice.NOT_NEEDED
        return Advice.UPGRADE if self.ndcg.n and self.ndcg.lower > 0 else Advice.CANNOT_TELL

    @property
    def more(self) -> int | None:
        """About how many more judged queries would tell; None where that is not to be said."""
        if self.advice is not Advice.CANNOT_TELL or self.ndcg.n <= 1:
            return None
        room = max(self.ndcg.mean, self.ndcg.margin - self.ndcg.mean)
        return max(1, queries_needed(self.ndcg.sd, min(1.0, room)) - self.ndcg.n)

    @property
    def told(self) -> str:
        if not self.ndcg.n:
            return f"{self.advice}: that part of so few documents pays for no judged query"
        found = f"{in_words(self.ndcg)} {NDCG} on {self.ndcg.n:,} judged queries"
        if self.advice is not Advice.CANNOT_TELL:
            return f"{self.advice}: {found}"
        more = f"~{self.more:,} more judged queries" if self.more else "more judged queries"
        return f"{self.advice} from {self.share:.1%}: {more} could; {found}"

    @property
    def caveat(self) -> str:
        return (
            f"an estimate of the difference among {self.documents:,} documents, by vectors alone: the whole "
            "collection is harder for both models; what nobody judged counts as wrong, which favours the "
            "model whose answers were judged"
        )

    @property
    def facts(self) -> dict[str, Any]:
        return {
            "advice": self.advice,
            "why": self.told,
            "caveat": self.caveat,
            "from": self.old,
            "to": self.new,
            "documents": self.documents,
            "judged_documents": self.judged,
            "share": round(self.share, 4),
            "tokens": self.tokens,
            "cost": None if self.cost is None else float(self.cost),
            "queries": self.ndcg.n,
            "margin": self.ndcg.margin,
            **{
                name: {bound: round(getattr(each, bound), 4) for bound in ("mean", "sd", "lower", "upper")}
                for name, each in ((NDCG, self.ndcg), (RECALL, self.recall))
            },
        }


@dataclass(frozen=True, slots=True)
class Pool:
    """Documents that both models rank, and the queries that they rank them for."""

    docs: Mapping[int, Doc]
    tenants: Mapping[int, str]
    queries: Sequence[JudgedQuery]

    def scores(self, vectors: Mapping[int, Sequence[Vector]], asked: Sequence[Vector]) -> Scores:
        """What one model is worth here: by its vectors of the documents' chunks, and of the queries."""
        ids = list(self.docs)
        if not ids:
            return scores([[] for _ in self.queries], [query.grades for query in self.queries])
        owner = np.repeat(np.arange(len(ids)), [len(vectors[doc_id]) for doc_id in ids])
        matrix = _unit(np.stack([chunk for doc_id in ids for chunk in vectors[doc_id]]))
        whose = np.array([self.tenants.get(doc_id, "") for doc_id in ids])
        rankings = []
        for query, vector in zip(self.queries, asked, strict=True):
            best = np.full(len(ids), -np.inf, dtype=np.float32)
            np.maximum.at(best, owner, matrix @ _unit(vector[None, :])[0])
            if query.tenant is not None:
                best[whose != query.tenant] = -np.inf
            order = np.argsort(-best, kind="stable")[:DEPTH]
            rankings.append([self.docs[ids[at]] for at in order if best[at] > -np.inf])
        return scores(rankings, [query.grades for query in self.queries])


async def compare(
    tools: Tools,
    collection: Collection,
    provider: Provider,
    recipe: tuple[Space, QueryRecipe],
    queries: Sequence[JudgedQuery],
    *,
    margin: float,
) -> Compared:
    """Both models on a sample of what is there. Registers no index; what it pays for is paid for once.

    Raises:
        BadInput: nothing serves yet, or no query has a good answer.
        ProviderError: a model does not answer.
    """
    async with tools.database.transaction() as conn:
        old = await serving(conn, collection)
    require_judged(collection, "these judgements", judged := [each for each in queries if each.is_judged])
    sample = await drawn(tools, collection, judged)
    space, query = recipe
    new = Index(0, collection.id, space, query, Kind.EXACT, writing=False, held=False, fault=None)
    vectors, tokens = await embedded(tools, provider, space, list(sample.docs))
    before = await tools.store.vectors(tools.database, old, list(sample.docs), tenant=None)
    both = {doc_id: doc for doc_id, doc in sample.docs.items() if vectors.get(doc_id) and doc_id in before}
    pool = Pool(both, await _tenants(tools, list(both)), sample.queries)
    was = pool.scores(before, await _asked(tools, old, sample.queries))
    now = pool.scores(vectors, await _asked(tools, new, sample.queries))
    cost = await asyncio.to_thread(price, provider.name)
    return Compared(
        old=old.name,
        new=space.address,
        documents=len(both),
        judged=len(sample.judged & both.keys()),
        share=sample.share,
        tokens=tokens,
        cost=None if cost is None else tokens * cost / MILLION,
        ndcg=await asyncio.to_thread(noninferior, now[NDCG] - was[NDCG], margin),
        recall=await asyncio.to_thread(noninferior, now[RECALL] - was[RECALL], margin),
    )


async def _asked(tools: Tools, index: Index, queries: Sequence[JudgedQuery]) -> list[Vector]:
    """The queries' vectors by this index's own query model."""
    return await each_of(
        queries, lambda query: tools.retriever.embedded(index, query.words, tenant=query.tenant)
    )


async def _tenants(tools: Tools, doc_ids: Sequence[int]) -> dict[int, str]:
    async with tools.database.transaction("worker") as conn:
        rows = await documents.hydrate(conn, doc_ids, None)
    return {doc_id: row.tenant for doc_id, row in rows.items()}


def _unit(matrix: NDArray[Any]) -> Matrix:
    found = matrix.astype(np.float32)
    norms = np.linalg.norm(found, axis=1, keepdims=True)
    unit: Matrix = np.asarray(found / np.where(norms == 0, 1, norms), dtype=np.float32)
    return unit
