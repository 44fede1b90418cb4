"""A rollback long after the cutover: whatever was written meanwhile is in the old index, as if built anew."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from revec.app import App
from revec.model.index import Collection
from revec.model.reading import Mode
from tests import steps
from tests.loopback import Loopback
from tests.migrate import world

WRITES = 10_000
STANDING, AT_ONCE = 200, 50  # documents; writes in a transaction
SECONDS = 2.0  # of a flip under load


async def written(app: App, made: Collection, writes: int, seed: int) -> None:
    """New, edited, edited back and deleted documents, in transactions of fifty."""
    rng, number = random.Random(seed), 10_000 * seed
    for _ in range(writes // AT_ONCE):
        old = steps.drafts(STANDING)
        chosen = rng.sample(old, AT_ONCE - 20)
        edits = [replace(each, body=f"{rng.choice('ab')} of {each.key}") for each in chosen]
        new = steps.drafts(15, start=number)
        number += 15
        await steps.put(app, made, [*edits, *new])
        await steps.delete(app, made, *(each.key for each in rng.sample(new, 5)))


@pytest.mark.parametrize("kind", ["pg", "chroma"])
async def test_rolled_back_after_thousands_of_writes(
    app: App, loopback: Loopback, store_of: Callable[[str], str], kind: str
) -> None:
    """A worker, a reader and a writer go on all the time; both flips are short, no search fails, nothing is lost."""
    steps.unhurried(app)
    made = await steps.filled(app, STANDING)
    to, store = (steps.OLD, store_of(kind)) if kind == "chroma" else (steps.NEW, None)
    await app.start(made, to, store=store)
    await steps.drain(app)
    over, answered = asyncio.Event(), set()

    async def read() -> None:
        while not over.is_set():
            reading = await app.retriever.search(
                "c", "text of document 3", tenant="default", mode=Mode.VECTOR
            )
            assert reading.hits
            answered.add(reading.index)

    async with world.working(app), asyncio.TaskGroup() as users:
        users.create_task(read())
        _, there = await app.commands.switch.cutover(made, why="test")
        await written(app, made, WRITES, seed=1)
        last = users.create_task(written(app, made, 4 * AT_ONCE, seed=2))
        _, back = await app.commands.switch.rollback(made, why="test")
        await last
        over.set()
    print(f"flips: {1000 * there:.1f} ms there, {1000 * back:.1f} ms back, under load")
    assert max(there, back) < SECONDS
    assert len(answered) == 2
    await steps.drain(app)
    await steps.assert_oracle(app, made)
