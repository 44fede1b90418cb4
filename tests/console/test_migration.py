"""The page of a migration: what it shows, and that each of its verbs reaches the story in a person's name."""

from __future__ import annotations

import pytest

from revec.app import App
from revec.migrate.picture import picture
from revec.model.access import Role
from revec.model.migration import State
from revec.postgres import migrations
from tests import steps
from tests.console.visiting import MIGRATION, OVERVIEW, guest, press

HOSTILE = "<img src=x onerror=alert(1)>\"'--><script>alert(2)</script>{{7*7}}"


async def state(app: App, name: str = "c") -> State:
    return (await latest(app, name)).state


async def latest(app: App, name: str = "c"):
    (row,) = await steps.rows(app, "SELECT id FROM revec.collection WHERE name = %(name)s", name=name)
    async with app.database.transaction() as conn:
        found = await migrations.latest(conn, row.id)
    assert found is not None
    return found


async def test_a_migration_goes_from_its_start_to_its_end_by_the_page(app: App) -> None:
    """Plan, start, canary, cutover, rollback, cutover, finish: and every line of history has a name."""
    made = await steps.filled(app, 5)
    first = await latest(app)
    async with guest(app) as client:
        plan = await press(client, "plan", to=steps.NEW)
        assert plan.status_code == 200, plan.text
        assert "nothing is written" in plan.text
        assert (await latest(app)).id == first.id
        assert (await press(client, "start", to=steps.NEW)).status_code == 303
        await steps.drain(app)
        assert await state(app) is State.READY
        for verb, fields, at in (
            ("canary", {"percent": "10"}, State.CANARY),
            ("cutover", {"typed": "c", "reason": "the gates passed"}, State.LIVE),
            ("rollback", {}, State.READY),
            ("cutover", {"typed": "c"}, State.LIVE),
            ("finish", {"typed": "c", "days": "7"}, State.FINISHING),
            ("cancel-finish", {}, State.LIVE),
        ):
            answer = await press(client, verb, **fields)
            assert answer.status_code == 303, answer.text
            assert await state(app) is at
            assert f">{at}<" in (await client.get(MIGRATION)).text.replace("●", "").replace(" ", "")
        page = (await client.get(MIGRATION)).text
    seen = await picture(app.database, app.store, made, app.limits)
    by_hand = {event.who for event in seen.events if event.became in {State.LIVE, State.READY, State.CANARY}}
    assert any(who.startswith("revec_") for who in by_hand)
    assert "revec cutover c --reason &#39;the gates passed&#39;" in page


async def test_pause_resume_and_throttle_reach_the_story(app: App) -> None:
    made = await steps.collection(app, "d")
    async with guest(app) as client:
        assert (await press(client, "pause", "d", reason="lunch")).status_code == 303
        assert (await latest(app, "d")).paused_why == "lunch"
        assert "paused in" in (await client.get(MIGRATION, params={"collection": "d"})).text
        assert (await press(client, "resume", "d")).status_code == 303
        assert (await latest(app, "d")).paused_why is None
        assert (await press(client, "throttle", "d", rate="7")).status_code == 303
        seen = await picture(app.database, app.store, made, app.limits)
        assert seen.status.throttle is not None
        assert seen.status.throttle["docs_per_second"] == 7
        assert (await press(client, "throttle", "d", rate="-1")).status_code == 422
        assert (await press(client, "abort", "d", typed="d")).status_code == 303
        assert await state(app, "d") is State.ABORTED


async def test_a_cutover_wants_the_name_and_names_the_gate_that_is_not_met(app: App) -> None:
    await steps.ready(app, 3)
    was = await app.serving("c")
    async with guest(app) as client:
        answer = await press(client, "cutover", typed="C")
        assert answer.status_code == 422
        assert "type the collection" in answer.text
        async with app.database.transaction() as conn:
            await conn.execute("DELETE FROM revec.verdict WHERE gate = 'recall'")
            await conn.execute("UPDATE revec.migration SET gates = '{completeness,fidelity,recall}'")
        shown = await client.get(MIGRATION)
        assert "refused while a required gate has not passed" in shown.text
        answer = await press(client, "cutover", typed="c")
        assert answer.status_code == 409, answer.text
        assert "recall" in answer.text
    assert (await app.serving("c")).id == was.id
    assert await state(app) is State.READY


@pytest.mark.parametrize(("role", "tenant"), [(Role.VIEWER, "default"), (Role.OPERATOR, None)])
async def test_who_may_not_act_sees_why_and_cannot(app: App, role: Role, tenant: str | None) -> None:
    await steps.ready(app, 3)
    was = (await app.serving("c")).id
    async with guest(app, role, tenant) as client:
        page = (await client.get(MIGRATION)).text
        assert f"You are logged in as {role}" in page
        assert "disabled" in page
        assert "formaction" not in page
        for verb in ("cutover", "pause", "rollback", "abort", "start", "plan"):
            answer = await press(client, verb, typed="c", to=steps.NEW)
            assert answer.status_code == 403, verb
            assert f"logged in as {role}" in answer.text
    assert (await app.serving("c")).id == was
    assert await state(app) is State.READY


async def test_a_tenant_s_viewer_sees_no_figure_of_other_tenants(app: App) -> None:
    made = await steps.collection(app)
    await steps.put(app, made, steps.drafts(3, tenant="acme"))
    await steps.drain(app)
    await app.start(made, steps.NEW)
    await app.commands.pause(made, "globex has not paid")
    async with guest(app, Role.VIEWER, "acme") as client:
        for path in (OVERVIEW, MIGRATION):
            page = await client.get(path)
            assert page.status_code == 200
            assert "globex" not in page.text


async def test_hostile_texts_are_texts(app: App) -> None:
    """Of tenants, of reasons, of what is asked for, in whatever place."""
    made = await steps.collection(app)
    await steps.put(app, made, steps.drafts(2, tenant=HOSTILE))
    await steps.drain(app)
    await app.start(made, steps.NEW)
    await app.commands.pause(made, HOSTILE)
    async with guest(app) as client:
        for path in (OVERVIEW, MIGRATION):
            page = (await client.get(path)).text
            assert "<img" not in page.replace('<img src="/console/static/', "")
            assert "<script>" not in page
            assert "&lt;img src=x" in page
        answer = await press(client, "resume", reason=HOSTILE)
        assert answer.status_code == 303, answer.text
        unknown = await client.get(MIGRATION, params={"collection": "<img src=x>"})
        assert unknown.status_code == 404
        assert "<img src=x" not in unknown.text


async def test_without_a_collection_the_tables_are_named(app: App) -> None:
    async with app.database.transaction() as conn:
        await conn.execute("CREATE TABLE public.help_pages (id int PRIMARY KEY, body text)")
    async with guest(app) as client:
        page = (await client.get(OVERVIEW)).text
        assert "help_pages" in page
        for command in ("revec init", "revec worker", "revec search help_pages"):
            assert command in page
        assert (await client.get(MIGRATION)).status_code == 200
