"""Scales: what a score of one space is worth in another, for callers whose thresholds outlive their model.

Scores of two spaces are not comparable, their ranks among the same pairs of documents are: equal ranks are
equal scores, linear in between, and the ends are the same everywhere. So a collection's own threshold is
carried (thresholds.py); here it is every threshold at once. A caller speaks of the space that served when it
was made, which may be gone: from it leads a scale to the old space, and on from there.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise, permutations

from revec.migrate import thresholds
from revec.migrate.thresholds import Pair
from revec.model.index import Index
from revec.model.migration import Migration
from revec.postgres import callers, indexes
from revec.postgres.callers import Scale
from revec.postgres.database import Connection, Database
from revec.stores.base import Store

MOST = 512  # ranks that are kept
ENDS = (-1.0, 1.0)  # of a cosine, in every space


async def learn(database: Database, store: Store, migration: Migration, new: Index) -> None:
    """Where there are callers: once in a migration, before their vectors of the new space are answered."""
    if migration.old_index is None:
        return
    async with database.transaction() as conn:
        homes = sorted(await _homes(conn, migration.collection_id) - {new.space.id})
        known = [await callers.scale(conn, migration.collection_id, home, new.space.id) for home in homes]
        old = await indexes.by_id(conn, migration.old_index)
    if not all(each and each.at and each.at >= migration.started_at for each in known):
        await _keep(database, store, old, new, homes)


async def settle(database: Database, store: Store, collection_id: int) -> None:
    """Whatever is missing between two spaces that can answer now: a caller was made during a migration."""
    async with database.transaction() as conn:
        homes = await _homes(conn, collection_id)
        if not homes:
            return
        ready = [each for each in await callers.destinations(conn, collection_id) if not each.waits]
        missing = [
            (each.index_id, other.index_id)
            for each, other in permutations(ready, 2)
            if each.space_id in homes - {other.space_id}
            and not await callers.scale(conn, collection_id, each.space_id, other.space_id)
        ]
        pairs = [[await indexes.by_id(conn, index_id) for index_id in pair] for pair in missing]
    for old, new in pairs:
        await _keep(database, store, old, new, [old.space.id])


async def _homes(conn: Connection, collection_id: int) -> set[str]:
    return {each.home for each in await callers.kept(conn, collection_id) if each.home}


async def _keep(database: Database, store: Store, old: Index, new: Index, homes: Sequence[str]) -> None:
    step = scale(await thresholds.paired(database, store, old, new))
    for home in homes:
        async with database.transaction() as conn:
            before = await callers.scale(conn, old.collection_id, home, old.space.id)
            learned = step if home == old.space.id else before and onward(before, step)
            if learned:  # else nobody knows how to come from there to the old space
                await callers.keep_scale(conn, old.collection_id, home, new.space.id, learned)


def scale(pairs: Sequence[Pair]) -> Scale:
    """Equal ranks of both spaces, from -1 to 1, each strictly ascending; without pairs the ends alone."""
    ranked = list(zip(*map(sorted, zip(*pairs, strict=True)), strict=True)) if pairs else []
    every = max(1, -(-len(ranked) // MOST))
    kept = [(ENDS[0], ENDS[0])]
    for old, new in [*ranked[::every], *ranked[-1:]]:
        if kept[-1][0] < old < ENDS[1] and kept[-1][1] < new < ENDS[1]:
            kept.append((old, new))
    kept.append((ENDS[1], ENDS[1]))
    return Scale([old for old, _ in kept], [new for _, new in kept], len(pairs))


def onward(before: Scale, step: Scale) -> Scale:
    """From a home to the old space, and on to the new one."""
    scores = [rescaled(score, step) for score in before.scores]
    kept = [0, *(n for n, (less, more) in enumerate(pairwise(scores), 1) if less < more)]
    return Scale(
        [before.home_scores[n] for n in kept], [scores[n] for n in kept], min(before.pairs, step.pairs)
    )


def rescaled(score: float, by: Scale) -> float:
    """As `revec.rescaled` does in the server."""
    place = min(max(bisect_right(by.home_scores, score), 1), len(by.scores) - 1)
    (low, high), (below, above) = by.home_scores[place - 1 : place + 1], by.scores[place - 1 : place + 1]
    return below + (score - low) * (above - below) / (high - low)
