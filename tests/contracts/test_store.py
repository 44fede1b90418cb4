"""What every store promises, wherever it is: whole sets, true neighbours, one tenant's rows, nothing left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import count
from typing import Any

import numpy as np
import pytest

from revec import seams
from revec.app import App
from revec.model.errors import NotFound
from revec.model.filter import read
from revec.model.index import Index, Kind
from revec.model.place import HERE, PG, new_place
from revec.model.space import QueryRecipe, Space
from revec.postgres import collections, indexes
from revec.stores import near
from revec.stores.base import ChunkSet, Scored
from tests import places, steps

DIMS = 16
SPACE = Space("test", "store", "1", DIMS, normalise=True)
CLOSE = 2e-3  # of a cosine: vectors are float16 here, and float32 of those elsewhere

_names = count(1)


def test_every_store_elsewhere_is_asked() -> None:
    """A new file among the engines has to be named among the tests' places too."""
    assert {*places.KINDS} == {PG, *seams.store_names()}


@dataclass(frozen=True, slots=True)
class Shelf:
    """An index at a store; its documents exist by their numbers alone."""

    app: App
    index: Index

    async def put(self, *sets: ChunkSet) -> None:
        staged = await self.app.store.stage(self.index, sets)
        async with self.app.database.transaction("worker") as conn:
            await self.app.store.replace(conn, self.index, staged)

    async def remove(self, *doc_ids: int) -> None:
        async with self.app.database.transaction("worker") as conn:
            await self.app.store.remove(conn, self.index, doc_ids)

    async def nearest(
        self, query: Any, *, limit: int, tenant: str | None = None, exactly: bool = False, where: Any = None
    ) -> Scored:
        asked: dict[str, Any] = {"limit": limit, "tenant": tenant, "where": where}
        searching = await self.app.store.ahead(self.index, [query], **asked, exactly=exactly)
        role: Any = "worker" if tenant is None else "reader"
        async with self.app.database.transaction(role, tenant=tenant) as conn:
            ask = searching.exact if exactly else searching.nearest
            return await ask(conn, self.index, query, **asked)

    async def have(self, *texts: str) -> dict[bytes, np.ndarray]:
        hashes = [hashed(text) for text in texts]
        async with self.app.database.transaction("worker") as conn:
            here = await self.app.store.known(conn, SPACE, hashes)
            located = await self.app.store.located(conn, SPACE, hashes)
        return here | await self.app.store.fetched(located)

    async def points(self) -> int | None:
        """How many the store itself says that it has."""
        place = self.index.place
        return None if place.is_here else await self.app.store_at(place.store).count(place.name)


@pytest.fixture(params=places.KINDS)
def store(request: pytest.FixtureRequest, store_of: Callable[[str], str]) -> str:
    return store_of(request.param)


async def shelf(app: App, store: str) -> Shelf:
    steps.unhurried(app)
    place = HERE if store == PG else new_place(store)
    await app.store.prepare(place, DIMS)
    await app.store.prepare(place, DIMS)
    async with app.database.transaction() as conn:
        made = await collections.create(conn, f"c{next(_names)}")
        await indexes.put_space(conn, SPACE)
        kind = Kind.EXACT if place.is_here else Kind.NATIVE
        recipe = QueryRecipe(SPACE.address)
        index = await indexes.register(conn, made.id, SPACE, recipe, kind, place=place)
        await app.store.create(conn, index)
    return Shelf(app, index)


def hashed(text: str) -> bytes:
    return sha256(text.encode()).digest()


def randomly(rows: int, seed: int = 0) -> np.ndarray:
    """Unit vectors, float16."""
    matrix = np.random.default_rng(seed).normal(size=(rows, DIMS))
    return (matrix / np.linalg.norm(matrix, axis=1, keepdims=True)).astype(np.float16)


def chunks(doc_id: int, *vectors: np.ndarray, tenant: str = "default", word: str = "text") -> ChunkSet:
    hashes = [hashed(f"{word} {doc_id} {number}") for number in range(len(vectors))]
    return ChunkSet(doc_id, tenant, b"input", hashes, vectors)


def truth(query: np.ndarray, vectors: dict[int, Sequence[np.ndarray]], limit: int) -> Scored:
    """By numpy alone."""
    best = {
        doc_id: max(float(query.astype(np.float64) @ each.astype(np.float64)) for each in mine)
        for doc_id, mine in vectors.items()
    }
    return sorted(best.items(), key=lambda found: (-found[1], found[0]))[:limit]


async def tend(app: App, times: int = 3) -> None:
    """Upkeep, as a worker does it."""
    await steps.rows(app, "UPDATE revec.tombstone SET due = now() WHERE NOT condemned RETURNING 1")
    upkeep = steps.upkeep(app)
    for _ in range(times):
        await upkeep.tick()


@pytest.mark.parametrize("exactly", [False, True])
async def test_the_nearest_are_the_nearest(app: App, store: str, exactly: bool) -> None:
    """Documents, not chunks, by their cosines, best first; as many as there are where fewer."""
    here = await shelf(app, store)
    vectors = randomly(90)
    documents = {n: [vectors[n * 3 + k] for k in range(1 + n % 3)] for n in range(30)}
    await here.put(*(chunks(doc_id, *mine) for doc_id, mine in documents.items()))
    for query in randomly(5, seed=1):
        found = await here.nearest(query, limit=10, exactly=exactly)
        expected = truth(query, documents, 10)
        assert [doc_id for doc_id, _ in found] == [doc_id for doc_id, _ in expected]
        assert [score for _, score in found] == pytest.approx([score for _, score in expected], abs=CLOSE)
    assert len(await here.nearest(vectors[0], limit=1_000, exactly=exactly)) == 30
    assert await here.points() in {None, sum(map(len, documents.values()))}


