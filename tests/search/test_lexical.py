"""The lexical leg is BM25, exactly, at every moment: whatever was edited, deleted or folded meanwhile."""

from __future__ import annotations

import asyncio
import math
import random
from collections import Counter
from typing import Any

import pytest

from revec.app import App
from revec.model.document import Draft
from revec.model.errors import BadInput
from revec.model.index import Collection
from revec.postgres import collections
from revec.search import lexical
from revec.search.lexical import Folder
from tests import steps

WORDS = ["apple", "banana", "cherry", "damson", "elder", "fig", "grape", "hazel", "iris", "kale", "lemon"]
QUERIES = ("apple", "apple apple banana", "kale, lemon & olive!", "fig grape unknown", "unknown", "")
READ = "SELECT id, key, tenant, (revec.terms('english', title || E'\\n' || body)).* FROM revec.document"


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many blocks and folds of few documents, where in life they are of thousands."""
    monkeypatch.setattr(lexical, "FOLD", {"documents": 7, "lexemes": 60, "block": 5})


async def made(app: App) -> Collection:
    return await steps.collection(app, model=None)


def text(rng: random.Random) -> str:
    """Frequent words first, as in life."""
    return " ".join(WORDS[int(len(WORDS) * rng.random() ** 2)] for _ in range(rng.randrange(12)))


def draft(key: str, body: str, tenant: str = "default") -> Draft:
    return Draft(key=key, title="", body=body, tenant=tenant)


async def fold(app: App, times: int = 1_000) -> int:
    """How many folds there were, until nothing is left or so many are done."""
    folder = Folder(app.database, settled=0.0)
    for done in range(times):
        if not await folder.tick():
            return done
    return times


async def found(
    app: App, collection: Collection, query: str, tenant: str | None = "default", **how: Any
) -> dict[int, float]:
    role: Any = "worker" if tenant is None else "reader"
    async with app.database.transaction(role, tenant=tenant) as conn:
        return dict(await lexical.ranked(conn, collection.id, query, k=1000, tenant=tenant, **how))


async def keys(app: App, collection: Collection, query: str, tenant: str | None = "default") -> set[str]:
    hits = await found(app, collection, query, tenant)
    named = await steps.rows(app, "SELECT id, key FROM revec.document")
    assert hits.keys() <= {row.id for row in named}, "a document that is gone"
    return {row.key for row in named if row.id in hits}


async def assert_exact(app: App, collection: Collection, *tenants: str | None) -> None:
    """The scores are those of the formula over the documents of this moment."""
    rows = await steps.rows(app, READ)
    for tenant in tenants or ("default",):
        documents = {
            row.id: dict(zip(row.lexemes, row.tfs, strict=True))
            for row in rows
            if tenant is None or row.tenant == tenant
        }
        for query in QUERIES:
            (asked,) = await steps.rows(app, "SELECT (revec.terms('english', %(q)s)).*", q=query)
            expected = bm25(documents, dict(zip(asked.lexemes, asked.tfs, strict=True)))
            assert await found(app, collection, query, tenant) == pytest.approx(expected, abs=1e-9), query


def bm25(documents: dict[int, dict[str, int]], query: dict[str, int]) -> dict[int, float]:
    """Lucene's, written down again."""
    if not documents:
        return {}
    mean = max(1, sum(sum(each.values()) for each in documents.values())) / len(documents)
    frequent = Counter(lexeme for each in documents.values() for lexeme in each)
    scores: dict[int, float] = {}
    for lexeme, weight in query.items():
        n = frequent[lexeme]
        idf = math.log(1 + (len(documents) - n + 0.5) / (n + 0.5))
        for doc_id, tfs in documents.items():
            if tf := tfs.get(lexeme):
                norm = lexical.K1 * (1 - lexical.B + lexical.B * sum(tfs.values()) / mean)
                scores[doc_id] = scores.get(doc_id, 0.0) + weight * idf * tf / (tf + norm)
    return scores


async def postings(app: App) -> set[tuple[Any, ...]]:
    """As facts: who has which word how often, and how long it is."""
    rows = await steps.rows(
        app,
        "SELECT b.tenant, b.lexeme, p.* FROM revec.posting b,"
        " unnest(b.ids, b.tfs, b.lengths) AS p (doc_id, tf, length)",
    )
    facts = [tuple(row) for row in rows]
    assert len(facts) == len(set(facts))
    return set(facts)


