"""The main job: a collection moves to another model, and back, and nothing is lost on the way."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest

from revec.app import App
from revec.model.errors import Refused
from tests import steps
from tests.loopback import Loopback


async def test_a_migration_from_plan_to_finish(any_app: App, loopback: Loopback) -> None:
    """Fill, migrate, cut over, write, roll back, cut over again, finish: the oracle holds throughout."""
    app = any_app
    made = await steps.ready(app)
    await steps.assert_oracle(app, made)
    old = (await app.serving("c")).id

    await app.commands.switch.cutover(made, why="test")
    new = (await app.serving("c")).id
    assert new != old
    await steps.put(app, made, steps.drafts(5, start=18, word="edited"))
    await steps.delete(app, made, "0", "1")
    await steps.drain(app)
    await steps.assert_oracle(app, made)

    await app.commands.switch.rollback(made, why="test")
    assert (await app.serving("c")).id == old
    found = await app.retriever.search("c", "edited 22\ntext of edited 22", k=1, tenant="default")
    assert found.hits[0].id == "22"
    await app.commands.switch.cutover(made, why="test")
    await app.commands.switch.finish(made, wait=timedelta(0), why="test")
    await steps.drain(app)
    assert [index.id for index in await steps.written(app, made)] == [new]
    assert await steps.rows(app, "SELECT to_regclass('revec.vectors_' || %(old)s) AS t", old=old) == [(None,)]
    await steps.assert_oracle(app, made)
    with pytest.raises(Refused, match="nothing to roll back"):
        await app.commands.switch.rollback(made, why="test")


async def test_nothing_is_paid_for_twice(app: App, loopback: Loopback) -> None:
    """One text, one space, one payment: also for equal texts, unchanged rewrites and rollbacks."""
    made = await steps.collection(app)
    async with app.database.transaction() as conn:  # the gate embeds a sample again, on purpose
        await conn.execute("UPDATE revec.migration SET gates = '{completeness}'")
    await steps.put(app, made, steps.drafts(20))
    await steps.drain(app)
    await steps.put(app, made, steps.drafts(20))
    copies = [replace(draft, key=f"copy {draft.key}") for draft in steps.drafts(20)]
    await steps.put(app, made, copies)
    await steps.drain(app)
    await steps.assert_oracle(app, made)
    paid = Counter(line["text"] for line in loopback.bill())
    assert len(await steps.rows(app, "SELECT FROM revec.document")) == 40
    assert [n for n in paid.values() if n > 1] == []
