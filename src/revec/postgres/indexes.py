"""Spaces, indexes and the route between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pgvector import HalfVector
from psycopg.types.json import Jsonb

from revec.model.errors import NotFound
from revec.model.index import Column, Early, Index, Kind, Route, Shadow, Writer
from revec.model.migration import ABORTABLE, EARLY
from revec.model.place import HERE, Place
from revec.model.space import QueryRecipe, Space
from revec.postgres.database import Connection
from revec.postgres.queries import beside

SQL = beside(__file__)
REVERSE = 0.02  # the most that an old index shadows after its cutover: it stays warm, and is measured


async def put_space(conn: Connection, space: Space) -> None:
    await conn.execute(SQL.put_space, {"id": space.id, "recipe": Jsonb(space.recipe)})


async def register(
    conn: Connection,
    collection_id: int,
    space: Space,
    query: QueryRecipe,
    kind: Kind,
    *,
    place: Place = HERE,
    writer: Writer = Writer.REVEC,
) -> Index:
    """From this commit on every document write makes work for the index: none falls between."""
    await conn.execute(SQL.barrier)
    row = await (
        await conn.execute(
            SQL.register,
            {
                "collection": collection_id,
                "space": space.id,
                "query": Jsonb(query.recipe),
                "kind": kind,
                "store": place.store,
                "place": place.name,
                "writer": writer,
            },
        )
    ).fetchone()
    assert row is not None
    return await by_id(conn, row.id)


async def by_id(conn: Connection, index_id: int) -> Index:
    row = await (await conn.execute(SQL.by_id, {"index": index_id})).fetchone()
    if row is None:
        raise NotFound(f"there is no index {index_id}")
    return _index(row)


async def writing(conn: Connection, collection_id: int | None = None) -> list[Index]:
    """The indexes that are kept current, of one collection or of all."""
    rows = await conn.execute(SQL.writing, {"collection": collection_id})
    return [_index(row) for row in await rows.fetchall()]


async def of_space(conn: Connection, space: Space) -> list[Index]:
    """Those in this database."""
    rows = await conn.execute(SQL.of_space, {"space": space.id})
    return [_index(row) for row in await rows.fetchall()]


async def elsewhere(conn: Connection, space: Space | None = None) -> list[Index]:
    """Those of one space, or of all, whose vectors lie in other stores."""
    rows = await conn.execute(SQL.elsewhere, {"space": space.id if space else None})
    return [_index(row) for row in await rows.fetchall()]


async def serving(
    conn: Connection, collection: str, *, tenant: str | None = None, sticky: str = ""
) -> tuple[Route, Index | None]:
    """The route and the index that answers, in one read.

    `sticky`: what keeps a user with one index while a canary has its share of the requests.
    """
    asked = {
        "collection": collection,
        "tenant": tenant,
        "sticky": sticky,
        "early": [*map(str, EARLY)],
        "abortable": [*map(str, ABORTABLE)],
        "reverse": REVERSE,
    }
    row = await (await conn.execute(SQL.route, asked)).fetchone()
    if row is None:
        raise no_collection(collection)
    early = Early(row.early_migration, row.early_version) if row.early_migration else None
    shadow = Shadow(row.candidate, row.shadow_rate, row.salt) if row.candidate else None
    route = Route(
        row.collection_id,
        row.epoch,
        row.serving,
        row.previous,
        row.canary,
        row.share,
        resting=row.resting,
        filling=row.filling,
        early=early,
        shadow=shadow,
    )
    return route, None if row.id is None else _index(row)


def named(written: Sequence[Index], name: str, collection: str) -> Index:
    """The one that an operator calls so, by its name or number.

    Raises:
        NotFound: the collection has no such index, or no more.
    """
    for index in written:
        if name in {index.name, str(index.id)}:
            return index
    there_is = ", ".join(index.name for index in written) or "none"
    raise NotFound(f"{collection} has no index {name!r} (there is {there_is})")


def no_collection(name: str) -> NotFound:
    """The same to everybody, whether there is none or it is none of theirs."""
    return NotFound(f"no collection is named {name!r}: `revec collections list` shows all")


async def route_of(conn: Connection, collection_id: int) -> Route:
    row = await (await conn.execute(SQL.route_of, {"collection": collection_id})).fetchone()
    assert row is not None
    return Route(*row)


async def flip(
    conn: Connection,
    seen: Route,
    *,
    serving: int | None,
    previous: int | None,
    canary: int | None = None,
    share: float = 0.0,
) -> int | None:
    """The new epoch, or None where somebody else moved the route first; it voids every override."""
    row = await (
        await conn.execute(
            SQL.flip,
            {
                "collection": seen.collection_id,
                "seen": seen.epoch,
                "serving": serving,
                "previous": previous,
                "canary": canary,
                "share": share,
            },
        )
    ).fetchone()
    return None if row is None else int(row.epoch)


async def hold(conn: Connection, index_id: int, *, held: bool) -> None:
    await conn.execute(SQL.hold, {"index": index_id, "held": held})


async def fault(conn: Connection, space: Space, why: str) -> None:
    """Every index of the space stops being written; its work stays."""
    await conn.execute(SQL.fault, {"space": space.id, "why": why})


async def fault_alone(conn: Connection, index_id: int, why: str) -> None:
    """This one stops being written; its work stays."""
    await conn.execute(SQL.fault_alone, {"index": index_id, "why": why})


async def mend(conn: Connection, index_id: int) -> None:
    await conn.execute(SQL.mend, {"index": index_id})


async def retire(conn: Connection, index_id: int) -> None:
    """No more work for it, but for the document writers in flight: `forget` follows."""
    await conn.execute(SQL.retire, {"index": index_id})


async def forget(conn: Connection, index_id: int) -> None:
    """All that was to be done for a retired index; no writer that still knew it comes after."""
    await conn.execute(SQL.barrier)
    await conn.execute(SQL.forget, {"index": index_id})


async def sentinels(conn: Connection, space: Space) -> list[Any]:
    """The space's sentinel vectors (float16 arrays, shape (dims,)), in the order of their texts."""
    rows = await conn.execute(SQL.sentinels, {"space": space.id}, binary=True)
    return [row.vector.to_numpy() for row in await rows.fetchall()]


async def put_sentinels(conn: Connection, space: Space, vectors: Sequence[Any]) -> None:
    await conn.execute(
        SQL.put_sentinels, {"space": space.id, "vectors": [HalfVector(row) for row in vectors]}
    )


def _index(row: Any) -> Index:
    return Index(
        id=row.id,
        collection_id=row.collection_id,
        space=Space(**row.recipe),
        query=QueryRecipe(**row.query),
        kind=Kind(row.kind),
        writing=row.writing,
        held=row.held,
        fault=row.fault,
        place=Place(row.store, row.place),
        writer=Writer(row.writer),
        column=None if row.adopted is None else _column(row.adopted),
    )


def _column(row: dict[str, Any]) -> Column:
    return Column(
        source_id=row["source_id"],
        path=tuple(row["path"]),
        key=tuple(row["key"]),
        key_types=tuple(row["key_types"]),
        vector=row["vector"],
        type=row["type"],
        operator=row["operator"],
        writer=Writer(row["writer"]),
        unverifiable=row["unverifiable"],
    )
