"""A collection that writes inline: the answer comes when a search finds it, or says what is queued, and why."""

from __future__ import annotations

import asyncio

import pytest

from revec.app import App
from revec.capture.push import push
from revec.model.access import Caller, Role
from revec.model.index import Collection
from revec.model.reading import Mode
from revec.postgres import collections
from revec.work import demand
from revec.work.inline import Answer
from tests import steps
from tests.loopback import Loopback
from tests.web import door
from tests.work import hands

ANYBODY = Caller("a test", Role.ADMIN, None)


async def inline(app: App, made: Collection, mode: str = collections.INLINE) -> None:
    async with app.database.transaction() as conn:
        await collections.set_write_mode(conn, made, mode)


async def wrote(
    app: App, made: Collection, count: int = 3, *, wait: float | None = None, **how: object
) -> Answer:
    ids = await push(app.database, made, steps.drafts(count, **how))  # type: ignore[arg-type]
    return await app.inline.answer(made, ids, wait)


def standings(answer: Answer) -> set[str]:
    return {str(stand.standing) for stand in answer.stands}


async def test_who_writes_inline_needs_no_worker(app: App, loopback: Loopback) -> None:
    """What was answered for is found by the next search, and each text was paid for once."""
    made = await steps.filled(app, 2)
    await inline(app, made)
    loopback.clear()
    answer = await wrote(app, made, start=10, word="kraken")
    assert (standings(answer), answer.queued) == ({"searchable"}, None)
    found = await app.retriever.search(
        "c", "kraken 11\ntext of kraken 11", tenant="default", mode=Mode.VECTOR
    )
    assert found.hits[0].id == "11"
    again = await wrote(app, made, start=10, word="kraken")
    assert standings(again) == {"searchable"}
    assert len(loopback.bill()) == 3 + 1  # the query
    await steps.assert_oracle(app, made)


async def test_queued_is_what_a_collection_is_unless_it_says(app: App) -> None:
    """Kept, and nothing embedded; and so again as soon as it goes back to it."""
    made = await steps.filled(app, 2)
    assert standings(await wrote(app, made, start=10)) == {"pending"}
    await inline(app, made)
    await inline(app, made, collections.QUEUED)
    assert standings(await wrote(app, made, start=20)) == {"pending"}
    await steps.drain(app)
    await steps.assert_oracle(app, made)


async def test_back_to_inline_loses_nothing_that_is_queued(app: App) -> None:
    """What was queued stays so, for the workers; what is written from there on is answered for at once."""
    made = await steps.filled(app, 2)
    await wrote(app, made, 5, start=10)
    await inline(app, made)
    assert standings(await wrote(app, made, 2, start=50)) == {"searchable"}
    assert len(await hands.work(app)) == 5
    await steps.drain(app)
    await steps.assert_oracle(app, made)


async def test_what_cannot_be_embedded_now_is_queued_with_a_sentence(app: App, loopback: Loopback) -> None:
    """The provider is down, or too slow: the answer is bounded, and the document is kept."""
    made = await steps.filled(app, 2)
    await inline(app, made)
    loopback.fault("500", times=None)
    answer = await wrote(app, made, 2, start=10)
    assert standings(answer) == {"pending"}
    assert answer.queued is not None
    assert answer.queued.startswith("2 of 2 documents are queued, and a worker embeds them: ")
    loopback.clear()
    loopback.hold()
    try:
        async with asyncio.timeout(10):
            answer = await wrote(app, made, 1, start=20, wait=0.3)
        assert standings(answer) == {"pending"}
    finally:
        loopback.release()
    await steps.drain(app)
    await steps.assert_oracle(app, made)


async def test_nothing_is_embedded_before_an_index_serves(app: App) -> None:
    """A collection that is being filled for the first time: queued, with that reason."""
    made = await steps.collection(app)
    await inline(app, made)
    answer = await wrote(app, made, 1)
    assert answer.queued == "1 of 1 documents are queued, and a worker embeds them: nothing serves yet"
    await steps.drain(app)
    await steps.assert_oracle(app, made)


async def test_a_refused_document_is_answered_for_as_dead(app: App, loopback: Loopback) -> None:
    """And the others with it are searchable."""
    made = await steps.filled(app, 2)
    await inline(app, made)
    loopback.fault("refuse", times=None, match="kraken 11")
    answer = await wrote(app, made, 3, start=10, word="kraken")
    assert {stand.key: str(stand.standing) for stand in answer.stands} == {
        "10": "searchable",
        "11": "dead",
        "12": "searchable",
    }
    assert answer.queued is None


