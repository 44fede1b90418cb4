"""How pgvector searches: a small tenant wholly, a large one by the graph, whatever the planner believes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from psycopg import sql

from revec.app import App
from revec.model.filter import parsed
from revec.model.index import Kind
from revec.model.space import MAX_HNSW_DIMS
from revec.postgres.database import Role
from revec.stores import pgvector
from revec.stores.pgvector import PgVector
from tests.stores.test_store import KINDS, SPACE, Shelf, chunks, randomly, shelf, unit

SIZES = {"tiny": 29, "little": 303, "middling": 2_500, "large": 6_000}
MANY = replace(SPACE, dims=512)
GRAPHS = pytest.mark.parametrize("kind", [Kind.HNSW, Kind.BINARY])
PLANS = pytest.mark.parametrize("mode", ["auto", "force_generic_plan"])


class Explaining:
    """A connection that has each scan explained, and then runs it."""

    def __init__(self, conn: Any) -> None:
        self._conn = conn
        self.scans: list[str] = []

    async def execute(self, query: Any, parameters: Any = None, **more: Any) -> Any:
        if "<=>" in query.as_string(None):
            rows = await (await self._conn.execute(sql.SQL("EXPLAIN ") + query, parameters)).fetchall()
            self.scans.append("\n".join(row[0] for row in rows))
        return await self._conn.execute(query, parameters, **more)


async def crowded(app: App, kind: Kind = Kind.HNSW) -> Shelf:
    """One graph of four tenants in 60 clusters; the small ones are where nobody asks for them."""
    here = await shelf(app, PgVector, kind=kind, space=SPACE if kind is Kind.HNSW else MANY)
    chance = np.random.default_rng(3)
    number = 0
    for tenant, size in SIZES.items():
        centres = randomly(60, seed=5)[chance.integers(0, 60, size)]
        vectors = centres + 0.1 * chance.standard_normal(centres.shape).astype(np.float32)
        vectors = spread(here, vectors)
        await here.put(*(chunks(number + n, vector, tenant=tenant) for n, vector in enumerate(vectors)))
        number += size
    await here.build()
    return here


def spread(here: Shelf, vectors: np.ndarray) -> np.ndarray:
    """The same angles in as many dims as the index has, where each has a sign that tells something."""
    dims, known = here.index.space.dims, vectors.shape[1]
    turned = np.random.default_rng(7).standard_normal((known, dims)).astype(np.float32)
    return vectors if dims == known else vectors @ turned / dims**0.5


async def searched(
    here: Shelf, tenant: str, query: Any, *, mode: str, exactly: bool = False
) -> tuple[list[int], str]:
    """The ten nearest, and how the last scan was planned, where the database prefers generic plans or not."""
    async with here.app.database.transaction("reader", tenant=tenant) as conn:
        await conn.execute("SELECT set_config('plan_cache_mode', %s, true)", (mode,))
        explaining: Any = Explaining(conn)
        ask = here.store.exact if exactly else here.store.nearest
        found = await ask(explaining, here.index, query, limit=10, tenant=tenant)
        return [doc_id for doc_id, _ in found], explaining.scans[-1]


@PLANS
@GRAPHS
@pytest.mark.parametrize("tenant", ["tiny", "little", "middling"])
async def test_a_small_tenant_is_scanned_wholly(app: App, mode: str, tenant: str, kind: Kind) -> None:
    """Recall 1.0, ten hits, and the graph is not in the plan: by the server's own words."""
    here = await crowded(app, kind)
    for query in spread(here, randomly(20, seed=9)):
        expected, _ = await searched(here, tenant, query, mode="auto", exactly=True)
        found, plan = await searched(here, tenant, query, mode=mode)
        assert found == expected
        assert len(found) == 10
        assert "_hnsw" not in plan, plan
        assert "by_tenant" in plan, plan


@PLANS
@GRAPHS
async def test_a_large_tenant_is_searched_by_the_graph(app: App, mode: str, kind: Kind) -> None:
    """Iteratively, so that it is never short of hits; and it finds nearly all that there is."""
    here = await crowded(app, kind)
    right = 0
    for query in spread(here, randomly(60, seed=5)[:20] + 0.1 * randomly(20, seed=9)):
        expected, _ = await searched(here, "large", query, mode="auto", exactly=True)
        found, plan = await searched(here, "large", query, mode=mode)
        assert len(found) == 10
        assert "_hnsw" in plan, plan
        right += len(set(found) & set(expected))
    assert right >= 190


