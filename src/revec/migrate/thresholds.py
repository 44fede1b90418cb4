"""A threshold on its way to another space: the score that as many pairs of documents reach as before.

Scores of two spaces are not comparable, their ranks among the same pairs are. Pairs are a sample of documents
with their nearest in the old space, their nearest in the new one, and some by chance, all of one tenant each:
the nearest are the ones that a threshold is about, taken from both sides so that neither is flattered.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from revec.model.index import Index
from revec.postgres import documents, thresholds
from revec.postgres.database import Database
from revec.postgres.thresholds import Threshold
from revec.stores.base import Store, similarity

PROBES = 150  # documents
NEAREST, BY_CHANCE = 5, 5  # documents that each probe is paired with: up to 15, about 2,000 pairs in all
FEWEST = 5  # pairs at or above the threshold: a share of fewer is chance

Pair = tuple[float, float]  # one pair's scores in the old and in the new space


async def carry(database: Database, store: Store, old: Index, new: Index) -> Threshold | None:
    """Keep the collection's threshold for the new space too, and return it.

    None: there is none, or a person said one for the new space, or too few pairs tell of one.
    """
    async with database.transaction("worker") as conn:
        kept = await thresholds.kept(conn, old.collection_id)
    was, now = kept.get(old.space.id), kept.get(new.space.id)
    if was is None or old.space.id == new.space.id or (now is not None and now.carried_from is None):
        return None
    pairs = await paired(database, store, old, new)
    value = carried(pairs, was.value)
    if value is None:
        return None
    above = sum(score >= was.value for score, _ in pairs)
    evidence = {"was": was.value, "pairs": len(pairs), "above": above}
    threshold = Threshold(value, old.space.id, evidence)
    async with database.transaction("worker") as conn:
        await thresholds.keep(conn, old.collection_id, new.space.id, threshold)
    return threshold


def carried(pairs: Sequence[Pair], threshold: float) -> float | None:
    """The new score that as many of the pairs reach as reach the threshold in the old space."""
    above = sum(old >= threshold for old, _ in pairs)
    if not FEWEST <= above < len(pairs):
        return None
    ranking = sorted((new for _, new in pairs), reverse=True)
    return round((ranking[above - 1] + ranking[above]) / 2, 6)


async def paired(database: Database, store: Store, old: Index, new: Index) -> list[Pair]:
    """Pairs of documents that both indexes have, by their scores in both."""
    chance = random.Random(old.collection_id)  # noqa: S311 - a sample, no secret
    sampled = (await store.sample(database, old, PROBES)).rows
    async with database.transaction("worker") as conn:
        probes = await documents.hydrate(conn, sorted({doc_id for doc_id, *_ in sampled}), None)
    found: dict[tuple[int, int], Pair] = {}
    for doc_id, probe in probes.items():
        found |= await _pairs_of(database, store, (old, new), doc_id, tenant=probe.tenant, chance=chance)
    return list(found.values())


async def _pairs_of(
    database: Database,
    store: Store,
    sides: tuple[Index, Index],
    doc_id: int,
    *,
    tenant: str,
    chance: random.Random,
) -> dict[tuple[int, int], Pair]:
    """Each pair by its two ids, in their order: it counts once, from whichever end it is met."""
    old, _ = sides
    chances = [chance.random() for _ in range(BY_CHANCE)]
    async with database.transaction("worker") as conn:
        others = set(await documents.mates(conn, old.collection_id, tenant, chances))
    for side in sides:
        if mine := (await store.vectors(database, side, [doc_id], tenant=tenant)).get(doc_id):
            searching = await store.ahead(side, mine[:1], limit=NEAREST + 1, tenant=tenant)
            async with database.transaction("worker") as conn:
                near = await searching.nearest(conn, side, mine[0], limit=NEAREST + 1, tenant=tenant)
            others |= {other for other, _ in near if other != doc_id}
    ids = [doc_id, *sorted(others - {doc_id})]
    before, after = [await store.vectors(database, side, ids, tenant=tenant) for side in sides]
    both = before.keys() & after.keys()
    if doc_id not in both:
        return {}
    return {
        (min(doc_id, other), max(doc_id, other)): (
            similarity(before[doc_id], before[other]),
            similarity(after[doc_id], after[other]),
        )
        for other in both - {doc_id}
    }