async def test_one_document_that_cannot_be_there_keeps_no_other_one_out(app: App, loopback: Loopback) -> None:
    """A batch with a dead letter of before, and one with a document of a paused tenant: the others are searchable."""
    made = await steps.filled(app, 2)
    await inline(app, made)
    loopback.fault("refuse", times=None, match="kraken 11")
    await wrote(app, made, 1, start=11, word="kraken")
    again = [*steps.drafts(1, start=11, word="kraken"), *steps.drafts(2, start=30)]
    answer = await app.inline.answer(made, await push(app.database, made, again), None)
    assert [str(stand.standing) for stand in answer.stands] == ["dead", "searchable", "searchable"]
    loopback.clear()
    await app.commands.pause_tenants(made, ["asleep"], "a test")
    ids = await push(app.database, made, [*steps.drafts(1, start=40)])
    ids |= await push(app.database, made, [*steps.drafts(1, start=41, tenant="asleep")])
    answer = await app.inline.answer(made, ids, None)
    assert [str(stand.standing) for stand in answer.stands] == ["searchable", "pending"]
    assert answer.queued is not None
    assert answer.queued.endswith("a document that it needs is of a paused tenant")


async def test_a_write_waits_for_room(app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as there may be are in hand: who writes now is answered later, and not told that it cannot be."""
    monkeypatch.setattr(demand, "AT_ONCE", 1)
    made = await steps.filled(app, 2)
    await inline(app, made)
    loopback.hold()
    try:
        first = asyncio.create_task(wrote(app, made, 1, start=10, wait=10.0))
        await asyncio.to_thread(loopback.wait_held)
        short = await wrote(app, made, 1, start=20, wait=0.3)
        assert short.queued is not None
        assert short.queued.endswith("there was no room in time")
        others = [asyncio.create_task(wrote(app, made, 1, start=n, wait=10.0)) for n in (30, 40, 50)]
        while not app.demand._next_write.locked():
            await asyncio.sleep(0)
    finally:
        loopback.release()
    for answer in await asyncio.gather(first, *others):
        assert (standings(answer), answer.queued) == ({"searchable"}, None)
    await steps.drain(app)
    await steps.assert_oracle(app, made)


async def test_an_edit_meanwhile_wins(app: App, loopback: Loopback) -> None:
    """The same fence as every write: what was embedded of the old content is not written over the new one."""
    made = await steps.filled(app, 2)
    await inline(app, made)
    loopback.hold()
    try:
        ids = await push(app.database, made, steps.drafts(1, start=10, word="first"))
        writing = asyncio.create_task(app.inline.answer(made, ids, 10.0))
        await asyncio.to_thread(loopback.wait_held)
        await push(app.database, made, steps.drafts(1, start=10, word="second"))
    finally:
        loopback.release()
    await steps.drain(app)
    await writing
    await steps.assert_oracle(app, made)


async def test_over_http_it_is_the_same(app: App, loopback: Loopback) -> None:
    """200 and searchable without asking to wait; 202 and why where it is queued; a deletion waits for nobody."""
    made = await steps.filled(app, 2)
    await inline(app, made)
    async with door.door(app, open_to=ANYBODY) as client:
        path = "/v1/collections/c/documents/kraken"
        answer = await client.put(path, json={"text": "released"})
        assert (answer.status_code, answer.json()["documents"][0]["standing"]) == (200, "searchable")
        assert "queued" not in answer.json()
        loopback.fault("500", times=None)
        answer = await client.put(path, json={"text": "and gone"})
        assert (answer.status_code, answer.json()["documents"][0]["standing"]) == (202, "pending")
        assert "1 of 1 documents are queued" in answer.json()["queued"]
        answer = await client.put(path, json={"text": "and back"}, params={"wait": 0})
        assert "queued" not in answer.json(), "who says that it does not wait is not told why"
        loopback.clear()
        async with asyncio.timeout(5):
            answer = await client.delete(path)
        assert answer.json()["documents"][0]["standing"] == "gone"
    await steps.drain(app)
    await steps.assert_oracle(app, made)


@pytest.mark.parametrize("mode", ["inline", "queued"])
async def test_a_mode_is_kept(app: App, mode: str) -> None:
    """And shown beside the collection."""
    made = await steps.collection(app, model=None)
    await inline(app, made, mode)
    async with app.database.transaction() as conn:
        assert await collections.write_mode(conn, made.id) == mode
        assert [row.mode for row in await collections.listed(conn)] == [mode]
