"""A threshold goes along to the new model: as many pairs reach it there as did before."""

from __future__ import annotations

import random

import numpy as np
import pytest

from revec.app import App
from revec.migrate.thresholds import carried
from revec.model.index import Collection
from revec.postgres import indexes, thresholds
from revec.postgres.thresholds import Threshold
from revec.search.similar import ByKey
from tests import steps
from tests.loopback import Loopback

NEW = "openai:fake-c-8"  # in eight dims more documents are alike by chance


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.8, 0.9])
def test_as_many_pairs_reach_the_carried_score(threshold: float) -> None:
    """Whatever the new space does to scores, as long as it keeps their order; and nearly so with noise."""
    chance = random.Random(1)
    old = [chance.random() for _ in range(2_000)]
    for bent in (lambda s: s**3, lambda s: 0.6 + 0.3 * s, lambda s: -1 + s):
        pairs = [(score, bent(score)) for score in old]
        value = carried(pairs, threshold)
        assert value is not None
        assert {new >= value for score, new in pairs if score >= threshold} == {True}
        assert {new >= value for score, new in pairs if score < threshold} == {False}
    noisy = [(score, 0.5 * score + chance.gauss(0, 0.1)) for score in old]
    value = carried(noisy, threshold)
    assert value is not None
    assert sum(new >= value for _, new in noisy) == sum(score >= threshold for score, _ in noisy)


def test_a_share_of_few_pairs_is_chance() -> None:
    """None, where fewer than five pairs reach it, or all do: nobody knows where the score would be."""
    pairs = [(n / 100, n / 200) for n in range(100)]
    assert carried(pairs, 0.95) == pytest.approx(0.4725)
    assert carried(pairs, 0.96) is None
    assert carried(pairs, 0.0) is None
    assert carried([], 0.5) is None


async def kept(app: App, made: Collection) -> dict[str, Threshold]:
    """By the model's address."""
    async with app.database.transaction() as conn:
        by_space = await thresholds.kept(conn, made.id)
        known = await indexes.writing(conn, made.id)
    return {index.space.address: by_space[index.space.id] for index in known if index.space.id in by_space}


async def say(app: App, made: Collection, address: str, value: float) -> None:
    (index,) = [each for each in await steps.written(app, made) if each.space.address == address]
    async with app.database.transaction() as conn:
        await thresholds.keep(conn, made.id, index.space.id, Threshold(value, None, {}))


async def twins(app: App) -> Collection:
    """A hundred documents of two tenants and a copy of every fourth, ready for a cutover."""
    made = await steps.collection(app)
    for tenant in ("a", "b"):
        drafts = steps.drafts(50, tenant=tenant, word=f"text of {tenant}")
        await steps.put(app, made, [steps.Draft(f"{tenant}{d.key}", d.title, d.body, tenant) for d in drafts])
        copies = [steps.Draft(f"{tenant}{d.key} again", d.title, d.body, tenant) for d in drafts[::4]]
        await steps.put(app, made, copies)
    await steps.drain(app)
    await app.start(made, NEW)
    await steps.drain(app)
    return made


async def hits(app: App, made: Collection) -> int:
    """How many pairs of documents `similar` calls similar, each from both ends."""
    found = 0
    for row in await steps.rows(app, "SELECT key, tenant FROM revec.document"):
        found += len((await app.retriever.similar("c", ByKey(row.key), k=100, tenant=row.tenant)).hits)
    return found


@pytest.mark.parametrize("value", [0.4, 0.95])
async def test_a_cutover_keeps_the_hit_rate(app: App, loopback: Loopback, value: float) -> None:
    """Measured over all documents, before and after; the rollback brings the old threshold back, to the digit."""
    made = await twins(app)
    await say(app, made, steps.OLD, value)
    before = await hits(app, made)
    assert before >= 50
    await app.commands.switch.cutover(made, why="test")
    carried_to = (await kept(app, made))[NEW]
    assert carried_to.carried_from is not None
    assert carried_to.evidence["was"] == value
    assert carried_to.evidence["pairs"] > 500
    assert await hits(app, made) == pytest.approx(before, rel=0.25)
    await app.commands.switch.rollback(made, why="test")
    assert (await kept(app, made))[steps.OLD].value == value
    assert await hits(app, made) == before
    await steps.assert_oracle(app, made)


async def test_the_history_says_what_was_carried(app: App, loopback: Loopback) -> None:
    made = await twins(app)
    await say(app, made, steps.OLD, 0.95)
    await app.commands.switch.cutover(made, why="test")
    (row,) = await steps.rows(
        app, "SELECT evidence->'threshold' AS said FROM revec.migration_event WHERE evidence ? 'threshold'"
    )
    assert row.said["was"] == 0.95
    assert row.said["value"] == (await kept(app, made))[NEW].value
    assert row.said["above"] >= 5


async def test_what_a_person_said_of_the_new_space_stays(app: App, loopback: Loopback) -> None:
    """And a carried one follows the old threshold when that is said anew."""
    made = await twins(app)
    await say(app, made, steps.OLD, 0.95)
    await app.commands.switch.cutover(made, why="test")
    first = (await kept(app, made))[NEW]
    await app.commands.switch.rollback(made, why="test")
    await say(app, made, steps.OLD, 0.4)
    await app.commands.switch.cutover(made, why="test")
    second = (await kept(app, made))[NEW]
    assert second.value < first.value
    await app.commands.switch.rollback(made, why="test")
    await say(app, made, NEW, 0.123)
    await app.commands.switch.cutover(made, why="test")
    assert (await kept(app, made))[NEW] == Threshold(0.123, None, {})


async def test_without_a_threshold_nothing_is_carried(app: App, loopback: Loopback) -> None:
    made = await twins(app)
    await app.commands.switch.cutover(made, why="test")
    assert await kept(app, made) == {}


async def test_pairs_are_of_one_tenant_and_in_both_indexes(app: App, loopback: Loopback) -> None:
    """Scores between tenants say nothing of what a search shows; a pair counts once."""
    from revec.migrate import thresholds as story

    made = await twins(app)
    old, new = await steps.written(app, made)
    ids = {
        row.tenant: set(row.ids)
        for row in await steps.rows(
            app, "SELECT tenant, array_agg(id) AS ids FROM revec.document GROUP BY tenant"
        )
    }
    gone = min(ids["a"])
    await steps.rows(app, f"DELETE FROM revec.vectors_{new.id} WHERE doc_id = {gone} RETURNING 1")
    found: dict[tuple[int, int], object] = {}
    for tenant, mine in ids.items():
        for doc_id in sorted(mine)[:10]:
            found |= await story._pairs_of(
                app.database, app.store, (old, new), doc_id, tenant=tenant, chance=random.Random(1)
            )
    assert len(found) > 100
    for one, other in found:
        assert one < other
        assert gone not in (one, other)
        assert {one, other} <= ids["a"] or {one, other} <= ids["b"]


def test_the_similarity_of_two_documents_is_their_best_chunks() -> None:
    from revec.stores.base import similarity

    x, y, z = np.eye(3, dtype=np.float16)
    assert similarity([x, y], [z, 2 * y]) == pytest.approx(1)
    assert similarity([x], [y, z]) == 0
