"""What every store promises: whole chunk sets, true neighbours, one tenant's rows, nothing left behind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import count
from typing import Any

import numpy as np
import psycopg
import pytest
from pgvector import HalfVector
from psycopg import sql
from psycopg.adapt import PyFormat, Transformer

from revec.app import App
from revec.model.errors import NotFound
from revec.model.index import Index, Kind
from revec.model.space import MAX_STORED_DIMS, QueryRecipe, Space
from revec.postgres import collections, indexes
from revec.postgres.database import Role
from revec.stores import pgvector
from revec.stores.base import ChunkSet, Store
from revec.stores.pgvector import PLAIN_DIMS, PgVector
from tests import steps

DIMS = 8
SPACE = Space("test", "store", "1", DIMS, normalise=True)
STORES = [PgVector]  # another engine is another line
SETTINGS = (
    "enable_sort",
    "hnsw.ef_search",
    "hnsw.iterative_scan",
    "lock_timeout",
    "maintenance_work_mem",
    "max_parallel_maintenance_workers",
    "plan_cache_mode",
    "client_connection_check_interval",
    "statement_timeout",
)

_names = count(1)


@dataclass(frozen=True, slots=True)
class Shelf:
    """A store, and an index of it whose documents exist by their numbers alone."""

    app: App
    store: Store
    index: Index

    async def put(self, *sets: ChunkSet) -> None:
        async with self.app.database.transaction("worker") as conn:
            await self.store.replace(conn, self.index, sets)

    async def remove(self, *doc_ids: int) -> None:
        async with self.app.database.transaction("worker") as conn:
            await self.store.remove(conn, self.index, doc_ids)

    async def build(self) -> None:
        async with self.app.database.transaction() as conn:
            await self.store.build(conn, self.index)

    async def nearest(
        self, query: Any, *, limit: int, tenant: str | None = None, exactly: bool = False
    ) -> list[tuple[int, float]]:
        role: Role = "worker" if tenant is None else "reader"
        async with self.app.database.transaction(role, tenant=tenant) as conn:
            ask = self.store.exact if exactly else self.store.nearest
            return await ask(conn, self.index, query, limit=limit, tenant=tenant)

    async def known(self, *texts: str) -> dict[bytes, np.ndarray]:
        async with self.app.database.transaction("worker") as conn:
            return await self.store.known(conn, self.index.space, [hashed(text) for text in texts])

    async def sample(self, size: int) -> list[tuple[int, bytes, np.ndarray]]:
        return (await self.store.sample(self.app.database, self.index, size)).rows

    async def everything(self) -> dict[int, list[np.ndarray]]:
        """doc_id → its chunks' vectors, in no order, by the port alone."""
        found: dict[int, list[np.ndarray]] = {}
        for doc_id, _, vector in await self.sample(10_000):
            found.setdefault(doc_id, []).append(vector)
        return found


async def shelf(app: App, engine: Any, *, kind: Kind = Kind.EXACT, space: Space = SPACE) -> Shelf:
    store: Store = engine()
    async with app.database.transaction() as conn:
        made = await collections.create(conn, f"c{next(_names)}")
        await indexes.put_space(conn, space)
        recipe = QueryRecipe(space.address)
        index = await indexes.register(conn, made.id, space, recipe, kind)
        await store.create(conn, index)
    return Shelf(app, store, index)


@pytest.fixture(params=STORES)
def engine(request: pytest.FixtureRequest) -> Any:
    return request.param


def hashed(text: str) -> bytes:
    return sha256(text.encode()).digest()


def unit(*vectors: Sequence[float]) -> np.ndarray:
    matrix = np.zeros((len(vectors), DIMS), np.float32)
    for row, values in zip(matrix, vectors, strict=True):
        row[: len(values)] = values
    return matrix / np.linalg.norm(matrix, axis=1, keepdims=True)


