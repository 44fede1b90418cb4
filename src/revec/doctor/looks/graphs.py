"""Looks at approximate indexes."""

from __future__ import annotations

import json

from revec.doctor.base import (
    Case,
    Evidence,
    Graph,
    Look,
    NotLooked,
    Of,
    Severity,
    Subject,
    by_query,
    filled,
    parameters,
)
from revec.postgres.database import Connection
from revec.postgres.queries import beside

SQL = beside(__file__)
FEWEST_PROBES = 5


async def through_the_graph(conn: Connection, look: Look, case: Case, subject: Subject) -> list[Evidence]:
    """The look's rows, where its query does go through this index.

    Raises:
        NotLooked: the planner goes elsewhere, so that nothing would be proved.
    """
    assert isinstance(subject, Graph)
    await conn.execute(SQL.by_index)
    planned = await conn.execute(filled(SQL.planned, subject), parameters(look, case, subject))
    plan = await planned.fetchone()
    if f'"Index Name": {json.dumps(subject.path[1])}' not in json.dumps(plan and plan[0]):
        raise NotLooked(f"the planner does not search by {subject}")
    return await by_query(conn, look, case, subject)


async def beside_an_exact_scan(conn: Connection, look: Look, case: Case, subject: Subject) -> list[Evidence]:
    """The same, where the table is small enough to be scanned some times."""
    assert isinstance(subject, Graph)
    if case.limits.comparisons / max(subject.column.rows, 1) < FEWEST_PROBES:
        raise NotLooked(
            f"exact scans of ≈{subject.column.rows:,} rows are no work for a production database: "
            "compare on a copy, or raise hnsw.ef_search (ivfflat.probes) and see whether answers change"
        )
    return await through_the_graph(conn, look, case, subject)


INVALID_INDEX = Look(
    of=Of.DATABASE,
    severity=Severity.CRITICAL,
    query=SQL.invalid_index,
    see=SQL.see_invalid_index,
    sentence="index {index} of {table} is not valid: each write pays for it, and no search uses it",
    do="DROP INDEX CONCURRENTLY {index}, then build it again; it is what a CREATE INDEX CONCURRENTLY that "
    "failed leaves behind",
)
UNUSED_INDEX = Look(
    of=Of.GRAPH,
    severity=Severity.WARNING,
    query=SQL.unused_index,
    sentence="{subject} was used {scans:,} times while its table was scanned {scans_of_the_table:,} times: "
    "searches order by another operator or expression than it was built for",
    do="ORDER BY the very expression and operator of the index, ascending, with a LIMIT; EXPLAIN shows "
    "whether it is used",
)
NO_INDEX = Look(
    of=Of.COLUMN,
    severity=Severity.WARNING,
    query=SQL.no_index,
    by_catalog=True,
    sentence="{subject} has {size} and no approximate index: a search without a narrow filter reads it all",
    do="build one: CREATE INDEX CONCURRENTLY … USING hnsw ({column} …), with maintenance_work_mem larger "
    "than the index",
)
SELF_RETRIEVAL = Look(
    of=Of.GRAPH,
    severity=Severity.CRITICAL,
    query=SQL.self_retrieval,
    ask=through_the_graph,
    sentence="{found:,} of {n:,} rows are not found by {subject} with their own vector: it has lost them",
    do="REINDEX INDEX CONCURRENTLY {subject}; then update pgvector to 0.8.4 or newer: older ones can "
    "damage a graph",
)
LOW_RECALL = Look(
    of=Of.GRAPH,
    severity=Severity.WARNING,
    query=SQL.low_recall,
    ask=beside_an_exact_scan,
    sentence="{subject} finds {recall} of the ten nearest that an exact scan finds ({n:,} rows' own "
    "vectors asked)",
    do="SET LOCAL hnsw.ef_search = 200 (or ivfflat.probes = 20) in searches, or build the index with "
    "larger parameters",
)
