"""What a search saw."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Hit:
    id: str  # the document's key as text; a JSON array where the key is composite
    score: float  # cosine similarity in this index's space: never comparable between spaces
    title: str
    tenant: str
    source: str


@dataclass(frozen=True, slots=True)
class Reading:
    """One answer: wholly of one index, at one epoch of the route."""

    collection: str
    index: str
    index_id: int
    epoch: int
    hits: list[Hit]
    embed_seconds: float
    search_seconds: float
    degraded: bool = False  # the query has no vector: the words alone answered
    why: str | None = None  # it is degraded
    threshold: float | None = None  # hits below it were left out
