"""Served early: while an index is being filled it answers already, wholly, or the old one does as ever."""

from __future__ import annotations

import asyncio
import json
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from psycopg import AsyncConnection

from revec.app import App
from revec.model import filter as filters
from revec.model.access import Role
from revec.model.document import Draft, text_hash
from revec.model.index import Collection, Index, Kind
from revec.model.migration import State
from revec.model.reading import Mode, Reading
from revec.postgres import bridges, indexes
from revec.search import bridge, early, ways
from revec.stores import pgvector
from revec.work import calls, demand, letters, pack, queue, worker
from revec.work.demand import Demand, Unmet
from tests import loopback as fake
from tests import steps
from tests.conftest import settings_for
from tests.faults import harness
from tests.loopback import Loopback
from tests.migrate import world
from tests.web.door import door, holder
from tests.work import hands

QUERY = "a question"
PATIENCE = 20.0  # seconds: a busy machine is not what these tests are about
ALL = 60  # documents of a collection and hits of a search: every document is a candidate
OF_DOCUMENTS = "text of document"  # what a query does not have in it


def learnt(pairs: int = 400) -> bridge.Bridge:
    """From the new fake model to the old one, of texts that are in no collection."""
    texts = [f"a text to learn from, number {n}" for n in range(pairs)]
    return bridge.fit(fake.vectors(texts, "fake-64"), fake.vectors(texts, "fake-b-96"))


async def opened(app: App, made: Collection) -> None:
    """The migration has a bridge that holds."""
    migration, fit = await world.migration(app, made), learnt()
    async with app.database.transaction() as conn:
        await bridges.begin(conn, migration.id, drawn=[], why="a test")
        seen = await bridges.kept(conn, migration.id)
        assert seen is not None
        assert await bridges.put(
            conn,
            migration.id,
            seen,
            pairs=fit.pairs,
            counted=fit.pairs,
            bridge=fit.dumps(),
            holds=True,
            why="a test says so",
            measure={},
        )


def be_patient(app: App, seconds: float = PATIENCE) -> None:
    assert app.retriever._early is not None
    app.retriever._early._patience = seconds


async def moving(app: App, made: Collection, embedded: int, **how: Any) -> None:
    """To the new model, with so many documents embedded, and the others waiting in the backfill."""
    be_patient(app)
    await app.start(made, steps.NEW, **{"serve_early": True} | how)
    # Nothing is embedded again to verify, so that the bill is of searches and the backfill alone.
    await steps.rows(app, "UPDATE revec.migration SET gates = '{completeness}' RETURNING 1")
    await world.tick_to(app, made, State.BACKFILLING)
    await world.tick(app)
    if how.get("serve_early", True):
        await opened(app, made)
    if embedded:
        await hands.step(app, claim=embedded)


async def half(app: App, count: int = ALL, embedded: int = 30, **how: Any) -> Collection:
    made = await steps.filled(app, count)
    await moving(app, made, embedded, **how)
    return made


async def search(app: App, query: str = QUERY, **how: Any) -> Reading:
    asked: dict[str, Any] = {"k": ALL, "tenant": "default", "mode": Mode.VECTOR} | how
    return await app.retriever.search("c", query, **asked)


async def by_the_old(app: App, made: Collection, **how: Any) -> Reading:
    """What the index that serves says, whatever is served early."""
    route, index = await app.retriever.route("c")
    asked: dict[str, Any] = {"k": ALL, "tenant": "default", "mode": Mode.VECTOR} | how
    return await app.retriever.read("c", route, index, QUERY, **asked)


def shown(reading: Reading) -> list[str]:
    return [hit.id for hit in reading.hits]


async def embedded(app: App, index: int = 2) -> set[str]:
    """Keys of the documents that have vectors."""
    found = await steps.rows(
        app, f"SELECT DISTINCT d.key FROM revec.vectors_{index} v JOIN revec.document d ON d.id = v.doc_id"
    )
    return {row.key for row in found}


def bill(loopback: Loopback, model: str = "fake-b-96", among: int = 60) -> Counter[str]:
    """Text hash → how often it was paid for; of the documents alone."""
    texts = {text_hash(f"{d.title}\n{d.body}").hex() for d in steps.drafts(among)}
    lines = [line for line in loopback.bill() if line["model"] == model and line["text"] in texts]
    return Counter(line["text"] for line in lines)


async def assert_by_the_old(app: App, made: Collection, **how: Any) -> None:
    """Wholly the old index's answer: as if nobody had ever thought of another one."""
    reading = await search(app, **how)
    assert (reading.early, reading.index, reading.degraded) == (False, f"{steps.OLD}#1", False)
    assert reading.hits == (await by_the_old(app, made, **how)).hits
    assert len(reading.hits) == how.get("k", ALL)


