"""A reading as it goes over the wire."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from revec.model.reading import Reading

ONLY_WORDS = "the model did not answer: only the words were searched"  # what it said stays here

Vectors = Mapping[tuple[str, str], list[list[float]]]  # (source, id) → the document's, chunk by chunk


def said(reading: Reading, vectors: Vectors | None = None) -> dict[str, Any]:
    """`vectors`: of the hits; None: not asked for."""
    return {
        "collection": reading.collection,
        "index": reading.index,
        "epoch": reading.epoch,
        "degraded": reading.degraded,
        **({"why": ONLY_WORDS} if reading.degraded else {}),
        **({"early": True, "demanded": reading.demanded} if reading.early else {}),
        "hits": [
            {
                "id": hit.id,
                "score": hit.score,
                "title": hit.title,
                "tenant": hit.tenant,
                "source": hit.source,
                "matched_by": hit.matched_by,
                "vector_rank": hit.vector_rank,
                "lexical_rank": hit.lexical_rank,
                **({} if hit.text is None else {"text": hit.text, "metadata": hit.metadata}),
                **({} if vectors is None else {"vectors": vectors.get((hit.source, hit.id), [])}),
            }
            for hit in reading.hits
        ],
    }
