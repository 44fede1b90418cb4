"""The page of the indexes: each with who still holds it, and when it goes."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta

from psycopg import sql

from revec.app import App
from revec.migrate import holding
from revec.migrate.holding import Held
from revec.model.access import Role
from revec.model.index import Collection
from revec.postgres import indexes, thresholds
from revec.postgres.thresholds import Threshold
from tests import steps
from tests.console.test_doors import guest
from tests.loopback import Loopback
from tests.work import hands

PAGE = "/console/indexes"


async def listed(app: App, made: Collection) -> list[Held]:
    async with app.database.transaction() as conn:
        return await holding.listed(conn, app.store, made)


def whose(held: Held) -> list[str]:
    """The holders, without what is said of them."""
    return [each.split(": ")[0].split(", ")[0] for each in held.holders]


async def test_an_index_is_held_until_everybody_has_left_it(app: App, loopback: Loopback) -> None:
    """Route, way back, migration, threshold; after the cutover they change places, and finish sets a date."""
    made = await steps.ready(app)
    old, new = await listed(app, made)
    assert (old.role, new.role) == ("serving", "next")
    assert whose(old) == ["the route", f"the migration to {steps.NEW}"]
    assert whose(new) == [f"the migration to {steps.NEW}"]
    assert old.bytes > 0
    assert (old.drop_at, old.build, old.fault, old.work.done) == (None, None, None, 20)
    async with app.database.transaction() as conn:
        space = (await indexes.by_id(conn, old.id)).space.id
        await thresholds.keep(conn, made.id, space, Threshold(0.8, None, {}))
    await app.commands.switch.cutover(made, why="test")
    old, new = await listed(app, made)
    assert whose(new)[0] == "the route"
    assert {"the way back", "a threshold"} <= set(whose(old))
    await app.commands.switch.finish(made, wait=timedelta(days=7), why="test")
    old, new = await listed(app, made)
    assert old.drop_at is not None
    assert new.drop_at is None
    async with guest(app) as client:
        page = await client.get(PAGE)
        assert "a rollback would let it answer again" in page.text
        assert "revec finish c --cancel" in page.text
        assert (await client.get("/console/live/indexes?once")).status_code == 200
    await steps.drain(app)
    await steps.assert_oracle(app, made)


async def test_a_build_is_told_while_it_goes_on(app: App, loopback: Loopback) -> None:
    made, index = await hands.indexed(app)
    table = sql.Identifier("revec", f"vectors_{index.id}")
    async with app.database.alone() as builder:
        build = sql.SQL("CREATE INDEX CONCURRENTLY slow ON {} (chunk_no)").format(table)
        async with app.database.transaction() as holding_up:
            await holding_up.execute(sql.SQL("LOCK TABLE {} IN ROW EXCLUSIVE MODE").format(table))
            building = asyncio.create_task(builder.execute(build))

            async def told() -> bool:
                (one,) = await listed(app, made)
                return one.build is not None and one.build.phase.startswith("waiting for writers")

            await hands.until(told)
        with suppress(asyncio.CancelledError):
            await building
    (one,) = await listed(app, made)
    assert one.build is None


async def test_one_tenants_operator_does_not_see_the_indexes(app: App, loopback: Loopback) -> None:
    await steps.filled(app, 1)
    async with guest(app, Role.OPERATOR, "acme") as client:
        assert (await client.get(PAGE)).status_code == 403
        assert (await client.get("/console/live/indexes?once")).status_code == 403
