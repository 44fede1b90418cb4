"""Long documents: chunked by the space's recipe, written whole, paid for once, nothing left behind."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from revec.app import App
from revec.migrate.planning.recipe import Long
from revec.model.document import Draft
from revec.model.index import Index, Kind
from revec.model.verdict import Outcome
from revec.providers.base import Traits
from revec.work import letters, packing
from revec.work.memory import Memory
from tests import steps
from tests.loopback import Loopback
from tests.migrate import world
from tests.work import hands

CHUNKED = Long(chunk="32 tokens, 8 overlap")
POISON = "poison"


def draft(key: str, sentences: int, *, word: str = "sentence", **changed: str) -> Draft:
    """A text of so many sentences, no two alike; `changed`: s7="other" for the seventh."""
    body = " ".join(changed.get(f"s{n}", f"This is {word} number {n:04} of {key}.") for n in range(sentences))
    return Draft(key=key, title=f"Title of {key}", body=body)


async def chunks(app: App, index: Index) -> dict[str, list[int]]:
    """Key → the numbers of its chunks."""
    found = await steps.rows(
        app,
        f"SELECT d.key, array_agg(v.chunk_no ORDER BY v.chunk_no) AS numbers"
        f"  FROM revec.vectors_{index.id} v JOIN revec.document d ON d.id = v.doc_id GROUP BY 1",
    )
    return {row.key: row.numbers for row in found}


async def test_a_shrinking_document_leaves_no_chunk_behind(any_app: App, loopback: Loopback) -> None:
    """Long, longer, short, empty, long again: its chunks are those of its text, and nobody else's change."""
    app = any_app
    made, index = await hands.indexed(app, long=CHUNKED)
    await steps.put(app, made, [draft("one", 20), draft("neighbour", 20)])
    summary = await steps.drain(app)
    assert (summary.written, summary.chunked, summary.truncated) == (2, 2, 0)
    neighbour = (await chunks(app, index))["neighbour"]
    assert len(neighbour) > 5
    await hands.assert_oracle(app, made)
    for sentences in (40, 3, 1, 0, 20):
        await steps.put(app, made, [draft("one", sentences) if sentences else Draft("one")])
        await steps.drain(app)
        await hands.assert_oracle(app, made)
        now = await chunks(app, index)
        assert now["neighbour"] == neighbour
        assert len(now.get("one", [])) >= sentences // 4


async def test_an_edit_pays_for_the_changed_chunks_only(any_app: App, loopback: Loopback) -> None:
    """One sentence of sixty: the chunks that hold it, and no other, are sent again."""
    app = any_app
    made, index = await hands.indexed(app, long=CHUNKED)
    await steps.put(app, made, [draft("one", 60)])
    await steps.drain(app)
    before = len((await chunks(app, index))["one"])
    loopback.clear()
    await steps.put(app, made, [draft("one", 60, s30="That is sentence number 0030 of one.")])
    summary = await steps.drain(app)
    assert before > 15
    assert 1 <= summary.embedded <= 2
    assert len(loopback.bill()) == summary.embedded
    await hands.assert_oracle(app, made)


