"""An application that has SQL only: its table, its row security, its login, and a caller made for it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from pgvector.psycopg import register_vector_async
from psycopg import sql

from revec.app import App
from revec.migrate import scales
from revec.model.index import Collection
from revec.search import callers
from revec.search.callers import Made
from revec.search.signature import Said
from tests import loopback, servers, steps
from tests.capture import people

NAME = "app.match_questions_with_solutions"
LIKE_SEED = ("query_embedding", "threshold", "count")
ROWS = 40
TEAMS = ("red", "blue")
WHOSE = "current_setting('app.team')"

TABLE = f"""
CREATE SCHEMA IF NOT EXISTS app;
CREATE TABLE app.questions (
    id bigint PRIMARY KEY, team text NOT NULL, question text NOT NULL, solution text, deleted_at timestamptz);
INSERT INTO app.questions SELECT n, CASE n % 2 WHEN 0 THEN 'red' ELSE 'blue' END, 'question ' || n, 'solution ' || n
  FROM generate_series(1, {ROWS}) AS n;
ALTER TABLE app.questions ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_team ON app.questions USING (team = current_setting('app.team', true));
GRANT USAGE ON SCHEMA app TO {servers.APP};
GRANT SELECT ON app.questions TO {servers.APP};
"""


async def questions(app: App, *, rows: int = ROWS, **how: Any) -> Collection:
    """The seed's table, of two teams, indexed and serving; `rows`: so many, and all further ones are red."""
    async with people.connected(app.database.dsn) as owner:
        for statement in TABLE.strip().split(";\n"):
            await owner.execute(statement)
        await owner.execute(
            "INSERT INTO app.questions SELECT n, 'red', 'question ' || n, '' FROM generate_series(%s::bigint, %s) AS n",
            (ROWS + 1, rows),
        )
    made = await steps.collection(app, **how)
    await people.attached(
        app, made, "app.questions", title="''", body="question", tenant="team", filter="deleted_at IS NULL"
    )
    await steps.drain(app)
    return made


def usually(**more: Any) -> Said:
    said: dict[str, Any] = {
        "function": NAME,
        "arguments": LIKE_SEED,
        "returns": ["id", "question", "solution", "similarity"],
        "tenant": WHOSE,
    }
    return Said(**said | more)


async def caller(app: App, made: Collection, *, by_hand: bool = False, **said: Any) -> Made:
    """Made and there; `by_hand`: somebody ran the SQL, and said nothing."""
    async with app.database.transaction() as conn:
        function = await callers.make(conn, made, usually(**said))
    await callers.apply(app.database, function)
    if not by_hand:
        await scales.settle(app.database, app.store, made.id)
    return function


@asynccontextmanager
async def application(app: App, team: str = "red", **how: Any) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    """A session of the application's own login."""
    dsn = servers.at(app.database.dsn, user=servers.APP)
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True, **how) as conn:
        await register_vector_async(conn)
        async with conn.transaction():
            await conn.execute("SELECT set_config('app.team', %s, true)", (team,))
            yield conn


def embedded(text: str, model: str) -> Any:
    """As the model of this address does."""
    (vector,) = loopback.vectors([text], model.partition(":")[2])
    return vector


async def asked(
    conn: psycopg.AsyncConnection[Any],
    text: str,
    model: str,
    *,
    threshold: float | None = None,
    count: int = 5,
    function: str = NAME,
    **more: Any,
) -> list[Any]:
    """(id, question, solution, similarity), as PostgREST calls: by the names of the arguments."""
    given = {"query_embedding": embedded(text, model), "threshold": threshold, "count": count, **more}
    named = sql.SQL(", ").join(
        sql.SQL("{} => {}").format(sql.Identifier(name), sql.Placeholder(name)) for name in given
    )
    called = sql.SQL("SELECT * FROM {}({})").format(sql.Identifier(*function.split(".")), named)
    return await (await conn.execute(called, given)).fetchall()


def ids(rows: Sequence[Any]) -> list[int]:
    return [row[0] for row in rows]