@pytest.mark.parametrize("seed", range(3))
async def test_exact_after_any_edits_beside_folds(app: App, seed: int) -> None:
    """Inserts, edits, deletes and moves to another tenant, folded now and then: the formula's scores all along,
    and in the end the postings of a fresh build.
    """
    rng, collection = random.Random(seed), await made(app)
    for _ in range(25):
        names = [str(rng.randrange(40)) for _ in range(rng.randrange(1, 12))]
        if rng.random() < 0.25:
            await steps.delete(app, collection, *names)
        else:
            drafts = [draft(name, text(rng), rng.choice(["default", "default", "other"])) for name in names]
            await steps.put(app, collection, drafts)
        await fold(app, rng.choice([0, 0, 1, 3]))
        if rng.random() < 0.4:
            await assert_exact(app, collection, "default", "other", None)
    await fold(app)
    await assert_exact(app, collection, "default", "other", None)
    folded, lexicon = (
        await postings(app),
        await steps.rows(app, "SELECT * FROM revec.lexicon ORDER BY tenant"),
    )
    async with app.database.transaction() as conn:
        await lexical.build(conn, collection)
    await fold(app)
    assert await postings(app) == folded
    assert await steps.rows(app, "SELECT * FROM revec.lexicon ORDER BY tenant") == lexicon


async def test_blocks_are_bounded_and_have_ranges(app: App) -> None:
    """A word that all have is in several blocks, each in order, none too long."""
    collection = await made(app)
    await steps.put(app, collection, [draft(str(n), "apple") for n in range(40)])
    await fold(app)
    await steps.put(app, collection, [draft(str(n), "apple banana") for n in range(0, 40, 3)])
    await fold(app)
    blocks = await steps.rows(app, "SELECT * FROM revec.posting WHERE lexeme = 'appl'")
    assert sum(len(block.ids) for block in blocks) == 40
    assert len(blocks) <= 20
    for block in blocks:
        assert 0 < len(block.ids) <= lexical.FOLD["block"]
        assert (block.first_id, block.last_id) == (block.ids[0], block.ids[-1])
        assert block.ids == sorted(block.ids)


async def test_an_edit_and_a_delete_are_seen_at_once(app: App) -> None:
    """With the commit, before any worker has been there; and not before."""
    collection = await made(app)
    await steps.put(app, collection, [draft("1", "apple"), draft("2", "apple")])
    await fold(app)
    await steps.put(app, collection, [draft("1", "banana")])
    assert await keys(app, collection, "apple") == {"2"}
    assert await keys(app, collection, "banana") == {"1"}
    await steps.delete(app, collection, "1")
    assert await keys(app, collection, "banana") == set()
    await fold(app)
    assert await keys(app, collection, "apple banana") == {"2"}


async def test_what_does_not_change_the_text_is_no_work(app: App) -> None:
    """Other metadata, or the same text again."""
    collection = await made(app)
    await steps.put(app, collection, [draft("1", "apple")])
    await fold(app)
    await steps.put(app, collection, [Draft(key="1", title="", body="apple", metadata={"a": 1})])
    assert await steps.rows(app, "SELECT FROM revec.unfolded") == []


