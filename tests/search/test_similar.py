"""Documents like another one: by its stored vectors, by a text, by a vector; with a threshold, its duplicates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from revec.app import App
from revec.migrate.planning.recipe import Long
from revec.model.errors import BadInput, NotFound, Refused
from revec.model.filter import parsed
from revec.model.index import Collection, Index, Kind
from revec.model.reading import Reading
from revec.model.space import QueryRecipe, Space
from revec.postgres import collections, documents, thresholds
from revec.postgres.thresholds import Threshold
from revec.search import similar
from revec.search.similar import ByKey, ByText, ByVector, Like
from tests import loopback as fake
from tests import steps
from tests.loopback import Loopback


def text_of(n: int) -> str:
    return f"document {n}\ntext of document {n}"


def vector_of(n: int) -> np.ndarray:
    return fake.vector(text_of(n), "fake-64")


def ranking(like: int, count: int) -> list[str]:
    scores = {str(n): float(vector_of(n) @ vector_of(like)) for n in range(count) if n != like}
    return sorted(scores, key=lambda key: -scores[key])


async def like(app: App, what: Like, **how: Any) -> Reading:
    return await app.retriever.similar("c", what, **{"tenant": "default", **how})


async def duplicated(app: App, **how: Any) -> Collection:
    """Twenty documents; a, b and c say the same."""
    made = await steps.filled(app, 20, **how)
    await steps.put(app, made, [steps.Draft(key, "same", "the same text") for key in "abc"])
    await steps.drain(app)
    return made


@pytest.mark.parametrize("kind", steps.KINDS)
async def test_like_a_document(app: App, loopback: Loopback, kind: Kind) -> None:
    """By its stored vectors, so nothing is embedded; it is not like itself."""
    made = await steps.filled(app, 20, kind=kind)
    loopback.clear()
    reading = await like(app, ByKey("7"), k=5)
    assert [hit.id for hit in reading.hits] == ranking(7, 20)[:5]
    everything = await like(app, ByKey("7"), k=100)
    assert {hit.id for hit in everything.hits} == {str(n) for n in range(20)} - {"7"}
    assert loopback.log() == []
    assert (reading.index_id, reading.threshold, reading.degraded) == (1, None, False)
    await steps.assert_oracle(app, made)


async def test_like_a_text(app: App, loopback: Loopback) -> None:
    """Embedded as a document would be, so that an equal text is as like as can be."""
    await duplicated(app)
    reading = await like(app, ByText("same\nthe same text"), k=3)
    assert {hit.id for hit in reading.hits} == {"a", "b", "c"}
    assert all(hit.score == pytest.approx(1, abs=1e-3) for hit in reading.hits)


async def test_a_text_is_embedded_by_the_document_s_recipe(app: App, loopback: Loopback) -> None:
    """Its prefix and its chunks, not the query's."""
    made = await steps.collection(app, long=Long(chunk="32 tokens, 4 overlap"))
    body = " ".join(f"word{n}" for n in range(100))
    await steps.put(app, made, [steps.Draft("long", "", body), *steps.drafts(10)])
    await steps.drain(app)
    loopback.clear()
    reading = await like(app, ByText(body), k=1)
    assert reading.hits[0].id == "long"
    assert reading.hits[0].score == pytest.approx(1, abs=1e-3)
    ((chunks,),) = await steps.rows(app, "SELECT max(chunk_count) FROM revec.vectors_1")
    assert [line["inputs"] for line in loopback.log()] == [chunks]
    assert chunks > 4


async def test_of_several_chunks_the_best_pair_counts(app: App, loopback: Loopback) -> None:
    """A document that shares one chunk with another is near it, whatever its other chunks say."""
    made = await steps.filled(app, 30)
    async with app.database.transaction() as conn:
        ids = {
            row.key: row.id
            for row in await (await conn.execute("SELECT key, id FROM revec.document")).fetchall()
        }
        for key, other in (("3", "12"), ("3", "17"), ("5", "17")):
            await conn.execute(
                "INSERT INTO revec.vectors_1 SELECT %s, (SELECT max(chunk_no) + 1 FROM revec.vectors_1 WHERE doc_id = %s),"
                " tenant, input_hash, text_hash, 2, embedding FROM revec.vectors_1 WHERE doc_id = %s AND chunk_no = 0",
                (ids[key], ids[key], ids[other]),
            )
    found = await like(app, ByKey("3"), k=3)
    assert {hit.id for hit in found.hits} == {"5", "12", "17"}
    assert all(hit.score == pytest.approx(1, abs=1e-3) for hit in found.hits)
    assert len({hit.id for hit in (await like(app, ByKey("3"), k=100)).hits}) == 29
    assert made.name == "c"