def randomly(rows: int, *, dims: int = DIMS, seed: int = 0) -> np.ndarray:
    """Unit vectors, float32."""
    matrix = np.random.default_rng(seed).standard_normal((rows, dims)).astype(np.float32)
    return matrix / np.linalg.norm(matrix, axis=1, keepdims=True)


def chunks(doc_id: int, *vectors: Any, tenant: str = "default", word: str = "text") -> ChunkSet:
    texts = [f"{word} {doc_id} {number}" for number in range(len(vectors))]
    return ChunkSet(doc_id, tenant, hashed(f"{word} {doc_id}"), [hashed(t) for t in texts], vectors)


def same(found: Sequence[np.ndarray], expected: Sequence[Any]) -> bool:
    """The same vectors as float16, to the last bit, in any order."""
    return Counter(each.astype("<f2").tobytes() for each in found) == Counter(
        each.astype("<f2").tobytes() for each in expected
    )


# --- chunk sets ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dims", [2, 3, 64, PLAIN_DIMS, PLAIN_DIMS + 1, MAX_STORED_DIMS])
async def test_what_is_stored_is_what_was_given(app: App, engine: Any, dims: int) -> None:
    """As float16, to the last bit, in and beyond the page."""
    here = await shelf(app, engine, space=replace(SPACE, dims=dims))
    vectors = randomly(5, dims=dims)
    await here.put(*(chunks(n, vector) for n, vector in enumerate(vectors)))
    assert same([vector for _, _, vector in await here.sample(10)], vectors)
    for n, vector in enumerate(vectors):
        ((doc_id, score),) = await here.nearest(vector, limit=1)
        assert (doc_id, round(score, 4)) == (n, 1.0)


async def test_halves_of_every_kind_survive(app: App, engine: Any) -> None:
    """The smallest, the largest, zeros of both signs; float32 and float16 side by side in one call."""
    here = await shelf(app, engine)
    odd = np.array([6e-8, -6e-8, 65504, -65504, 0.0, -0.0, 1 / 3, 2**-14], np.float32)
    await here.put(chunks(1, odd), chunks(2, odd.astype(np.float16)))
    for vectors in (await here.everything()).values():
        assert same(vectors, [odd])


async def test_a_chunk_set_is_replaced_whole(app: App, engine: Any) -> None:
    """Longer, shorter, other texts, another tenant: the last one stands, its neighbours are untouched."""
    here = await shelf(app, engine)
    vectors = randomly(12)
    await here.put(chunks(1, *vectors[:3]), chunks(2, vectors[3]), chunks(3, *vectors[4:6]))
    await here.put(chunks(1, vectors[6]), chunks(2, *vectors[7:10], word="edited", tenant="other"))
    held = await here.everything()
    assert held.keys() == {1, 2, 3}
    assert same(held[1], [vectors[6]])
    assert same(held[2], list(vectors[7:10]))
    assert same(held[3], list(vectors[4:6]))
    assert {doc for doc, _ in await here.nearest(vectors[0], limit=9, tenant="other")} == {2}
    assert await here.known("text 1 1", "text 2 0") == {}
    assert len(await here.known("edited 2 0", "edited 2 2", "text 1 0")) == 3


async def test_writing_twice_is_writing_once(app: App, engine: Any) -> None:
    here = await shelf(app, engine)
    sets = [chunks(n, *randomly(n, seed=n)) for n in (1, 2, 3)]
    await here.put(*sets)
    once = await here.everything()
    await here.put(*sets)
    twice = await here.everything()
    assert once.keys() == twice.keys()
    assert all(same(once[doc_id], twice[doc_id]) for doc_id in once)


async def test_an_empty_chunk_set_takes_the_document_out(app: App, engine: Any) -> None:
    """Nothing to embed is nothing stored, beside documents that have something, and twice."""
    here = await shelf(app, engine)
    first, second = randomly(2)
    await here.put(chunks(1, first), chunks(2, second))
    for _ in range(2):
        await here.put(chunks(1), chunks(2, first))
        held = await here.everything()
        assert held.keys() == {2}
        assert same(held[2], [first])
    await here.put()
    assert (await here.everything()).keys() == {2}


