"""Hybrid search: both legs in one list, by ranks or by a share, and whose leg a hit is of."""

from __future__ import annotations

from typing import Any

import pytest

from revec.app import App
from revec.model.document import Draft
from revec.model.filter import parsed
from revec.model.index import Kind
from revec.model.reading import Mode
from revec.search import fusion, lexical
from tests import steps
from tests.loopback import Loopback

DRAFTS = [
    Draft(key="apple", title="apple", body="red and round", metadata={"lang": "en"}),
    Draft(key="pear", title="pear", body="an apple with a waist", metadata={"lang": "de"}),
    Draft(key="plum", title="plum", body="blue and round", metadata={"lang": "en"}),
    Draft(key="other", title="apple", body="of another tenant", tenant="other"),
]


async def fruits(app: App, **how: Any) -> None:
    made = await steps.collection(app, **how)
    await steps.put(app, made, DRAFTS)
    await steps.drain(app)


async def search(app: App, query: str, **how: Any) -> Any:
    return await app.retriever.search("c", query, tenant=how.pop("tenant", "default"), **how)


def rrf(vectors: list[int], words: list[int]) -> dict[int, float]:
    """The formula, written down again."""
    scores: dict[int, float] = {}
    for leg in (vectors, words):
        for rank, doc_id in enumerate(leg, start=1):
            scores[doc_id] = scores.get(doc_id, 0.0) + 1 / (60 + rank)
    return scores


@pytest.mark.parametrize("kind", steps.KINDS)
async def test_both_legs_are_one_list(app: App, loopback: Loopback, kind: Kind) -> None:
    """Every document of either, by 1 / (60 + rank) of each; and where each leg had it."""
    await fruits(app, kind=kind)
    both = await search(app, "apple", mode=Mode.HYBRID)
    near = await search(app, "apple", mode=Mode.VECTOR)
    words = await search(app, "apple", mode=Mode.LEXICAL)
    assert {hit.id for hit in words.hits} == {"apple", "pear"}
    assert {hit.id for hit in both.hits} == {hit.id for hit in near.hits} == {"apple", "pear", "plum"}
    expected = rrf([hit.id for hit in near.hits], [hit.id for hit in words.hits])
    assert {hit.id: hit.score for hit in both.hits} == pytest.approx(expected, abs=1e-6)
    assert [hit.score for hit in both.hits] == sorted((hit.score for hit in both.hits), reverse=True)
    for hit in both.hits:
        assert near.hits[hit.vector_rank - 1].id == hit.id
        assert hit.lexical_rank is None or words.hits[hit.lexical_rank - 1].id == hit.id
        assert hit.matched_by == (["vector", "lexical"] if hit.lexical_rank else ["vector"])
    assert all(hit.matched_by == [] for hit in near.hits)


async def test_a_filter_and_a_tenant_bind_both_legs(app: App, loopback: Loopback) -> None:
    """Nothing of another tenant, nothing that the filter does not let through, by either leg."""
    await fruits(app)
    where = parsed({"lang": "en"})
    for mode in Mode:
        assert {hit.id for hit in (await search(app, "apple", mode=mode, where=where)).hits} <= {
            "apple",
            "plum",
        }
        assert {hit.id for hit in (await search(app, "apple", mode=mode, tenant="other")).hits} == {"other"}
        assert (await search(app, "apple", mode=mode, tenant="nobody")).hits == []
        everybody = {hit.id for hit in (await search(app, "apple", mode=mode, tenant=None)).hits}
        assert {"apple", "pear", "other"} <= everybody


async def test_hits_pass_the_filter_where_they_are_read(app: App, loopback: Loopback) -> None:
    """The legs may be older than the documents: what came behind the filter meanwhile is not shown."""
    await fruits(app)
    index = await app.serving("c")
    everything = [(row.id, 1.0) for row in await steps.rows(app, "SELECT id FROM revec.document")]
    async with app.database.transaction() as conn:
        rows = await fusion.hits(
            *(conn, index, fusion.given("vectors", everything), fusion.given("words", everything)),
            tenant="default",
            limit=10,
            where=parsed({"lang": "en"}),
        )
    assert {row.key for row in rows} == {"apple", "plum"}


