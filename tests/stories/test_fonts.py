"""Seed 000 on its own fonts: what searches miss in a model that is being moved to is there within a minute.

Text alone for now. The figures are the seed's and the issue's: ten fonts in less than a minute, and 95 of 100
searches within a second, their queries' embedding included.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from revec.app import App
from revec.migrate.check import check
from revec.model.access import Role
from revec.model.document import Draft
from revec.model.errors import MissingExtra
from revec.model.migration import State
from revec.model.reading import Mode, Reading
from revec.postgres import documents
from revec.work import control, queue
from tests import steps
from tests.migrate import world
from tests.web import door
from tests.web.door import ask

FONTS = Path(__file__).parents[2] / "../shared/data/fonts"
OLD, NEW = "local:wordllama-256", "local:minilm-384"
SHARE = 0.02  # of the fonts are in the new index when the searches come
MISSING, WITHIN = 10, 60.0  # fonts, seconds
SECOND = 1.0  # for the embedding and the search, of 95 in 100

pytestmark = pytest.mark.skipif(not FONTS.is_dir(), reason="there is no ../shared/data/fonts here")


def lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FONTS / name).read_text(encoding="utf-8").splitlines()]


@asynccontextmanager
async def at_work(app: App) -> AsyncIterator[None]:
    """A worker, beside everything else."""
    worker = app.worker()
    working = asyncio.create_task(worker.run(drain=False))
    try:
        yield
    finally:
        worker.stop()
        await working


async def in_new(app: App, keys: set[str]) -> set[str]:
    """Those of them that have vectors in the new index."""
    rows = await steps.rows(
        app,
        "SELECT DISTINCT d.key FROM revec.document d JOIN revec.vectors_2 v ON v.doc_id = d.id"
        " WHERE d.key = ANY (%(keys)s)",
        keys=list(keys),
    )
    return {row.key for row in rows}


async def search(app: App, query: str) -> Reading:
    return await app.retriever.search("c", query, k=MISSING, tenant="default", mode=Mode.HYBRID)


async def until_there(app: App, keys: set[str], seconds: float) -> None:
    """All of them are in the new index."""
    try:
        async with asyncio.timeout(seconds):
            while await in_new(app, keys) != keys:
                await asyncio.sleep(0.05)
    except TimeoutError:
        pytest.fail(f"after {seconds:g} s {len(keys - await in_new(app, keys))} of {len(keys)} are missing")


async def two_percent_moved(app: App, fonts: list[Draft]) -> set[str]:
    """The old model serves all fonts; the new one has a few, and its backfill as good as stands still."""
    try:
        made = await steps.collection(app, model=OLD)
        await steps.put(app, made, fonts)
        await steps.drain(app)
        await app.start(made, NEW)
    except MissingExtra as error:
        pytest.skip(str(error))
    await world.tick_to(app, made, State.BACKFILLING)
    few = {font.key for font in fonts[:: int(1 / SHARE)]}
    async with app.database.transaction() as conn:
        await control.throttle(conn, made, docs_per_second=0.01, who="test")
        ids = await documents.ids_of(conn, 1, list(few))
        await queue.enqueue(conn, 2, list(ids.values()))
    return few


async def test_fonts_that_searches_miss_are_made_just_in_time(app: App) -> None:
    """Ten of them in less than a minute; the operators' way to either index works; searches stay quick."""
    fonts = [Draft(font["id"], font["title"], font["text"]) for font in lines("docs.jsonl")]
    queries = [query["text"] for query in lines("queries.jsonl")]
    few = await two_percent_moved(app, fonts)
    operator = await door.holder(app, Role.OPERATOR, "default")
    async with at_work(app), door.door(app) as client:
        await until_there(app, few, 3 * WITHIN)
        moved = door.ids(await ask(client, operator, q=queries[0], index="2", mode="vector", k=1_000))
        assert few <= moved <= await in_new(app, {font.key for font in fonts})

        began = time.monotonic()
        missing: set[str] = set()
        for query in queries:
            missing |= {hit.id for hit in (await search(app, query)).hits} - few
            if len(missing) >= MISSING:
                break
        await until_there(app, missing, WITHIN)
        took = time.monotonic() - began
        assert len(missing) >= MISSING

        titles = {font.key: font.title for font in fonts}
        for key in missing:
            found = await ask(client, operator, q=titles[key], index="2", mode="vector", k=100)
            assert key in door.ids(found)
        served = await ask(client, operator, q=queries[0], k=10)
        named = await ask(client, operator, q=queries[0], k=10, index="1")
        assert served.json()["index"] == named.json()["index"] == f"{OLD}#1"
        assert len(door.ids(named)) == 10

        readings = [await search(app, query) for query in queries[1:]]
        times = [reading.embed_seconds + reading.search_seconds for reading in readings]

    p95 = float(np.quantile(times, 0.95))
    print(f"{len(missing)} missing fonts in {took:.1f} s; p95 of embedding + search {1000 * p95:.0f} ms")
    assert took < WITHIN
    assert p95 < SECOND
    there = await in_new(app, {font.key for font in fonts})
    assert len(there) < len(fonts) / 2, "the backfill itself did it"
    assert await check(app.database, freshness=600) == []