async def test_removed_documents_are_gone(app: App, engine: Any) -> None:
    """All of their chunks, and nobody else's; a stranger's number is no error."""
    here = await shelf(app, engine)
    await here.put(*(chunks(n, *randomly(2, seed=n)) for n in range(4)))
    await here.remove(1, 3, 99)
    await here.remove()
    assert (await here.everything()).keys() == {0, 2}
    await here.put(chunks(1, *randomly(1)))
    assert (await here.everything()).keys() == {0, 1, 2}


async def test_what_is_sent_is_what_pgvector_would_send(app: App) -> None:
    """Our own array of halfvec, byte for byte."""
    vectors = randomly(7, dims=33)
    async with app.database.transaction() as conn:
        ours, theirs = Transformer(conn).dump_sequence(
            [
                pgvector.HalfVectors(list(vectors)),
                [HalfVector(vector.astype(np.float16)) for vector in vectors],
            ],
            [PyFormat.BINARY, PyFormat.BINARY],
        )
    assert ours is not None
    assert theirs is not None
    assert bytes(ours) == bytes(theirs)


async def test_a_vector_of_other_dims_is_refused(app: App, engine: Any) -> None:
    """And nothing of the call is stored."""
    here = await shelf(app, engine)
    for wrong in ([np.ones(DIMS - 1), np.ones(DIMS - 1)], [np.ones(DIMS), np.ones(DIMS + 1)]):
        with pytest.raises(psycopg.DataError):
            await here.put(*(chunks(n, vector) for n, vector in enumerate(wrong)))
        assert await here.everything() == {}


# --- texts that are known -----------------------------------------------------------------------------


async def test_a_text_is_known_in_its_space_wherever_it_is_stored(app: App, engine: Any) -> None:
    """In any index of the space, in no other space, and no longer when it is replaced or dropped."""
    here, there = await shelf(app, engine), await shelf(app, engine)
    abroad = await shelf(app, engine, space=replace(SPACE, model="another"))
    first, second, third = randomly(3)
    await here.put(chunks(1, first))
    await there.put(chunks(7, second, word="there"))
    await abroad.put(chunks(9, third, word="abroad"))
    known = await here.known("text 1 0", "there 7 0", "abroad 9 0", "nobody's")
    assert known.keys() == {hashed("text 1 0"), hashed("there 7 0")}
    assert same(list(known.values()), [first, second])
    assert await here.known() == {}
    async with app.database.transaction() as conn:
        await there.store.drop(conn, there.index)
        await indexes.retire(conn, there.index.id)
    assert (await here.known("text 1 0", "there 7 0")).keys() == {hashed("text 1 0")}


async def test_an_index_dropped_unnoticed_spoils_no_look_up(app: App, engine: Any) -> None:
    """Its table went between the look at the indexes and the look into them."""
    here, there = await shelf(app, engine), await shelf(app, engine)
    await there.put(chunks(1, *randomly(1)))
    async with app.database.transaction() as conn:
        await here.store.drop(conn, here.index)
    assert (await there.known("text 1 0")).keys() == {hashed("text 1 0")}


# --- neighbours ---------------------------------------------------------------------------------------

KINDS = pytest.mark.parametrize("kind", steps.KINDS)


@KINDS
async def test_the_nearest_are_numpys_nearest(app: App, engine: Any, kind: Kind) -> None:
    """Order and cosine, with and without the index."""
    here = await shelf(app, engine, kind=kind)
    vectors = randomly(200).astype(np.float16)
    await here.put(*(chunks(n, vector) for n, vector in enumerate(vectors)))
    await here.build()
    for query in randomly(10, seed=1):
        lengths = np.linalg.norm(vectors.astype(float), axis=1)
        half = query.astype(np.float16).astype(float)
        cosines = vectors.astype(float) @ half / lengths / np.linalg.norm(half)
        best = np.argsort(-cosines)[:10]
        for exactly in (False, True):
            found = await here.nearest(query, limit=10, exactly=exactly)
            assert [doc_id for doc_id, _ in found] == list(best)
            assert np.allclose([score for _, score in found], cosines[best], atol=1e-6)


