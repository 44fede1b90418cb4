"""What there is: documents by source, their length, how the serving index has them, whose turn it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from psycopg import sql

from revec.model.course import Course
from revec.model.errors import BadInput
from revec.model.index import Collection, Index
from revec.postgres import tenants
from revec.postgres.database import Connection
from revec.postgres.queries import beside

SQL = beside(__file__)
LOOKED_AT = 200_000  # documents; of more, about so many are looked at and stand for the others
TURNS = 50


@dataclass(frozen=True, slots=True)
class Source:
    """Of a sample scaled up to all, where there are more documents than are looked at."""

    source: str
    documents: int
    bytes: int
    blank: int  # without any text: they are excluded
    again: int  # with the text of another one: paid for once
    bytes_once: int  # what is left of the bytes
    lacking: int  # without a vector in the index that serves, though they have a text
    stale: int  # with one of a former text

    @property
    def mean_bytes(self) -> float:
        return self.bytes / self.documents if self.documents else 0.0


@dataclass(frozen=True, slots=True)
class Turn:
    """Tenants that the backfill takes together, one group after the other."""

    tier: str
    priority: int
    tenants: int
    documents: int
    some: list[str]
    waits: bool  # paused, or not among those that it is for

    @property
    def told(self) -> str:
        names = ", ".join(self.some) + (" and more" if self.tenants > len(self.some) else "")
        tier = f" of tier {self.tier}" if self.tier else ""
        return f"{self.documents:,} documents of {self.tenants:,} tenants{tier} ({names})"


@dataclass(frozen=True, slots=True)
class Survey:
    looked_at: int
    documents: int
    sources: tuple[Source, ...]

    def total(self, what: str) -> int:
        return sum(getattr(each, what) for each in self.sources)

    @property
    def embedded(self) -> int:
        """Documents with a vector of their present text in the index that serves."""
        return self.documents - self.total("lacking") - self.total("stale") - self.total("blank")

    @property
    def facts(self) -> dict[str, Any]:
        return {
            "looked_at": self.looked_at,
            "embedded": self.embedded,
            **{what: self.total(what) for what in ("lacking", "stale", "blank", "again")},
            "sources": [asdict(each) | {"mean_bytes": round(each.mean_bytes, 1)} for each in self.sources],
        }


async def survey(conn: Connection, collection: Collection, serving: Index | None, documents: int) -> Survey:
    """`documents`: how many the collection has."""
    asked: dict[str, Any] = {"collection": collection.id}
    of: sql.Composable = SQL.every_document
    if documents > LOOKED_AT:
        table = await (await conn.execute(SQL.size_of_table)).fetchone()
        assert table is not None
        of = SQL.some_documents
        asked["percent"] = min(100.0, 100 * LOOKED_AT / max(table.documents, documents))
    vectors: sql.Composable = SQL.no_vectors
    if serving is not None:
        vectors = SQL.vectors.format(vectors=sql.Identifier("revec", f"vectors_{serving.id}"))
    rows = await (await conn.execute(SQL.survey.format(documents=of, vectors=vectors), asked)).fetchall()
    looked_at = sum(row.documents for row in rows)
    scale = documents / looked_at if looked_at and documents > LOOKED_AT else 1.0
    return Survey(looked_at, documents, tuple(_source(row, scale) for row in rows))


def _source(row: Any, scale: float) -> Source:
    counted = ("documents", "bytes", "blank", "again", "bytes_once", "lacking", "stale")
    return Source(row.source, **{name: round(scale * getattr(row, name)) for name in counted})


async def turns(conn: Connection, collection: Collection, course: Course) -> Sequence[Turn]:
    asked = {
        "collection": collection.id,
        "priority": list(course.priority),
        "tenants": list(course.tenants),
        "limit": TURNS,
    }
    rows = await (await conn.execute(SQL.turns, asked)).fetchall()
    return [Turn(r.tier, r.priority, r.tenants, r.documents, r.some, r.waits) for r in rows]


async def require_documents(conn: Connection, collection: Collection, names: Sequence[str]) -> None:
    """Of tenants that a backfill is to be for: a slip of the pen would leave it with nothing to do.

    Raises:
        BadInput: one has no documents.
    """
    if unknown := await tenants.unknown(conn, collection, names):
        raise BadInput(
            f"{', '.join(unknown)}: no documents in {collection.name}; "
            f"`revec tenants list {collection.name}` shows who has some"
        )