async def test_a_threshold_finds_the_duplicates(app: App, loopback: Loopback) -> None:
    """All of them, nothing else; k still bounds them; below every score everything comes."""
    await duplicated(app)
    reading = await like(app, ByKey("a"), threshold=0.99)
    assert {hit.id for hit in reading.hits} == {"b", "c"}
    assert reading.threshold == 0.99
    assert (await like(app, ByKey("0"), threshold=0.99)).hits == []
    assert len((await like(app, ByKey("a"), threshold=0.99, k=1)).hits) == 1
    assert len((await like(app, ByKey("a"), threshold=-1, k=100)).hits) == 22


async def test_duplicates_are_found_behind_deleted_ones(app: App, loopback: Loopback) -> None:
    """Forty that were deleted stand before them in the index: it looks further."""
    made = await steps.filled(app, 5)
    await steps.put(app, made, [steps.Draft(f"x{n}", "same", "the same text") for n in range(60)])
    await steps.drain(app)
    await steps.delete(app, made, *(f"x{n}" for n in range(1, 45)))
    reading = await like(app, ByKey("x0"), threshold=0.99, k=10)
    assert len(reading.hits) == 10
    assert len((await like(app, ByKey("x0"), threshold=0.99, k=100)).hits) == 15


async def test_a_tenant_finds_its_own_and_starts_from_its_own(app: App, loopback: Loopback) -> None:
    """The other tenant's key and one that nobody has get the same answer."""
    made = await steps.collection(app)
    for tenant in ("acme", "globex"):
        mine = [steps.Draft(f"{tenant} {d.key}", d.title, d.body, tenant) for d in steps.drafts(5)]
        await steps.put(app, made, mine)
    await steps.drain(app)
    reading = await like(app, ByKey("acme 1"), tenant="acme", k=100)
    assert {hit.id for hit in reading.hits} == {f"acme {n}" for n in (0, 2, 3, 4)}
    said = []
    for key in ("acme 1", "nobody"):
        with pytest.raises(NotFound) as refused:
            await like(app, ByKey(key), tenant="globex")
        said.append(str(refused.value).replace(key, "KEY"))
    assert said[0] == said[1]
    both = await like(app, ByKey("acme 1"), tenant=None, k=1)
    assert [hit.id for hit in both.hits] == ["globex 1"]


async def test_what_may_not_be_seen_is_no_start_either(app: App, loopback: Loopback) -> None:
    """Hidden documents are neither shown nor compared with; the caller's own filter is of the hits alone."""
    made = await steps.filled(app, 5)
    await steps.put(
        app, made, [steps.Draft("2", "document 2", "text of document 2", metadata={"secret": True})]
    )
    visible = parsed({"not": {"secret": True}})
    assert "2" not in {hit.id for hit in (await like(app, ByKey("1"), visible=visible)).hits}
    with pytest.raises(NotFound, match="there is no document '2'"):
        await like(app, ByKey("2"), visible=visible)
    assert {hit.id for hit in (await like(app, ByKey("1"), where=parsed({"secret": True}))).hits} == {"2"}


async def test_a_key_of_two_sources_has_to_be_said_of_which(app: App, loopback: Loopback) -> None:
    made = await steps.filled(app, 5)
    async with app.database.transaction() as conn:
        other = await collections.add_source(conn, made, "app.faq")
        await documents.lock_source(conn, other)
        await documents.put(conn, other, [steps.Draft("1", "another", "one")])
    await steps.drain(app)
    with pytest.raises(BadInput, match=r"say which source, one of app\.faq, push"):
        await like(app, ByKey("1"))
    reading = await like(app, ByKey("1", "app.faq"), k=100)
    assert ("1", "push") in {(hit.id, hit.source) for hit in reading.hits}
    assert ("1", "app.faq") not in {(hit.id, hit.source) for hit in reading.hits}


async def test_a_document_without_vectors_is_no_start_yet(app: App, loopback: Loopback) -> None:
    """It says who makes them."""
    made = await steps.filled(app, 5)
    await steps.put(app, made, [steps.Draft("new", "new", "new")])
    with pytest.raises(Refused, match="'new' has no vectors in openai:fake-64#1: `revec worker` makes them"):
        await like(app, ByKey("new"))


