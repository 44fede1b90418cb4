"""Live writes: whatever happens to a document while its text is embedded, its index ends up right."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace

import psycopg
import pytest
from psycopg.types.json import Jsonb

from revec.app import App
from revec.model.document import Draft, rendered, text_hash
from revec.model.index import Index
from revec.postgres import indexes
from revec.stores.base import ChunkSet
from tests import loopback as fake
from tests import steps
from tests.loopback import Loopback
from tests.model.test_chunking import by_bytes
from tests.work import hands

ONE = Draft(key="one", title="one", body="the first text")
EDITED = replace(ONE, body="the second text")


async def test_an_edit_while_the_old_text_is_embedded(any_app: App, loopback: Loopback) -> None:
    """The newest text's vector ends up, and the old one's was never written."""
    app = any_app
    made, _ = await hands.indexed(app)
    await steps.put(app, made, [ONE])
    async with hands.embedding(app, loopback):
        await steps.put(app, made, [EDITED])
    await steps.drain(app)
    await hands.assert_oracle(app, made)


async def test_an_edit_while_its_neighbour_is_written(any_app: App, loopback: Loopback) -> None:
    """What is acknowledged is what was written: the pack's other document alone."""
    app = any_app
    made, _ = await hands.indexed(app)
    await steps.put(app, made, [ONE, replace(ONE, key="two")])
    async with hands.embedding(app, loopback):
        await steps.put(app, made, [EDITED])
    assert [row.key for row in await hands.work(app)] == ["one"]
    await steps.drain(app)
    await hands.assert_oracle(app, made)


async def test_an_edit_and_back_while_the_text_is_embedded(any_app: App, loopback: Loopback) -> None:
    """The vector of equal content is right, whatever happened between; the newer work is done too."""
    app = any_app
    made, _ = await hands.indexed(app)
    await steps.put(app, made, [ONE])
    async with hands.embedding(app, loopback):
        await steps.put(app, made, [EDITED])
        await steps.put(app, made, [ONE])
    assert [row.key for row in await hands.work(app)] == ["one"]
    await steps.drain(app)
    await hands.assert_oracle(app, made)
    assert paid_for(loopback, ONE) == 1


async def test_a_delete_while_the_text_is_embedded(any_app: App, loopback: Loopback) -> None:
    """No vector of the deleted document, not even for a moment, and no work left."""
    app = any_app
    made, _ = await hands.indexed(app)
    await steps.put(app, made, [ONE])
    async with hands.embedding(app, loopback):
        await steps.delete(app, made, "one")
    await steps.drain(app)
    assert await hands.work(app) == []
    await hands.assert_oracle(app, made)


@pytest.mark.parametrize("again", [ONE, EDITED], ids=["the same text", "another text"])
async def test_a_deleted_key_comes_back_while_its_text_is_embedded(
    any_app: App, loopback: Loopback, again: Draft
) -> None:
    """The key's new document has its own vector, of its own text, and nothing of the old one."""
    app = any_app
    made, _ = await hands.indexed(app)
    await steps.put(app, made, [ONE])
    async with hands.embedding(app, loopback):
        await steps.delete(app, made, "one")
        await steps.put(app, made, [again])
    await steps.drain(app)
    await hands.assert_oracle(app, made)
    assert paid_for(loopback, ONE) == 1


async def test_a_tenant_change_is_a_delete_and_an_insert(any_app: App, loopback: Loopback) -> None:
    """Under the new tenant a new document: the old tenant keeps nothing, and nobody pays again."""
    app = any_app
    made, index = await hands.indexed(app)
    await steps.put(app, made, [replace(ONE, tenant="before")])
    async with hands.embedding(app, loopback):
        await steps.put(app, made, [replace(ONE, tenant="meanwhile")])
    await steps.drain(app)
    await hands.assert_oracle(app, made)
    before = await steps.stored(app, index)
    await steps.put(app, made, [replace(ONE, tenant="after")])
    await steps.drain(app)
    after = await steps.stored(app, index)
    assert (len(before), len(after)) == (1, 1)
    assert before.keys() != after.keys()
    tenants = await steps.rows(app, f"SELECT tenant FROM revec.vectors_{index.id}")
    assert tenants == [("after",)]
    assert paid_for(loopback, ONE) == 1
    await hands.assert_oracle(app, made)


