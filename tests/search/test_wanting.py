"""What searches show and an index being filled lacks is made first there, behind their answers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import psycopg
import pytest

from revec.app import App
from revec.model.index import Collection
from revec.model.migration import State
from revec.model.reading import Hit, Mode, Reading
from revec.postgres import documents
from revec.search import wanting
from revec.search.similar import ByKey
from revec.search.wanting import Wanting
from revec.work import queue
from tests import steps
from tests.loopback import Loopback
from tests.migrate import world
from tests.work import hands

PATIENCE = 20.0  # seconds


async def filling(app: App, count: int = 20) -> Collection:
    """An index serves, another one is about to be filled: nothing is in it, and no page is enqueued."""
    made = await steps.filled(app, count)
    await app.start(made, steps.NEW)
    await world.tick_to(app, made, State.BACKFILLING)
    assert await hands.work(app) == []
    return made


async def search(app: App, query: str = "document 3", *, k: int = 3, **how: Any) -> Reading:
    reading = await app.retriever.search("c", query, **{"k": k, "tenant": "default", **how})
    await looked(app)
    return reading


async def looked(app: App) -> None:
    """What was noted has been looked at."""
    noted: Wanting = app.retriever._want.__self__  # type: ignore[attr-defined]
    async with asyncio.timeout(PATIENCE):
        while noted._waiting or (noted._looking and not noted._looking.done()):
            await asyncio.sleep(0.01)


async def wanted(app: App, lane: int = queue.JIT) -> set[str]:
    """Keys of the documents that wait in the lane, in the index that is being filled."""
    rows = await steps.rows(
        app,
        "SELECT d.key FROM revec.work w JOIN revec.document d ON d.id = w.doc_id"
        " WHERE w.index_id = 2 AND w.lane = %(lane)s AND w.action = 'embed'",
        lane=lane,
    )
    return {row.key for row in rows}


def shown(reading: Reading) -> set[str]:
    return {hit.id for hit in reading.hits}


async def test_what_is_shown_is_made_first(any_app: App, loopback: Loopback) -> None:
    """Of any mode, of what is similar, of what came last; and the backfill comes to the rest."""
    app = any_app
    made = await filling(app)
    found: set[str] = set()
    for mode in Mode:
        found |= shown(await search(app, mode=mode))
        assert await wanted(app) == found
    found |= shown(await search(app, ""))
    found |= shown(await app.retriever.similar("c", ByKey("7"), k=3, tenant="default"))
    await looked(app)
    assert await wanted(app) == found
    assert found < {str(n) for n in range(20)}
    await world.tick(app, 2)
    assert await wanted(app, queue.BACKFILL) == {str(n) for n in range(20)} - found
    await hands.step(app)
    assert len(await steps.stored(app, (await steps.written(app, made))[1])) == len(found)
    await steps.drain(app)
    await steps.assert_oracle(app, made)


async def test_what_the_backfill_has_enqueued_becomes_urgent(app: App, loopback: Loopback) -> None:
    """The same row, in a faster lane."""
    await filling(app)
    await world.tick(app, 2)
    everything = await wanted(app, queue.BACKFILL)
    found = shown(await search(app))
    assert await wanted(app) == found
    assert await wanted(app, queue.BACKFILL) == everything - found


async def test_what_is_there_is_not_made_again(app: App, loopback: Loopback) -> None:
    """Nor what has a reason not to be: left out, dead, or waited for already. What was edited is."""
    made = await filling(app)
    await search(app, k=20)
    await hands.step(app)
    assert await wanted(app) == set()
    await search(app, k=20)
    assert await hands.work(app) == []

    await steps.rows(app, "DELETE FROM revec.vectors_2 RETURNING 1")
    settled = "SELECT 2, id, input_hash, 'because' FROM revec.document WHERE key = '3' RETURNING 1"
    await steps.rows(app, f"INSERT INTO revec.excluded (index_id, doc_id, input_hash, reason) {settled}")
    await steps.rows(
        app,
        "INSERT INTO revec.dead (index_id, doc_id, input_hash, rev, tenant, cause, attempts)"
        " SELECT 2, id, input_hash, rev, tenant, 'x', 1 FROM revec.document WHERE key = '5' RETURNING 1",
    )
    await steps.put(app, made, [steps.Draft("7", "document 7", "edited")])
    await search(app, k=20)
    assert await wanted(app) == {str(n) for n in range(20)} - {"3", "5", "7"}
    assert await wanted(app, queue.LIVE) == {"7"}


async def test_nothing_is_wanted_where_nothing_is_filled(app: App, loopback: Loopback) -> None:
    """No migration, one that is paused, one that is through; nor by who reads an index that he named."""
    made = await steps.filled(app, 20)
    await search(app)
    assert app.retriever._want.__self__._looking is None  # type: ignore[attr-defined]
    await app.start(made, steps.NEW)
    await world.tick_to(app, made, State.BACKFILLING)
    await app.commands.pause(made, "lunch")
    await search(app)
    assert await wanted(app) == set()
    await app.commands.resume(made, reason="back")
    route, index = await app.retriever.route("c")
    assert route.filling == 2
    await app.retriever.read("c", route, index, "document 3", k=3, tenant="default")
    await looked(app)
    assert await wanted(app) == set()
    await steps.rows(app, "UPDATE revec.migration SET patient = true WHERE NOT patient RETURNING 1")
    await search(app)
    assert await wanted(app) == set(), "its batches may be with the provider already"
    await steps.rows(app, "UPDATE revec.migration SET patient = false RETURNING 1")
    await steps.drain(app)
    assert await world.state(app, made) is State.READY
    assert (await app.retriever.route("c"))[0].filling is None


def under(app: App, monkeypatch: pytest.MonkeyPatch, per_minute: int) -> None:
    """From now on so many documents a minute."""
    monkeypatch.setattr(app.retriever, "_want", Wanting(app.database, per_minute).note)


async def test_a_tenant_has_its_allowance(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So many documents a minute, the best hits first; the others have theirs; 0 is none."""
    made = await steps.collection(app)
    for tenant in ("acme", "globex"):
        drafts = [steps.Draft(f"{tenant}-{d.key}", d.title, d.body, tenant) for d in steps.drafts(20)]
        await steps.put(app, made, drafts)
    await steps.drain(app)
    await app.start(made, steps.NEW)
    await world.tick_to(app, made, State.BACKFILLING)

    under(app, monkeypatch, 0)
    await search(app, tenant="acme")
    assert await wanted(app) == set()

    under(app, monkeypatch, 5)
    best = await search(app, tenant="acme", k=20)
    first = {hit.id for hit in best.hits[:5]}
    assert await wanted(app) == first
    await search(app, "document 11", tenant="acme", k=20)
    assert await wanted(app) == first
    both = await search(app, tenant=None, k=40)
    of_globex = [hit.id for hit in both.hits if hit.tenant == "globex"]
    assert await wanted(app) == first | set(of_globex[:5])

    await steps.rows(app, "UPDATE revec.demand SET at = at - interval '1 minute' RETURNING 1")
    await search(app, tenant="acme", k=20)
    now = {key for key in await wanted(app) if key.startswith("acme")}
    assert len(now) == 10
    assert first < now


