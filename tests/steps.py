"""Steps that stories share: make, fill, change, drain, and the oracle that judges the end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import numpy as np
from psycopg import sql

from revec.app import App
from revec.migrate.check import check
from revec.model.document import Draft, rendered
from revec.model.index import Collection, Index, Kind
from revec.postgres import collections, documents, indexes
from revec.stores.upkeep import Upkeep
from revec.work.tally import Summary
from tests import loopback

KINDS = tuple(kind for kind in Kind if kind is not Kind.NATIVE)  # of an index in this database
OLD, NEW = "openai:fake-64", "openai:fake-b-96"
SOON = 60.0  # seconds


async def collection(app: App, name: str = "c", model: str | None = OLD, **how: Any) -> Collection:
    """A collection, its first fill begun unless `model` is None."""
    async with app.database.transaction() as conn:
        made = await collections.create(conn, name)
    if model:
        await app.start(made, model, **how)
    return made


async def put(app: App, made: Collection, drafts: Iterable[Draft]) -> None:
    async with app.database.transaction() as conn:
        source = await collections.add_source(conn, made, collections.PUSH)
        await documents.lock_source(conn, source)
        await documents.put(conn, source, drafts)


async def delete(app: App, made: Collection, *keys: str) -> None:
    async with app.database.transaction() as conn:
        source = await collections.add_source(conn, made, collections.PUSH)
        await documents.lock_source(conn, source)
        await documents.delete(conn, source, keys)


def drafts(count: int, *, start: int = 0, tenant: str = "default", word: str = "document") -> list[Draft]:
    return [
        Draft(key=str(n), title=f"{word} {n}", body=f"text of {word} {n}", tenant=tenant)
        for n in range(start, start + count)
    ]


async def drain(app: App, **pace: Any) -> Summary:
    return await app.worker(**pace).run(drain=True)


async def drain_soon(app: App) -> Summary:
    """A drain that waits for what a person has to do would never end: that is a failure."""
    try:
        async with asyncio.timeout(SOON):
            return await drain(app)
    except TimeoutError:
        raise AssertionError("the drain does not end") from None


async def filled(app: App, count: int = 20, **how: Any) -> Collection:
    """A collection of `count` documents, indexed by OLD and serving."""
    made = await collection(app, **how)
    await put(app, made, drafts(count))
    await drain(app)
    return made


async def ready(app: App, count: int = 20, to: str = NEW, **how: Any) -> Collection:
    """The same, migrated as far as a person is needed."""
    made = await filled(app, count)
    await app.start(made, to, **how)
    await drain(app)
    return made


async def rows(app: App, query: str, **parameters: Any) -> list[Any]:
    """For looking; as the owner."""
    async with app.database.transaction() as conn:
        return await (await conn.execute(query, parameters or None)).fetchall()


async def written(app: App, made: Collection) -> list[Index]:
    async with app.database.transaction() as conn:
        return await indexes.writing(conn, made.id)


async def stored(app: App, index: Index) -> dict[int, np.ndarray]:
    """doc_id → vector of its first chunk, as the table has it."""
    return {doc_id: vector for (doc_id, chunk), vector in (await chunks_of(app, index)).items() if not chunk}


async def chunks_of(app: App, index: Index) -> dict[tuple[int, int], np.ndarray]:
    """(doc_id, chunk_no) → vector, as the table has it, or the store elsewhere."""
    if not index.place.is_here:
        return await points_of(app, index)
    query = sql.SQL("SELECT doc_id, chunk_no, embedding FROM {}").format(
        sql.Identifier("revec", f"vectors_{index.id}")
    )
    async with app.database.transaction() as conn:
        found = await conn.execute(query, binary=True)
        return {(row.doc_id, row.chunk_no): row.embedding.to_numpy() for row in await found.fetchall()}


async def points_of(app: App, index: Index) -> dict[tuple[int, int], np.ndarray]:
    """The same of a store elsewhere; one that it has lost is missing."""
    found = await rows(app, f"SELECT doc_id, chunk_no, point_id FROM revec.vectors_{index.id}")
    store, place = app.store_at(index.place.store), index.place.name
    vectors = await store.fetch(place, [row.point_id for row in found])
    return {(row.doc_id, row.chunk_no): vectors[row.point_id] for row in found if row.point_id in vectors}


async def tended(app: App) -> None:
    """Whatever has to go from stores elsewhere, now or later, has gone."""
    due = "UPDATE revec.tombstone SET due = now() RETURNING point_id"
    while await rows(app, due):
        await upkeep(app).tick()


async def assert_tidy(app: App, index: Index) -> None:
    """A store elsewhere has the points that the table knows, each once, and no other."""
    known = {row.point_id for row in await rows(app, f"SELECT point_id FROM revec.vectors_{index.id}")}
    store = app.store_at(index.place.store)
    there, beyond = await store.page(index.place.name, "", 10_000)
    assert beyond is None
    assert len(there) == len(set(there)), f"{index.name}: the store names a point twice"
    assert set(there) == known, f"{index.name}: the store has {len(there)} points, {len(known)} are known"


async def assert_oracle(app: App, made: Collection) -> None:
    """Every written index holds exactly what its model says of every live document, and `check` agrees."""
    contents = await rows(
        app, "SELECT id, title, body FROM revec.document WHERE collection_id = %(c)s", c=made.id
    )
    for index in await written(app, made):
        count = (await app.provider(index.space.address, index.space.dims)).count
        texts = {
            (row.id, number): chunk
            for row in contents
            for number, chunk in enumerate(rendered(index.space, row.title, row.body, count))
        }
        have = await chunks_of(app, index)
        assert have.keys() == texts.keys(), f"{index.name}: {have.keys() ^ texts.keys()}"
        if not texts:
            continue
        expected = loopback.vectors(list(texts.values()), index.space.model)
        for (place, text), vector in zip(texts.items(), expected, strict=True):
            worst = float(np.abs(have[place].astype(np.float32) - vector).max())
            assert worst < 1e-3, f"{index.name}: the vector of {text!r} is another text's"
    assert await check(app.database, freshness=30) == []


def unhurried(app: App) -> None:
    """Searches of stores elsewhere may take as long as a busy machine needs; call it before the first."""
    app.settings = app.settings.model_copy(update={"request_deadline": 20.0})


def upkeep(app: App) -> Upkeep:
    """What every worker does for stores elsewhere."""
    return Upkeep(app.database, app.store_at)
