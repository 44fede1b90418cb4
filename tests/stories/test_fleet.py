"""A fleet of 134 tenants in three tiers (seed 002, 1 and 5): who pays most first, and nobody's edit waits."""

from __future__ import annotations

import time
from itertools import groupby

import pytest

from revec.app import App
from revec.migrate import backfill
from revec.model.document import Draft
from revec.model.index import Collection
from revec.model.migration import State
from revec.postgres import tenants
from revec.postgres.tenants import Said
from revec.work import control
from tests import steps
from tests.loopback import Loopback
from tests.migrate import world

TIERS = {"enterprise": (100, 14), "premium": (50, 40), "standard": (10, 80)}  # priority, tenants
EACH = 5  # documents
SLOW = 5.0  # documents a second
NAMES = {f"{tier}-{n:02}": tier for tier, (_, count) in TIERS.items() for n in range(count)}


async def fleet(app: App) -> Collection:
    made = await steps.collection(app)
    drafts = [
        Draft(f"{tenant}/{n}", title=f"order {n}", body=f"work order {n} of {tenant}", tenant=tenant)
        for tenant in NAMES
        for n in range(EACH)
    ]
    await steps.put(app, made, drafts)
    said = [Said(tenant, tier, TIERS[tier][0]) for tenant, tier in NAMES.items()]
    async with app.database.transaction() as conn:
        await tenants.say(conn, made.id, said)
    await steps.drain(app)
    return made


async def stored(app: App) -> int:
    return (await steps.rows(app, "SELECT count(*) AS n FROM revec.vectors_2"))[0].n


async def test_a_fleet_is_backfilled_tier_by_tier(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slowed down and sped up while it runs; an edit of the last tier is in the new index before the first is through."""
    monkeypatch.setattr(control, "LOOK_EVERY", 0.01)
    assert len(NAMES) == 134
    made = await fleet(app)
    plan = await app.plan(made, steps.NEW)
    assert [turn.tier for turn in plan.turns] == ["enterprise", "premium", "standard"]
    assert [turn.documents for turn in plan.turns] == [14 * EACH, 40 * EACH, 80 * EACH]
    async with app.database.transaction() as conn:
        await control.throttle(conn, made, docs_per_second=SLOW, claim=10, who="test")
    await app.commands.start(plan)
    await world.tick_to(app, made, State.BACKFILLING)

    began = time.monotonic()
    async with world.working(app, concurrency=1, claim=20):
        await world.until(app, "SELECT count(*) > 5 FROM revec.vectors_2")
        await steps.put(app, made, [Draft("edit", body="a valve was replaced", tenant="standard-79")])
        await world.until(
            app,
            "SELECT EXISTS (SELECT FROM revec.vectors_2 v JOIN revec.document d ON d.id = v.doc_id"
            " WHERE d.key = 'edit')",
        )
        done, elapsed = await stored(app), time.monotonic() - began
        assert done <= SLOW * (elapsed + 3) + 1, "the throttle was not obeyed"
        assert done < 14 * EACH, "the edit waited for the first tier"
        async with app.database.transaction() as conn:
            await control.lift_throttle(conn, made)
        await world.until(app, "SELECT state <> 'backfilling' FROM revec.migration WHERE id = 2")

    calls = await steps.rows(
        app, "SELECT tenants FROM revec.call WHERE migration_id = 2 AND lane = 2 ORDER BY id"
    )
    order = [NAMES[tenant] for row in calls for tenant in sorted(set(row.tenants))]
    assert [tier for tier, _ in groupby(order)] == list(TIERS)
    async with app.database.transaction() as conn:
        rows = await backfill.progress(conn, await world.migration(app, made), 200)
    assert {row.state for row in rows} == {"complete"}
    assert [row.tier for row in rows] == [tier for tier, (_, count) in TIERS.items() for _ in range(count)]
    await steps.drain(app)
    assert await world.state(app, made) is State.READY
    await steps.assert_oracle(app, made)
