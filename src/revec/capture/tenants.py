"""Tenants as a query on the user's own tables has them: read again and again, never written there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import psycopg
from psycopg import AsyncServerCursor, sql
from psycopg.rows import dict_row

from revec.model.errors import BadInput
from revec.postgres import tenants
from revec.postgres.database import Database, first_line
from revec.postgres.queries import beside
from revec.postgres.tenants import Said

SQL = beside(__file__)
EVERY = 60.0  # seconds
TIMEOUT = "10s"  # of each statement: a slow query is a person's to mend
FETCH = 5_000  # rows, each batch written by itself
COLUMNS = ("tenant", "tier", "priority", "weight")
LARGEST = 1_000_000


async def refresh(database: Database) -> bool:
    """Read the tenants of every collection whose time has come; whether any was read.

    A query that fails is a fault of the collection, shown by `status`, and tried again the next time.
    """
    async with database.transaction() as conn:
        due = await tenants.due(conn, EVERY)
    for each in due:
        why = None
        try:
            await read(database, each.id, each.query)
        except BadInput as error:
            why = f"{error}; mend it in revec.toml, then run `revec init`"
        async with database.transaction() as conn:
            await tenants.set_fault(conn, each.id, why)
    return bool(due)


async def read(database: Database, collection_id: int, query: str) -> int:
    """Remember what the query says; how many tenants it named.

    Raises:
        BadInput: it does not run, takes too long, or says what no tenant can be.
    """
    count = 0
    async with _asked(database, query) as rows:
        while some := await rows.fetchmany(FETCH):
            said = [_said(row) for row in some]
            async with database.transaction() as conn:
                await tenants.say(conn, collection_id, said)
            count += len(said)
    return count


async def checked(database: Database, query: str) -> None:
    """Look at the first rows, and remember nothing.

    Raises:
        BadInput: as `read`.
    """
    async with _asked(database, query) as rows:
        for row in await rows.fetchmany(FETCH):
            _said(row)


@asynccontextmanager
async def _asked(database: Database, query: str) -> AsyncIterator[AsyncServerCursor[dict[str, Any]]]:
    """As the owner, read only, by a cursor: nothing but one SELECT can run, however it is written."""
    try:
        async with database.transaction() as conn:
            await conn.execute(SQL.read_only, {"timeout": TIMEOUT})
            async with conn.cursor("tenant_rows", row_factory=dict_row) as rows:
                await rows.execute(_as_it_is(query))
                _check_columns([column.name for column in rows.description or ()])
                yield rows
    except psycopg.errors.QueryCanceled as error:
        raise BadInput(f"the query for tenants takes longer than {TIMEOUT}") from error
    except psycopg.OperationalError:  # the database's own trouble, not the query's
        raise
    except psycopg.Error as error:
        raise BadInput(f"the query for tenants does not run: {first_line(error)}") from error


def _as_it_is(query: str) -> sql.SQL:
    """SQL of the operator's own; no parameters are passed, so `%` is itself."""
    return sql.SQL(query.strip().rstrip(";"))


def _check_columns(names: list[str]) -> None:
    if "tenant" not in names:
        raise BadInput(f"the query for tenants has no column `tenant` (it has {', '.join(names)})")
    if others := [name for name in names if name not in COLUMNS]:
        raise BadInput(
            f"the query for tenants has a column {others[0]!r}: "
            f"it may have {', '.join(COLUMNS)}, named so by AS"
        )


def _said(row: dict[str, Any]) -> Said:
    """One row; a NULL leaves what was said before."""
    tenant, tier = row["tenant"], row.get("tier")
    if tenant is None or not str(tenant):
        raise BadInput("the query for tenants has a row without a tenant: leave it out by WHERE")
    return Said(
        tenant=str(tenant),
        tier=None if tier is None else str(tier),
        priority=_whole(row, "priority", -LARGEST),
        weight=_whole(row, "weight", 1),
    )


def _whole(row: dict[str, Any], name: str, least: int) -> int | None:
    value = row.get(name)
    if value is None:
        return None
    if not isinstance(value, int | float | Decimal) or value != value // 1 or not least <= value <= LARGEST:
        raise BadInput(
            f"the query for tenants gives {row['tenant']} the {name} {value}: "
            f"a whole number from {least:,} to {LARGEST:,} is needed"
        )
    return int(value)
