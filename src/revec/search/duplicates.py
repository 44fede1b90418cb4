"""A threshold against judged pairs of documents: how many that reach it are the same, how many it misses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from revec.model.errors import NotFound, Refused
from revec.model.index import Index
from revec.postgres.database import Database
from revec.search import similar
from revec.search.similar import ByKey
from revec.statistics.rates import binomial_interval
from revec.stores.base import Store, Vector, similarity


@dataclass(frozen=True, slots=True)
class Judged:
    """Two documents by their keys, and whether a person calls them the same."""

    one: str
    other: str
    same: bool


@dataclass(frozen=True, slots=True)
class Share:
    """So many of so many, with its exact 95% interval."""

    hits: int
    of: int

    @property
    def value(self) -> float | None:
        return self.hits / self.of if self.of else None

    @property
    def facts(self) -> dict[str, Any]:
        value = None if self.value is None else round(self.value, 4)
        bounds = [round(bound, 4) for bound in binomial_interval(self.hits, self.of)]
        return {"value": value, "hits": self.hits, "of": self.of, "interval": bounds}

    def __str__(self) -> str:
        if self.value is None:
            return "unknown, there is none"
        low, high = binomial_interval(self.hits, self.of)
        return f"{self.value:.3f} [{low:.3f}, {high:.3f}] ({self.hits:,} of {self.of:,})"


@dataclass(frozen=True, slots=True)
class Figures:
    threshold: float
    precision: Share  # of the pairs that reach the threshold, those that are the same
    recall: Share  # of the pairs that are the same, those that reach it
    without_score: int  # pairs of which a document is not there, or has no vectors

    @property
    def facts(self) -> dict[str, Any]:
        return {
            "precision": self.precision.facts,
            "recall": self.recall.facts,
            "without_score": self.without_score,
        }


async def figures(
    database: Database,
    store: Store,
    index: Index,
    pairs: Sequence[Judged],
    *,
    threshold: float,
    tenant: str | None,
) -> Figures:
    """Scores as `similar` has them, between documents of one tenant (None: of all).

    Raises:
        BadInput: several sources have a document of one of the keys.
    """
    keys = {key for pair in pairs for key in (pair.one, pair.other)}
    vectors = {key: await _vectors(database, store, index, key, tenant) for key in sorted(keys)}
    reached: list[tuple[bool, bool]] = []  # reaches the threshold, is the same
    for pair in pairs:
        one, other = vectors[pair.one], vectors[pair.other]
        if one and other:
            reached.append((round(similarity(one, other), 6) >= threshold, pair.same))
    hits = sum(reaches and same for reaches, same in reached)
    return Figures(
        threshold=threshold,
        precision=Share(hits, sum(reaches for reaches, _ in reached)),
        recall=Share(hits, sum(same for _, same in reached)),
        without_score=len(pairs) - len(reached),
    )


async def _vectors(
    database: Database, store: Store, index: Index, key: str, tenant: str | None
) -> Sequence[Vector]:
    """Of each of its chunks; none where there is no such document, or nothing of it in the index."""
    try:
        async with database.transaction("worker" if tenant is None else "reader", tenant=tenant) as conn:
            return (
                await similar.of_document(conn, store, index, ByKey(key), tenant=tenant, visible=None)
            ).vectors
    except (NotFound, Refused):
        return ()
