"""Before the looks: what there is to look at, and what this login sees of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date
from typing import Any

from revec.doctor.base import Case, Column, Graph, Limits, NotLooked
from revec.doctor.guarded import guarded
from revec.postgres.database import Connection, reached
from revec.postgres.queries import beside

SQL = beside(__file__)

# What people call these columns; the first is the likeliest.
TEXTS = (
    *("content", "body", "text", "page_content", "chunk_text", "chunk", "document", "question_text"),
    *("question", "description", "summary", "title", "name"),
)
TENANTS = (
    *("tenant_id", "tenant", "org_id", "organization_id", "organisation_id", "account_id", "workspace_id"),
    *("customer_id", "company_id", "team_id"),
)
MODELS = ("embedding_model", "model", "model_name", "model_id", "embedding_version", "model_version")


async def learn(
    dsn: str,
    conn: Connection,
    limits: Limits,
    *,
    models: Sequence[str] = (),
    shutdown_of: Callable[[str], date | None] = lambda _: None,
    free_bytes: int | None = None,
) -> Case:
    """The case, by the catalog alone: no row of a table of yours is read.

    Raises:
        NotLooked: the catalog itself could not be read in time.
    """
    async with guarded(conn, limits):
        row: Any = await (await conn.execute(SQL.server)).fetchone()
        case = Case(
            **{
                name: getattr(row, name)
                for name in ("database", "server", "vector", "vector_schema", "login")
            },
            today=row.today,
            sees_sessions=row.sees_sessions,
            installed=row.installed,
            not_ours=None,
            pooler=None,
            limits=limits,
            models=models,
            shutdown_of=shutdown_of,
            free_bytes=free_bytes,
        )
    case = replace(case, pooler=await _pooler(dsn, conn, row.pid, limits))
    if case.installed:
        case = replace(case, not_ours=await _not_ours(conn, case))
    if case.vector is not None:
        columns = await _columns(conn, case)
        graphs = [graph for column in columns for graph in await _graphs(conn, limits, column)]
        case = replace(case, columns=columns, graphs=graphs)
    return case


async def _pooler(dsn: str, conn: Connection, pid: int, limits: Limits) -> str | None:
    """Whether something is between us and the server: it makes process numbers up, which clients cancel by.

    In transaction mode the server process that answered us answers the next one who asks.
    """
    if conn.info.backend_pid == pid:
        return None
    async with reached(dsn) as other, guarded(other, limits):
        theirs: Any = await (await other.execute(SQL.pid)).fetchone()
        async with guarded(conn, limits):
            ours: Any = await (await conn.execute(SQL.pid)).fetchone()
    return "transaction" if theirs.pid == pid or ours.pid != pid else "session"


async def _not_ours(conn: Connection, case: Case) -> str | None:
    async with guarded(conn, case.limits):
        row: Any = await (await conn.execute(SQL.ours)).fetchone()
    if row.seen:
        return None
    return f"row security hides Revec's rows from {case.login}: connect as their owner, {row.owner}"


async def _columns(conn: Connection, case: Case) -> list[Column]:
    known = {"texts": list(TEXTS), "tenants": list(TENANTS), "models": list(MODELS)}
    async with guarded(conn, case.limits):
        rows = await (await conn.execute(SQL.columns, known)).fetchall()
    return [await _measured(conn, case, row) for row in rows]


async def _measured(conn: Connection, case: Case, row: Any) -> Column:
    """The column with its size; closed where somebody has locked its table, or where rows are hidden."""
    known = {"oid": row.oid, "sample": case.limits.sample}
    size: Any = None
    closed = None
    try:
        async with guarded(conn, case.limits):
            size = await (await conn.execute(SQL.size, known)).fetchone()
    except NotLooked as error:
        closed = str(error)
    if size is None:
        closed = closed or "it was dropped meanwhile"
    elif not row.may_read:
        closed = f"{case.login} may not read it: GRANT SELECT ON {row.schema}.{row.name} TO {case.login}"
    elif size.hidden:
        closed = f"row security hides rows of it from {case.login}: connect as a role that sees them all"
    return Column(
        oid=row.oid,
        path=(row.schema, row.name),
        column=row.column,
        type=row.type,
        dims=row.dims,
        rows=row.rows,
        bytes=size.bytes if size else 0,
        percent=size.percent if size else 0.0,
        of_revec=row.of_revec,
        text=row.text,
        model=row.model,
        tenant=row.tenant,
        deleted=row.deleted,
        deleted_is_bool=row.deleted in {"is_deleted", "deleted"},
        closed=closed,
    )


async def _graphs(conn: Connection, limits: Limits, column: Column) -> list[Graph]:
    """The approximate indexes of a column; of one that is closed nothing can be said."""
    if column.closed:
        return []
    async with guarded(conn, limits):
        known = {"oid": column.oid, "column": column.column}
        rows = await (await conn.execute(SQL.graphs, known)).fetchall()
    return [
        Graph(
            column=column,
            path=(row.schema, row.name),
            method=row.method,
            expression=row.expression,
            operator=row.operator,
            predicate=row.predicate,
        )
        for row in rows
    ]
