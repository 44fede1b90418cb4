"""The bridge of a migration that is to be served early: what it is fitted on, whether it holds, until when.

A sample of documents, spread over the collection, is embedded before all others. When both models know them
a bridge is fitted on them and measured by them. Every document of the backfill is one more pair to fit on, so
it is fitted again whenever these have doubled. Where it would lose, or could not be safe, nobody is answered
early, and `status` says why.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from revec.model.bridging import LEAST_PAIRS
from revec.model.errors import BadInput
from revec.model.index import Index
from revec.model.migration import Migration
from revec.model.place import Place
from revec.model.space import Space
from revec.observe import events
from revec.postgres import bridges, documents, indexes, migrations
from revec.postgres.bridges import Kept
from revec.postgres.database import Connection, Database, first_line
from revec.stores.base import Here
from revec.work import queue

if TYPE_CHECKING:  # numpy comes with the models' extras: a door that only steers does not have it
    import numpy as np
    from numpy.typing import NDArray

    from revec.search.bridge import Bridge, Measure

    Matrix = NDArray[np.float32]
    Marks = NDArray[np.bool_]
else:
    Matrix = Marks = Bridge = Measure = Any

SAMPLE = 1_000  # documents: fewer fit nearly as well, but do not tell models that win from some that lose
PART = 3  # of a small collection no more than a third: the rest is to be gained by it
FEWEST = 2 * LEAST_PAIRS  # documents: half of the pairs judge the others
NEARLY = 0.9  # of the sample: one of its documents may be a dead letter
MOST_PAIRS = 4_000  # more make it hardly better
MOST_BYTES = 256 << 20  # of all pairs while a bridge is fitted; some matrices of dims by dims come to it
COPIES = 6  # of a pair at once, as float32: read, of unit length, centred, of one half of them
LOOK_EVERY = 1.0  # seconds
REST = 300.0  # seconds after a fit that failed: another one costs as much
FLOAT = 4  # bytes
PIECE = 500  # documents whose vectors are read at once
CONDUCTOR = "conductor"


def obstacle(old: Index | None, space: Space, place: Place) -> str | None:
    """Why a migration cannot be served early at all, or None."""
    if old is None:
        return "nothing serves yet that could find the documents which its index still lacks"
    if not (old.place.is_here and place.is_here):
        return "both indexes have to be in this database: a search asks them within one moment"
    if old.space.chunking != space.chunking:
        was = old.space.chunking
        return f"its chunks are others ({space.chunking}; before: {was}): they are no pairs to learn from"
    if old.space.modality != space.modality:
        return f"{space.modality} is searched otherwise than {old.space.modality}"
    return None


def shortage(documents: int) -> str | None:
    """Why so few documents teach no bridge, or None."""
    return (
        None if documents >= FEWEST else f"{documents} documents are too few for a bridge, and soon embedded"
    )


@dataclass(frozen=True, slots=True)
class Pairs:
    """Documents that both models know, by their first chunks: shapes (pairs, dims)."""

    olds: Matrix
    news: Matrix
    drawn: Marks  # shape (pairs,): those of the sample; others were embedded as it happened


@dataclass(frozen=True, slots=True)
class Fit:
    """What came of it, also where nothing did."""

    pairs: int
    counted: int  # documents of the new index before
    made: Bridge | None
    found: Measure | None
    why: str

    @property
    def holds(self) -> bool:
        return self.found is not None and self.found.holds


class Bridging:
    """What the conductor does for migrations that are served early, beside moving them on."""

    def __init__(self, database: Database, store: Here) -> None:
        self._database = database
        self._store = store
        self._look_at: dict[int, float] = {}  # by migration
        self._fitting: asyncio.Task[None] | None = None  # one at a time, for the memory's sake
        # Of its own: a fit may take half a minute, and searches wait for the loop's few threads.
        self._thread = ThreadPoolExecutor(1, "revec-bridge")

    async def tick(self, migration: Migration) -> None:
        """Begin, or fit anew where it is time to. Safe to be killed and done again."""
        is_due = time.monotonic() >= self._look_at.get(migration.id, 0.0)
        if not (migration.serve_early and migration.state.may_serve_early and is_due) or migration.paused_why:
            return
        if self._fitting is not None and not self._fitting.done():
            return
        self._look_at[migration.id] = time.monotonic() + LOOK_EVERY
        async with self._database.transaction() as conn:
            old, new = await _sides(conn, migration)
            seen = await bridges.kept(conn, migration.id)
            if seen is None:
                await self._begin(conn, migration, old, new)
            elif old and await _is_due(conn, old, new, seen):
                self._fitting = asyncio.create_task(self._fit(migration, seen, old, new))

    async def leave(self) -> None:
        if self._fitting is not None:
            self._fitting.cancel()
            await asyncio.gather(self._fitting, return_exceptions=True)
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _begin(self, conn: Connection, migration: Migration, old: Index | None, new: Index) -> None:
        """The sample goes before the rest of the backfill: somebody waits for it."""
        why, ids = obstacle(old, new.space, new.place), []
        if why is None and old is not None:
            share = await documents.count(conn, migration.collection_id) // PART
            size = min(SAMPLE, max(FEWEST, share), _most(old, new))
            ids = list(await documents.sampled(conn, migration.collection_id, size))
            why = shortage(len(ids))
        drawn = [] if why else ids
        said = why or f"{len(drawn):,} documents are embedded first, to learn from"
        if await bridges.begin(conn, migration.id, drawn=drawn, why=said):
            await queue.enqueue(conn, new.id, drawn)
            if why:
                await migrations.tell(conn, migration, who=CONDUCTOR, why=f"not served early: {why}")

    async def _fit(self, migration: Migration, seen: Kept, old: Index, new: Index) -> None:
        """A bridge on all that there is. Nobody waits for it: whatever goes wrong is tried again, later."""
        try:
            async with self._database.transaction() as conn:
                of = await documents.count(conn, migration.collection_id)
                counted = await bridges.counted(conn, new.id, _most(old, new))
                drawn = await bridges.drawn(conn, migration.id)
            pairs = await self._pairs(old, new, drawn)
            loop = asyncio.get_running_loop()
            fit = await loop.run_in_executor(self._thread, _fitted, pairs, of, counted)
            await self._keep(migration, seen, fit)
        except Exception as error:  # noqa: BLE001 - of numpy, of the database: none of them ends the worker
            self._look_at[migration.id] = time.monotonic() + REST
            events.emit(events.TryAgain(f"the bridge of migration {migration.id}: {first_line(error)}"))

    async def _keep(self, migration: Migration, seen: Kept, fit: Fit) -> None:
        async with self._database.transaction() as conn:
            put = await bridges.put(
                conn,
                migration.id,
                seen,
                pairs=fit.pairs,
                counted=fit.counted,
                bridge=fit.made.dumps() if fit.made else None,
                holds=fit.holds,
                why=fit.why,
                measure=asdict(fit.found) if fit.found else {},
            )
            if put and (seen.version == 0 or fit.holds != seen.holds):
                opened = "served early" if fit.holds else "not served early"
                await migrations.tell(conn, migration, who=CONDUCTOR, why=f"{opened}: {fit.why}")
        if put:
            events.emit(events.Bridged(migration.id, fit.pairs, fit.holds, fit.why))

    async def _pairs(self, old: Index, new: Index, drawn: Sequence[int]) -> Pairs:
        """Of the sample all, of the other documents some at random."""
        import numpy as np

        most = _most(old, new)
        async with self._database.transaction("worker") as conn:
            others = await self._store.some(conn, new, most)
        ids = list(dict.fromkeys([*drawn, *others]))[:most]
        olds, news = (
            np.empty((most, old.space.dims), np.float32),
            np.empty((most, new.space.dims), np.float32),
        )
        both: list[int] = []
        for start in range(0, len(ids), PIECE):
            piece = ids[start : start + PIECE]
            before = await self._store.vectors(self._database, old, piece, tenant=None)
            after = await self._store.vectors(self._database, new, piece, tenant=None)
            for doc_id in [each for each in piece if each in before and each in after]:
                olds[len(both)], news[len(both)] = before[doc_id][0], after[doc_id][0]
                both.append(doc_id)
        return Pairs(olds[: len(both)], news[: len(both)], np.isin(both, drawn))


async def _sides(conn: Connection, migration: Migration) -> tuple[Index | None, Index]:
    """What serves (None: a first fill), and what is being filled."""
    assert migration.new_index is not None
    old = None if migration.old_index is None else await indexes.by_id(conn, migration.old_index)
    return old, await indexes.by_id(conn, migration.new_index)


def _most(old: Index, new: Index) -> int:
    """Pairs that a fit has room for."""
    each = COPIES * (old.space.dims + new.space.dims) * FLOAT
    return min(MOST_PAIRS, MOST_BYTES // each)


async def _is_due(conn: Connection, old: Index, new: Index, seen: Kept) -> bool:
    """The first fit when the sample is there, another one when the documents have doubled.

    What was counted then is compared, not the pairs that were found: a document without an old vector is
    counted each time, and would be missed each time.
    """
    most = _most(old, new)
    if not seen.drawn or seen.counted >= most:
        return False
    wanted = 2 * seen.counted if seen.version else max(FEWEST, int(NEARLY * seen.drawn))
    return await bridges.counted(conn, new.id, most) >= min(wanted, most)


def _fitted(pairs: Pairs, of: int, counted: int) -> Fit:
    """A bridge on all pairs, and what such bridges are worth to a collection of so many documents.

    Measured by the sample alone, which is spread over the collection: what the backfill embedded since is
    what came first, of one source or one time, and its nearest documents are of it as well.
    """
    from revec.search import bridge

    many = len(pairs.olds)
    try:
        made = bridge.fit(pairs.olds, pairs.news)
        found = bridge.measure(pairs.olds, pairs.news, of=max(of, many), drawn=pairs.drawn)
    except BadInput as error:
        return Fit(many, counted, None, None, str(error))
    return Fit(many, counted, made, found, found.why)