# --- by a vector ----------------------------------------------------------------------------------


async def space_of(app: App) -> str:
    return (await app.serving("c")).space.id


async def test_like_a_vector(app: App, loopback: Loopback) -> None:
    """Of the space that serves, as somebody else made it."""
    await steps.filled(app, 20)
    vector = vector_of(7).tolist()
    reading = await like(app, ByVector(vector, await space_of(app)), k=4)
    assert [hit.id for hit in reading.hits] == ["7", *ranking(7, 20)[:3]]


BAD_VECTORS = {
    "too short": ([1.0] * 63, "it has 63 numbers"),
    "empty": ([], "it has 0 numbers"),
    "of text": (["1"] * 64, "it does not hold numbers alone"),
    "of lists": ([[1.0]] * 64, "it does not hold numbers alone"),
    "NaN": ([float("nan")] * 64, "NaN"),
    "infinite": ([float("inf")] * 64, "NaN, infinity"),
    "large": ([1e30] * 64, "too large"),
    "very large": ([10**400] * 64, "too large"),
    "zero": ([0.0] * 64, "its norm is 0.000"),
    "of another norm": ([1.0] * 64, "its norm is 8.000"),
}


@pytest.mark.parametrize("name", BAD_VECTORS)
def test_a_vector_that_cannot_be_of_the_space_is_refused(name: str) -> None:
    """The sentence says what is wrong with it, and which space serves."""
    unit = Space("test", "unit", "1", 64, normalise=True)
    recipe = QueryRecipe(unit.address)
    serving = Index(1, 1, unit, recipe, Kind.EXACT, writing=True, held=False, fault=None)
    vector, what = BAD_VECTORS[name]
    with pytest.raises(BadInput) as refused:
        similar.of_vector(serving, ByVector(vector, unit.id))
    assert what in str(refused.value)
    serves = f"test:unit serves, its space is {unit.id}, of 64 finite numbers and norm 1"
    assert serves in str(refused.value)


async def test_a_vector_of_another_space_is_refused(app: App, loopback: Loopback) -> None:
    """Equal dims, and a cutover in between: it would find neighbours that mean nothing."""
    made = await steps.ready(app, to="openai:fake-c-64")
    vector, before = vector_of(7).tolist(), await space_of(app)
    assert (await like(app, ByVector(vector, before), k=1)).hits[0].id == "7"
    await app.commands.switch.cutover(made, why="test")
    with pytest.raises(BadInput, match=f"it is of {before}: openai:fake-c-64 serves, its space is "):
        await like(app, ByVector(vector, before))
    with pytest.raises(BadInput, match="nobody says which space it is of"):
        await like(app, ByVector(vector, None))


async def test_an_empty_or_endless_text_is_refused(app: App, loopback: Loopback) -> None:
    await steps.filled(app, 3)
    for text, sentence in (("  ", "the text is empty"), ("x" * 1_000_001, "1,000,001 characters")):
        with pytest.raises(BadInput, match=sentence):
            await like(app, ByText(text))


# --- the threshold that is kept -------------------------------------------------------------------


async def keep(app: App, made: Collection, value: float) -> None:
    async with app.database.transaction() as conn:
        await thresholds.keep(conn, made.id, await space_of(app), Threshold(value, None, {}))


async def test_the_kept_threshold_counts_unless_another_is_said(app: App, loopback: Loopback) -> None:
    made = await duplicated(app)
    assert len((await like(app, ByKey("a"), k=100)).hits) == 22
    await keep(app, made, 0.99)
    reading = await like(app, ByKey("a"), k=100)
    assert {hit.id for hit in reading.hits} == {"b", "c"}
    assert reading.threshold == 0.99
    assert len((await like(app, ByKey("a"), k=100, threshold=-1)).hits) == 22
    assert len((await app.retriever.search("c", "x", k=100, tenant="default")).hits) == 23


async def test_a_threshold_of_another_space_is_not_used(app: App, loopback: Loopback) -> None:
    """It would mean something else there: refused, with both ways out."""
    made = await steps.ready(app)  # too few pairs to carry anything
    await keep(app, made, 0.999)
    await app.commands.switch.cutover(made, why="test")
    with pytest.raises(Refused, match=r"`revec collections tune c --threshold …`.*in the question"):
        await like(app, ByKey("1"))
    assert (await like(app, ByKey("1"), threshold=-1)).hits
    await app.commands.switch.rollback(made, why="test")
    assert (await like(app, ByKey("1"))).threshold == 0.999