@KINDS
async def test_the_approximate_agrees_with_the_exact(app: App, engine: Any, kind: Kind) -> None:
    """On easy data, whole and by tenants, large and small: the same neighbours, as many as asked for."""
    here = await shelf(app, engine, kind=kind)
    vectors = randomly(3000, seed=5)
    tenants = ["small" if n % 100 == 0 else "middling" if n % 10 == 0 else "large" for n in range(3000)]
    await here.put(*(chunks(n, v, tenant=t) for n, (v, t) in enumerate(zip(vectors, tenants, strict=True))))
    await here.build()
    for tenant in (None, "large", "middling", "small"):
        hits = 0
        for query in randomly(20, seed=6):
            exact = await here.nearest(query, limit=20, tenant=tenant, exactly=True)
            found = await here.nearest(query, limit=20, tenant=tenant)
            assert len(found) == len(exact) == 20
            assert [score for _, score in found] == sorted((s for _, s in found), reverse=True)
            hits += sum(score >= exact[-1][1] - 1e-6 for _, score in found)
        assert hits >= 0.99 * 20 * 20, f"{tenant}: {hits} of 400"


@KINDS
async def test_asked_for_more_than_there_is(app: App, engine: Any, kind: Kind) -> None:
    """All there is; of an empty index and of an unknown tenant nothing; also beyond 1,000."""
    here = await shelf(app, engine, kind=kind)
    query = randomly(1)[0]
    await here.build()
    for exactly in (False, True):
        assert await here.nearest(query, limit=10, exactly=exactly) == []
    vectors = randomly(1500)
    await here.put(*(chunks(n, vector) for n, vector in enumerate(vectors)))
    for exactly in (False, True):
        found = await here.nearest(query, limit=5000, exactly=exactly)
        assert sorted(doc_id for doc_id, _ in found) == list(range(1500))
        assert await here.nearest(query, limit=5, tenant="nobody", exactly=exactly) == []
        assert len(await here.nearest(query, limit=1, exactly=exactly)) == 1


@KINDS
async def test_equal_distances_are_ties(app: App, engine: Any, kind: Kind) -> None:
    """Equal vectors have equal scores and stand in the order of their documents; none is lost."""
    here = await shelf(app, engine, kind=kind)
    near, far = unit([1, 0.1], [0, 1])
    numbers = [5, 3, 9, 1, 7]
    await here.put(*(chunks(n, near) for n in numbers), *(chunks(n, far) for n in (2, 4)))
    await here.build()
    query = unit([1])[0]
    for exactly in (False, True):
        found = await here.nearest(query, limit=7, exactly=exactly)
        assert [doc_id for doc_id, _ in found] == [1, 3, 5, 7, 9, 2, 4]
        assert len({score for _, score in found}) == 2
        some = await here.nearest(query, limit=3, exactly=exactly)
        assert {doc_id for doc_id, _ in some} <= set(numbers)
        assert len(some) == 3
    assert [doc for doc, _ in await here.nearest(query, limit=3, exactly=True)] == [1, 3, 5]


@KINDS
async def test_a_document_is_as_near_as_its_nearest_chunk(app: App, engine: Any, kind: Kind) -> None:
    """And stands once in the answer, however many of its chunks are near."""
    here = await shelf(app, engine, kind=kind)
    exact, close, far = unit([1], [1, 0.5], [0, 0, 1])
    await here.put(chunks(1, far, exact, far), chunks(2, close, close), chunks(3, far))
    await here.build()
    query = unit([1])[0]
    for exactly in (False, True):
        found = await here.nearest(query, limit=10, exactly=exactly)
        assert [doc_id for doc_id, _ in found] == [1, 2, 3]
        assert found[0][1] == pytest.approx(1.0)