async def test_the_trap_is_there(app: App) -> None:
    """The control: a generic plan and a walk that ends early leave a small tenant without its hits."""
    here = await crowded(app)
    short = 0
    for query in randomly(20, seed=9):
        async with app.database.transaction("reader", tenant="tiny") as conn:
            await conn.execute(
                "SELECT set_config('plan_cache_mode', 'force_generic_plan', true) AS plan,"
                " set_config('enable_sort', 'off', true) AS sort"
            )
            found = await pgvector._Scan(conn, here.index, query, "tiny", None)._rows(pgvector.SQL.scan, 10)
            short += len(found) < 10
    assert short > 10


async def test_a_tenant_is_small_up_to_a_bound(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its own rows, chunks counted; nobody else's count, and all tenants together are never small."""
    monkeypatch.setattr(pgvector, "SMALL_TENANT", 4)
    here = await shelf(app, PgVector, kind=Kind.HNSW)
    rows = randomly(30)
    await here.put(chunks(1, *rows[:4], tenant="four"), chunks(2, *rows[4:9], tenant="five"))
    async with app.database.transaction() as conn:
        small = [
            await pgvector._is_small(conn, here.index, tenant) for tenant in ("four", "five", "nobody", None)
        ]
    assert small == [True, False, True, False]


@KINDS
@pytest.mark.parametrize("tenant", [None, "default"])
@pytest.mark.parametrize("small", [0, 5_000], ids=["by the graph", "all rows"])
async def test_a_document_of_many_near_chunks_hides_nobody(
    app: App, kind: Kind, tenant: str | None, small: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three documents own the nearest 150 chunks; the ten nearest documents are ten all the same."""
    monkeypatch.setattr(pgvector, "SMALL_TENANT", small)
    here = await shelf(app, PgVector, kind=kind)
    near = unit(*([1, 0.001 * n] for n in range(150)))
    far = unit(*([1, 0.5 + 0.01 * n] for n in range(40)))
    await here.put(
        *(chunks(n, *near[50 * n : 50 * n + 50]) for n in range(3)),
        *(chunks(10 + n, vector) for n, vector in enumerate(far)),
    )
    await here.build()
    found = await here.nearest(unit([1])[0], limit=10, tenant=tenant)
    assert [doc_id for doc_id, _ in found] == [0, 1, 2, *range(10, 17)]
    assert [score for _, score in found] == sorted((score for _, score in found), reverse=True)
    everything = await here.nearest(unit([1])[0], limit=1_000, tenant=tenant)
    assert [doc_id for doc_id, _ in everything] == [0, 1, 2, *range(10, 50)]


async def test_signs_find_and_vectors_rank(app: App) -> None:
    """Hamming distances of 512 signs alone put hardly anybody in the right place: of many that are near by
    them, the nearest by their vectors are shown, with their true scores.
    """
    here = await shelf(app, PgVector, kind=Kind.BINARY, space=MANY)
    vectors, queries = (spread(here, randomly(rows, dims=16, seed=rows)) for rows in (4_000, 40))
    await here.put(*(chunks(n, vector) for n, vector in enumerate(vectors)))
    await here.build()
    right = 0
    for query in queries:
        expected = await here.nearest(query, limit=10, exactly=True)
        async with app.database.transaction("worker") as conn:
            explaining: Any = Explaining(conn)
            found = await here.store.nearest(explaining, here.index, query, limit=10, tenant=None)
        assert ["_hnsw" in scan for scan in explaining.scans] == [True]
        scores = dict(expected)
        assert all(score == scores.get(doc_id, score) for doc_id, score in found)
        assert [score for _, score in found] == sorted((score for _, score in found), reverse=True)
        right += len({doc_id for doc_id, _ in found} & scores.keys())
    assert right >= 396, f"{right} of 400"


@PLANS
async def test_vectors_outside_the_table_are_not_all_read(app: App, mode: str) -> None:
    """To a planner that does not count them a sort of all looks cheaper; the next statement may sort again."""
    here = await shelf(app, PgVector, kind=Kind.BINARY, space=replace(SPACE, dims=MAX_HNSW_DIMS + 1))
    await here.put(*(chunks(n, vector) for n, vector in enumerate(spread(here, randomly(1_500)))))
    await here.build()
    query = spread(here, randomly(1))[0]
    for tenant in (None, "default"):
        role: Role = "worker" if tenant is None else "reader"
        async with app.database.transaction(role, tenant=tenant) as conn:
            await conn.execute("SELECT set_config('plan_cache_mode', %s, true)", (mode,))
            explaining: Any = Explaining(conn)
            scan = pgvector._Scan(explaining, here.index, query, tenant, None)
            assert len(await scan.approximately(20) or ()) == 20
            (row,) = await (await conn.execute("SELECT current_setting('enable_sort') AS sort")).fetchall()
        assert ["_hnsw" in plan for plan in explaining.scans] == [True]
        assert row.sort == "on"


async def test_signs_are_looked_at_beyond_the_chunks_of_a_few(app: App) -> None:
    """Three documents own the nearest 150 chunks: the tenth is looked for far behind the first 200 by signs."""
    here = await shelf(app, PgVector, kind=Kind.BINARY, space=replace(SPACE, dims=4_000))
    chance = np.random.default_rng(11)
    query = randomly(1, dims=16)[0]

    def around(rows: int, noise: float) -> np.ndarray:
        return spread(here, query + noise * randomly(rows, dims=16, seed=int(100 * noise)))

    near = around(150, 0.2)
    await here.put(
        *(chunks(n, *near[50 * n : 50 * n + 50]) for n in range(3)),
        *(chunks(10 + n, vector) for n, vector in enumerate(chance.permutation(around(3_000, 0.7)))),
    )
    await here.build()
    (asked,) = spread(here, query[None])
    expected = await here.nearest(asked, limit=10, exactly=True)
    async with app.database.transaction("worker") as conn:
        explaining: Any = Explaining(conn)
        found = await here.store.nearest(explaining, here.index, asked, limit=10, tenant=None)
    assert ["_hnsw" in scan for scan in explaining.scans] == [True, True]
    assert {doc_id for doc_id, _ in expected[:3]} == {0, 1, 2}
    assert len({doc_id for doc_id, _ in found} & {doc_id for doc_id, _ in expected}) >= 9


async def test_where_the_walk_ends_early_all_rows_are_scanned(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A filter that no document passes, on rows that are of no document: looked at, and nothing found."""
    monkeypatch.setattr(pgvector, "SMALL_TENANT", 0)
    here = await crowded(app)
    async with app.database.transaction("reader", tenant="tiny") as conn:
        await conn.execute("SELECT set_config('hnsw.max_scan_tuples', '50', true)")
        explaining: Any = Explaining(conn)
        found = await here.store.nearest(
            explaining, here.index, randomly(1)[0], limit=10, tenant="tiny", where=parsed({"a": 1})
        )
    assert found == []
    assert "CTE" in explaining.scans[-1]
    for query in randomly(10, seed=9):
        expected, _ = await searched(here, "tiny", query, mode="auto", exactly=True)
        async with app.database.transaction("reader", tenant="tiny") as conn:
            await conn.execute(
                "SELECT set_config('hnsw.max_scan_tuples', '50', true) AS most, set_config('enable_sort', 'off', true) AS sort"
            )
            near = await here.store.nearest(conn, here.index, query, limit=10, tenant="tiny")
        assert [doc_id for doc_id, _ in near] == expected


async def test_vectors_are_as_they_are_stored(app: App) -> None:
    """Each document's chunks in their order; of others nothing."""
    here = await shelf(app, PgVector)
    rows = randomly(6)
    await here.put(chunks(1, *rows[:3]), chunks(2, *rows[3:5]), chunks(3, rows[5]))
    found = await here.store.vectors(app.database, here.index, [2, 1, 9], tenant=None)
    assert found.keys() == {1, 2}
    for doc_id, expected in ((1, rows[:3]), (2, rows[3:5])):
        assert np.array_equal(np.stack(found[doc_id]), expected.astype(np.float16))