async def test_metadata_alone_makes_no_work(any_app: App, loopback: Loopback) -> None:
    """What no template reads costs no embedding, draws no revision and makes no work."""
    app = any_app
    made, _ = await hands.indexed(app)
    await steps.put(app, made, [ONE])
    await steps.drain(app)
    revision = await steps.rows(app, "SELECT rev FROM revec.document")
    asked = loopback.requests()["requests"]
    await steps.put(app, made, [replace(ONE, metadata={"stars": 5})])
    assert await hands.work(app) == []
    assert await steps.rows(app, "SELECT rev FROM revec.document") == revision
    assert await steps.rows(app, "SELECT metadata FROM revec.document") == [({"stars": 5},)]
    await steps.drain(app)
    assert loopback.requests()["requests"] == asked
    await hands.assert_oracle(app, made)


async def test_an_empty_text_is_left_out_until_it_is_filled(any_app: App, loopback: Loopback) -> None:
    """Empty: excluded, with the reason. Filled: embedded. Emptied again: its vector is gone."""
    app = any_app
    made, index = await hands.indexed(app)
    empty = Draft(key="one", title=" ", body="\n")
    excluded = "SELECT reason FROM revec.excluded"
    for draft, reasons, vectors in (
        (empty, [("empty text",)], 0),
        (ONE, [], 1),
        (empty, [("empty text",)], 0),
    ):
        await steps.put(app, made, [draft])
        await steps.drain(app)
        assert await steps.rows(app, excluded) == reasons
        assert len(await steps.stored(app, index)) == vectors
        await hands.assert_oracle(app, made)
    await steps.delete(app, made, "one")
    await steps.drain(app)
    assert await steps.rows(app, excluded) == []
    await hands.assert_oracle(app, made)


async def test_a_document_emptied_while_its_text_is_embedded(any_app: App, loopback: Loopback) -> None:
    """It is excluded; the vector of the text that it had is not written."""
    app = any_app
    made, index = await hands.indexed(app)
    await steps.put(app, made, [ONE])
    async with hands.embedding(app, loopback):
        await steps.put(app, made, [Draft(key="one")])
    await steps.drain(app)
    assert await steps.stored(app, index) == {}
    await hands.assert_oracle(app, made)


async def test_a_busy_document_is_given_back(any_app: App, loopback: Loopback) -> None:
    """A writer that does not commit neither waits for the worker nor costs an attempt or a payment."""
    app = any_app
    made, _ = await hands.indexed(app)
    await steps.put(app, made, [ONE])
    async with app.database.transaction() as writer:
        async with hands.embedding(app, loopback):
            edit = writer.execute("UPDATE revec.document SET metadata = %s", (Jsonb({"a": 1}),))
            assert not await hands.has_to_wait(writer, edit)
        (row,) = await hands.work(app)
        assert (row.attempts, row.token, row.leased, row.due) == (0, None, None, True)
        assert [kept.kept for kept in await hands.paid(app)] == [True]
        await writer.execute("UPDATE revec.document SET metadata = %s", (Jsonb({"a": 2}),))
    await steps.drain(app)
    await hands.assert_oracle(app, made)
    assert paid_for(loopback, ONE) == 1


