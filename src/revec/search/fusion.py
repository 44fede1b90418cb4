"""Two legs as one list: by their ranks, or by scores where a collection's judgements said so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import sql
from psycopg.types.json import Jsonb

from revec.model.errors import Refused
from revec.model.filter import Filter
from revec.model.index import Index
from revec.model.space import QueryRecipe, Space
from revec.postgres import filters
from revec.postgres.database import Connection
from revec.postgres.queries import Statement, beside
from revec.search import lexical
from revec.stores.base import Searching, Vector

SQL = beside(__file__)
RANKS = 60  # a rank counts 1 / (60 + rank): the first is worth little more than the second
DEPTH = 100  # documents of each leg

Scored = Sequence[tuple[int, float]]  # (doc_id, score), best first, each document once


@dataclass(frozen=True, slots=True)
class Fusion:
    """How the two legs of a collection become one list, and who said so on what evidence."""

    language: str | None  # of the words; None: there is one leg
    alpha: float | None = None  # the vectors' share of the score; None: ranks decide
    evidence: dict[str, Any] | None = None
    who: str | None = None  # None: nobody ever said anything
    at: datetime | None = None

    def __str__(self) -> str:
        if self.language is None:
            return "by vectors alone"
        return named(self.alpha)

    @property
    def told(self) -> str:
        """With who said so."""
        return str(self) if self.at is None else f"{self} ({self.who}, {self.at:%Y-%m-%d})"


def named(alpha: float | None) -> str:
    """A share in words."""
    return "by ranks" if alpha is None else f"by scores (vectors {alpha:.0%}, words {1 - alpha:.0%})"


async def in_force(conn: Connection, collection_id: int, space: Space, query: QueryRecipe) -> Fusion:
    """What was said of these very legs."""
    row = await (await conn.execute(SQL.in_force, _of(collection_id, space, query))).fetchone()
    assert row is not None
    return Fusion(*row)


async def keep(
    conn: Connection, index: Index, seen: Fusion, alpha: float | None, *, evidence: dict[str, Any], who: str
) -> None:
    """Fuse by this share from now on, wherever this index's space is asked by this recipe.

    Raises:
        Refused: what was seen is no longer in force.
    """
    said = {"language": seen.language, "seen": seen.alpha, "alpha": alpha, "evidence": Jsonb(evidence)}
    asked = _of(index.collection_id, index.space, index.query) | said | {"who": who}
    if not await (await conn.execute(SQL.keep, asked)).fetchone():
        raise Refused(
            "somebody changed the fusion or the language of the words meanwhile, nothing was done: look again"
        )


async def legs(
    conn: Connection,
    store: Searching,
    index: Index,
    query: str,
    vector: Vector,
    *,
    depth: int,
    tenant: str | None,
    where: Filter | None = None,
) -> tuple[Statement, Statement]:
    """The best so many by vectors and by words, as parts of one statement where the store can."""
    vectors = store.statement(index, vector, limit=depth, tenant=tenant, where=where)
    if vectors is None:
        nearest = await store.nearest(conn, index, vector, limit=depth, tenant=tenant, where=where)
        vectors = given("vectors", nearest)
    return vectors, lexical.statement(index.collection_id, query, k=depth, tenant=tenant, where=where)


async def hits(
    conn: Connection,
    index: Index,
    vectors: Statement,
    words: Statement,
    *,
    tenant: str | None,
    limit: int,
    where: Filter | None = None,
    room: int = 0,
) -> list[Any]:
    """The best of both legs that are there still, in one statement: key, title, tenant, source, score,
    the rank and score of each leg (None: not among its best), and the contents from the best on, as far as
    there is room (bytes; None: no more).
    """
    matching, parameters = filters.condition(where)
    query = _hydrated(vectors.query, words.query, SQL.kept, matching)
    asked = (
        _asked(vectors, words, tenant, limit, room)
        | parameters
        | _of(index.collection_id, index.space, index.query)
    )
    return await (await conn.execute(query, asked)).fetchall()


async def tried(
    conn: Connection,
    vectors: Statement,
    words: Statement,
    *,
    shares: Sequence[float | None],
    tenant: str | None,
    limit: int,
) -> list[list[str]]:
    """The keys that `hits` would find with each share in force, best first: by the same statement."""
    by_vectors, by_words = (SQL.leg.format(leg=sql.Identifier(leg)) for leg in ("vectors", "words"))
    found = _hydrated(by_vectors, by_words, sql.Identifier("share", "alpha"), filters.condition(None)[0])
    query = SQL.tried.format(vectors=vectors.query, words=words.query, hits=found)
    asked = _asked(vectors, words, tenant, limit) | {"shares": list(shares)}
    rankings: list[list[str]] = [[] for _ in shares]
    for row in await (await conn.execute(query, asked)).fetchall():
        rankings[row.n - 1].append(row.key)
    return rankings


async def after(
    conn: Connection, collection: str, old: Index | None, space: Space, query: QueryRecipe
) -> str | None:
    """What a cutover to this space changes about the fusion, in a sentence; None: nothing.

    A share is of the scores that it was learnt from, so none goes along.
    """
    if old is None:
        return None
    was = await in_force(conn, old.collection_id, old.space, old.query)
    then = await in_force(conn, old.collection_id, space, query)
    if was.alpha == then.alpha:
        return None
    foreseen = f"{collection} is fused {was}, and will be fused {then} in the space of {space.address}"
    if then.who is not None:
        return f"{foreseen}, as was said for it before"
    return (
        f"{foreseen}: its scores are others, after the cutover "
        f"`revec collections tune {collection} --queries FILE --qrels FILE` learns a share for them"
    )


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


def _hydrated(
    vectors: sql.Composable, words: sql.Composable, alpha: sql.Composable, matching: sql.Composable
) -> sql.Composed:
    fused = SQL.fused.format(vectors=vectors, words=words, alpha=alpha)
    return SQL.hydrated.format(fused=fused, matching=matching)


def _asked(
    vectors: Statement, words: Statement, tenant: str | None, limit: int, room: int = 0
) -> dict[str, Any]:
    asked = {"k": RANKS, "tenant": tenant, "hits": limit, "room": room}
    return vectors.parameters | words.parameters | asked


def _of(collection_id: int, space: Space, query: QueryRecipe) -> dict[str, Any]:
    return {"collection": collection_id, "space": space.id, "recipe": Jsonb(query.recipe)}
