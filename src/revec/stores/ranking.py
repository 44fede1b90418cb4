"""An exact ranking of vectors that were fetched: cosine similarity, each document by its nearest chunk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from revec.stores.base import Scored, Vector

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Matrix = NDArray[Any]  # shape (rows, dims), float32, rows of norm 1


class Ranking:
    """The best so many for each of several queries, block by block."""

    def __init__(self, queries: Sequence[Vector], limit: int) -> None:
        self._queries = _units(queries)
        self._limit = limit
        self._best: list[dict[int, float]] = [{} for _ in queries]

    def add(self, doc_ids: Sequence[int], vectors: Sequence[Vector]) -> None:
        if not vectors:
            return
        for best, scores in zip(self._best, self._queries @ _units(vectors).T, strict=True):
            for doc_id, score in zip(doc_ids, scores.tolist(), strict=True):
                best[doc_id] = max(score, best.get(doc_id, -1.0))
            if len(best) > 2 * self._limit:
                kept = _sorted(best)[: self._limit]
                best.clear()
                best.update(kept)

    def best(self) -> list[Scored]:
        return [_sorted(best)[: self._limit] for best in self._best]


def _sorted(best: dict[int, float]) -> Scored:
    return sorted(best.items(), key=lambda found: (-found[1], found[0]))


def _units(vectors: Sequence[Vector]) -> Matrix:
    import numpy as np

    matrix = np.stack([np.asarray(vector, np.float32) for vector in vectors])
    norms = np.linalg.norm(matrix, axis=1, keepdims=True)
    return np.asarray(matrix / np.where(norms > 0, norms, 1), np.float32)