async def test_deleted_documents_leave_no_gap(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Vectors of documents that are gone may still be there: the legs are read deeper."""
    monkeypatch.setattr(fusion, "DEPTH", 3)
    monkeypatch.setattr("revec.search.legs.SPARE_HITS", 0)
    made = await steps.filled(app, 30)
    best = [hit.id for hit in (await search(app, "nothing of that", k=20, mode=Mode.HYBRID)).hits]
    await steps.delete(app, made, *best[:10])
    left = [hit.id for hit in (await search(app, "nothing of that", k=10, mode=Mode.HYBRID)).hits]
    assert left == best[10:]


async def test_an_empty_query_shows_what_was_written_last(app: App, loopback: Loopback) -> None:
    """The latest first, of the tenant, behind the filter; and no model is asked."""
    await fruits(app)
    made = (await steps.rows(app, "SELECT collection_id FROM revec.document LIMIT 1"))[0].collection_id
    assert made == 1
    paid = len(loopback.bill())
    for query in ("", "  \n"):
        reading = await search(app, query, k=2)
        assert [hit.id for hit in reading.hits] == ["plum", "pear"]
    only = await search(app, "", where=parsed({"lang": "en"}))
    assert [hit.id for hit in only.hits] == ["plum", "apple"]
    assert len(loopback.bill()) == paid


async def test_words_answer_when_the_model_does_not(app: App, loopback: Loopback) -> None:
    """And the answer says so; when it is back the vectors count again."""
    await fruits(app)
    loopback.fault("503", times=1)
    reading = await search(app, "apple", mode=Mode.HYBRID)
    assert reading.degraded
    assert "only the words were searched" in reading.why
    assert {hit.id for hit in reading.hits} == {"apple", "pear"}


async def test_words_alone_ask_no_model(app: App, loopback: Loopback) -> None:
    """That is the point of them."""
    await fruits(app)
    paid = len(loopback.bill())
    reading = await search(app, "round", mode=Mode.LEXICAL)
    assert {hit.id for hit in reading.hits} == {"apple", "plum"}
    assert not reading.degraded
    assert len(loopback.bill()) == paid


async def test_a_share_decides_where_it_is_kept(app: App, loopback: Loopback) -> None:
    """0: the words alone, 1: the vectors alone; in between each score over the best of its leg."""
    await fruits(app)
    near = await search(app, "apple", mode=Mode.VECTOR)
    words = await search(app, "apple", mode=Mode.LEXICAL)
    for alpha in (0.0, 0.3, 1.0):
        async with app.database.transaction() as conn:
            index = await app.serving("c")
            seen = await fusion.in_force(conn, index.collection_id, index.space, index.query)
            await fusion.keep(conn, index, seen, alpha, evidence={}, who="test")
        both = await search(app, "apple", mode=Mode.HYBRID)
        best = {leg: reading.hits[0].score for leg, reading in (("v", near), ("w", words))}
        expected = {hit.id: alpha * (1 + hit.score) / (1 + best["v"]) for hit in near.hits}
        for hit in words.hits:
            expected[hit.id] = expected.get(hit.id, 0) + (1 - alpha) * hit.score / best["w"]
        assert {hit.id: hit.score for hit in both.hits} == pytest.approx(expected, abs=1e-4)


async def test_without_a_language_the_vectors_are_all(app: App, loopback: Loopback) -> None:
    """A collection that has no lexical leg."""
    await fruits(app)
    collection = await steps.collection(app, model=None)
    async with app.database.transaction() as conn:
        await lexical.speak(conn, collection, None)
    near = await search(app, "apple", mode=Mode.VECTOR)
    both = await search(app, "apple", mode=Mode.HYBRID)
    assert [hit.id for hit in both.hits] == [hit.id for hit in near.hits]
    assert (await search(app, "apple", mode=Mode.LEXICAL)).hits == []