async def test_a_fold_keeps_no_writer_and_no_reader_waiting(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it is under way documents are edited and searched; what it did not see is folded later."""
    collection = await made(app)
    await steps.put(app, collection, [draft(str(n), "apple") for n in range(3)])
    reached, go = asyncio.Event(), asyncio.Event()

    async def held(self: Folder, collection_id: int, tenant: str) -> int:
        async with app.database.transaction() as conn:
            asked = {"collection": collection_id, "tenant": tenant}
            await conn.execute(lexical.SQL.claim, asked)
            await conn.execute(lexical.SQL.begin, asked)
            await conn.execute(lexical.SQL.fold, asked | lexical.FOLD)
            reached.set()
            await go.wait()
        return 3

    with monkeypatch.context() as patch:
        patch.setattr(Folder, "_fold", held)
        folding = asyncio.create_task(Folder(app.database, settled=0.0).tick())
        await reached.wait()
    async with asyncio.timeout(5):
        await steps.put(app, collection, [draft("0", "banana"), draft("9", "apple")])
        await steps.delete(app, collection, "1")
        assert await keys(app, collection, "apple") == {"2", "9"}
        await assert_exact(app, collection)
    other, _ = await asyncio.wait([asyncio.create_task(Folder(app.database, settled=0.0).tick())], timeout=5)
    assert [task.result() for task in other] == [False], "it waits for the other's tenant"
    go.set()
    await folding
    await assert_exact(app, collection)
    assert await fold(app) > 0
    await assert_exact(app, collection)
    assert await steps.rows(app, "SELECT FROM revec.unfolded") == []


async def test_a_document_that_is_not_committed_is_folded_later(app: App) -> None:
    """A smaller number of a slower writer is not passed over."""
    collection = await made(app)
    await steps.put(app, collection, [draft("1", "apple")])
    async with app.database.transaction() as conn:
        source = await collections.add_source(conn, collection, "slow")
        await conn.execute(
            "INSERT INTO revec.document (collection_id, source_id, key, body)"
            " VALUES (%s, %s, 'slow', 'apple banana')",
            (collection.id, source),
        )
        await steps.put(app, collection, [draft("2", "apple")])
        assert await fold(app) == 1
        assert await keys(app, collection, "apple") == {"1", "2"}
    assert await keys(app, collection, "apple") == {"1", "2", "slow"}
    await fold(app)
    await assert_exact(app, collection)


async def test_a_fold_that_fails_has_changed_nothing(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed before its commit: the next one does it."""
    collection = await made(app)
    await steps.put(app, collection, [draft(str(n), "apple") for n in range(5)])

    def killed(_: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(lexical, "failpoint", killed)
        await Folder(app.database, settled=0.0).tick()
    assert await postings(app) == set()
    await assert_exact(app, collection)
    await fold(app)
    assert len(await postings(app)) == 5


async def test_a_tenant_sees_and_counts_its_own(app: App) -> None:
    """Another tenant's documents are neither hits nor in the numbers, also where the query asked for them."""
    collection = await made(app)
    await steps.put(app, collection, [draft(str(n), "apple", "a") for n in range(3)])
    await steps.put(app, collection, [draft("x", "apple banana", "b")])
    for _ in range(2):
        alone = await found(app, collection, "apple", "b")
        assert len(alone) == 1
        assert next(iter(alone.values())) < 0.2  # all of b's documents have it
        assert await keys(app, collection, "apple", None) == {"0", "1", "2", "x"}
        async with app.database.transaction("reader", tenant="b") as conn:
            hits = await lexical.ranked(conn, collection.id, "apple", k=10, tenant=None)
        assert [doc_id for doc_id, _ in hits] == list(alone)
        await fold(app)


async def test_texts_of_any_length(app: App) -> None:
    """A long one is counted whole, of a very long one the beginning: no text is refused for its words."""
    collection = await made(app)
    long = " ".join(f"word{n}" for n in range(30_000))
    await steps.put(app, collection, [draft("1", f"{long} apple apple"), draft("2", "banana " * 200_000)])
    await steps.put(app, collection, [draft("3", "")])
    for _ in range(2):
        assert await keys(app, collection, "apple") == {"1"}
        assert await keys(app, collection, "word29999") == {"1"}
        assert await keys(app, collection, "banana") == {"2"}
        await fold(app)
    (row,) = await steps.rows(app, "SELECT * FROM revec.lexicon")
    assert row.documents == 3
    assert row.words > 30_000 + 32 * 255  # a word counts at most 255 times in a piece


async def test_another_language(app: App) -> None:
    """Its stems, for documents that were there before too; none at all; one that there is not."""
    collection = await made(app)
    await steps.put(app, collection, [draft("1", "die alten Häuser"), draft("2", "he is running")])
    await fold(app)
    assert await keys(app, collection, "Haus") == set()
    assert await keys(app, collection, "run") == {"2"}
    async with app.database.transaction() as conn:
        await lexical.speak(conn, collection, "german")
    for _ in range(2):
        assert await keys(app, collection, "Haus") == {"1"}
        assert await keys(app, collection, "run") == set()
        await fold(app)
    async with app.database.transaction() as conn:
        await lexical.speak(conn, collection, None)
    assert await keys(app, collection, "Haus") == set()
    await steps.put(app, collection, [draft("3", "Haus")])
    assert await steps.rows(app, "SELECT FROM revec.unfolded") == []
    async with app.database.transaction() as conn:
        for wrong in ("klingon", "'; DROP", ""):
            with pytest.raises(BadInput, match="is no text search configuration"):
                await lexical.speak(conn, collection, wrong)


async def test_reading_anew_waits_for_a_fold(app: App) -> None:
    """Or what the fold is just writing would stay beside what is read."""
    collection = await made(app)
    await steps.put(app, collection, [draft("1", "apple"), draft("2", "banana")])

    async def build() -> None:
        async with app.database.transaction() as conn:
            await lexical.build(conn, collection)

    async with app.database.transaction() as conn:
        asked = {"collection": collection.id, "tenant": "default"}
        await conn.execute(lexical.SQL.share)
        await conn.execute(lexical.SQL.claim, asked)
        await conn.execute(lexical.SQL.begin, asked)
        building = asyncio.create_task(build())
        done, _ = await asyncio.wait([building], timeout=0.3)
        assert not done
        await conn.execute(lexical.SQL.fold, asked | lexical.FOLD)
    await building
    await assert_exact(app, collection)
    await fold(app)
    await assert_exact(app, collection)


async def test_workers_fold(app: App) -> None:
    """Without anybody asking for it."""
    collection = await steps.filled(app, 20)
    folder = Folder(app.database)
    assert await folder.tick() is False  # they have only just come
    assert folder.settled > 0
    assert len(await keys(app, collection, "document")) == 20