@KINDS
async def test_given_documents_are_ranked_as_a_search_would(app: App, engine: Any, kind: Kind) -> None:
    """Those of them that have vectors, and of one tenant: by their nearest chunk, best first."""
    here = await shelf(app, engine, kind=kind)
    exact, close, far = unit([1], [1, 0.5], [0, 0, 1])
    await here.put(
        chunks(1, far, exact), chunks(2, close, close), chunks(3, far), chunks(4, exact, tenant="b")
    )
    query = unit([1])[0]
    for tenant, wanted in (("default", [1, 2]), ("b", [4]), (None, [1, 4, 2]), ("nobody", [])):
        async with app.database.transaction("worker") as conn:
            found = await here.store.scored(conn, here.index, query, [1, 2, 4, 9], tenant=tenant)
        nearest = await here.nearest(query, limit=10, tenant=tenant, exactly=True)
        assert [doc_id for doc_id, _ in found] == wanted
        assert found == [(doc_id, score) for doc_id, score in nearest if doc_id != 3]


@KINDS
async def test_a_dropped_index_is_not_found(app: App, engine: Any, kind: Kind) -> None:
    """So that the search knows to ask the route again."""
    here = await shelf(app, engine, kind=kind)
    async with app.database.transaction() as conn:
        await here.store.drop(conn, here.index)
        await here.store.drop(conn, here.index)
    for exactly in (False, True):
        with pytest.raises(NotFound, match="dropped"):
            await here.nearest(randomly(1)[0], limit=1, exactly=exactly)
    async with app.database.transaction("worker") as conn:
        with pytest.raises(NotFound, match="dropped"):
            await here.store.scored(conn, here.index, randomly(1)[0], [1], tenant=None)
    async with app.database.transaction() as conn:
        built = await here.store.built(conn, here.index)
        assert (built.valid, built.running) == (False, False)
        assert await here.store.bytes_stored(conn, here.index) == 0


async def test_searches_reach_around_deleted_documents(any_app: App) -> None:
    """Their vectors are still there, and nearer than all others: k live hits come all the same."""
    app = any_app
    made = await steps.filled(app, 120)
    query = "document 7\ntext of document 7"
    ranking = await app.retriever.search("c", query, k=100, tenant="default")
    assert len(ranking.hits) == 100
    await steps.delete(app, made, *(hit.id for hit in ranking.hits[:70]))
    found = await app.retriever.search("c", query, k=10, tenant="default")
    assert [hit.id for hit in found.hits] == [hit.id for hit in ranking.hits[70:80]]
    rest = await app.retriever.search("c", query, k=100, tenant="default")
    assert len(rest.hits) == 50