async def test_an_edit_in_the_making_stalls_no_worker(any_app: App, loopback: Loopback) -> None:
    """The edit has not committed when the old text's vector arrives: neither waits for the other."""
    app = any_app
    made, _ = await hands.indexed(app)
    await steps.put(app, made, [ONE])
    async with app.database.transaction() as writer:
        async with hands.embedding(app, loopback) as working:
            edit = writer.execute("UPDATE revec.document SET body = 'the second text'")
            assert not await hands.has_to_wait(writer, edit)
            loopback.release()

            async def is_settled() -> bool:
                return working.done() or bool(await hands.lock_waiters(app))

            await hands.until(is_settled)
            stalled = not working.done()
            if stalled:  # or it would wait for us, and we for it
                await writer.execute("ROLLBACK")
        assert not stalled, "the worker waited for the writer"
        assert [kept.kept for kept in await hands.paid(app)] == [True]
        await writer.execute("UPDATE revec.document SET body = 'the third text'")
    await steps.drain(app)
    await hands.assert_oracle(app, made)
    await steps.put(app, made, [ONE])
    await steps.drain(app)
    assert paid_for(loopback, ONE) == 1
    await hands.assert_oracle(app, made)


async def test_a_superseded_vector_is_used_by_whoever_needs_the_text(
    any_app: App, loopback: Loopback
) -> None:
    """What was paid for and could not be written is not paid for again."""
    app = any_app
    made, _ = await hands.indexed(app)
    await steps.put(app, made, [ONE])
    async with hands.embedding(app, loopback):
        await steps.put(app, made, [EDITED])
    await steps.drain(app)
    await steps.put(app, made, [replace(ONE, key="another")])
    await steps.drain(app)
    await hands.assert_oracle(app, made)
    assert paid_for(loopback, ONE) == 1


async def test_two_workers_with_one_text_pay_once(any_app: App, loopback: Loopback) -> None:
    """While one pays, the other gives its claim back, unburnt, and copies later."""
    app = any_app
    made, _ = await hands.indexed(app)
    await steps.put(app, made, [ONE, replace(ONE, key="twin")])
    async with hands.embedding(app, loopback, claim=1):
        await assert_nothing_sent(app, loopback)
        twin = next(row for row in await hands.work(app) if not row.leased)
        assert (twin.attempts, twin.token, twin.due) == (0, None, False)
    summary = await steps.drain(app)
    assert summary.copied == 1
    await hands.assert_oracle(app, made)
    assert paid_for(loopback, ONE) == 1


async def test_the_right_to_pay_lasts_as_long_as_the_work(app: App, loopback: Loopback) -> None:
    """An embedding that takes longer than a lease is still nobody else's to pay for."""
    app.settings = app.settings.model_copy(update={"lease": 0.3})
    made, _ = await hands.indexed(app)
    await steps.put(app, made, [ONE, replace(ONE, key="twin")])
    async with hands.embedding(app, loopback, claim=1):
        ((lease,),) = await steps.rows(app, "SELECT lease_until FROM revec.paid")

        async def is_over() -> bool:
            return await steps.rows(app, "SELECT 1 WHERE clock_timestamp() > %(t)s", t=lease) != []

        await hands.until(is_over)
        await assert_nothing_sent(app, loopback)
    await steps.drain(app)
    await hands.assert_oracle(app, made)
    assert paid_for(loopback, ONE) == 1


async def test_collections_of_one_space_pay_once(any_app: App, loopback: Loopback) -> None:
    """A text that one collection has in this space is copied to the other."""
    app = any_app
    first, _ = await hands.indexed(app, "c")
    second, _ = await hands.indexed(app, "d")
    await steps.put(app, first, steps.drafts(10))
    await steps.drain(app)
    await steps.put(app, second, steps.drafts(12))
    summary = await steps.drain(app)
    assert (summary.copied, summary.embedded) == (10, 2)
    for made in (first, second):
        await hands.assert_oracle(app, made)
    assert max(bill(loopback).values()) == 1