@pytest.mark.parametrize("mode", [Mode.VECTOR, Mode.HYBRID])
async def test_half_migrated_it_is_answered_as_the_new_index_will_be(
    any_app: App, loopback: Loopback, mode: Mode
) -> None:
    """The candidates that lack a vector are embedded, and all are ranked in the new space alone."""
    app = any_app
    made = await half(app)
    reading = await search(app, mode=mode)
    assert (reading.early, reading.demanded, reading.index) == (True, 30, f"{steps.NEW}#2")
    await steps.drain(app)
    assert await world.state(app, made) is State.READY
    await app.commands.switch.cutover(made, why="a test")
    after = await search(app, mode=mode)
    assert (after.early, after.index) == (False, reading.index)
    assert reading.hits == after.hits
    await steps.assert_oracle(app, made)


@pytest.mark.parametrize("kind", steps.KINDS)
async def test_candidates_of_a_large_collection_are_a_few(app: App, loopback: Loopback, kind: Kind) -> None:
    """Of 300 documents the bridge finds those that the new index will show: only they are embedded."""
    made = await half(app, 300, embedded=0, kind=kind)
    reading = await search(app, k=10)
    assert reading.early
    assert 20 <= reading.demanded <= 40
    await steps.drain(app)
    await app.commands.switch.cutover(made, why="a test")
    assert len(set(shown(reading)) & set(shown(await search(app, k=10)))) >= 8
    await steps.assert_oracle(app, made)


async def test_what_is_asked_for_twice_is_embedded_once(app: App, loopback: Loopback) -> None:
    """On demand, then by the backfill: each text is on the bill once."""
    made = await half(app)
    first = await search(app)
    second = await search(app)
    assert (first.demanded, second.demanded) == (30, 0)
    assert second.early
    assert first.hits == second.hits
    await steps.drain(app)
    assert len(bill(loopback)) == 60
    assert max(bill(loopback).values()) == 1
    await steps.assert_oracle(app, made)


async def test_two_searches_that_want_the_same_documents_pay_once(app: App, loopback: Loopback) -> None:
    """Of two processes; the second one waits for the first one's."""
    made = await half(app)
    async with App(settings_for(app.database.dsn, loopback.url)) as other:
        be_patient(other)
        await asyncio.gather(app.serving("c"), other.serving("c"))
        loopback.hold()
        first = asyncio.create_task(search(app))
        await asyncio.to_thread(loopback.wait_held, 2)
        second = asyncio.create_task(search(other, "another question"))
        await asyncio.to_thread(loopback.wait_held, 4)
        loopback.release()
        one, another = await asyncio.gather(first, second)
    assert one.early
    assert another.early
    await steps.drain(app)
    assert max(bill(loopback).values()) == 1
    await steps.assert_oracle(app, made)


# --- what stands before it: the old index answers, wholly -----------------------------------------


async def down(app: App, loopback: Loopback) -> None:
    loopback.fault("500", times=None, match=OF_DOCUMENTS)


async def silent(app: App, loopback: Loopback) -> None:
    loopback.fault("hang", times=None, match=OF_DOCUMENTS)
    be_patient(app, 0.3)


async def resting(app: App, loopback: Loopback) -> None:
    """The new model has failed somebody else."""
    await steps.rows(
        app,
        "INSERT INTO revec.provider (model, resting_until) VALUES (%(m)s, now() + interval '1 hour')"
        " ON CONFLICT (model) DO UPDATE SET resting_until = excluded.resting_until RETURNING 1",
        m=steps.NEW,
    )


async def wrong(app: App, loopback: Loopback) -> None:
    loopback.fault("nan", times=1, match=OF_DOCUMENTS)


async def poison(app: App, loopback: Loopback) -> None:
    loopback.fault("refuse", times=None, match="document 45\n")


async def dead_letter(app: App, loopback: Loopback) -> None:
    """As above, and somebody has met it already."""
    await poison(app, loopback)
    await search(app)
    await search(app)


async def budget(app: App, loopback: Loopback) -> None:
    await steps.rows(app, "UPDATE revec.migration SET budget = 0.0001 WHERE serve_early RETURNING 1")


async def tenants_budget(app: App, loopback: Loopback) -> None:
    await steps.rows(
        app,
        "INSERT INTO revec.tenant (collection_id, tenant, budget) VALUES (1, 'default', 0.0001) RETURNING 1",
    )


