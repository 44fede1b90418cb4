"""What the demo proves from the tables themselves, not from what anybody claims."""

from __future__ import annotations

import asyncio
import time

import numpy as np
from psycopg import sql

from examples.demo.live import Searcher, Writer
from revec.app import App
from revec.model.index import Collection
from revec.model.reading import Reading
from revec.postgres import indexes, migrations

PATIENCE = 30.0  # seconds: the freshness goal
SEARCHED = 300  # writes that are looked for by a search of their own words
RECOMPUTED = 100  # answers whose scores are computed again

MISSING = sql.SQL("""
SELECT n.key FROM unnest(%(keys)s::text[], %(bodies)s::text[]) AS n (key, body)
       LEFT JOIN revec.document d ON d.key = n.key AND d.collection_id = %(collection)s
       LEFT JOIN {vectors} v ON v.doc_id = d.id AND v.chunk_no = 0 AND v.input_hash = d.input_hash
 WHERE CASE WHEN n.body IS NULL THEN d.id IS NOT NULL
       ELSE d.id IS NULL OR d.body <> n.body OR v.doc_id IS NULL END
""")

STORED = sql.SQL("""
SELECT v.embedding FROM {vectors} v JOIN revec.document d ON d.id = v.doc_id WHERE d.key = %(key)s
""")


async def lost_writes(app: App, collection: Collection, writer: Writer) -> list[str]:
    """Rows whose last acknowledged state is not in every index within the freshness goal.

    The writer goes on: a row that it wrote again while we looked is newer, not lost.
    """
    looked_for = dict(writer.state)
    deadline = time.monotonic() + PATIENCE
    while True:
        lost = []
        async with app.database.transaction() as conn:
            for index in await indexes.writing(conn, collection.id):
                rows = await conn.execute(
                    MISSING.format(vectors=sql.Identifier("revec", f"vectors_{index.id}")),
                    {
                        "keys": list(looked_for),
                        "bodies": list(looked_for.values()),
                        "collection": collection.id,
                    },
                )
                lost += [(row.key, index.name) for row in await rows.fetchall()]
        lost = [(key, name) for key, name in lost if writer.state[key] == looked_for[key]]
        if not lost or time.monotonic() > deadline:
            return [f"{key} in {name}" for key, name in lost]
        await asyncio.sleep(0.5)


async def found_by_search(app: App, writer: Writer) -> tuple[int, list[str]]:
    """Writes looked for by their own words in what serves now; those that were not found in time."""
    alive = [(key, body) for key, body in writer.state.items() if body is not None]
    looked_for = alive[:: max(1, len(alive) // SEARCHED)]
    unseen = []
    for key, body in looked_for:
        if not await is_found(app, writer, key, body):
            unseen.append(f"{key} is not found by its own words")
    return len(looked_for), unseen


async def is_found(app: App, writer: Writer, key: str, body: str) -> bool:
    """Or written again meanwhile. It may have been acknowledged a moment ago: then it has its time."""
    words = f"{writer.titles[key]}\n{body}"
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        reading = await app.retriever.search("docs", words, k=10, tenant="default")
        if key in {hit.id for hit in reading.hits} or writer.state[key] != body:
            return True
        await asyncio.sleep(0.5)
    return False


async def answers_from_the_wrong_space(app: App, searcher: Searcher, writer: Writer) -> tuple[int, int]:
    """Answers whose index is not the one that their epoch served, or whose scores another model made."""
    answers = [(a.query, a.reading) for a in searcher.answers if a.reading]
    served = await epochs(app)
    wrong = sum(served.get(reading.epoch) != reading.index_id for _, reading in answers)
    for query, reading in answers[:: max(1, len(answers) // RECOMPUTED)]:
        if reading.hits and reading.hits[0].id not in writer.state:  # else it may be newer
            wrong += not await score_is_its_models(app, query, reading)
    return wrong, len(answers)


async def epochs(app: App) -> dict[int, int]:
    """Epoch → the index that served in it, from the history of the migrations."""
    async with app.database.transaction() as conn:
        first, second = [
            await migrations.by_id(conn, row.id)
            for row in await (await conn.execute("SELECT id FROM revec.migration ORDER BY id")).fetchall()
        ]
        served = {1: first.new_index}
        for event in await migrations.events(conn, second):
            if "epoch" in event.evidence:
                forward = event.became == "live"
                served[event.evidence["epoch"]] = second.new_index if forward else second.old_index
    return {epoch: index for epoch, index in served.items() if index is not None}


async def score_is_its_models(app: App, query: str, reading: Reading) -> bool:
    """The best hit's score, computed anew from the stored vector and that index's own query model."""
    best = reading.hits[0]
    async with app.database.transaction() as conn:
        index = await indexes.by_id(conn, reading.index_id)
        row = await (
            await conn.execute(
                STORED.format(vectors=sql.Identifier("revec", f"vectors_{index.id}")),
                {"key": best.id},
                binary=True,
            )
        ).fetchone()
    assert row is not None
    stored = row.embedding.to_numpy().astype(np.float64)
    asked = (await app.retriever.embedded(index, query)).astype(np.float64)
    score = float(stored @ asked / (np.linalg.norm(stored) * np.linalg.norm(asked)))
    return abs(score - best.score) < 0.01