# --- samples ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("small", [200_000, 100], ids=["by sorting", "by blocks"])
async def test_a_sample_is_random_rows(
    app: App, engine: Any, small: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as asked for, each once, other ones the next time; or all there are."""
    monkeypatch.setattr(pgvector, "SMALL_TABLE", small)
    here = await shelf(app, engine)
    vectors = randomly(2000)
    await here.put(*(chunks(n, vector) for n, vector in enumerate(vectors)))
    async with app.database.transaction() as conn:
        await conn.execute(f"ANALYZE revec.vectors_{here.index.id}")
    seen: set[int] = set()
    for _ in range(5):
        drawn = await here.sample(40)
        assert len({doc_id for doc_id, *_ in drawn}) == 40
        for doc_id, text_hash, vector in drawn:
            assert text_hash == hashed(f"text {doc_id} 0")
            assert same([vector], [vectors[doc_id]])
        seen |= {doc_id for doc_id, *_ in drawn}
    assert len(seen) > 100
    assert len(await here.sample(10_000)) == 2000


@pytest.mark.parametrize("small", [0, pgvector.SMALL_TABLE])
async def test_some_documents_are_each_there_once(
    app: App, engine: Any, small: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of several chunks, too, and other ones the next time."""
    monkeypatch.setattr(pgvector, "SMALL_TABLE", small)
    here = await shelf(app, engine)
    await here.put(*(chunks(n, *randomly(3, seed=n)) for n in range(300)))
    async with app.database.transaction() as conn:
        await conn.execute(f"ANALYZE revec.vectors_{here.index.id}")
    async with app.database.transaction("worker") as conn:
        drawn = [await here.store.some(conn, here.index, size) for size in (40, 40, 10_000)]
    assert [len(set(each)) for each in drawn] == [len(each) for each in drawn] == [40, 40, 300]
    assert set(drawn[0]) != set(drawn[1])


# --- builds -------------------------------------------------------------------------------------------


async def test_an_exact_index_needs_no_building(app: App, engine: Any) -> None:
    here = await shelf(app, engine)
    await here.put(chunks(1, *randomly(1)))
    await here.build()
    async with app.database.transaction() as conn:
        assert not (await here.store.built(conn, here.index)).valid


@pytest.mark.parametrize("kind", [Kind.HNSW, Kind.BINARY])
async def test_a_build_is_there_or_not(app: App, engine: Any, kind: Kind) -> None:
    """Not before, wholly after, and a second time is no error; a rolled back one leaves nothing."""
    here = await shelf(app, engine, kind=kind)
    await here.put(*(chunks(n, vector) for n, vector in enumerate(randomly(500))))

    async def is_built() -> bool:
        async with app.database.transaction() as conn:
            built = await here.store.built(conn, here.index)
        assert not built.running
        return built.valid

    assert not await is_built()
    async with app.database.transaction() as conn, conn.transaction(force_rollback=True):
        await here.store.build(conn, here.index)
    assert not await is_built()
    before = await _stored(here)
    await here.build()
    assert await is_built()
    assert await _stored(here) > before
    await here.build()
    assert await is_built()
    newcomer = unit([1, 2, 3])[0]
    await here.put(chunks(1000, newcomer))
    await here.remove(*range(100))
    assert (await here.nearest(newcomer, limit=1))[0][0] == 1000
    found = await here.nearest(newcomer, limit=1000)
    assert {doc_id for doc_id, _ in found} == {*range(100, 500), 1000}


async def _stored(here: Shelf) -> int:
    async with here.app.database.transaction() as conn:
        return await here.store.bytes_stored(conn, here.index)


class ShortOfSharedMemory:
    """A connection to a server whose first CREATE INDEX finds /dev/shm full."""

    def __init__(self, conn: Any) -> None:
        self._conn = conn
        self.refused = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._conn, name)

    async def execute(self, query: Any, parameters: Any = None, **more: Any) -> Any:
        if "CREATE INDEX" in query.as_string(None) and not self.refused:
            self.refused += 1
            query = sql.SQL("DO $$ BEGIN RAISE 'no space' USING ERRCODE = 'disk_full'; END $$")
        return await self._conn.execute(query, parameters, **more)


async def test_a_build_makes_do_with_little_shared_memory(any_app: App, engine: Any) -> None:
    """As in a container with Docker's 64 MB: without parallel workers it needs none."""
    here = await shelf(any_app, engine, kind=Kind.HNSW)
    await here.put(*(chunks(n, vector) for n, vector in enumerate(randomly(50))))
    async with any_app.database.transaction() as conn:
        short = ShortOfSharedMemory(conn)
        await here.store.build(short, here.index)  # type: ignore[arg-type]
        row = await (
            await conn.execute("SELECT current_setting('max_parallel_maintenance_workers') AS workers")
        ).fetchone()
        assert (short.refused, row.workers) == (1, "0")
        assert (await here.store.built(conn, here.index)).valid


# --- tenants, and what a transaction leaves behind ----------------------------------------------------


