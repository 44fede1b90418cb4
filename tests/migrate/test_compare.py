"""Is an upgrade worth it: told from a part of the bill, paid for once, and honest about what it is of."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest

from revec.app import App
from revec.migrate import sample
from revec.migrate.check import check
from revec.migrate.compare import Advice, Compared, Pool
from revec.migrate.evidence import A_RUNG
from revec.migrate.power import Power, Traffic
from revec.model.errors import BadInput, ProviderError
from revec.model.index import Collection
from revec.model.judging import JudgedQuery, Quality
from revec.postgres import pulses
from revec.search.judging import NDCG
from revec.statistics.paired import noninferior
from tests import steps
from tests.loopback import Loopback

COUNT = 400


def queries(count: int = COUNT, tenant: str = "default") -> list[JudgedQuery]:
    return [
        JudgedQuery(str(n), f"document {n}\ntext of document {n}", {("push", str(n)): 1}, tenant)
        for n in range(count)
    ]


async def filled(app: App) -> Collection:
    made = await steps.collection(app)
    await steps.put(app, made, steps.drafts(COUNT))
    await steps.drain(app)
    return made


async def test_a_comparison_costs_three_percent_and_is_paid_once(app: App, loopback: Loopback) -> None:
    """At most that part; nothing registered; asked again for nothing; a start pays for the rest alone."""
    made = await filled(app)
    before = loopback.requests()["inputs"]
    found = await app.compare(made, steps.NEW, queries())
    assert 0 < found.share <= 0.03
    assert 0 < found.documents <= 0.03 * COUNT
    assert found.tokens > 0
    assert found.ndcg.n >= 1
    asked = loopback.requests()["inputs"] - before
    assert asked <= found.documents + 2 * found.ndcg.n + 1  # the new model's dims are asked for once
    assert len(await steps.written(app, made)) == 1
    assert await steps.rows(app, "SELECT id FROM revec.migration WHERE state NOT IN ('finished')") == []

    again = await app.compare(made, steps.NEW, queries())
    assert (again.tokens, again.documents, again.ndcg) == (0, found.documents, found.ndcg)

    before = loopback.requests()["inputs"]
    await app.start(made, steps.NEW)
    await steps.drain(app)
    sentinels_and_samples = loopback.requests()["inputs"] - before - (COUNT - found.documents)
    fidelity = min(COUNT, app.limits.sample)
    assert sentinels_and_samples <= fidelity + 3 * 16
    await steps.assert_oracle(app, made)


async def test_equal_models_need_no_upgrade(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Enough of them are seen: no material difference, so no upgrade needed, with what it is an estimate of."""
    made = await filled(app)
    monkeypatch.setattr(sample, "PART", 0.9)
    found = await app.compare(made, steps.NEW, queries(), margin=0.05)
    assert found.advice is Advice.NOT_NEEDED
    assert found.told.startswith("NO UPGRADE NEEDED: no material difference [")
    assert "harder for both models; what nobody judged counts as wrong" in found.caveat
    assert found.judged <= found.documents
    assert found.facts["advice"] == "NO UPGRADE NEEDED"


async def test_a_tenant_s_queries_see_its_own_documents() -> None:
    """Another tenant's document is nearer, and nobody's answer here either; an operator's sees both."""
    near, far = np.array([1.0, 0.0], np.float32), np.array([0.6, 0.8], np.float32)
    docs = {1: ("push", "mine"), 2: ("push", "theirs")}
    query = JudgedQuery("q", "words", {("push", "mine"): 1}, "a")
    pool = Pool(docs, {1: "a", 2: "b"}, [query])
    vectors = {1: [far, -near], 2: [near]}
    assert pool.scores(vectors, [near])[NDCG].tolist() == [1.0]
    everybody = replace(pool, queries=[replace(query, tenant=None)])
    assert everybody.scores(vectors, [near])[NDCG].tolist() == [pytest.approx(0.63, abs=0.01)]


async def test_a_model_that_fails_half_way_is_paid_for_once(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it answered is kept, and nobody waits for the rest."""
    made = await filled(app)
    loopback.fault("503", times=None)
    with pytest.raises(ProviderError):
        await app.compare(made, steps.NEW, queries())
    loopback.clear()
    assert await steps.rows(app, "SELECT text_hash FROM revec.paid WHERE vector IS NULL") == []
    async with asyncio.timeout(30):
        assert (await app.compare(made, steps.NEW, queries())).documents > 0
    assert await check(app.database, freshness=30) == []


async def test_what_cannot_be_compared_is_a_sentence(app: App, loopback: Loopback) -> None:
    """Nothing serves yet; nothing is judged good."""
    made = await steps.collection(app, model=None)
    with pytest.raises(BadInput, match="nothing serves c yet"):
        await app.compare(made, steps.NEW, queries(3))
    with pytest.raises(BadInput, match="leave the judgements out of its first fill"):
        await app.plan(made, steps.NEW, judged=Quality("default"))


def compared(differences: np.ndarray, margin: float = 0.02) -> Compared:
    found = noninferior(differences, margin)
    return Compared("old", "new", 9, 6, 0.03, 100, Decimal(0), ndcg=found, recall=found)


def test_advice_goes_by_the_gain() -> None:
    """Better, the same, worse, and too few to tell: each in its words."""
    rng = np.random.default_rng(1)
    noise = rng.normal(0, 0.02, 500)
    assert compared(noise + 0.2).told.startswith("UPGRADE: better by 0.199")
    assert compared(noise).told.startswith("NO UPGRADE NEEDED: no material difference")
    assert compared(noise - 0.2).told.startswith("NO UPGRADE NEEDED: worse by 0.201")
    few = compared(rng.normal(0.05, 0.3, 20).clip(-1, 1))
    assert few.advice is Advice.CANNOT_TELL
    assert few.more is not None
    assert f"CANNOT TELL from 3.0%: ~{few.more:,} more judged queries could" in few.told
    assert compared(np.array([])).advice is Advice.CANNOT_TELL


# --- what a plan says beforehand ------------------------------------------------------------------


def test_power_agrees_with_the_queries_that_it_asks_for() -> None:
    """With as many more as it says, its own margin is the smallest that can be decided."""
    power = Power(Quality("default"), 225, 0.376, 0.3)
    assert 0.05 < power.smallest < 0.06
    enough = replace(power, queries=power.queries + power.more)
    assert enough.more == 0
    assert enough.smallest == pytest.approx(0.02, abs=1e-4)
    assert replace(power, queries=0).smallest == 1


def test_traffic_says_how_long_a_rung_takes() -> None:
    """Of each rung, or that nobody knows."""
    assert Traffic(None).told.startswith("no searches were seen")
    seconds = Traffic(1.0).seconds
    assert seconds == pytest.approx({0.02: A_RUNG / 0.02, 0.05: A_RUNG / 0.05, 0.10: A_RUNG / 0.10})
    assert "2% 1 h 23 min" in Traffic(1.0).told


async def test_traffic_is_read_off_the_searches(app: App, loopback: Loopback) -> None:
    """Of this collection; nothing seen is nothing known."""
    await filled(app)
    async with app.database.transaction() as conn:
        assert await pulses.searches_per_second(conn, "c") is None
        await pulses.put(conn, pulses.SEARCH, "c", [1.0] * 60)
        await pulses.put(conn, pulses.SEARCH, "other", [1.0] * 60)
        assert await pulses.searches_per_second(conn, "c") == pytest.approx(2.0, rel=0.1)
