"""Tiers, priorities and weights from a query of the user's own: read again and again, never trusted."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from revec.app import App
from revec.capture import tenants
from revec.model.errors import BadInput
from revec.model.index import Collection
from revec.postgres import tenants as records
from revec.postgres.tenants import Said
from tests import steps
from tests.capture.people import User

QUERY = "SELECT name AS tenant, plan AS tier, rank AS priority, size AS weight FROM app.accounts"
ACCOUNTS = """
CREATE TABLE app.accounts (name text, plan text, rank numeric, size integer);
INSERT INTO app.accounts VALUES ('a', 'gold', 10, 3), ('b', 'free', NULL, NULL);
"""
LATER = "UPDATE revec.collection SET tenants_at = now() - interval '2 minutes' RETURNING 1"

BAD = [
    ("SELEC", "does not run: syntax error"),
    ("SELECT name AS tenant FROM app.nowhere", 'does not run: relation "app.nowhere" does not exist'),
    ("SELECT name FROM app.accounts", "no column `tenant` (it has name)"),
    ("SELECT name AS tenant, size FROM app.accounts", "a column 'size'"),
    ("SELECT NULL AS tenant", "a row without a tenant"),
    ("SELECT '' AS tenant", "a row without a tenant"),
    ("SELECT 'a' AS tenant, 0 AS weight", "gives a the weight 0"),
    ("SELECT 'a' AS tenant, 1.5 AS priority", "gives a the priority 1.5"),
    ("SELECT 'a' AS tenant, 'high' AS priority", "gives a the priority high"),
    ("SELECT 'a' AS tenant, 'NaN'::numeric AS priority", "gives a the priority NaN"),
    ("SELECT 'a' AS tenant, pg_sleep(5)::text AS tier", "takes longer than"),
    ("SELECT 1; DROP TABLE app.accounts", "does not run"),
    ("DELETE FROM app.accounts RETURNING name AS tenant", "does not run"),
    ("SELECT app.write() AS tenant", "read-only transaction"),
    ("SELECT set_config('transaction_read_only', 'off', true) AS tenant", "does not run"),
]


async def said(app: App) -> dict[str, tuple[Any, ...]]:
    found = await steps.rows(app, "SELECT tenant, tier, priority, weight FROM revec.tenant ORDER BY tenant")
    return {row.tenant: tuple(row[1:]) for row in found}


async def asking(app: App, query: str = QUERY) -> Collection:
    made = await steps.collection(app, model=None)
    async with app.database.transaction() as conn:
        await records.keep_query(conn, made, query)
    return made


async def fault(app: App, made: Collection) -> str | None:
    async with app.database.transaction() as conn:
        return await records.fault(conn, made.id)


async def test_tenants_are_as_the_query_says(any_app: App, any_user: User) -> None:
    """What is NULL has its default; a change is seen with the next reading; nobody is forgotten."""
    app, user = any_app, any_user
    await user.execute(ACCOUNTS)
    made = await asking(app)
    assert await tenants.refresh(app.database)
    assert await fault(app, made) is None
    assert await said(app) == {"a": ("gold", 10, 3), "b": ("free", 0, 1)}
    await user.execute(
        "UPDATE app.accounts SET rank = 7 WHERE name = 'b'; DELETE FROM app.accounts WHERE name = 'a'"
    )
    await steps.rows(app, LATER)
    assert await tenants.refresh(app.database)
    assert await said(app) == {"a": ("gold", 10, 3), "b": ("free", 7, 1)}


async def test_it_is_asked_once_a_minute_by_one_of_all_workers(app: App, user: User) -> None:
    """Also when it failed, and however many ask at once; a new query is asked at once."""
    await user.execute(ACCOUNTS)
    made = await asking(app)
    asked = await asyncio.gather(*(tenants.refresh(app.database) for _ in range(5)))
    assert sorted(asked) == [False] * 4 + [True]
    assert not await tenants.refresh(app.database)
    async with app.database.transaction() as conn:
        await records.keep_query(conn, made, QUERY)
    assert not await tenants.refresh(app.database)
    async with app.database.transaction() as conn:
        await records.keep_query(conn, made, QUERY + " WHERE true")
    assert await tenants.refresh(app.database)


@pytest.mark.parametrize(("query", "words"), BAD)
async def test_a_bad_query_is_a_fault_with_a_sentence(
    app: App, user: User, monkeypatch: pytest.MonkeyPatch, query: str, words: str
) -> None:
    """No worker ends, nothing of the user's is written, what was said before stands."""
    monkeypatch.setattr(tenants, "TIMEOUT", "200ms")
    await user.execute(ACCOUNTS)
    await user.execute(
        "CREATE FUNCTION app.write() RETURNS text LANGUAGE sql AS"
        " $$ DELETE FROM app.accounts RETURNING name $$"
    )
    made = await asking(app, query)
    async with app.database.transaction() as conn:
        await records.say(conn, made.id, [Said("a", tier="old")])
    with pytest.raises(BadInput, match="."):
        await tenants.checked(app.database, query)
    assert await tenants.refresh(app.database)
    why = await fault(app, made)
    assert why is not None
    assert words in why
    assert "run `revec init`" in why
    assert await said(app) == {"a": ("old", 0, 1)}
    assert len(await (await user.execute("SELECT FROM app.accounts")).fetchall()) == 2


async def test_a_mended_query_is_no_fault(app: App, user: User) -> None:
    """The table is there a minute later."""
    made = await asking(app)
    await tenants.refresh(app.database)
    assert "does not exist" in str(await fault(app, made))
    await user.execute(ACCOUNTS)
    await steps.rows(app, LATER)
    await tenants.refresh(app.database)
    assert await fault(app, made) is None
    assert set(await said(app)) == {"a", "b"}


async def test_a_worker_reads_them(app: App, user: User) -> None:
    """One of its duties."""
    await user.execute(ACCOUNTS)
    await asking(app)
    running = app.worker()
    task = asyncio.create_task(running.run(drain=False))
    async with asyncio.timeout(20):
        while not await said(app):
            await asyncio.sleep(0.01)
    running.stop()
    await task
