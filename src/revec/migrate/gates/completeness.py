"""Is every document in the index? Counted at a horizon, in chunks: no long snapshot."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from psycopg import sql

from revec.migrate.gates.base import COMPLETENESS, Case
from revec.model.index import Index
from revec.model.verdict import Figures, Outcome, Verdict
from revec.postgres import collections, documents
from revec.postgres.database import Database
from revec.postgres.queries import beside
from revec.stores.base import all_lost

SQL = beside(__file__)

CHUNK = 10_000  # documents a transaction
LAST_ID = 2**63 - 1
WRONG = ("missing", "stale", "orphan", "foreign", "malformed")  # in the order in which they are told


@dataclass(slots=True)
class Tally:
    """What a completeness check counted, each document once."""

    documents: int = 0
    missing: int = 0
    stale: int = 0
    orphan: int = 0
    excluded: int = 0
    cancelled: int = 0  # of these: a person did not want them for now
    dead: int = 0
    pending: int = 0  # on its way, younger than the freshness goal
    late: int = 0  # on its way, but older
    malformed: int = 0  # vectors that are zero or of the wrong length
    foreign: int = 0  # whole sets under another tenant

    @property
    def wrong(self) -> int:
        return sum(getattr(self, name) for name in WRONG)


async def judge(case: Case) -> Verdict:
    """Every document with a revision up to now is in the index, or accounted for."""
    database, index = case.tools.database, case.index
    tally = Tally()
    async with database.transaction("worker") as conn:
        horizon = await documents.last_rev(conn)
    asked = {
        "index": index.id,
        "collection": index.collection_id,
        "horizon": horizon,
        "freshness": case.tools.limits.freshness,
        "unit": index.space.normalise,
        "size": CHUNK,
    }
    after = 0
    while after < LAST_ID:
        after = await _count_chunk(database, index, tally, asked | {"after": after})
    tally.missing += len(await all_lost(case.tools.store, index))  # known here, and not there
    evidence = asdict(tally) | {"horizon": horizon}
    figures = Figures(now=tally.wrong, limit=0, n=tally.documents)
    async with database.transaction("worker") as conn:
        why = await collections.unread(conn, index.collection_id)
    if why and _completeness(tally)[0] is Outcome.PASSED:
        return Verdict(COMPLETENESS, Outcome.INCONCLUSIVE, why, evidence, figures)
    return Verdict(COMPLETENESS, *_completeness(tally), evidence, figures)


async def _count_chunk(database: Database, index: Index, tally: Tally, asked: dict[str, Any]) -> int:
    """Count the next documents into the tally; the last id that was looked at."""
    vectors = sql.Identifier("revec", f"vectors_{index.id}")
    async with database.transaction("worker") as conn:
        end = await (await conn.execute(SQL.end_of_chunk, asked)).fetchone()
        assert end is not None
        upto = end.upto if end.documents == asked["size"] else LAST_ID
        # What a store elsewhere was handed was whole and of its length, or it would not have been.
        for query in (SQL.completeness, SQL.orphans, *([SQL.malformed] if index.place.is_here else [])):
            counted = await conn.execute(query.format(vectors=vectors), asked | {"upto": upto})
            row = await counted.fetchone()
            assert row is not None
            for name, count in row._asdict().items():
                setattr(tally, name, getattr(tally, name) + count)
    return int(upto)


def _completeness(tally: Tally) -> tuple[Outcome, str]:
    wrong = {name: count for name in WRONG if (count := getattr(tally, name))}
    if wrong:
        counted = ", ".join(f"{count:,} {name}" for name, count in wrong.items())
        return Outcome.FAILED, f"of {tally.documents:,} documents: {counted}"
    if tally.dead:
        return Outcome.INCONCLUSIVE, (
            f"{tally.dead:,} dead letters: `revec queue list` shows why, "
            "`revec queue retry` or `revec queue accept --reason …` settles them"
        )
    if tally.cancelled:
        return Outcome.INCONCLUSIVE, (
            f"{tally.cancelled:,} documents were cancelled, and nothing advances on missing data: "
            "`revec queue retry NAME --excluded` has them embedded"
        )
    if tally.late:
        return Outcome.INCONCLUSIVE, f"{tally.late:,} documents wait longer than the freshness goal"
    return Outcome.PASSED, (
        f"all {tally.documents:,} documents, {tally.excluded:,} of them excluded, "
        f"{tally.pending:,} written just now"
    )
