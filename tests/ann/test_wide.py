"""4,096 dims, more than an HNSW index of vectors holds, on the oldest and the newest server at hand."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

import numpy as np
import pytest

from revec.app import App
from revec.cli.demo import stdlib
from revec.migrate.check import check
from revec.migrate.gates import recall
from revec.migrate.gates.base import COMPLETENESS, FIDELITY, RECALL
from revec.model.document import Draft
from revec.model.index import Collection, Kind
from revec.model.space import MAX_HNSW_DIMS
from revec.providers.base import TextInput
from revec.stores import pgvector
from tests import servers, steps
from tests.conftest import settings_for
from tests.loopback import Loopback
from tests.stores.test_plans import Explaining
from tests.wide import ADDRESS, DIMS, Wide

DOCUMENTS, QUERIES = 4_000, 50
SENTENCE = re.compile(r"(?<=[.:])\s+(?=[A-Z])|\n\n")


def sentences() -> Iterator[str]:
    """Of the docstrings of Python's standard library, each once."""
    seen: set[str] = set()
    for doc in stdlib.documents():
        for part in SENTENCE.split(doc.body):
            text = " ".join(part.split())
            if len(text) > 40 and text not in seen:
                seen.add(text)
                yield text


@cache
def some_sentences() -> list[str]:
    return list(itertools.islice(sentences(), DOCUMENTS + QUERIES))


@pytest.fixture(scope="module", params=[16, 18])
def server(request: pytest.FixtureRequest) -> Iterator[str]:
    with servers.cluster(servers.binaries_of(request.param)) as dsn:
        asyncio.run(servers.make_template(dsn, "template_revec"))
        (said,) = servers.ask(dsn, "SHOW server_version")
        assert said.startswith(f"{request.param}.")
        yield dsn


@asynccontextmanager
async def opened(server: str, url: str) -> AsyncIterator[App]:
    with servers.copied(server, "template_revec", "wide") as dsn:
        async with App(settings_for(dsn, url)) as app:
            app._providers[ADDRESS, None] = app._providers[ADDRESS, DIMS] = Wide()
            yield app


async def ten_nearest(app: App, made: Collection, asked: list[str]) -> list[set[str]]:
    """By numpy, from what is stored."""
    (index,) = await steps.written(app, made)
    stored = await steps.stored(app, index)
    names = {row.id: row.key for row in await steps.rows(app, "SELECT id, key FROM revec.document")}
    ids = list(stored)
    matrix = np.stack([stored[doc_id] for doc_id in ids]).astype(np.float32)
    queries = (await Wide().embed([TextInput(text) for text in asked])).matrix
    best = np.argsort(-(queries @ matrix.T / np.linalg.norm(matrix, axis=1)), axis=1)[:, :10]
    return [{names[ids[place]] for place in row} for row in best]


async def plan_of(app: App, made: Collection, tenant: str | None, limit: int) -> str:
    """How the server finds them: what it would have to fetch for a sort lies outside the table, uncounted."""
    (index,) = await steps.written(app, made)
    (query,) = (await Wide().embed([TextInput("read a file")])).matrix
    async with app.database.transaction("worker" if tenant is None else "reader", tenant=tenant) as conn:
        explaining: Any = Explaining(conn)
        await app.store.nearest(explaining, index, query, limit=limit, tenant=tenant)
    (plan,) = explaining.scans
    return str(plan)


async def test_4096_dims_are_planned_stored_indexed_and_searched(
    server: str, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the product alone: `plan` chooses, the gates pass, and recall@10 of real queries is 0.99."""
    monkeypatch.setattr(recall, "QUERIES", 40)  # an exact scan each
    monkeypatch.setattr(pgvector, "SMALL_TENANT", 0)  # by the graph
    texts = some_sentences()
    assert len(texts) == DOCUMENTS + QUERIES
    async with opened(server, loopback.url) as app:
        made = await steps.collection(app, model=None)
        await steps.put(app, made, [Draft(str(n), body=text) for n, text in enumerate(texts[QUERIES:])])

        planned = await app.plan(made, ADDRESS)
        assert (planned.space.dims, planned.kind) == (DIMS, Kind.BINARY)
        assert DIMS > MAX_HNSW_DIMS
        assert planned.gates == (COMPLETENESS, FIDELITY, RECALL)
        await app.commands.start(planned)
        summary = await steps.drain(app)
        assert (summary.stuck, summary.embedded) == ([], DOCUMENTS)
        (verdict,) = await steps.rows(app, "SELECT * FROM revec.verdict WHERE gate = 'recall'")
        assert verdict.outcome == "PASSED", json.dumps(verdict.evidence)

        (size,) = await steps.rows(app, SIZES)
        assert size.signs == pytest.approx(planned.size.graph, rel=0.1)
        assert size.table - size.signs == pytest.approx(planned.size.vectors, rel=0.1)

        for tenant, limit in itertools.product(("default", None), (20, 110)):
            assert "_hnsw" in await plan_of(app, made, tenant, limit)
        expected = await ten_nearest(app, made, texts[:QUERIES])
        for tenant in ("default", None):
            found = [await app.retriever.search("c", text, k=10, tenant=tenant) for text in texts[:QUERIES]]
            assert all(len(reading.hits) == 10 for reading in found)
            right = sum(
                len(ten & {hit.id for hit in reading.hits})
                for ten, reading in zip(expected, found, strict=True)
            )
            assert right >= 0.99 * 10 * QUERIES, f"{right} of {10 * QUERIES}"
        assert await check(app.database, freshness=30) == []


SIZES = """
SELECT pg_relation_size('revec.vectors_1_hnsw') AS signs, pg_total_relation_size('revec.vectors_1') AS table
"""