async def test_no_search_waits_for_it(app: App, loopback: Loopback) -> None:
    """The work cannot be written: the answer is there all the same, and what was wanted is forgotten."""
    await filling(app)
    async with app.database.transaction() as conn:
        await conn.execute("LOCK TABLE revec.work IN ACCESS EXCLUSIVE MODE")
        async with asyncio.timeout(PATIENCE):
            reading = await app.retriever.search("c", "document 3", k=3, tenant="default")
        assert len(reading.hits) == 3
        await looked(app)
    assert await wanted(app) == set()
    assert await wanted(app) == set()
    await search(app)
    assert len(await wanted(app)) == 3


async def test_whatever_goes_wrong_is_forgotten(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the next search is looked after again."""
    await filling(app)

    async def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(queue, "enqueue", broken)
        assert len((await search(app)).hits) == 3
    app.retriever._want(99, [Hit("3", 1.0, "", "default", "push")])  # no such index
    await looked(app)
    await search(app)
    assert len(await wanted(app)) == 3


async def test_what_waits_is_bounded(app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    """Searches faster than looks: further hits are forgotten, equal ones are one."""
    await filling(app)
    noted = Wanting(app.database, 10**6)
    seen: list[int] = []

    async def looking(_: Wanting, __: Any, ___: int, names: Sequence[Any]) -> None:
        seen.append(len(names))

    monkeypatch.setattr(Wanting, "_enqueue", looking)
    for _ in range(3):
        noted.note(2, [Hit(str(n), 1.0, "", "default", "push") for n in range(400)])
    for n in range(5):
        noted.note(3 + n, [Hit(str(n), 1.0, "", "default", "push") for n in range(400)])
    assert sum(map(len, noted._waiting.values())) == wanting.MOST_WAITING
    await noted.close()
    assert seen
    assert seen[0] <= 400


async def test_one_statement_knows_what_is_filled(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The route's own: a search costs no further query for it."""
    await filling(app)
    asked = await statements(app, monkeypatch)
    await app.commands.pause(await collection_of(app), "quiet")
    quiet = await statements(app, monkeypatch)
    assert asked == quiet


async def collection_of(app: App) -> Collection:
    (row,) = await steps.rows(app, "SELECT id, name FROM revec.collection")
    return Collection(row.id, row.name)


async def statements(app: App, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many a search sends before it is answered."""
    count = 0
    execute = psycopg.AsyncConnection.execute

    async def counted(self: Any, *arguments: Any, **how: Any) -> Any:
        nonlocal count
        count += 1
        return await execute(self, *arguments, **how)

    await search(app)
    with monkeypatch.context() as patch:
        patch.setattr(app.retriever, "_want", lambda *_: None)
        patch.setattr(psycopg.AsyncConnection, "execute", counted)
        await app.retriever.search("c", "document 3", k=3, tenant="default")
    return count


async def test_a_document_that_goes_is_not_wanted(app: App, loopback: Loopback) -> None:
    """Shown, and deleted before anybody looked: its deletion is all there is."""
    made = await filling(app)
    async with app.database.transaction() as conn:
        ids = await documents.ids_of(conn, 1, [str(n) for n in range(20)])
    reading = await app.retriever.search("c", "document 3", k=3, tenant="default")
    await steps.delete(app, made, *shown(reading))
    await looked(app)
    work = await hands.work(app)
    assert {row.doc_id for row in work} == {ids[key] for key in shown(reading)}
    assert {row.action for row in work} == {"delete"}
    await steps.drain(app)
    await steps.assert_oracle(app, made)
