"""Why an answer is as it is: which legs had each hit and where, and how they became one list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from revec.model.index import Index
from revec.model.reading import Hit, Mode, Reading
from revec.postgres import indexes
from revec.postgres.database import Database
from revec.search import fusion
from revec.search.fusion import RANKS, Fusion


@dataclass(frozen=True, slots=True)
class Explained:
    reading: Reading
    mode: Mode
    index: Index
    fusion: Fusion
    sums: Sequence[str]  # of each hit: what its score is the sum of; empty where it is a leg's own

    @property
    def legs(self) -> list[str]:
        """Which were asked."""
        if self.mode is Mode.LEXICAL or self.reading.degraded:
            return ["words"]
        both = self.mode is Mode.HYBRID and self.fusion.language is not None
        return ["vectors", "words"] if both else ["vectors"]


async def explained(database: Database, reading: Reading, mode: Mode) -> Explained:
    """What is in force of the index that answered; a tuning between answer and look is not seen apart."""
    async with database.transaction("worker") as conn:
        index = await indexes.by_id(conn, reading.index_id)
        fused = await fusion.in_force(conn, index.collection_id, index.space, index.query)
    by_ranks = mode is Mode.HYBRID and fused.alpha is None
    return Explained(reading, mode, index, fused, [_sum(hit) if by_ranks else "" for hit in reading.hits])


def _sum(hit: Hit) -> str:
    ranks = [rank for rank in (hit.vector_rank, hit.lexical_rank) if rank is not None]
    return " + ".join(f"1/({RANKS}+{rank})" for rank in ranks)
