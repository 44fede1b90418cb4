"""The bridge of a migration that is to be served early: what it is fitted on, whether it holds, until when.

A random sample of documents is embedded before all others. When both models know them a bridge is fitted and
measured on the collection itself; every document of the backfill is one more pair, so it is fitted again
whenever these have doubled. Where it would lose, or could not be safe, nobody is answered early, and `status`
says why.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from revec.model.errors import BadInput
from revec.model.index import Index
from revec.model.migration import Migration
from revec.model.space import Space
from revec.observe import events
from revec.postgres import bridges, documents, indexes, migrations
from revec.postgres.bridges import Kept
from revec.postgres.database import Connection, Database
from revec.search import bridge
from revec.stores.base import Store, Vector
from revec.work import queue

SAMPLE = 500  # documents
FEWEST = 2 * bridge.LEAST_PAIRS  # documents: half of the pairs judge the others
NEARLY = 0.9  # of the sample: one of its documents may be a dead letter
MOST_PAIRS = 4_000  # more make it hardly better
LOOK_EVERY = 1.0  # seconds
PIECE = 500  # documents whose vectors are read at once
CONDUCTOR = "conductor"

Matrix = NDArray[np.float32]


def obstacle(old: Index | None, space: Space) -> str | None:
    """Why a migration cannot be served early at all, or None."""
    if old is None:
        return "nothing serves yet that could find the documents which its index still lacks"
    if old.space.chunking != space.chunking:
        was = old.space.chunking
        return f"its chunks are others ({space.chunking}; before: {was}): they are no pairs to learn from"
    if old.space.modality != space.modality:
        return f"{space.modality} is searched otherwise than {old.space.modality}"
    return None


class Bridging:
    """What the conductor does for migrations that are served early, beside moving them on."""

    def __init__(self, database: Database, store: Store) -> None:
        self._database = database
        self._store = store
        self._look_at: dict[int, float] = {}  # by migration
        self._fits: dict[int, asyncio.Task[None]] = {}  # likewise; a fit may take half a minute

    async def tick(self, migration: Migration) -> None:
        """Begin, or fit anew where it is time to. Safe to be killed and done again."""
        is_due = time.monotonic() >= self._look_at.get(migration.id, 0.0)
        if not (migration.serve_early and migration.state.may_serve_early and is_due) or migration.paused_why:
            return
        self._look_at[migration.id] = time.monotonic() + LOOK_EVERY
        fit = self._fits.get(migration.id)
        if fit is not None and not fit.done():
            return
        if fit is not None:
            del self._fits[migration.id]
            fit.result()
        async with self._database.transaction() as conn:
            old, new = await _sides(conn, migration)
            seen = await bridges.kept(conn, migration.id)
            if seen is None:
                await self._begin(conn, migration, old, new)
            elif old and await _is_due(conn, new, seen):
                self._fits[migration.id] = asyncio.create_task(self._fit(migration, seen, old, new))

    async def leave(self) -> None:
        for fit in self._fits.values():
            fit.cancel()
        await asyncio.gather(*self._fits.values(), return_exceptions=True)

    async def _begin(self, conn: Connection, migration: Migration, old: Index | None, new: Index) -> None:
        """The sample goes before the rest of the backfill: somebody waits for it."""
        why, ids = obstacle(old, new.space), []
        if why is None:
            ids = list(await documents.sampled(conn, migration.collection_id, SAMPLE))
            if len(ids) < FEWEST:
                why = f"{len(ids)} documents are too few for a bridge, and soon embedded"
        drawn = 0 if why else len(ids)
        said = why or f"{drawn:,} documents are embedded first, to learn from"
        if await bridges.begin(conn, migration.id, drawn=drawn, why=said):
            await queue.enqueue(conn, new.id, ids if drawn else [])
            if why:
                await migrations.tell(conn, migration, who=CONDUCTOR, why=f"not served early: {why}")

    async def _fit(self, migration: Migration, seen: Kept, old: Index, new: Index) -> None:
        olds, news = await self._pairs(old, new)
        async with self._database.transaction() as conn:
            of = await documents.count(conn, migration.collection_id)
        made, found, why = await asyncio.to_thread(_fitted, olds, news, of)
        holds = found is not None and found.holds
        said = found.why if found else why
        async with self._database.transaction() as conn:
            put = await bridges.put(
                conn,
                migration.id,
                seen,
                pairs=len(olds),
                bridge=made.dumps() if made else None,
                holds=holds,
                why=said,
                measure=asdict(found) if found else {},
            )
            if put and (seen.version == 0 or holds != seen.holds):
                opened = "served early" if holds else "not served early"
                await migrations.tell(conn, migration, who=CONDUCTOR, why=f"{opened}: {said}")
        if put:
            events.emit(events.Bridged(migration.id, len(olds), holds, said))

    async def _pairs(self, old: Index, new: Index) -> tuple[Matrix, Matrix]:
        """Random documents that both models know, by their first chunks: shapes (pairs, dims)."""
        async with self._database.transaction("worker") as conn:
            drawn = await self._store.sample(conn, new, MOST_PAIRS)
        ids = list(dict.fromkeys(doc_id for doc_id, *_ in drawn))
        pairs: list[tuple[Vector, Vector]] = []
        for start in range(0, len(ids), PIECE):
            piece = ids[start : start + PIECE]
            async with self._database.transaction("worker") as conn:
                before = await self._store.vectors(conn, old, piece)
                after = await self._store.vectors(conn, new, piece)
            both = [doc_id for doc_id in piece if doc_id in before and doc_id in after]
            pairs += [(before[doc_id][0], after[doc_id][0]) for doc_id in both]
        if not pairs:
            return np.empty((0, old.space.dims), np.float32), np.empty((0, new.space.dims), np.float32)
        olds, news = zip(*pairs, strict=True)
        return np.stack(olds).astype(np.float32), np.stack(news).astype(np.float32)


async def _sides(conn: Connection, migration: Migration) -> tuple[Index | None, Index]:
    """What serves (None: a first fill), and what is being filled."""
    assert migration.new_index is not None
    old = None if migration.old_index is None else await indexes.by_id(conn, migration.old_index)
    return old, await indexes.by_id(conn, migration.new_index)


async def _is_due(conn: Connection, new: Index, seen: Kept) -> bool:
    """The first fit when the sample is there, another one when the pairs have doubled."""
    if not seen.drawn or seen.pairs >= MOST_PAIRS:
        return False
    wanted = 2 * seen.pairs if seen.version else int(NEARLY * seen.drawn)
    return await bridges.pairs(conn, new.id, MOST_PAIRS) >= min(wanted, MOST_PAIRS)


def _fitted(olds: Matrix, news: Matrix, of: int) -> tuple[bridge.Bridge | None, bridge.Measure | None, str]:
    """A bridge on all pairs, and what such bridges are worth to a collection of so many documents."""
    try:
        return bridge.fit(olds, news), bridge.measure(olds, news, of=max(of, len(olds))), ""
    except BadInput as error:
        return None, None, str(error)
