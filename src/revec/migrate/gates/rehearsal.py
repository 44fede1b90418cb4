"""Would the cutover work, and the way back? Tried and undone before anybody sees it."""

from __future__ import annotations

import time

import psycopg

from revec.migrate.gates.base import REHEARSAL, Case
from revec.model.errors import NotFound, ProviderError, Refused, StoreUnavailable
from revec.model.verdict import Figures, Outcome, Verdict
from revec.postgres import collections, indexes
from revec.postgres.queries import beside

SQL = beside(__file__)


async def judge(case: Case) -> Verdict:
    """One probe through both indexes, and the flip and back in a transaction that is rolled back.

    Raises:
        Refused: the route was moved by somebody else meanwhile.
    """
    if case.migration is None:
        return Verdict(REHEARSAL, Outcome.NOT_CONFIGURED, "there is nothing to be flipped to")
    tools, migration = case.tools, case.migration
    try:
        async with tools.database.transaction() as conn:
            collection = await collections.by_id(conn, migration.collection_id)
            seen = await indexes.route_of(conn, collection.id)
            row = await (await conn.execute(SQL.probe_text, {"collection": collection.id})).fetchone()
            old = None if migration.old_index is None else await indexes.by_id(conn, migration.old_index)
        # An old model that was gone at its adoption is asked nothing, nor is one where a person gave the way
        # back up: both were said. The way there is never given up.
        gone = old.column.unverifiable if old is not None and old.column is not None else None
        lost = gone or migration.overridden.get(REHEARSAL)
        sides = [case.index] if old is None or lost else [old, case.index]
        probe = row.text if row else "rehearsal"
        for index in sides:
            await tools.retriever.read(collection.name, seen, index, probe, k=1, tenant=None, fresh=True)
        began = time.perf_counter()
        async with tools.database.transaction() as conn, conn.transaction(force_rollback=True):
            flipped = await indexes.flip(conn, seen, serving=case.index.id, previous=migration.old_index)
        seconds = time.perf_counter() - began
    except (ProviderError, NotFound, StoreUnavailable, psycopg.Error) as error:
        return Verdict(REHEARSAL, Outcome.INCONCLUSIVE, str(error))
    if flipped is None:
        async with tools.database.transaction() as conn:
            now = await indexes.route_of(conn, collection.id)
        raise Refused(f"the route was moved by somebody else, it is at epoch {now.epoch}: look again")
    evidence = {"seconds": round(seconds, 4), "probed": [index.name for index in sides]}
    figures = Figures(now=round(seconds, 4), n=len(sides))
    why = "both sides answered a probe"
    if lost:
        why = f"the new side answered a probe; there is no way back for queries: {lost}"
    return Verdict(REHEARSAL, Outcome.PASSED, why, evidence, figures)
