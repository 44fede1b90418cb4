"""What stories about capture share: a user's session, a table attached, the documents that came of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import namedtuple_row

from revec.app import App
from revec.capture import attach, projector
from revec.capture.mapping import Mapping
from revec.migrate.check import check
from revec.model.index import Collection
from tests import steps

User = psycopg.AsyncConnection[Any]

DOCS = "CREATE TABLE app.docs (id bigint PRIMARY KEY, title text, body text, note text)"
PATIENCE = 20.0  # seconds until a signal that does not come fails the test


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[User]:
    conn = await psycopg.AsyncConnection.connect(
        dsn, autocommit=True, prepare_threshold=None, row_factory=namedtuple_row
    )
    async with conn:
        yield conn


def database_of(dsn: str) -> str:
    return str(conninfo_to_dict(dsn)["dbname"])


async def attached(app: App, made: Collection, table: str = "app.docs", **mapping: Any) -> int:
    """The table is a source of the collection; its id."""
    mapping = {"key": (), "title": "title", "body": "body"} | mapping
    return await attach.attach(app.database, made, Mapping(table=table, **mapping))


async def project(app: App) -> None:
    """Until the projector has nothing to do."""
    async with asyncio.timeout(PATIENCE):
        while await projector.project(app.database):
            pass


async def documents(app: App, made: Collection) -> dict[str, tuple[str, str]]:
    """Key → (title, body)."""
    found = await steps.rows(
        app, "SELECT key, title, body FROM revec.document WHERE collection_id = %(c)s", c=made.id
    )
    return {row.key: (row.title, row.body) for row in found}


async def ids(app: App, made: Collection) -> dict[str, int]:
    """Key → the document's own id."""
    found = await steps.rows(app, "SELECT key, id FROM revec.document WHERE collection_id = %(c)s", c=made.id)
    return {row.key: row.id for row in found}


async def rows_of(user: User, table: str = "app.docs", key: str = "id") -> dict[str, Any]:
    """What the documents of the user's table should be."""
    found = await user.execute(
        f"SELECT {key}::text AS key, coalesce(title, '') AS title, coalesce(body, '') AS body FROM {table}"
    )
    return {row.key: (row.title, row.body) for row in await found.fetchall()}


async def settled(app: App, made: Collection, expected: dict[str, Any]) -> None:
    """All is projected and embedded, the documents are the expected ones, the oracle agrees."""
    await steps.drain(app)
    assert await documents(app, made) == expected
    assert await faults(app) == []
    await steps.assert_oracle(app, made)


async def projected(app: App, made: Collection, expected: dict[str, Any]) -> None:
    """The same for a collection without an index: nobody embeds."""
    await project(app)
    assert await documents(app, made) == expected
    assert await faults(app) == []
    assert await check(app.database, freshness=30) == []


async def faults(app: App) -> list[str]:
    found = await steps.rows(app, "SELECT fault FROM revec.source WHERE fault IS NOT NULL")
    return [row.fault for row in found]


async def changes(app: App) -> list[tuple[str | None, str | None]]:
    found = await steps.rows(app, "SELECT old_key, new_key FROM revec.change ORDER BY id")
    return [tuple(row) for row in found]


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    """For what only the catalog can tell; looks again and again."""
    async with asyncio.timeout(PATIENCE):
        while not await true():
            await asyncio.sleep(0.01)


async def waiting(watcher: User, pid: int) -> None:
    """Until the backend waits for a lock."""

    async def waits() -> bool:
        found = await watcher.execute("SELECT FROM pg_locks WHERE pid = %s AND NOT granted", (pid,))
        return bool(await found.fetchall())

    await until(waits)


def replaced(queries: Any, name: str, text: str, monkeypatch: Any) -> None:
    """A mutant: one named query is another one."""
    monkeypatch.setitem(queries._queries, name, sql.SQL(text))