async def paused_tenant(app: App, loopback: Loopback) -> None:
    await steps.rows(
        app,
        "INSERT INTO revec.tenant (collection_id, tenant, paused_why) VALUES (1, 'default', 'no') RETURNING 1",
    )


async def paused(app: App, loopback: Loopback) -> None:
    await steps.rows(app, "UPDATE revec.migration SET paused_why = 'no' WHERE serve_early RETURNING 1")


async def guarded(app: App, loopback: Loopback) -> None:
    await steps.rows(app, "UPDATE revec.migration SET hold = 'no' WHERE serve_early RETURNING 1")


async def being_built(app: App, loopback: Loopback) -> None:
    await steps.rows(app, "UPDATE revec.index SET held = true WHERE id = 2 RETURNING 1")


async def not_trusted(app: App, loopback: Loopback) -> None:
    await steps.rows(app, "UPDATE revec.index SET fault = 'no' WHERE id = 2 RETURNING 1")


async def not_allowed(app: App, loopback: Loopback) -> None:
    app.demand._per_minute = 20  # of 30, which a slow machine's minute does not make up for


async def no_bridge(app: App, loopback: Loopback) -> None:
    await steps.rows(app, "UPDATE revec.bridge SET holds = false RETURNING 1")


async def lame_bridge(app: App, loopback: Loopback) -> None:
    await steps.rows(app, r"UPDATE revec.bridge SET bridge = '\x00' RETURNING 1")


async def no_key(app: App, loopback: Loopback) -> None:
    async def here(address: str, dims: int | None = None) -> Any:
        if address == steps.NEW:
            raise pack.InputRefused("no key of it here")
        return await App.provider(app, address, dims)

    app.retriever._queries._provider_for = here


OBSTACLES = [
    down,
    silent,
    resting,
    wrong,
    poison,
    dead_letter,
    budget,
    tenants_budget,
    paused_tenant,
    paused,
    guarded,
    being_built,
    not_trusted,
    not_allowed,
    no_bridge,
    lame_bridge,
    no_key,
]
CLOSED = {resting, paused, guarded, not_trusted, no_bridge, being_built, paused_tenant, no_key, lame_bridge}


@pytest.mark.parametrize("mode", [Mode.VECTOR, Mode.HYBRID])
@pytest.mark.parametrize("obstacle", OBSTACLES)
async def test_where_it_cannot_be_the_old_index_answers(
    app: App,
    loopback: Loopback,
    monkeypatch: pytest.MonkeyPatch,
    obstacle: Callable[[App, Loopback], Awaitable[None]],
    mode: Mode,
) -> None:
    """In time, with as many hits as ever and no error; and again."""
    monkeypatch.setattr(calls, "REST", (0.01, 1.0))
    monkeypatch.setattr(calls, "price", lambda _: Decimal(1000))
    made = await half(app)
    before = await embedded(app)
    await obstacle(app, loopback)
    for _ in range(2):
        await assert_by_the_old(app, made, mode=mode)
    if obstacle in CLOSED:
        assert await embedded(app) == before
    assert max(bill(loopback).values()) == 1


async def test_a_document_that_the_model_refuses_is_missed_by_nobody(app: App, loopback: Loopback) -> None:
    """Rather the old index's answer than one without it; accepted by a person, it is left out."""
    made = await half(app)
    await poison(app, loopback)
    for _ in range(2):
        await assert_by_the_old(app, made, k=ALL - 1)
    assert "45" not in await embedded(app)
    async with app.database.transaction() as conn:
        await letters.discard(conn, made, [2], "a test", who="test")
    reading = await search(app, k=ALL - 1)
    assert reading.early
    assert "45" not in shown(reading)
    await assert_by_the_old(app, made)