async def test_a_set_is_replaced_whole(app: App, store: str) -> None:
    """Fewer chunks than before: none of the old ones answers, at once; and then none of them is there."""
    here = await shelf(app, store)
    old, new = randomly(4), randomly(2, seed=1)
    await here.put(chunks(1, *old, word="old"), chunks(2, old[0]))
    await here.put(chunks(1, *new, word="new"))
    found = await here.nearest(old[1], limit=10)
    assert [doc_id for doc_id, _ in found] == [
        doc_id for doc_id, _ in truth(old[1], {1: new, 2: old[:1]}, 10)
    ]
    kept = (await app.store.vectors(app.database, here.index, [1], tenant=None))[1]
    assert [vector.tolist() for vector in kept] == [pytest.approx(v.tolist(), abs=CLOSE) for v in new]
    assert (await here.have("old 1 1")).keys() == set()
    assert (await here.have("new 1 1")).keys() == {hashed("new 1 1")}
    await tend(app)
    assert await here.points() in {None, 3}


async def test_what_is_removed_is_gone(app: App, store: str) -> None:
    """It answers no search from that commit on, is given to nobody, and leaves nothing behind."""
    here = await shelf(app, store)
    vectors = randomly(3)
    await here.put(*(chunks(n, v) for n, v in enumerate(vectors)))
    await here.remove(1)
    assert {doc_id for doc_id, _ in await here.nearest(vectors[1], limit=10)} == {0, 2}
    assert await here.have("text 1 0") == {}
    await tend(app)
    assert await here.points() in {None, 2}
    assert await steps.rows(app, "SELECT * FROM revec.tombstone") == []
    await here.remove(1, 7)


async def test_a_tenant_sees_its_own(app: App, store: str) -> None:
    """By its own transaction, whoever else is nearer; everybody's only for who asks for all."""
    here = await shelf(app, store)
    vectors = randomly(60)
    await here.put(*(chunks(n, v, tenant="abc"[n % 3]) for n, v in enumerate(vectors)))
    for number, tenant in enumerate("abc"):
        mine = set(range(number, 60, 3))
        for exactly in (False, True):
            found = await here.nearest(vectors[0], limit=60, tenant=tenant, exactly=exactly)
            assert {doc_id for doc_id, _ in found} == mine
        assert (await app.store.vectors(app.database, here.index, range(60), tenant=tenant)).keys() == mine
    assert await here.nearest(vectors[0], limit=60, tenant="stranger") == []
    assert len(await here.nearest(vectors[0], limit=60)) == 60


@pytest.mark.parametrize(("few", "most_near"), [(500, 8_192), (2, 8_192), (2, 20)])
async def test_a_filter_is_never_dropped(
    app: App, store: str, monkeypatch: pytest.MonkeyPatch, few: int, most_near: int
) -> None:
    """Few that pass, many that pass, none: exactly those, of the live documents; however they are found."""
    monkeypatch.setattr(near, "FEW", few)
    monkeypatch.setattr(near, "MOST_NEAR", most_near)
    here = await shelf(app, store)
    made = await steps.collection(app, "filtered", model=None)
    drafts = [
        steps.Draft(str(n), body=f"text {n}", metadata={"n": n, "even": n % 2 == 0}) for n in range(120)
    ]
    await steps.put(app, made, drafts)
    ids = {int(row.key): row.id for row in await steps.rows(app, "SELECT key, id FROM revec.document")}
    vectors = randomly(120)
    await here.put(*(chunks(ids[n], vectors[n]) for n in range(120)))
    expected = truth(vectors[7], {ids[n]: [vectors[n]] for n in range(120)}, 120)
    cases = {'{"n": {"lt": 3}}': range(3), '{"even": true}': range(0, 120, 2), '{"n": 1000}': ()}
    for text, passing in cases.items():
        found = await here.nearest(vectors[7], limit=80, where=read(text))
        let_through = {ids[n] for n in passing}
        assert [doc_id for doc_id, _ in found] == [d for d, _ in expected if d in let_through], text


async def test_equal_texts_are_given_away(app: App, store: str) -> None:
    """What the space holds, of the texts that were asked for, as it was put."""
    here = await shelf(app, store)
    vectors = randomly(3)
    await here.put(*(chunks(n, v) for n, v in enumerate(vectors)))
    found = await here.have("text 0 0", "text 2 0", "another text")
    assert found.keys() == {hashed("text 0 0"), hashed("text 2 0")}
    assert found[hashed("text 2 0")].tolist() == pytest.approx(vectors[2].tolist(), abs=CLOSE)


async def test_more_than_one_call_takes(app: App, store: str) -> None:
    """A large write is cut into calls; all of it is there."""
    here = await shelf(app, store)
    vectors = randomly(1_100)
    await here.put(*(chunks(n, v) for n, v in enumerate(vectors)))
    assert await here.points() in {None, 1_100}
    assert [d for d, _ in await here.nearest(vectors[1_099], limit=1)] == [1_099]


async def test_a_dropped_index_is_not_found(app: App, store: str) -> None:
    """With all its points; who still asks it hears so, and dropping it again is no harm."""
    here = await shelf(app, store)
    vectors = randomly(3)
    await here.put(*(chunks(n, v) for n, v in enumerate(vectors)))
    for _ in range(2):
        await app.store.clear(here.index)
        async with app.database.transaction() as conn:
            await app.store.drop(conn, here.index)
    with pytest.raises(NotFound):
        await here.nearest(vectors[0], limit=3)
    assert await here.have("text 0 0") == {}
