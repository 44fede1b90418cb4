"""What a search saw."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Mode(StrEnum):
    """Which legs answer."""

    HYBRID = "hybrid"
    VECTOR = "vector"
    LEXICAL = "lexical"


class How(StrEnum):
    """What became of a request, as the index that was to answer it is judged by."""

    ANSWERED = "answered"
    EMPTY = "empty"  # no hit at all
    FAILED = "failed"  # an error, or an answer by the words alone because the model failed
    LATE = "late"  # given up


@dataclass(frozen=True, slots=True)
class Hit:
    id: str  # the document's key as text; a JSON array where the key is composite
    score: float  # cosine similarity in this index's space, or of a fusion: never comparable between spaces
    title: str
    tenant: str
    source: str
    vector_rank: int | None = None  # of a hybrid answer: where each leg had it, None: not among its best
    lexical_rank: int | None = None
    text: str | None = None  # as the document is kept; None: not asked for
    metadata: dict[str, Any] | None = None  # the same

    @property
    def matched_by(self) -> list[str]:
        """The legs of a hybrid answer that had it."""
        ranks = {Mode.VECTOR: self.vector_rank, Mode.LEXICAL: self.lexical_rank}
        return [str(leg) for leg, rank in ranks.items() if rank is not None]


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
    early: bool = False  # of the index that is being filled, before its migration's cutover
    demanded: int = 0  # documents that were embedded for this very answer
