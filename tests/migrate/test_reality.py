"""What a plan said is what came: measured against the provider's own bill, clock and the tables on disk."""

from __future__ import annotations

import json

import pytest

from revec.app import App
from revec.migrate import bundle
from revec.migrate.check import check
from revec.migrate.planning import reality
from revec.model.course import Course
from revec.model.document import Draft
from revec.model.migration import State
from revec.postgres import migrations
from revec.work import calls
from revec.work.calls import Caller
from tests import steps
from tests.loopback import Loopback
from tests.migrate import world
from tests.migrate.test_plan_figures import SMALL, essays

TPM = 900_000.0
DOLLARS = 0.02 / 1e6  # a token


async def test_plan_and_reality_are_within_fifteen_percent(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tokens, cost, time and disk of a load that the provider's limit paces, by the provider's own bill."""
    monkeypatch.setattr(reality, "SHORT", 1.0)
    made = await steps.collection(app)
    drafts = essays(1_000, words=50)
    again = [Draft(f"again {n}", drafts[n].title, drafts[n].body) for n in range(50)]
    await steps.put(app, made, [*drafts, *again])
    await steps.drain(app)
    loopback.clear()
    loopback.limits(tpm=TPM)
    provider = await app.provider(SMALL, 64)
    for _ in range(5):  # the minute before: the bucket is nearly empty, and its answers say so
        await Caller(app.database).embed(provider, ["the " * 8_000] * 22, index_id=None, lane=calls.PROOF)
    before = len(loopback.log())
    plan = await app.plan(made, SMALL, dims=64, course=Course(batch_size=40))
    (planned_at,) = (await steps.rows(app, "SELECT clock_timestamp() AS at"))[0]
    await app.commands.start(plan)
    await steps.drain(app)
    assert await world.state(app, made) == "ready"

    seen = {each["what"]: each for each in (await world.look(app, made)).reality}
    assert {what for what, each in seen.items() if each["within"]} >= {"tokens", "cost", "bytes_disk"}, seen
    began = next(each.at for each in await world.history(app, made) if each.became == State.BACKFILLING)
    until_then = (began - planned_at).total_seconds()  # the bucket fills also while nothing is embedded yet
    assert seen["seconds"]["came"] + until_then == pytest.approx(
        seen["seconds"]["planned"], rel=0.15, abs=0.5
    )
    load = [
        line
        for line in loopback.log()[before:]
        if line["model"] == "text-embedding-3-small" and line["status"] == 200
    ]
    proof = 50 * 2 * len(drafts)  # the gate's and the sentinels' own texts are no part of the load
    billed = sum(line["tokens"] for line in load)
    assert seen["tokens"]["came"] <= billed <= seen["tokens"]["came"] + proof
    assert seen["tokens"]["planned"] == pytest.approx(seen["tokens"]["came"], rel=0.05)
    assert seen["cost"]["came"] == pytest.approx(seen["tokens"]["came"] * DOLLARS)
    print({what: each["told"] for what, each in seen.items()})

    async with app.database.transaction() as conn:
        found = await bundle.gathered(conn, "c", await world.migration(app, made))
    assert {each["what"] for each in found["reality"]} == seen.keys()
    files = bundle.files(found, None)
    assert b"Plan and reality" in files[bundle.REPORT]
    assert json.loads(files[bundle.EVIDENCE])["reality"][0]["within"] is True
    assert await check(app.database, freshness=30) == []


async def test_nothing_is_compared_before_the_load_is_over(app: App, loopback: Loopback) -> None:
    """And what has no plan, or one of another size, is not compared at all: it is said why."""
    made = await steps.filled(app, 20)
    assert (await world.look(app, made)).reality[0]["told"] == "the plan was of 0 documents, the load of 20"
    await app.start(made, steps.NEW, course=Course(until=0.5))
    await steps.drain(app)
    assert (await world.look(app, made)).reality == []
    await app.commands.resume(made)
    await steps.drain(app)
    seen = {each["what"]: (each["within"], each["told"]) for each in (await world.look(app, made)).reality}
    assert seen["cost"] == (None, "nothing was planned")
    assert seen["tokens"][0] is True
    assert seen["tokens"][1].startswith("at most")
    assert seen["seconds"][0] is None


def test_a_figure_is_compared_with_its_plan() -> None:
    """To the hundredth; a plan of nothing, a grown collection and a pause are told, not compared."""
    plan = {
        "documents": 100,
        "tokens": 1_000,
        "tokens_are_a_bound": False,
        "cost": 1.0,
        "cost_batch": None,
        "patient": False,
        "seconds": 100.0,
        "bytes_disk": 1 << 20,
    }
    came = {
        "documents": 100,
        "tokens": 1_150,
        "cost": 1.16,
        "seconds": 90.0,
        "paused": False,
        "throttled": False,
        "bytes_disk": 1 << 20,
    }

    def compared(**other: object) -> dict[str, reality.Compared]:
        moves = [
            {"why": reality.STARTED, "evidence": plan},
            {"why": "loaded", "evidence": {reality.REALITY: came | other}},
        ]
        return {each.what: each for each in reality.compared(moves)}

    found = compared()
    assert {what: each.within for what, each in found.items()} == {
        "tokens": True,
        "cost": False,
        "seconds": True,
        "bytes_disk": True,
    }
    assert reality.told(found["cost"].facts) == "cost $1.1600 (+16.0% of $1.0000 planned)"
    assert found["seconds"].facts["difference"] == -0.1
    assert compared(paused=True)["seconds"].told == "it was paused meanwhile"
    assert compared(throttled=True)["seconds"].within is None
    assert compared(documents=106)["tokens"].told == "the plan was of 100 documents, the load of 106"
    assert compared(documents=105)["tokens"].within
    assert reality.compared([]) == []
    assert reality.compared([{"why": "loaded", "evidence": {reality.REALITY: came}}]) == []


async def test_the_history_tells_it_once(app: App, loopback: Loopback) -> None:
    """As evidence of the move that ends the load."""
    made = await steps.ready(app)
    async with app.database.transaction() as conn:
        events = await migrations.events(conn, await world.migration(app, made))
    (kept,) = [event for event in events if reality.REALITY in event.evidence]
    assert (kept.was, kept.became) == ("indexing", "verifying")
    assert kept.evidence[reality.REALITY]["texts"] == 20
