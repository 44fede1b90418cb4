"""Two legs as one list: by their ranks, or by scores where a collection's judgements said so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psycopg import sql
from psycopg.types.json import Jsonb

from revec.model.filter import Filter
from revec.postgres import filters
from revec.postgres.database import Connection
from revec.postgres.queries import Statement, beside

SQL = beside(__file__)
RANKS = 60  # a rank counts 1 / (60 + rank): the first is worth little more than the second
DEPTH = 100  # documents of each leg

Scored = Sequence[tuple[int, float]]  # (doc_id, score), best first, each document once


async def keep(
    conn: Connection, collection_id: int, alpha: float | None, evidence: dict[str, Any], who: str
) -> None:
    asked = {"collection": collection_id, "alpha": alpha, "evidence": Jsonb(evidence), "who": who}
    await conn.execute(SQL.keep, asked)


async def hits(
    conn: Connection,
    vectors: Statement,
    words: Statement,
    *,
    tenant: str | None,
    limit: int,
    room: int = 0,
) -> list[Any]:
    """The best of both legs that are there still, in one statement: key, title, tenant, source, score,
    the rank and score of each leg (None: not among its best), and the contents from the best on, as far as
    there is room (bytes; None: no more).
    """
    fused = SQL.fused.format(vectors=vectors.query, words=words.query, alpha=SQL.kept)
    asked = {"k": RANKS, "tenant": tenant, "hits": limit, "room": room}
    parameters = vectors.parameters | words.parameters | asked
    return await (await conn.execute(SQL.hydrated.format(fused=fused), parameters)).fetchall()


async def recent(
    conn: Connection,
    collection_id: int,
    *,
    tenant: str | None,
    where: Filter | None,
    limit: int,
    room: int = 0,
) -> list[Any]:
    """The documents that were written last: key, title, tenant, source, and contents as `hits` has them."""
    matching, parameters = filters.condition(where)
    asked = {"collection": collection_id, "tenant": tenant, "hits": limit, "room": room}
    query = SQL.recent.format(matching=matching)
    return await (await conn.execute(query, asked | parameters)).fetchall()


def given(leg: str, scored: Scored) -> Statement:
    """A leg that was read before, as a part of the one statement."""
    names = {"ids": f"{leg}_ids", "scores": f"{leg}_scores"}
    placeholders = {part: sql.Placeholder(name) for part, name in names.items()}
    columns = [[doc_id for doc_id, _ in scored], [score for _, score in scored]]
    return Statement(SQL.given.format(**placeholders), dict(zip(names.values(), columns, strict=True)))