async def test_the_migration_s_budget_is_the_searches_too(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not a text more than it pays for; the migration is paused by it, as by its backfill."""
    monkeypatch.setattr(calls, "price", lambda _: Decimal(1000))
    made = await half(app)
    before = await embedded(app)
    await budget(app, loopback)
    for _ in range(2):
        await assert_by_the_old(app, made)
    assert await embedded(app) == before
    assert "budget" in ((await world.migration(app, made)).paused_why or "")
    await steps.drain_soon(app)


async def test_where_the_bridge_does_not_hold_nobody_goes_over_it(app: App, loopback: Loopback) -> None:
    made = await half(app)
    await no_bridge(app, loopback)
    await assert_by_the_old(app, made)


async def test_a_pause_closes_the_way(app: App, loopback: Loopback) -> None:
    """An operator's switch: the next search is answered as before the migration."""
    made = await half(app, embedded=ALL)
    assert (await search(app)).early
    await app.commands.pause(made, "a test")
    await assert_by_the_old(app, made)
    seen = await world.look(app, made)
    assert seen.early is not None
    assert (seen.early["open"], seen.early["why"]) == (False, "closed for now: a test")
    await app.commands.resume(made)
    assert (await search(app)).early


async def test_what_somebody_has_in_hand_is_left_there(app: App, loopback: Loopback) -> None:
    """A search claims what is free, once: neither a worker's claim nor its own."""
    await half(app, embedded=0)
    index = await index_of(app, steps.NEW)
    every = [row.id for row in await steps.rows(app, "SELECT id FROM revec.document")]
    async with app.database.transaction("worker") as conn:
        claim = await queue.claim(conn, index.id, queue.BACKFILL, size=5, lease=60)
        taken = await queue.claim_these(conn, index.id, every, lease=60)
        assert not {job.doc_id for job in taken.jobs} & {job.doc_id for job in claim.jobs}
        assert len(taken.jobs) == ALL - 5
        assert (await queue.claim_these(conn, index.id, every, lease=60)).jobs == ()


async def test_a_worker_takes_over_what_came_too_late(app: App, loopback: Loopback) -> None:
    """The search leaves in time; what it had begun goes on behind it, and is paid for once."""
    made = await half(app)
    be_patient(app, 0.5)
    loopback.fault("slow", times=1, delay=1.5, match=OF_DOCUMENTS)
    await assert_by_the_old(app, made)
    async with asyncio.timeout(10):
        while len(await embedded(app)) < 60:
            await asyncio.sleep(0.02)
    be_patient(app)
    assert (await search(app)).early
    await steps.drain(app)
    assert max(bill(loopback).values()) == 1
    await steps.assert_oracle(app, made)


async def test_whoever_leaves_takes_nobody_with_him(app: App, loopback: Loopback) -> None:
    """A search that is cancelled: its documents are embedded all the same, and paid for once."""
    made = await half(app)
    async with demanding(app, loopback) as searching:
        searching.cancel()
        await asyncio.gather(searching, return_exceptions=True)
        loopback.release()
        assert (await search(app)).early
    await steps.drain(app)
    assert max(bill(loopback).values()) == 1
    await steps.assert_oracle(app, made)


async def test_the_old_model_is_not_needed(app: App, loopback: Loopback) -> None:
    """It is down: the mapped query finds candidates alone, and the answer is early."""
    await half(app, 300, embedded=100)
    there = app.retriever._queries._provider_for

    async def only_the_new(address: str, dims: int | None = None) -> Any:
        if address == steps.OLD:
            raise pack.InputRefused("it is gone")
        return await there(address, dims)

    app.retriever._queries._provider_for = only_the_new
    reading = await search(app)
    assert reading.early
    assert len(reading.hits) == ALL


async def test_off_it_costs_nothing(app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    """A migration that is not served early: not one statement more, and none of this is run."""

    async def never(*_: Any, **__: Any) -> None:
        raise AssertionError("somebody was to be served early")

    made = await steps.filled(app, 20)
    before = min([await counted(app, monkeypatch) for _ in range(3)])  # now and then somebody writes a pulse
    await moving(app, made, 10, serve_early=False)
    monkeypatch.setattr(early.Early, "answer", never)
    monkeypatch.setattr(Demand, "meet", never)
    assert min([await counted(app, monkeypatch) for _ in range(3)]) == before
    await steps.drain(app)
    assert await steps.rows(app, "SELECT FROM revec.bridge") == []
    await steps.assert_oracle(app, made)


async def counted(app: App, monkeypatch: pytest.MonkeyPatch) -> int:
    """Statements of a search whose vector is remembered."""
    await search(app)
    statements = 0
    execute = AsyncConnection.execute

    async def counting(conn: Any, *arguments: Any, **how: Any) -> Any:
        nonlocal statements
        statements += 1
        return await execute(conn, *arguments, **how)

    with monkeypatch.context() as patch:
        patch.setattr(AsyncConnection, "execute", counting)
        reading = await search(app)
    assert not reading.early
    return statements


async def searched(app: App, monkeypatch: pytest.MonkeyPatch, **how: Any) -> tuple[Reading, set[int]]:
    """An answer, and the indexes that were searched for it."""
    indexes_: set[int] = set()
    nearest = pgvector.PgVector.nearest

    async def noting(self: Any, conn: Any, index: Index, *rest: Any, **more: Any) -> Any:
        indexes_.add(index.id)
        return await nearest(self, conn, index, *rest, **more)

    with monkeypatch.context() as patch:
        patch.setattr(pgvector.PgVector, "nearest", noting)
        return await search(app, **how), indexes_


async def test_an_index_without_its_graph_is_not_searched_for_a_large_tenant(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it would be read. Candidates come from elsewhere, until the graph is there."""
    made = await half(app, kind=Kind.HNSW)
    reading, of = await searched(app, monkeypatch)
    assert (reading.early, of) == (True, {1, 2}), "a small tenant"
    monkeypatch.setattr(pgvector, "SMALL_TENANT", 10)
    reading, of = await searched(app, monkeypatch)
    assert (reading.early, of) == (True, {1})
    everybody, of = await searched(app, monkeypatch, tenant=None)
    assert (everybody.early, of) == (True, {1})
    await steps.drain(app)
    assert await world.state(app, made) is State.READY
    built, of = await searched(app, monkeypatch)
    assert (built.early, of) == (True, {1, 2})
    assert built.hits == reading.hits == everybody.hits
    await steps.assert_oracle(app, made)


async def test_a_search_that_takes_too_long_is_given_up(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it hangs; and the old index answers."""
    made = await half(app)
    be_patient(app, 0.3)

    async def hanging(*_: Any, **__: Any) -> None:
        await asyncio.Event().wait()

    for place in ("scored", "is_ready"):
        with monkeypatch.context() as patch:
            patch.setattr(pgvector.PgVector, place, hanging)
            try:
                async with asyncio.timeout(5):
                    await assert_by_the_old(app, made)
            except TimeoutError:
                pytest.fail("it waits for ever")


async def test_a_search_that_has_no_memory_is_the_old_index_s(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await half(app)

    async def full(*_: Any, **__: Any) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(pgvector.PgVector, "scored", full)
        await assert_by_the_old(app, made)


async def test_an_old_model_that_rests_is_not_asked(app: App, loopback: Loopback) -> None:
    """The mapped query finds candidates alone."""
    await half(app)
    await steps.rows(
        app,
        "INSERT INTO revec.provider (model, resting_until) VALUES (%(m)s, now() + interval '1 hour')"
        " ON CONFLICT (model) DO UPDATE SET resting_until = excluded.resting_until RETURNING 1",
        m=steps.OLD,
    )
    before = loopback.bill()
    assert (await search(app)).early
    assert {line["model"] for line in loopback.bill()[len(before) :]} == {"fake-b-96"}


# --- walls ----------------------------------------------------------------------------------------


async def two_tenants(app: App, each: int = 30) -> Collection:
    made = await steps.collection(app)
    for tenant in ("acme", "globex"):
        drafts = steps.drafts(each, tenant=tenant, word=f"{tenant} paper")
        await steps.put(app, made, [Draft(f"{tenant} {d.key}", d.title, d.body, tenant) for d in drafts])
    await steps.drain(app)
    await moving(app, made, 0)
    return made


async def test_a_tenant_has_nobody_else_s_documents_embedded(any_app: App, loopback: Loopback) -> None:
    """Nor ranked; an operator's search of all tenants has those of all."""
    app = any_app
    made = await two_tenants(app)
    reading = await search(app, tenant="acme", k=100)
    assert {hit.tenant for hit in reading.hits} == {"acme"}
    assert (reading.early, reading.demanded, len(reading.hits)) == (True, 30, 30)
    assert {row.tenant for row in await steps.rows(app, "SELECT tenant FROM revec.vectors_2")} == {"acme"}
    nobody = await search(app, tenant="nobody")
    assert (nobody.hits, nobody.demanded) == ([], 0)
    everybody = await search(app, tenant=None, k=100)
    assert (everybody.early, everybody.demanded, len(everybody.hits)) == (True, 30, 60)
    await steps.drain(app)
    await steps.assert_oracle(app, made)


async def test_a_vector_under_a_wrong_tenant_has_nothing_embedded(app: App, loopback: Loopback) -> None:
    """A misfiled vector of the old index is a candidate of the wrong tenant: its document is not touched."""
    await two_tenants(app)
    await steps.rows(app, "UPDATE revec.vectors_1 SET tenant = 'acme' RETURNING 1")
    reading = await search(app, tenant="acme", k=100)
    assert {hit.tenant for hit in reading.hits} == {"acme"}
    assert {row.tenant for row in await steps.rows(app, "SELECT tenant FROM revec.vectors_2")} <= {"acme"}


async def test_a_demand_for_somebody_else_s_documents_is_none(app: App, loopback: Loopback) -> None:
    """Whatever candidates it is given: the second wall, behind the reader's role."""
    made = await two_tenants(app)
    index = (await steps.written(app, made))[1]
    every = [row.id for row in await steps.rows(app, "SELECT id FROM revec.document")]
    until = asyncio.get_running_loop().time() + PATIENCE
    due = await app.demand.meet(index, every, "acme", until)
    assert len(due) == 30
    assert {row.tenant for row in await steps.rows(app, "SELECT tenant FROM revec.vectors_2")} == {"acme"}


async def test_a_demand_for_an_index_that_is_given_up_is_none(app: App, loopback: Loopback) -> None:
    """An abort came in between: nothing is enqueued, and nobody takes what is there for all."""
    made = await half(app)
    index = await index_of(app, steps.NEW)
    await app.commands.abort(made, "a test")
    every = [row.id for row in await steps.rows(app, "SELECT id FROM revec.document")]
    with pytest.raises(Unmet, match="given up"):
        await app.demand.meet(index, every, "default", asyncio.get_running_loop().time() + PATIENCE)


async def test_a_tenant_s_allowance_is_its_own(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One has had its documents of this minute embedded: another is served as if there were nobody else."""
    await two_tenants(app)
    monkeypatch.setattr(app.demand, "_per_minute", 30)
    assert (await search(app, tenant="acme")).demanded == 30
    await steps.rows(app, "DELETE FROM revec.vectors_2 RETURNING 1")
    await steps.rows(app, "UPDATE revec.backfill SET done = false, after_id = 0 RETURNING 1")
    again = await search(app, tenant="acme")
    assert (again.early, again.index) == (False, f"{steps.OLD}#1")
    assert (await search(app, tenant="globex")).demanded == 30
    assert await steps.rows(app, "SELECT documents FROM revec.demand WHERE tenant = 'globex'") == [(30,)]


async def meet(app: App, seconds: float = PATIENCE) -> list[int]:
    """All documents are demanded, by nobody who is answered otherwise."""
    index = await index_of(app, steps.NEW)
    every = [row.id for row in await steps.rows(app, "SELECT id FROM revec.document")]
    return await app.demand.meet(index, every, "default", asyncio.get_running_loop().time() + seconds)


async def test_without_room_nothing_is_made_urgent(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be free: only what is claimed is charged to the tenant's allowance."""
    made = await half(app)
    with monkeypatch.context() as patch:
        patch.setattr(demand, "AT_ONCE", 0)
        with pytest.raises(Unmet):
            await meet(app)
        assert {row.lane for row in await hands.work(app)} == {queue.BACKFILL}
    assert len(await meet(app)) == ALL
    await steps.drain(app)
    await steps.assert_oracle(app, made)


async def test_no_search_waits_for_another_one_s_allowance(app: App, loopback: Loopback) -> None:
    """Somebody has the tenant's row and does not go on: the old index answers at once."""
    made = await half(app)
    app.retriever._want = lambda *_: None
    await meet(app)
    await steps.rows(app, "DELETE FROM revec.vectors_2 RETURNING 1")
    async with app.database.transaction() as conn:
        await conn.execute("SELECT FROM revec.demand FOR UPDATE")
        try:
            async with asyncio.timeout(5):
                with pytest.raises(Unmet, match="others are about to"):
                    await meet(app)
                await assert_by_the_old(app, made)
        except TimeoutError:
            pytest.fail("it waits")


async def test_a_filter_narrows_what_is_embedded(app: App, loopback: Loopback) -> None:
    made = await steps.collection(app)
    texts = [
        Draft(d.key, d.title, d.body, metadata={"even": n % 2 == 0}) for n, d in enumerate(steps.drafts(40))
    ]
    await steps.put(app, made, texts)
    await steps.drain(app)
    await moving(app, made, 0)
    reading = await search(app, where=filters.read('{"even": true}'), k=30)
    assert (reading.early, reading.demanded, len(reading.hits)) == (True, 20, 20)
    assert all(int(key) % 2 == 0 for key in await embedded(app))


# --- while everything moves -----------------------------------------------------------------------


@asynccontextmanager
async def demanding(app: App, loopback: Loopback) -> AsyncIterator[asyncio.Task[Reading]]:
    """A search whose documents are with the provider for as long as the body runs."""
    for model in (steps.OLD, steps.NEW):  # its query is remembered
        await app.retriever.embedded(await index_of(app, model), QUERY)
    loopback.hold()
    searching = asyncio.create_task(search(app))
    await asyncio.to_thread(loopback.wait_held)
    try:
        yield searching
    finally:
        loopback.release()
        await asyncio.gather(searching, return_exceptions=True)


async def index_of(app: App, model: str) -> Index:
    async with app.database.transaction() as conn:
        return next(index for index in await indexes.writing(conn) if index.space.address == model)


async def test_edits_and_deletes_meanwhile(app: App, loopback: Loopback) -> None:
    """No answer shows what is gone, none has a vector of an old text, and nothing stale is written."""
    made = await half(app)
    await hands.watch(app, await index_of(app, steps.NEW))
    async with demanding(app, loopback) as searching:
        await steps.delete(app, made, "40", "41")
        await steps.put(app, made, [Draft("42", "other", "a text that nobody has seen")])
        loopback.release()
        reading = await searching
    assert not {"40", "41"} & set(shown(reading))
    assert len(reading.hits) == 58
    again = await search(app)
    await steps.drain(app)
    assert (again.early, len(again.hits)) == (True, 58)
    await hands.assert_oracle(app, made)


async def test_an_abort_meanwhile(app: App, loopback: Loopback) -> None:
    """The answer is the old index's, the table goes, and nobody is served early again."""
    made = await half(app)
    async with demanding(app, loopback) as searching:
        await app.commands.abort(made, "a test")
        async with world.working(app):
            await world.until(app, "SELECT to_regclass('revec.vectors_2') IS NULL")
        loopback.release()
        reading = await searching
    assert (reading.early, len(reading.hits)) == (False, ALL)
    await assert_by_the_old(app, made)
    await steps.drain(app)
    await steps.assert_oracle(app, made)


async def test_a_cutover_and_a_rollback_end_it(app: App, loopback: Loopback) -> None:
    """Who was rolled back is answered by the old index alone: that is what a rollback is for."""
    made = await half(app)
    assert (await search(app)).early
    await steps.drain(app)
    assert (await search(app)).early, "until the cutover"
    await app.commands.switch.cutover(made, why="a test")
    reading = await search(app)
    assert (reading.early, reading.index) == (False, f"{steps.NEW}#2")
    await app.commands.switch.rollback(made, why="a test")
    assert await world.state(app, made) is State.READY
    await assert_by_the_old(app, made)
    await app.commands.switch.cutover(made, why="a test")
    assert not (await search(app)).early
    await steps.assert_oracle(app, made)


async def test_a_new_fit_of_the_bridge_replaces_the_old_one(app: App, loopback: Loopback) -> None:
    """In every process, by the next search's own look at the route."""
    made = await half(app)
    assert (await search(app)).early
    await opened(app, made)
    kept = app.retriever._early._ways._kept
    assert [version for version, _ in kept.values()] == [1]
    assert (await search(app)).early
    assert [version for version, _ in kept.values()] == [2]


async def test_bridges_in_memory_are_bounded_and_read_once(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One read for all who wait, whoever leaves; what is too much is forgotten, and read again."""
    made = await half(app, 20, embedded=0)
    route, _ = await app.retriever.route(made.name)
    assert route.early is not None
    read: list[int] = []
    loads = bridge.Bridge.loads
    monkeypatch.setattr(bridge.Bridge, "loads", lambda data: read.append(1) or loads(data))
    asked = ways.Ways(app.database)
    asking = [asyncio.create_task(asked.of(route.early)) for _ in range(3)]
    await asyncio.sleep(0)
    asking[0].cancel()
    one, another = await asyncio.gather(*asking[1:])
    assert one is another is await asked.of(route.early)
    assert len(read) == 1
    few = ways.Ways(app.database, most_bytes=one.bridge.nbytes - 1)
    for _ in range(2):
        await few.of(route.early)
    assert (len(read), few._kept) == (3, {})


async def test_what_is_left_out_of_the_new_index_is_left_out_of_its_answers(
    app: App, loopback: Loopback
) -> None:
    """An empty text has no vector in any index, and is nobody's obstacle."""
    made = await steps.collection(app)
    await steps.put(app, made, [*steps.drafts(30), Draft("empty", "", " ")])
    await steps.drain(app)
    await moving(app, made, 0)
    reading = await search(app, k=40, mode=Mode.HYBRID)
    assert (reading.early, len(reading.hits)) == (True, 30)
    await steps.drain(app)
    await steps.assert_oracle(app, made)


async def test_the_jit_lane_waits_while_the_migration_is_paused(app: App, loopback: Loopback) -> None:
    """What a search has asked for is part of the migration's bill: a pause holds it, and a drain ends."""
    made = await half(app)
    async with app.database.transaction("worker") as conn:
        await queue.enqueue(
            conn, 2, [row.id for row in await steps.rows(app, "SELECT id FROM revec.document")]
        )
    await app.commands.pause(made, "a test")
    await steps.drain_soon(app)
    assert len(await embedded(app)) == 30
    await app.commands.resume(made, reason="a test")
    await steps.drain(app)
    await steps.assert_oracle(app, made)


# --- processes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "place",
    [
        "claim_committed",
        "paid_leased",
        "before_send",
        "after_response",
        "vectors_written",
        "before_commit",
        "after_commit",
    ],
)
async def test_a_search_killed_in_the_middle_leaves_nothing_broken(
    app: App, loopback: Loopback, tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`kill -9` of the searching process: a worker finishes, and pays again at most for what was in flight."""
    monkeypatch.setattr(worker, "BEAT_EVERY", 0.5)  # a worker looks for rights to pay that ran out
    made = await half(app)
    environment = {"REVEC_DSN": app.database.dsn, "OPENAI_BASE_URL": loopback.url, "OPENAI_API_KEY": "k"}
    hit = tmp_path / "hit"
    quick = {"REVEC_LEASE": "1", "REVEC_FAILPOINT": place, "REVEC_FAILPOINT_HIT": str(hit)}
    async with harness.commands(tmp_path, **environment) as start:
        searching = await start("search", "c", QUERY, "--k", str(ALL), **quick)
        assert await searching.ended() == -signal.SIGKILL, searching.said
    assert hit.read_text() == place
    paid = bill(loopback)
    await steps.drain(app)
    again = {text for text, times in bill(loopback).items() if times > 1}
    assert again <= (
        paid.keys()
        if place in {"before_send", "after_response", "vectors_written", "before_commit"}
        else set()
    )
    assert max(bill(loopback).values()) <= 2
    await steps.assert_oracle(app, made)


async def test_a_command_that_searches_early_says_so(app: App, loopback: Loopback, tmp_path: Path) -> None:
    """Begun by `start --serve-early`, which `plan` shows first; `status` says what came of it."""
    await steps.filled(app, ALL)
    environment = {
        "REVEC_DSN": app.database.dsn,
        "OPENAI_BASE_URL": loopback.url,
        "OPENAI_API_KEY": "k",
        "REVEC_EARLY_SECONDS": "20",
        "NO_COLOR": "1",
    }
    async with harness.commands(tmp_path, **environment) as start:

        async def run(*arguments: str) -> str:
            command = await start(*arguments)
            await command.ends_well()
            return command.said

        assert "early       refused: 60 documents are too few" in await run(
            "plan", "c", "--to", steps.NEW, "--serve-early"
        )
        await run("start", "c", "--to", steps.NEW, "--serve-early")
        (made,) = [Collection(1, "c")]
        await world.tick_to(app, made, State.BACKFILLING)
        await world.tick(app)
        assert "early       closed: 60 documents are too few" in await run("status", "c")
        await opened(app, made)
        answer = json.loads(await run("search", "c", QUERY, "--k", str(ALL), "--json"))
        assert (answer["early"], answer["demanded"], len(answer["hits"])) == (True, ALL, ALL)
        looked = await run("status", "c")
        assert "early       open: a test says so" in looked
        assert "60 documents were embedded for searches" in looked
        assert "early (0 documents embedded for it)" in await run("search", "c", QUERY)
    await steps.assert_oracle(app, made)


async def test_over_http_it_is_begun_and_said_too(app: App, loopback: Loopback) -> None:
    """Both fields are there where it is early, and nowhere else."""
    made = await steps.filled(app, ALL)
    be_patient(app)
    async with door(app) as client:
        admin = await holder(app, Role.ADMIN)
        place = "/v1/collections/c/migrations"
        begun = await client.post(place, headers=admin, json={"to": steps.NEW, "serve_early": True})
        assert begun.status_code == 201, begun.text
        await world.tick_to(app, made, State.BACKFILLING)
        await world.tick(app)
        viewer = await holder(app, Role.VIEWER, "default")
        query = {"q": QUERY, "k": ALL}
        before = (await client.get("/v1/collections/c/search", headers=viewer, params=query)).json()
        assert before.keys().isdisjoint({"early", "demanded"})
        await opened(app, made)
        answer = (await client.get("/v1/collections/c/search", headers=viewer, params=query)).json()
    assert (answer["early"], answer["demanded"], answer["index"]) == (True, ALL, f"{steps.NEW}#2")
    await steps.assert_oracle(app, made)