async def test_a_document_larger_than_a_pack(
    any_app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spread over several calls, written whole in one transaction; short ones are not held up."""
    app = any_app
    monkeypatch.setattr(packing, "INPUTS", 10)
    made, index = await hands.indexed(app, long=CHUNKED)
    await steps.put(app, made, [*steps.drafts(15), draft("long", 100)])
    summary = await hands.step(app)
    assert (summary.written, summary.chunked) == (16, 1)
    numbers = (await chunks(app, index))["long"]
    assert len(numbers) > 30
    assert numbers == list(range(len(numbers)))
    (of_one,) = await steps.rows(
        app, f"SELECT count(DISTINCT xmin::text) AS n FROM revec.vectors_{index.id} WHERE chunk_count > 1"
    )
    assert of_one.n == 1, "its chunks are of one transaction"
    calls = Counter(line["request"] for line in loopback.bill())
    assert max(calls.values()) <= 10
    assert max(Counter(line["text"] for line in loopback.bill()).values()) == 1
    await hands.assert_oracle(app, made)


async def test_a_failure_in_the_middle_of_a_long_document(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An outage after some of its calls: nothing of it is written, nobody is to blame, all comes in the end."""
    monkeypatch.setattr(packing, "INPUTS", 10)
    made, index = await hands.indexed(app, long=CHUNKED)
    await steps.put(app, made, [draft("long", 100, s70=f"This is {POISON}.")])
    loopback.fault("503", times=1, match=POISON)
    await hands.step(app)
    assert await chunks(app, index) == {}
    assert [(row.attempts, row.token) for row in await hands.work(app)] == [(0, None)]
    assert {row.kept for row in await hands.paid(app)} == {True}
    await steps.drain(app)
    assert max(Counter(line["text"] for line in loopback.bill() if not line["fault"]).values()) == 1
    await hands.assert_oracle(app, made)


async def test_two_workers_with_documents_that_share_chunks(app: App, loopback: Loopback) -> None:
    """Each may pay for some of the other's chunks: both get done at once, and nothing is paid twice."""
    made, _ = await hands.indexed(app, long=CHUNKED)
    same = draft("one", 30)
    await steps.put(app, made, [same])
    async with hands.embedding(app, loopback):
        mixed = f"{same.body} {' '.join(f'More of it, the {n:04}.' for n in range(20))}"
        await steps.put(app, made, [replace(same, key="two", body=mixed)])
        await hands.step(app)  # some of its chunks are being paid for elsewhere: given back
        right = await steps.rows(app, "SELECT DISTINCT token FROM revec.paid")
        assert len(right) == 1, "it keeps no right to the others meanwhile"
    await steps.drain(app)
    assert max(Counter(line["text"] for line in loopback.bill()).values()) == 1
    await hands.assert_oracle(app, made)


async def test_a_chunk_that_is_refused_buries_its_document(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole, with its neighbours in the pack untouched; what was paid for it is kept for its next text."""
    monkeypatch.setattr(packing, "INPUTS", 10)
    made, index = await hands.indexed(app, long=CHUNKED)
    await steps.put(app, made, [*steps.drafts(15), draft("long", 100, s70=f"This is {POISON}.")])
    loopback.fault("refuse", times=None, match=POISON)
    summary = await hands.step(app)
    assert (summary.written, summary.buried) == (15, 1)
    assert "long" not in await chunks(app, index)
    assert await hands.work(app) == []
    assert all(row.kept for row in await hands.paid(app)), "nobody waits for a right that is not used"
    paid = len(loopback.bill())
    await steps.put(app, made, [draft("long", 100)])
    await steps.drain(app)
    assert len((await chunks(app, index))["long"]) > len(loopback.bill()) - paid
    await hands.assert_oracle(app, made)


@pytest.mark.parametrize("kind", [Kind.HNSW, Kind.BINARY])
async def test_k_documents_are_found_by_an_approximate_scan(app: App, loopback: Loopback, kind: Kind) -> None:
    """The same promise."""
    await finds_documents_not_chunks(app, kind)


async def test_k_documents_are_found_among_many_chunks(app: App, loopback: Loopback) -> None:
    """However many chunks of one document are the nearest: k documents, each once, the best first."""
    await finds_documents_not_chunks(app, Kind.EXACT)


async def finds_documents_not_chunks(app: App, kind: Kind) -> None:
    made = await steps.collection(app, long=CHUNKED, kind=kind)
    long = [draft(f"long {n}", 120, word="needle") for n in range(3)]
    await steps.put(app, made, [*long, *(draft(f"short {n}", 1) for n in range(30))])
    await steps.drain(app)
    for query in ("This is needle number 0007 of long 1.", "anything else"):
        hits = (await app.retriever.search("c", query, k=10, tenant="default")).hits
        assert len({hit.id for hit in hits}) == len(hits) == 10
        scores = [hit.score for hit in hits]
        assert scores == sorted(scores, reverse=True)
    assert len((await app.retriever.search("c", "x", k=100, tenant="default")).hits) == 33
    await steps.assert_oracle(app, made)


async def test_a_chunked_index_is_verified_by_its_recipe(app: App, loopback: Loopback) -> None:
    """Its stored vectors are compared with those of the very chunks; a drifted model is seen."""
    made, index = await hands.indexed(app, long=CHUNKED)
    await steps.put(app, made, [draft(f"d{n}", 30) for n in range(10)])
    await steps.drain(app)
    verdict = await world.judged(app, "fidelity", index, sample=50)
    assert (verdict.outcome, verdict.evidence["sample"]) == (Outcome.PASSED, 50)
    loopback.fault("drift", times=None)
    verdict = await world.judged(app, "fidelity", index, sample=50)
    assert verdict.outcome is Outcome.FAILED
    await hands.assert_oracle(app, made)


async def test_texts_are_truncated_where_the_space_says_so(app: App, loopback: Loopback) -> None:
    """One vector of the beginning; counted; an edit behind it is paid for no more."""
    made, index = await hands.indexed(app, long=Long(truncate=40))
    await steps.put(app, made, [draft("long", 50), draft("short", 1)])
    summary = await steps.drain(app)
    assert (summary.written, summary.truncated, summary.chunked) == (2, 1, 0)
    assert await chunks(app, index) == {"long": [0], "short": [0]}
    loopback.clear()
    await steps.put(app, made, [draft("long", 50, s40="Changed where nobody reads.")])
    summary = await steps.drain(app)
    assert (summary.copied, loopback.bill()) == (1, [])
    await hands.assert_oracle(app, made)


async def test_what_the_model_cuts_is_counted(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Left to the model: as many as are longer than it takes."""
    made, index = await hands.indexed(app)
    provider: Any = await app.provider(index.space.address, index.space.dims)

    async def traits() -> Traits:
        return Traits(dims=64, revision="", normalised=False, max_tokens=200)

    monkeypatch.setattr(provider, "traits", traits)
    await steps.put(app, made, [draft("long", 50), draft("short", 1)])
    summary = await steps.drain(app)
    assert (summary.written, summary.truncated) == (2, 1)
    await hands.assert_oracle(app, made)


async def test_a_text_beyond_the_ceiling_is_never_read(app: App, loopback: Loopback) -> None:
    """A dead letter with its size and the way out; its neighbours are done; a person may try again."""
    made, index = await hands.indexed(app)
    await steps.put(app, made, [*steps.drafts(3), replace(draft("long", 1), body="x" * 300_000)])
    worker = app.worker()
    worker.memory = Memory(16 << 20)
    assert worker.memory.largest_text == 256 << 10
    await worker._embed_step()
    assert (worker.summary.written, worker.summary.buried) == (3, 1)
    (letter,) = await steps.rows(app, "SELECT cause FROM revec.dead")
    assert letter.cause.startswith("text of 1 MB is more than this worker's memory is for (16 MB in all")
    assert await hands.work(app) == []
    async with app.database.transaction() as conn:
        await letters.retry(conn, made, [index.id], who="test")
    await steps.drain(app)
    await hands.assert_oracle(app, made)


async def test_a_text_that_grew_meanwhile_is_not_read(app: App, loopback: Loopback) -> None:
    """Measured short, then edited: the read does not see it, its new work does."""
    made, index = await hands.indexed(app)
    await steps.put(app, made, steps.drafts(2))
    claim = await hands.claim(app, index)
    async with app.database.transaction("worker") as conn:
        sized = await hands.documents.measured(conn, claim.to_embed)
        await steps.put(app, made, [replace(steps.drafts(1)[0], body="x" * 300_000)])
        assert len(await hands.documents.contents(conn, sized)) == 1
    await hands.expire(app)
    await steps.drain(app)
    await hands.assert_oracle(app, made)


async def test_out_of_memory_in_a_claim(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The claim is given back, nobody is to blame, no right to pay is held, the worker goes on."""
    made, index = await hands.indexed(app)
    await steps.put(app, made, steps.drafts(10))
    provider: Any = await app.provider(index.space.address, index.space.dims)

    async def none_left(*_: Any, **__: Any) -> Any:
        raise MemoryError

    worker = app.worker()
    with monkeypatch.context() as patched:
        patched.setattr(provider, "embed", none_left)
        await worker._embed_step()
    assert [(row.attempts, row.token) for row in await hands.work(app)] == [(0, None)] * 10
    assert await hands.paid(app) == []
    summary = await steps.drain(app)
    assert (summary.written, summary.buried) == (10, 0)
    await hands.assert_oracle(app, made)
