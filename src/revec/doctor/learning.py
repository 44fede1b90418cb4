"""Before the looks: what there is to look at, and what this login sees of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date
from typing import Any

from revec.doctor.base import Case, Column, Graph, Limits
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
        case = replace(case, columns=columns, graphs=await _graphs(conn, limits, columns))
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
    known = {
        "texts": list(TEXTS),
        "tenants": list(TENANTS),
        "models": list(MODELS),
        "sample": case.limits.sample,
    }
    async with guarded(conn, case.limits):
        rows = await (await conn.execute(SQL.columns, known)).fetchall()
    return [
        Column(
            oid=row.oid,
            path=(row.schema, row.name),
            column=row.column,
            type=row.type,
            dims=row.dims,
            rows=row.rows,
            bytes=row.bytes,
            percent=row.percent,
            of_revec=row.of_revec,
            text=row.text,
            model=row.model,
            tenant=row.tenant,
            deleted=row.deleted,
            deleted_is_bool=row.deleted in {"is_deleted", "deleted"},
            closed=_closed(row, case.login),
        )
        for row in rows
    ]


def _closed(row: Any, login: str) -> str | None:
    """Why this login does not see every row."""
    if row.closed == "right":
        return f"{login} may not read it: GRANT SELECT ON {row.schema}.{row.name} TO {login}"
    if row.closed == "rows":
        return f"row security hides rows of it from {login}: connect as a role that sees them all"
    return None


async def _graphs(conn: Connection, limits: Limits, columns: Sequence[Column]) -> list[Graph]:
    known = {"tables": [each.oid for each in columns], "columns": [each.column for each in columns]}
    async with guarded(conn, limits):
        rows = await (await conn.execute(SQL.graphs, known)).fetchall()
    places = {(each.oid, each.column): each for each in columns}
    return [
        Graph(
            column=places[row.oid, row.column],
            path=(row.schema, row.name),
            method=row.method,
            expression=row.expression,
            operator=row.operator,
            predicate=row.predicate,
        )
        for row in rows
        if (row.oid, row.column) in places
    ]