@KINDS
async def test_a_reader_sees_its_tenants_rows_alone(any_app: App, engine: Any, kind: Kind) -> None:
    """Row security is a layer of its own: it holds where the query forgets the tenant."""
    app = any_app
    assert app.database.two_layers
    here = await shelf(app, engine, kind=kind)
    vectors = randomly(60)
    tenants = ("a", "b", "c")
    await here.put(*(chunks(n, v, tenant=tenants[n % 3]) for n, v in enumerate(vectors)))
    await here.build()
    store, index = here.store, here.index
    for number, tenant in enumerate(tenants):
        mine = set(range(number, 60, 3))
        async with app.database.transaction("reader", tenant=tenant) as conn:
            for ask in (store.nearest, store.exact):
                found = await ask(conn, index, vectors[0], limit=60, tenant=None)
                assert {doc_id for doc_id, _ in found} == mine
                other = tenants[number - 1]
                assert await ask(conn, index, vectors[0], limit=60, tenant=other) == []
        assert (await store.vectors(app.database, index, range(60), tenant=tenant)).keys() == mine
    for nobody in (None, "", "stranger", "a' OR true --"):
        async with app.database.transaction("reader", tenant=nobody) as conn:
            assert await store.exact(conn, index, vectors[0], limit=60, tenant=None) == []
    async with app.database.transaction("worker") as conn:
        assert len(await store.exact(conn, index, vectors[0], limit=60, tenant=None)) == 60


async def test_a_reader_writes_nothing(any_app: App, engine: Any) -> None:
    here = await shelf(any_app, engine)
    (vector,) = randomly(1)
    await here.put(chunks(1, vector))
    for write in (
        lambda conn: here.store.replace(conn, here.index, [chunks(1, -vector)]),
        lambda conn: here.store.replace(conn, here.index, [chunks(2, vector)]),
        lambda conn: here.store.remove(conn, here.index, [1]),
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            async with any_app.database.transaction("reader", tenant="default") as conn:
                await write(conn)
    assert same((await here.everything())[1], [vector])


@pytest.mark.parametrize("kind", [Kind.HNSW, Kind.BINARY])
async def test_a_transaction_leaves_no_setting_behind(any_app: App, engine: Any, kind: Kind) -> None:
    """Role, tenant and every setting end with it, also when it fails: the next client of a pooler's
    connection finds it as new.
    """
    app = any_app
    here = await shelf(app, engine, kind=kind)
    vectors = randomly(30)
    await here.put(*(chunks(n, vector) for n, vector in enumerate(vectors)))
    await here.build()
    async with app.database.transaction("reader", tenant="default") as conn:
        await here.store.nearest(conn, here.index, vectors[0], limit=500, tenant=None)
        changed = await _settings(conn)
    assert (changed["hnsw.ef_search"], changed["hnsw.iterative_scan"]) == (
        "500" if kind is Kind.HNSW else "1000",
        "relaxed_order",
    )
    assert changed["enable_sort"] == "on"
    assert changed["plan_cache_mode"] == "force_custom_plan"
    with pytest.raises(psycopg.DataError):
        await here.nearest(np.ones(3, np.float32), limit=500, tenant="default")
    for _ in range(12):  # every connection that the pooler keeps
        async with app.database.transaction() as conn:
            left = await _settings(conn)
            who = await (
                await conn.execute(
                    "SELECT current_user = session_user AS ourselves,"
                    " coalesce(current_setting('revec.tenant', true), '') AS tenant"
                )
            ).fetchone()
        assert (who.ourselves, who.tenant) == (True, "")
        assert left["hnsw.ef_search"] == "40"
        assert left["hnsw.iterative_scan"] == "off"
        assert left["plan_cache_mode"] == "auto"
        assert left["lock_timeout"] == left["statement_timeout"] == "0"
        assert left["client_connection_check_interval"] == "0"
        assert left["maintenance_work_mem"] == "65536"
        assert left["max_parallel_maintenance_workers"] == "2"


async def _settings(conn: Any) -> dict[str, str]:
    await conn.execute("SELECT '[1]'::halfvec")  # a connection knows hnsw's once it has met a vector
    rows = await conn.execute(
        "SELECT name, setting FROM pg_settings WHERE name = ANY (%s)", (list(SETTINGS),)
    )
    return {row.name: row.setting for row in await rows.fetchall()}
