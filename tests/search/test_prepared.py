"""Statements that an application prepared once, in every driver that it may have, through a whole migration."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from revec.app import App
from revec.model.migration import State
from tests import servers, steps
from tests.capture import people
from tests.migrate import world
from tests.search import asked
from tests.search.asked import NAME, caller, embedded, questions

asyncpg = pytest.importorskip("asyncpg")
sqlalchemy = pytest.importorskip("sqlalchemy")

Ask = Callable[[str], Awaitable[list[int]]]  # a vector as text → ids, best first
BY_NAME = f"SELECT * FROM {NAME}(query_embedding => {{}}::text::vector, threshold => {{}}, count => {{}})"
THRESHOLD, COUNT = 0.2, 3


@asynccontextmanager
async def by_psycopg(dsn: str, threshold: int | None) -> AsyncIterator[Ask]:
    """`threshold`: prepared from so many runs on; None: never."""
    async with await psycopg.AsyncConnection.connect(
        dsn, autocommit=True, prepare_threshold=threshold
    ) as conn:

        async def ask(vector: str) -> list[int]:
            found = await conn.execute(BY_NAME.format("%s", "%s", "%s"), (vector, THRESHOLD, COUNT))
            return asked.ids(await found.fetchall())

        yield ask
        prepared = await (await conn.execute("SELECT count(*) FROM pg_prepared_statements")).fetchone()
        assert prepared is not None
        if threshold is not None:
            assert prepared[0] >= 1


@asynccontextmanager
async def by_asyncpg(dsn: str, *, holds: bool) -> AsyncIterator[Ask]:
    """`holds`: one statement, prepared before the migration; else each by itself."""
    known = conninfo_to_dict(dsn)
    conn = await asyncpg.connect(
        host=known["host"],
        port=int(known["port"]),
        user=known["user"],
        database=known["dbname"],
        statement_cache_size=100 if holds else 0,
    )
    try:
        text = BY_NAME.format("$1", "$2", "$3")
        if holds:
            statement = await conn.prepare(text)

            async def ask(vector: str) -> list[int]:
                return asked.ids(await statement.fetch(vector, THRESHOLD, COUNT))
        else:

            async def ask(vector: str) -> list[int]:
                async with conn.transaction():  # a pooler gives it one server for both of its round trips
                    return asked.ids(await conn.fetch(text, vector, THRESHOLD, COUNT))

        yield ask
    finally:
        await conn.close()


@asynccontextmanager
async def by_sqlalchemy(dsn: str, driver: str, **connect: Any) -> AsyncIterator[Ask]:
    from sqlalchemy.ext.asyncio import create_async_engine

    known = conninfo_to_dict(dsn)
    url = sqlalchemy.URL.create(
        f"postgresql+{driver}",
        username=str(known["user"]),
        database=str(known["dbname"]),
        query={"host": str(known["host"]), "port": str(known["port"])},
    )
    engine = create_async_engine(url, pool_size=1, max_overflow=0, connect_args=connect)
    try:
        text = sqlalchemy.text(
            f"SELECT * FROM {NAME}(query_embedding => CAST(CAST(:query AS text) AS vector),"
            " threshold => :threshold, count => :count)"
        )

        async def ask(vector: str) -> list[int]:
            async with engine.connect() as conn:
                found = await conn.execute(text, {"query": vector, "threshold": THRESHOLD, "count": COUNT})
                return [row.id for row in found]

        yield ask
    finally:
        await engine.dispose()


async def test_prepared_statements_hold_through_a_migration(app: App, pooler: str) -> None:
    """Cutover, rollback, cutover, the drop: no error in any driver, and each time the answers of the vector's own
    space, which are the same from the first time on.
    """
    made = await questions(app)
    await caller(app, made, tenant="'red'")
    async with people.connected(app.database.dsn) as owner:
        await owner.execute("ALTER POLICY own_team ON app.questions USING (team = 'red')")
    direct = servers.at(app.database.dsn, user=servers.APP)
    pooled = servers.at(pooler, user=servers.APP, dbname=people.database_of(app.database.dsn))
    vectors = {
        (model, number): str(embedded(f"question {number}", model).tolist())
        for model in (steps.OLD, steps.NEW)
        for number in (8, 20)
    }
    async with AsyncExitStack() as sessions:
        open_ = sessions.enter_async_context
        drivers: dict[str, Ask] = {
            "psycopg, prepared at once": await open_(by_psycopg(direct, 0)),
            "psycopg, prepared at the second": await open_(by_psycopg(direct, 1)),
            "asyncpg, one held": await open_(by_asyncpg(direct, holds=True)),
            "sqlalchemy on psycopg": await open_(by_sqlalchemy(direct, "psycopg", prepare_threshold=0)),
            "sqlalchemy on asyncpg": await open_(by_sqlalchemy(direct, "asyncpg")),
            "psycopg, pooled": await open_(by_psycopg(pooled, None)),
            "asyncpg, pooled": await open_(by_asyncpg(pooled, holds=False)),
            "sqlalchemy, pooled": await open_(by_sqlalchemy(pooled, "psycopg", prepare_threshold=None)),
        }
        right: dict[tuple[str, int], list[int]] = {}

        async def all_ask(*models: str) -> None:
            for name, ask in drivers.items():
                for (model, number), vector in vectors.items():
                    if model in models:
                        found = await ask(vector)
                        assert found[0] == number, name
                        assert found == right.setdefault((model, number), found), name

        await all_ask(steps.OLD)
        await app.start(made, steps.NEW)
        await world.tick_to(app, made, State.BACKFILLING)
        await all_ask(steps.OLD)
        await steps.drain(app)
        switch = app.commands.switch
        for move in (None, switch.cutover, switch.rollback, switch.cutover):
            if move:
                await move(made, why="test")
            await all_ask(steps.OLD, steps.NEW)
        await switch.finish(made, wait=timedelta(0), why="test")
        await all_ask(steps.OLD, steps.NEW)
        await world.tick_to(app, made, State.FINISHED)
        await all_ask(steps.NEW)
    assert {model for model, _ in right} == {steps.OLD, steps.NEW}
    await steps.assert_oracle(app, made)