async def test_a_chunk_set_is_replaced_whole(app: App) -> None:
    """Three chunks, then one: no chunk of the longer text is left behind."""
    made, index = await hands.indexed(app)
    await steps.put(app, made, [ONE, replace(ONE, key="neighbour", body="untouched")])
    await steps.drain(app)
    ((doc_id, input_hash),) = await steps.rows(
        app, "SELECT id, input_hash FROM revec.document WHERE key = 'one'"
    )
    (whole,) = rendered(index.space, ONE.title, ONE.body, by_bytes)
    for texts in ([whole, "two", "three"], [whole, "two"], [whole]):
        vectors = fake.vectors(texts, index.space.model)
        chunks = ChunkSet(doc_id, "default", input_hash, [text_hash(t) for t in texts], list(vectors))
        staged = await app.store.stage(index, [chunks])
        async with app.database.transaction("worker") as conn:
            await app.store.replace(conn, index, staged)
        query = (
            f"SELECT chunk_no, chunk_count FROM revec.vectors_{index.id} WHERE doc_id = %(doc)s ORDER BY 1"
        )
        count = len(texts)
        assert await steps.rows(app, query, doc=doc_id) == [(n, count) for n in range(count)]
    await hands.assert_oracle(app, made)


async def test_an_older_snapshot_may_not_write_documents(any_app: App) -> None:
    """It could miss an index that was registered meanwhile, so it is refused."""
    app = any_app
    made, _ = await hands.indexed(app)
    with pytest.raises(psycopg.errors.RaiseException, match="READ COMMITTED"):
        async with app.database.transaction() as conn:
            await conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            await conn.execute("DELETE FROM revec.document")
    with pytest.raises(psycopg.errors.RaiseException, match="never truncated"):
        await steps.rows(app, "TRUNCATE revec.document")
    await hands.assert_oracle(app, made)


async def test_work_for_a_document_that_is_gone_is_laid_to_rest(any_app: App) -> None:
    """However it came there (a backfill that had looked before the delete), it does not live for ever."""
    app = any_app
    made, index = await hands.indexed(app)
    await steps.put(app, made, [ONE])
    ((doc_id, rev),) = await steps.rows(app, "SELECT id, rev FROM revec.document")
    await steps.delete(app, made, "one")
    await steps.drain(app)
    await steps.rows(
        app,
        "INSERT INTO revec.work (index_id, doc_id, rev, action, lane, tenant)"
        " VALUES (%(index)s, %(doc)s, %(rev)s, 'embed', 2, 'default') RETURNING rev",
        index=index.id,
        doc=doc_id,
        rev=rev,
    )
    await hands.step(app)
    assert await hands.work(app) == []
    await hands.assert_oracle(app, made)


async def test_an_index_dropped_while_its_text_is_embedded(any_app: App, loopback: Loopback) -> None:
    """Its migration was aborted: the worker shrugs and goes on with the others."""
    app = any_app
    made, index = await hands.indexed(app)
    await steps.put(app, made, [ONE])
    async with hands.embedding(app, loopback), app.database.transaction() as conn:
        await indexes.retire(conn, index.id)
        await indexes.forget(conn, index.id)
        await app.store.drop(conn, index)
    other, _ = await hands.indexed(app, "d")
    await steps.put(app, other, [ONE])
    await steps.drain(app)
    assert await hands.work(app) == []
    for each in (made, other):
        await hands.assert_oracle(app, each)


async def test_an_index_dropped_while_it_is_asked_for_copies(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another index of the space is gone: its vectors are simply not known."""
    made, index = await hands.indexed(app)

    async def looked_too_early(*_: object) -> list[Index]:
        return [replace(index, id=index.id + 1), index]

    monkeypatch.setattr(indexes, "of_space", looked_too_early)
    await steps.put(app, made, [ONE])
    assert (await hands.step(app)).written == 1
    await hands.assert_oracle(app, made)


async def assert_nothing_sent(app: App, loopback: Loopback) -> None:
    """Another worker's step ends, while one request is held, without a second one."""
    second = asyncio.create_task(hands.step(app, claim=1))

    async def is_settled() -> bool:
        return second.done() or loopback.held() > 1

    await hands.until(is_settled)
    assert loopback.held() == 1
    assert (await second).embedded == 0


def paid_for(loopback: Loopback, draft: Draft) -> int:
    """How often this text was embedded, by the provider's own bill."""
    text = f"{draft.title}\n{draft.body}".strip()
    return bill(loopback)[text_hash(text).hex()]


def bill(loopback: Loopback) -> Counter[str]:
    return Counter(line["text"] for line in loopback.bill() if not line["fault"])
